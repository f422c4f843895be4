"""Simulated clusters: at rest, catching up, spreading news, and under flow control."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

from .test_behaviour import SECOND, a_cluster, level_with


@pytest.fixture
def seed(rng: Random) -> int:
    return rng.randrange(10**6)


# At rest


def test_a_cluster_at_rest_sends_a_fraction_of_the_bytes_and_still_has_every_update(seed: int) -> None:
    sim = Simulation(seed)
    nodes = [sim.add(f"n{n}", seeds=["n0"], rumor_fanout=0, compress_above=None) for n in range(30)]
    sim.run(1 * SECOND)
    busy = sim.bytes
    sim.run(2 * SECOND)
    forming = sim.bytes - busy
    sim.run(20 * SECOND)
    before = sim.bytes
    sim.run(2 * SECOND)
    assert sim.bytes - before < forming / 4
    for number, node in enumerate(nodes):
        node.update("k", number)
    sim.run_until(lambda: all(has_all(node, nodes) for node in nodes), limit=20 * SECOND, every=100)


def has_all(node: Gossipmonger, owners: list[Gossipmonger]) -> bool:
    return all(node.get(owner.local_peer.id, "k") == number for number, owner in enumerate(owners))


# Catching up


@pytest.mark.untraced
def test_a_flood_is_sent_to_each_node_less_than_twice() -> None:
    sim = Simulation(1)
    nodes = [sim.add(f"n{n}", seeds=["n0"]) for n in range(10)]
    sim.run(5_000)
    received = {node.local_peer.id: 0 for node in nodes}
    for node in nodes:

        def count(_: object, deltas: list[object], id: str = node.local_peer.id) -> None:
            received[id] += len(deltas)

        node.on("deltas receive", count)  # type: ignore[call-overload]
    for key in range(2_000):
        nodes[0].update(f"k{key}", key)
    sim.run_until(lambda: all(node.get("n0", "k1999") == 1999 for node in nodes), limit=10_000)
    assert sum(received.values()) < 2 * 9 * 2_000


@pytest.mark.untraced
def test_who_catches_up_with_many_goes_on_with_the_one_it_has_asked() -> None:
    sim = Simulation(1)
    nodes = [sim.add(f"n{n}", seeds=["n0"], max_deltas_per_gossip=20) for n in range(60)]
    for node in nodes:
        for key in range(10):
            node.update(f"k{key}", key)
    ids = [node.local_peer.id for node in nodes]
    sim.run_until(lambda: all(node.get(id, "k9") == 9 for node in nodes for id in ids), limit=8_000)


# Rumours


class Watch:
    """Counts the rumours that nodes send."""

    def __init__(self, nodes: list[Gossipmonger]) -> None:
        self.sent = dict.fromkeys([node.local_peer.id for node in nodes], 0)
        for node in nodes:
            node.on("digest send", lambda _, digest, id=node.local_peer.id: self.count(id, digest))

    def count(self, id: str, digest: list[dict[str, object]]) -> None:
        self.sent[id] += "rumor" in digest[-1]


@pytest.mark.untraced
def test_an_update_is_at_a_hundred_nodes_within_60_ms_for_at_most_five_rumours_a_node(seed: int) -> None:
    sim, nodes = a_cluster(100, seed, rumor_fanout=4)
    sim.run(2 * SECOND)
    watch = Watch(nodes)
    took = []
    for n in range(3):
        before = dict(watch.sent)
        nodes[9 * n].update("k", n)
        took.append(sim.run_until(partial(level_with, nodes[9 * n], nodes), limit=30 * SECOND))
        sim.run(SECOND)
        assert max(watch.sent[id] - before[id] for id in before) <= 5
    assert max(took) <= 60


@pytest.mark.untraced
def test_under_load_nearly_everybody_has_an_update_within_350_ms_at_a_bounded_cost(seed: int) -> None:
    sim, nodes = a_cluster(25, seed, rumor_fanout=4)
    sim.run(31 * SECOND)  # until entries of new peers are left out
    sim.network.latency = (1, 5)
    took: list[float] = []
    for node in nodes:
        node.on("update", lambda id, key, at: took.append(sim.now - at))
    watch, sent = Watch(nodes), sim.bytes

    def write(key: str) -> None:
        sim.random.choice(nodes).update(key, sim.now)

    for n in range(250):
        sim.at(sim.random.uniform(0, 10 * SECOND), partial(write, f"k{n}"))
    sim.run(10 * SECOND)
    rumors, sent = sum(watch.sent.values()), sim.bytes - sent
    sim.run(SECOND)
    assert len(took) == 24 * 250
    assert sorted(took)[len(took) * 99 // 100] <= 350
    assert rumors / 25 / 10 <= 28
    assert sent / 25 / 10 <= 16_000


@pytest.mark.untraced
def test_at_ten_percent_loss_nearly_all_updates_are_everywhere_within_a_round(seed: int) -> None:
    sim, nodes = a_cluster(50, seed, rumor_fanout=4)
    sim.run(2 * SECOND)
    sim.network.loss = 0.1
    took = []
    for n in range(20):
        nodes[n].update("k", n)
        took.append(sim.run_until(partial(level_with, nodes[n], nodes), limit=30 * SECOND))
    assert sum(each <= SECOND for each in took) >= 19


@pytest.mark.untraced
def test_a_joiner_that_catches_up_repeats_nothing(seed: int) -> None:
    sim, nodes = a_cluster(10, seed, rumor_fanout=4)
    for node in nodes:
        for n in range(50):
            node.update(f"k{n}", n)
    sim.run(20 * SECOND)
    joiner = sim.add("joiner", seeds=["n0"])
    watch = Watch([*nodes, joiner])
    sim.run_until(lambda: all(level_with(node, [joiner]) for node in nodes), limit=20 * SECOND)
    sim.run(SECOND)
    assert set(watch.sent.values()) == {0}


@pytest.mark.untraced
def test_a_burst_of_keys_is_everywhere_within_a_fraction_of_a_round(seed: int) -> None:
    sim, nodes = a_cluster(25, seed, rumor_fanout=4)
    sim.run(2 * SECOND)
    for n in range(200):
        nodes[7].update(f"k{n}", n)
    assert sim.run_until(lambda: level_with(nodes[7], nodes), limit=30 * SECOND) <= SECOND / 2


# Flow control


def slow_pair() -> tuple[Simulation, Gossipmonger, Gossipmonger]:
    sim = Simulation(seed=3)
    a, b = (sim.add(id, seeds=["a"], flow_control=True) for id in "ab")
    sim.run(5_000)
    for node in (a, b):
        flow = node._protocol._flow
        assert flow is not None
        flow._set(2)
        flow._most = 2
    return sim, a, b


def test_the_owner_sees_what_waits_and_others_what_was_admitted() -> None:
    sim, a, b = slow_pair()
    for n in range(10):
        assert a.update(f"k{n}", n) is True
    assert a.update("k9", 9) is False
    assert a.update("k9", "nine") is True
    assert a.get("a", "k9") == "nine"
    assert len(a.peers()["a"].data) == 10
    sim.run(2_500)
    assert 3 <= len(b.peers()["a"].data) <= 7
    sim.run(10_000)
    assert b.peers()["a"].data == a.peers()["a"].data == {**{f"k{n}": n for n in range(9)}, "k9": "nine"}


def test_deletes_wait_too() -> None:
    sim, a, b = slow_pair()
    for n in range(4):
        a.update(f"k{n}", n)
    sim.run(10_000)
    for n in range(4):
        assert a.delete(f"k{n}") is True
        assert a.delete(f"k{n}") is False
    assert a.peers()["a"].data == {}
    assert a.get("a", "k3", "gone") == "gone"
    sim.run(10_000)
    assert b.peers()["a"].data == {}


def test_a_key_that_is_set_back_while_it_waits_is_as_it_was() -> None:
    sim, a, b = slow_pair()
    a.update("k", 1)
    sim.run(5_000)
    for value in (2, 3, 1):
        a.update("k", value)
    sim.run(5_000)
    assert b.get("a", "k") == 1


def test_rates_are_shared_over_the_network() -> None:
    sim, a, b = slow_pair()
    for _ in range(20):
        for n in range(5):
            a.update(f"k{n}", sim.now)
        sim.run(1_000)
    rates = [node._protocol._flow.tau for node in (a, b) if node._protocol._flow is not None]
    assert len(rates) == 2
    digests = []
    b.on("digest receive", lambda peer, digest: digests.append(digest[-1]))
    sim.run(2_000)
    assert all(len(own["flow"]) >= 2 for own in digests if not own.keys() & {"reply", "rumor"})
