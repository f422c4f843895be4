"""What a cluster does as a whole, counted in rounds of a simulated second, with the options' defaults otherwise."""

from __future__ import annotations

import statistics
from functools import partial
from random import Random
from typing import Any

import pytest

from gossipmonger import Gossipmonger, MemoryStorage
from gossipmonger.simulation import Simulation

from .false_deaths import false_deaths
from .node_protocol import NodeJsNode

pytestmark = pytest.mark.untraced

SECOND = 1_000
DAY = 86_400_000


def a_cluster(count: int, seed: int, loss: float = 0, **options: Any) -> tuple[Simulation, list[Gossipmonger]]:
    """Nodes that all know each other; unless `options` say otherwise, of rounds alone, without rumours."""
    options.setdefault("rumor_fanout", 0)
    sim = Simulation(seed, loss=loss)
    nodes = [sim.add(f"n{n}", seeds=["n0"], **options) for n in range(count)]
    sim.run_until(lambda: all(len(known(node)) == count - 1 for node in nodes), limit=60 * SECOND)
    return sim, nodes


def known(node: Gossipmonger) -> list[str]:
    return [peer.id for peer in node.storage.live_peers() if peer is not node.local_peer]


def level_with(owner: Gossipmonger, nodes: list[Gossipmonger]) -> bool:
    version = owner.local_peer.max_version_seen
    peers = [node.storage.get(owner.local_peer.id) for node in nodes]
    return all(peer is not None and peer.max_version_seen == version for peer in peers)


@pytest.fixture
def seed(rng: Random) -> int:
    return rng.randrange(10**6)


# State


def test_an_update_reaches_a_hundred_nodes_within_five_rounds(seed: int) -> None:
    sim, nodes = a_cluster(100, seed)
    took = []
    for n in range(5):
        owner = nodes[9 * n]
        owner.update("k", n)
        took.append(sim.run_until(partial(level_with, owner, nodes), limit=30 * SECOND))
    assert statistics.median(took) <= 5 * SECOND


def test_two_hundred_keys_reach_fifty_nodes_within_fifteen_rounds(seed: int) -> None:
    sim, nodes = a_cluster(50, seed)
    for n in range(200):
        nodes[7].update(f"k{n}", n)
    sim.run_until(lambda: level_with(nodes[7], nodes), limit=15 * SECOND)


def test_a_restarted_node_is_heard_by_fifty_within_eight_rounds(seed: int) -> None:
    sim, nodes = a_cluster(50, seed)
    nodes[7].update("life", 1)
    sim.run(10 * SECOND)
    sim.crash("n7")
    sim.run(40 * SECOND)
    assert all("n7" not in known(node) for node in nodes if node is not nodes[7])
    nodes[7] = sim.restart("n7")
    nodes[7].update("life", 2)
    sim.run_until(lambda: all(node.get("n7", "life") == 2 for node in nodes), limit=8 * SECOND)


def test_a_joiner_has_thirty_thousand_keys_within_two_rounds(seed: int) -> None:
    sim, nodes = a_cluster(10, seed)
    for node in nodes:
        for n in range(3_000):
            node._protocol.update(sim.now, f"k{n}", n)
    sim.run_until(lambda: all(level_with(node, nodes) for node in nodes), limit=30 * SECOND, every=100)
    joiner = sim.add("joiner", seeds=["n0"])
    sim.run_until(lambda: all(level_with(node, [joiner]) for node in nodes), limit=4 * SECOND, every=50)
    assert sum(len(joiner.peers()[node.local_peer.id].data) for node in nodes) == 30_000


@pytest.mark.parametrize("order", ["depth", "breadth"])
def test_a_flood_shuts_nobody_out(seed: int, order: str) -> None:
    sim, nodes = a_cluster(10, seed, max_exchanges_per_gossip=1, max_deltas_per_gossip=5, delta_order=order)
    heard: list[float] = []
    nodes[3].on("update", lambda id, key, value: heard.append(sim.now) if id == "n7" else None)
    begin = sim.now
    for second in range(60):  # far more than a message a round can carry
        for n in range(100):
            nodes[0].update(f"k{n}", second)
        if second == 5:
            nodes[7].update("small", 1)
        sim.run(SECOND)
    assert heard
    assert heard[0] - begin < 40 * SECOND


def test_what_was_deleted_while_a_node_was_away_for_a_month_does_not_come_back(seed: int) -> None:
    sim = Simulation(seed)
    options: dict[str, Any] = {"gossip_interval": 3_600 * SECOND}  # a round every hour: a month is long
    storage = MemoryStorage()
    nodes = [sim.add(f"n{n}", seeds=["n0"], **options) for n in range(4)]
    away = sim.add("away", seeds=["n0"], storage=storage, **options)
    for n in range(10_000):
        nodes[1].update(f"k{n}", n)
    nodes[1].update("kept", 1)
    sim.run_until(lambda: level_with(nodes[1], [*nodes, away]), limit=2 * DAY, every=60 * SECOND)
    sim.crash("away")
    for n in range(10_000):
        nodes[1].delete(f"k{n}")
    assert nodes[1].local_peer.count_after_version(0) <= 2  # compacted: the tombstones are gone too
    sim.run(30 * DAY)
    assert "away" not in nodes[0].peers()
    away = sim.restart("away", storage=storage)
    assert len(away.peers()["n1"].data) == 10_001
    returned: list[str] = []
    for node in nodes:
        node.on("update", lambda id, key, value: returned.append(key))
    sim.run_until(lambda: level_with(nodes[1], [*nodes, away]), limit=2 * DAY, every=60 * SECOND)
    sim.run(DAY / 2)
    assert all(dict(node.peers()["n1"].data) == {"kept": 1} for node in [*nodes, away])
    assert returned == []


# Life and death


def deaths(sim: Simulation, nodes: list[Gossipmonger], victim: str) -> list[float]:
    """Let it vanish; return after how many milliseconds each of the others saw it dead."""
    begin, seen = sim.now, dict[str, float]()
    for node in nodes:
        node.on("peer dead", lambda peer, id=node.local_peer.id: seen.setdefault(f"{id} saw {peer.id}", sim.now - begin))
    sim.vanish(victim)
    sim.run_until(lambda: len(seen) == len(nodes) - 1, limit=60 * SECOND, every=100)
    assert all(each.endswith(f" saw {victim}") for each in seen)
    return sorted(seen.values())


@pytest.mark.parametrize(("fanout", "limit"), [(1, 28), (3, 11)])
@pytest.mark.parametrize("count", [10, 50])
def test_a_death_is_seen_by_the_last_in_the_same_time_whatever_the_number_of_nodes(
    seed: int, count: int, fanout: int, limit: int
) -> None:
    sim, nodes = a_cluster(count, seed, gossip_fanout=fanout)
    sim.run(30 * SECOND)
    assert deaths(sim, nodes, "n3")[-1] <= limit * SECOND


def test_phi_of_the_living_stays_below_six_at_five_percent_loss(seed: int) -> None:
    sim, nodes = a_cluster(50, seed, loss=0.05)
    highest = 0.0
    for _ in range(60):
        sim.run(SECOND / 2)
        highest = max(highest, *(peer.phi(sim.now) for node in nodes for peer in node.storage.live_peers()))
    assert 1 < highest < 6


def test_nobody_is_thought_dead_who_is_not_while_others_are_paused_killed_or_refuse_dials(seed: int) -> None:
    """A slice of `make false-deaths`."""
    assert [false_deaths(seed + n, nodes=20, seconds=60) for n in range(2)] == [[]] * 2


# Mixed clusters


def test_a_plain_node_sees_deletes_as_tombstones_and_everything_else_as_its_own_kind_does(seed: int) -> None:
    sim = Simulation(seed)
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    plain = NodeJsNode(sim, "plain", ["a"], 5)
    a.update("k", 1)
    a.update("gone", 1)
    plain.update("p", [1])
    sim.run(10 * SECOND)
    assert plain.view("a") == {"k": 1, "gone": 1}
    assert b.get("plain", "p") == [1]
    a.delete("gone")
    sim.run(10 * SECOND)
    assert plain.view("a") == {"k": 1, "gone": {"gossipmonger:deleted": True}}
    assert b.peers()["a"].data == {"k": 1}
    sim.crash("b")
    b = sim.restart("b")
    b.update("life", 2)
    sim.run(20 * SECOND)
    assert plain.view("b")["life"] == 2
    assert {node.peers()["plain"].state for node in (a, b)} == {"live"}


def test_a_plain_node_s_death_is_seen_in_the_same_time(seed: int) -> None:
    sim, nodes = a_cluster(20, seed)
    plain = NodeJsNode(sim, "plain", ["n0"], 5)
    sim.run(60 * SECOND)
    assert all(node.peers()["plain"].state == "live" for node in nodes)
    sim.network.detach("plain", plain)
    plain.round = lambda: None  # type: ignore[method-assign]
    sim.run_until(lambda: all(node.peers()["plain"].state == "dead" for node in nodes), limit=80 * SECOND, every=SECOND)
