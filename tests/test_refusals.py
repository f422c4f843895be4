"""Killed processes and lost hosts: how soon the last node sees them dead, and who is not seen dead."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

from .node_protocol import NodeJsNode
from .test_behaviour import SECOND, a_cluster

pytestmark = pytest.mark.untraced

#: Options of these clusters: the defaults.
DEFAULTS: dict[str, Any] = {"rumor_fanout": 3, "gossip_fanout": 3}


@pytest.fixture
def seed(rng: Random) -> int:
    return rng.randrange(10**6)


def watched(sim: Simulation, nodes: list[Gossipmonger], event: str = "peer dead") -> dict[tuple[str, str], float]:
    """When which node first emits that event for which peer, in milliseconds from now on."""
    seen: dict[tuple[str, str], float] = {}
    begin = sim.now
    for node in nodes:
        me = node.local_peer.id
        node.on(event, lambda peer, me=me: seen.setdefault((me, peer.id), sim.now - begin))  # type: ignore[call-overload]
    return seen


def seen_by_all(sim: Simulation, nodes: list[Gossipmonger], victim: str, limit: float) -> float:
    """Let time pass until all nodes but the victim have seen it dead, and nobody else; return when the last one did."""
    seen = watched(sim, nodes)
    others = [node.local_peer.id for node in nodes if node.local_peer.id != victim]
    wanted = {(id, victim) for id in others}
    sim.run_until(lambda: wanted <= seen.keys(), limit=limit)
    assert seen.keys() == wanted
    return max(seen.values())


@pytest.mark.parametrize("count", [2, 3, 5, 25])
def test_a_killed_process_is_seen_dead_by_the_last_node_within_three_seconds(seed: int, count: int) -> None:
    sim, nodes = a_cluster(count, seed, **DEFAULTS)
    sim.run(20 * SECOND + count / 3 * SECOND)
    victim = f"n{count - 1}"
    sim.crash(victim)
    assert 2 * SECOND <= seen_by_all(sim, nodes, victim, limit=60 * SECOND) <= 3 * SECOND


def test_at_a_fan_out_of_one_it_takes_a_little_longer(seed: int) -> None:
    sim, nodes = a_cluster(25, seed, rumor_fanout=3, gossip_fanout=1)
    sim.run(45 * SECOND)
    sim.crash("n3")
    assert seen_by_all(sim, nodes, "n3", limit=60 * SECOND) <= 7.5 * SECOND


def test_a_refused_dial_is_enough_where_no_link_ends(seed: int) -> None:
    sim, nodes = a_cluster(25, seed, **DEFAULTS)
    sim.run(20 * SECOND)
    sim.node("n3").transport.close()  # as if all links to it had been idle for long
    sim.vanish("n3")
    assert seen_by_all(sim, nodes, "n3", limit=60 * SECOND) <= 4 * SECOND


def test_a_lost_host_is_seen_by_phi(seed: int) -> None:
    sim, nodes = a_cluster(25, seed, **DEFAULTS)
    sim.run(30 * SECOND)
    sim.vanish("n3")
    assert 5 * SECOND <= seen_by_all(sim, nodes, "n3", limit=60 * SECOND) <= 11 * SECOND


def test_a_killed_node_js_process_is_seen_sooner_than_by_phi(seed: int) -> None:
    sim, nodes = a_cluster(15, seed, **DEFAULTS)
    plain = NodeJsNode(sim, "plain", ["n0"], 5)
    sim.run(60 * SECOND)
    assert all(node.peers()["plain"].state == "live" for node in nodes)
    seen = watched(sim, nodes)
    sim.network.detach("plain", plain)
    plain.round = lambda: None  # type: ignore[method-assign]
    sim.run_until(lambda: len(seen) == 15, limit=80 * SECOND)
    assert {id for _, id in seen} == {"plain"}
    assert sorted(seen.values())[7] < 20 * SECOND


def test_ten_killed_at_once_are_seen_within_three_seconds_and_nobody_else(seed: int) -> None:
    sim, nodes = a_cluster(30, seed, **DEFAULTS)
    sim.run(40 * SECOND)
    victims = {f"n{n}" for n in range(10, 20)}
    left = [node for node in nodes if node.local_peer.id not in victims]
    seen = watched(sim, left)
    for id in victims:
        sim.crash(id)
    sim.run(3 * SECOND)
    assert seen.keys() == {(node.local_peer.id, id) for node in left for id in victims}
    back = watched(sim, left, "peer live")
    sim.run(60 * SECOND)
    assert back == {}


def test_who_restarts_within_the_second_is_not_seen_dead(seed: int) -> None:
    sim, nodes = a_cluster(25, seed, **DEFAULTS)
    sim.run(20 * SECOND)
    seen = watched(sim, nodes)
    for away in (50, 500, 900):
        sim.crash("n3")
        sim.run(away)
        sim.restart("n3")
        sim.run(20 * SECOND)
    assert seen == {}


def test_who_restarts_after_it_was_seen_dead_is_live_within_seconds(seed: int) -> None:
    sim, nodes = a_cluster(25, seed, **DEFAULTS)
    sim.run(20 * SECOND)
    sim.crash("n3")
    sim.run(4 * SECOND)
    others = [node for node in nodes if node.local_peer.id != "n3"]
    assert {node.peers()["n3"].state for node in others} == {"dead"}
    sim.restart("n3")
    sim.run_until(lambda: all(node.peers()["n3"].state == "live" for node in others), limit=5 * SECOND)


def refuse(sim: Simulation, rule: Any) -> None:
    """Let addresses refuse whatever dial from one host to another a rule says; links that there are end."""
    before = sim.network.refuses
    sim.network.refuses = lambda source, host: rule(source, host) or before(source, host)  # type: ignore[method-assign]
    for host in [*sim.network._hosts]:
        sim.network.end_links(host)


@pytest.mark.parametrize("fanout", [1, 3])
@pytest.mark.parametrize("loss", [0, 0.05])
def test_what_refuses_and_lives_is_not_seen_dead(seed: int, fanout: int, loss: float) -> None:
    """A firewall's rule, and a listener that closed."""
    rules = [lambda source, host: (source, host) == ("n1", "n2"), lambda source, host: host == "n2"]
    for rule in rules:
        sim, nodes = a_cluster(10, seed, rumor_fanout=3, gossip_fanout=fanout)
        sim.run(20 * SECOND)
        sim.network.loss = loss
        seen = watched(sim, nodes)
        refuse(sim, rule)
        sim.run(40 * SECOND)
        assert seen == {}


def test_who_could_never_be_dialled_is_not_seen_dead(seed: int) -> None:
    sim = Simulation(seed)
    sim.network.refuses = lambda source, host: host in ("n1", "n2")  # type: ignore[method-assign]
    nodes = [sim.add(f"n{n}", seeds=["n0"], **DEFAULTS) for n in range(10)]
    seen = watched(sim, nodes)
    sim.run(60 * SECOND)
    assert seen == {}
    assert all(len(node.peers()) == 10 for node in nodes)


def test_a_service_that_refuses_now_and_then_is_not_seen_dead(seed: int) -> None:
    sim, nodes = a_cluster(25, seed, **DEFAULTS)
    sim.run(20 * SECOND)
    seen = watched(sim, nodes)
    ready = True
    refuse(sim, lambda source, host: host == "n2" and not ready)
    for _ in range(20):
        sim.run(1.7 * SECOND)
        ready = not ready
        sim.network.end_links("n2")
    assert seen == {}


def test_old_news_of_a_killed_process_does_not_bring_it_back(seed: int) -> None:
    """They are in the hands of processes that were stopped when it was killed."""
    sim, nodes = a_cluster(25, seed, **DEFAULTS)
    sim.run(20 * SECOND)
    for n in range(4, 9):
        sim.pause(f"n{n}", 8 * SECOND)
    sim.run(SECOND)
    others = [node for node in nodes if node.local_peer.id != "n3"]
    sim.crash("n3")
    sim.run(4 * SECOND)
    assert sum(node.peers()["n3"].state == "dead" for node in others) == 19
    back = watched(sim, others, "peer live")
    sim.run(30 * SECOND)
    assert not [pair for pair in back if pair[1] == "n3"]
    assert {node.peers()["n3"].state for node in others} == {"dead"}
