"""Forged numbers in a whole cluster: no id is barred for good, and nobody whose clock is a minute behind is cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from gossipmonger import Gossipmonger, Keyring, SealError
from gossipmonger.simulation import Simulation
from gossipmonger.state import MAX_VERSION
from tests.wire.test_sealing import ONE

#: Microseconds.
SECOND = 1_000_000
YEARS = 10 * 365 * 86_400 * SECOND

#: Milliseconds.
TEN_ROUNDS = 10_000

IDS = [f"n{n}" for n in range(4)]


def clock(sim: Simulation) -> int:
    return int(sim.now * 1000)


def address(id: str) -> dict[str, Any]:
    return {"host": id, "port": 9742}


def forged(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "maxVersionSeen": 0, "transport": address(id), **fields}


def forge(
    sim: Simulation, to: str, *entries: dict[str, Any], deltas: Any = None, sender: str = "evil", heartbeat: int = 1
) -> None:
    digest = [*entries, forged(sender, heartbeat=heartbeat)]
    message = {"digest": digest, "sender": {"id": sender, "transport": address(sender)}}
    if deltas is not None:
        message["deltas"] = deltas
    data, ring = json.dumps(message).encode(), sim.node(to).transport.keyring
    sim.network.send("evil", to, data if ring is None else ring.seal(data))


Attack = Callable[[Simulation, int], None]
ATTACKS: dict[str, Attack] = {
    "heartbeat": lambda sim, top: forge(sim, "n0", forged("n3", heartbeat=top)),
    "version and floor": lambda sim, top: forge(sim, "n0", forged("n3", maxVersionSeen=top, floor=top, heartbeat=top)),
    "floor": lambda sim, top: forge(sim, "n0", forged("n3", maxVersionSeen=top, floor=top, heartbeat=clock(sim) + SECOND)),
    "heard": lambda sim, top: forge(sim, "n0", forged("n3", heard=top, heartbeat=clock(sim) + SECOND)),
    "left": lambda sim, top: forge(sim, "n0", forged("n3", heartbeat=top, left=True)),
    "delta": lambda sim, top: forge(sim, "n0", deltas=[["n3", "k", "forged", top]]),
    "more": lambda sim, top: forge(
        sim, "n0", deltas=[["n3", "k", "forged", clock(sim) + SECOND, 0, top - clock(sim) - SECOND]]
    ),
    "the victim's own entry": lambda sim, top: forge(sim, "n0", sender="n3", heartbeat=top),
    "the receiver's own entry": lambda sim, top: forge(sim, "n3", forged("n3", maxVersionSeen=top, floor=top, heartbeat=top)),
}  # fmt: skip
TOPS: dict[str, Callable[[Simulation], int]] = {
    "the last number": lambda sim: MAX_VERSION,
    "almost the last": lambda sim: MAX_VERSION - 2**22,
    "just over the bound": lambda sim: clock(sim) + YEARS + 60 * SECOND,
    "just under the bound": lambda sim: clock(sim) + YEARS - SECOND,
    "in an hour": lambda sim: clock(sim) + 3_600 * SECOND,
}


def a_cluster(sim: Simulation, **options: Any) -> list[Gossipmonger]:
    nodes = [sim.add(id, seeds=["n0"], **options) for id in IDS]
    for node in nodes:
        node.on("error", lambda error: None)
        node.update("k", 1)
    sim.run(5_000)
    return nodes


def knows(node: Gossipmonger, id: str, data: dict[str, Any]) -> bool:
    peer = node.peer(id)
    return peer is not None and peer.state == "live" and peer.data == data


@pytest.mark.untraced
@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forged_number_bars_no_id(attack: str, top: str) -> None:
    outgrows(ATTACKS[attack], TOPS[top])


@pytest.mark.untraced
@pytest.mark.parametrize("attack", ATTACKS)
def test_nor_does_one_of_a_member_that_has_the_key(attack: str) -> None:
    outgrows(ATTACKS[attack], TOPS["in an hour"], keyring=Keyring([ONE]))


def outgrows(attack: Attack, top: Callable[[Simulation], int], **options: Any) -> None:
    """Assert that the owner is taken for live again within ten rounds, and what it writes is taken."""
    with Simulation(seed=1) as sim:
        nodes = a_cluster(sim, **options)
        errors: list[Exception] = []
        nodes[0].on("error", errors.append)
        attack(sim, top(sim))
        sim.run(1_000)
        assert not any(isinstance(error, SealError) for error in errors)
        nodes[3].update("after", "attack")
        sim.run_until(lambda: all(knows(node, "n3", {"k": 1, "after": "attack"}) for node in nodes), TEN_ROUNDS)


@pytest.mark.untraced
@pytest.mark.parametrize("top", TOPS)
def test_an_id_that_has_not_started_yet_is_not_barred_either(top: str) -> None:
    with Simulation(seed=1) as sim:
        nodes = a_cluster(sim)
        number = TOPS[top](sim)
        forge(sim, "n0", forged("late", maxVersionSeen=number, floor=number, heartbeat=number))
        sim.run(10_000)
        late = sim.add("late", seeds=["n1"])
        late.on("error", lambda error: None)
        late.update("k", "new")
        sim.run_until(lambda: all(knows(node, "late", {"k": "new"}) for node in nodes), TEN_ROUNDS)


@pytest.mark.untraced
@pytest.mark.parametrize("victim", ["n5", "nobody"])
@pytest.mark.parametrize("ahead", [-1, 30, 59, 61])
def test_an_entry_about_the_bound_cuts_off_nobody_whose_clock_is_a_minute_behind(victim: str, ahead: float) -> None:
    with Simulation(seed=3) as sim:
        nodes = [sim.add(f"n{n}", seeds=["n0"], ahead=60_000 * (n % 2)) for n in range(6)]
        dead: list[tuple[str, str]] = []
        for node in nodes:
            node.on("error", lambda error: None)
            node.on("peer dead", lambda peer, node=node: dead.append((node.local_peer.id, peer.id)))
        sim.run(20_000)
        number = clock(sim) + YEARS + int(ahead * SECOND)
        forge(sim, "n1", forged(victim, maxVersionSeen=number, floor=number, heartbeat=number), heartbeat=clock(sim))
        for _ in range(3):
            sim.run(20_000)
            for node in nodes:
                node.update("k", sim.now)
        sim.run(45_000)
        assert all(node.get(peer.local_peer.id, "k") == peer.get(peer.local_peer.id, "k") for node in nodes for peer in nodes)
        assert [pair for pair in dead if pair[1] not in ("evil", "nobody")] == []
