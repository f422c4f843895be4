"""Rumours: what is news, how often it is told and to whom; and how fast a cluster has it."""

from __future__ import annotations

import statistics
from functools import partial
from random import Random

import pytest

from gossipmonger import Gossipmonger, Peer
from gossipmonger.protocol import Protocol
from gossipmonger.rumors import Rumors, choose_news
from gossipmonger.values import TOMBSTONE

from .protocols import NOW, B, a_peer, a_protocol, entry, events, sends
from .test_behaviour import SECOND, a_cluster, level_with

RUMOR = entry("b", heartbeat=1, rumor=True)


# How often


def test_news_are_told_at_once_and_twice_more_an_interval_apart() -> None:
    rumors = Rumors(50)
    assert rumors.due is None
    rumors.note("a", 7)
    told = []
    for now in range(0, 300, 10):
        news = rumors.take(now)
        if news:
            told.append((now, dict(news)))
    assert told == [(0, {"a": 7}), (50, {"a": 7}), (100, {"a": 7})]
    assert rumors.due is None


def test_news_of_one_interval_wait_for_its_end_and_go_together() -> None:
    rumors = Rumors(50)
    rumors.note("a", 7)
    rumors.take(0)
    rumors.note("b", 3)
    rumors.note("a", 9)
    rumors.note("a", 8)
    assert rumors.due == 50
    assert rumors.take(49) == {}
    assert rumors.take(50) == {"a": 7, "b": 3}  # what is told again begins where it began
    rumors.note("c", 1)
    assert rumors.take(100) == {"a": 7, "b": 3, "c": 1}
    assert rumors.take(150) == {"a": 9, "b": 3, "c": 1}
    assert rumors.take(200) == {"c": 1}
    assert rumors.due is None


def test_after_a_quiet_interval_news_go_at_once_again() -> None:
    rumors = Rumors(50)
    rumors.note("a", 1)
    for now in (0, 50, 100):
        rumors.take(now)
    rumors.note("a", 2)
    assert rumors.take(149) == {}
    assert rumors.take(150) == {"a": 2}


# What


def test_news_are_what_the_log_has_after_the_version_where_they_begin() -> None:
    peers = {
        "a": Peer("a", data={"old": (0, 3), "x": (1, 5), "y": (TOMBSTONE, 8)}),
        "b": Peer("b", data={"z": (2, 4)}),
        "c": Peer("c", max_version_seen=9),
    }
    deltas, told = choose_news({"a": 3, "b": 4, "gone": 1, "c": 2}, peers.get)
    assert deltas == [["a", "x", 1, 5, 3, 3], ["a", "y", TOMBSTONE, 8, 5]]
    assert told == [peers["a"], peers["c"]]


def test_of_what_there_is_no_room_for_a_few_are_told_and_of_all_the_digest_tells() -> None:
    large = Peer("large", data={"small": (1, 1), "large": ("x" * 20_000, 2), "after": (1, 3)})
    small = Peer("small", data={f"k{n}": (n, n + 1) for n in range(1_000)})
    deltas, told = choose_news({"large": 0, "small": 0}, {"large": large, "small": small}.get)
    assert deltas[0] == ["large", "small", 1, 1, 0]
    assert {delta[0] for delta in deltas[1:]} == {"small"}
    assert [delta[3] for delta in deltas[1:]] == list(range(1, len(deltas)))
    assert len(deltas) == 8
    assert told == [large, small]


def test_as_many_are_told_as_there_is_room_for() -> None:
    peer = Peer("p", data={f"k{n}": (n, n + 1) for n in range(200)})
    deltas, told = choose_news({"p": 0}, {"p": peer}.get)
    assert len(deltas) == 200
    assert told == [peer]


# To whom


def test_a_change_is_told_to_kin_at_once_and_is_no_digest_of_a_round() -> None:
    kin = [a_peer(f"p{n}", ours=True) for n in range(9)]
    others = [a_peer("plain", ours=False), a_peer("met never", ours=None), a_peer("dead", ours=True, live=False)]
    protocol, local, _ = a_protocol(*kin, *others)
    heartbeat = local.heartbeat
    protocol.update(NOW, "k", 1)
    output = protocol.spread(NOW)
    told = sends(output)
    assert len({send.remote_peer.id for send in told}) == 3
    assert {send.remote_peer.id for send in told} <= {peer.id for peer in kin}
    for send in told:
        assert send.deltas == [["a", "k", 1, 1, 0]]
        assert send.digest == [entry("a", 1, heartbeat=heartbeat, rumor=True)]
    assert len(events(output, "digest send")) == len(events(output, "deltas send")) == 3
    assert local.heartbeat == heartbeat
    assert protocol.rumor_due == NOW + 50


def test_nobody_is_told_without_a_fan_out() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True), rumor_fanout=0)
    protocol.update(NOW, "k", 1)
    assert (protocol.rumor_due, protocol.spread(NOW)) == (None, [])


def passed_on(protocol: Protocol) -> list[tuple[object, list[str]]]:
    return [(send.deltas, [each.id for each in send.digest or []]) for send in sends(protocol.spread(NOW))]


def test_what_came_in_a_rumour_is_passed_on_and_what_came_otherwise_is_not() -> None:
    for own, expected in ((RUMOR, [([["c", "k", 1, 5, 4]], ["c", "a"])]), (entry("b", heartbeat=1), [])):
        protocol, _, _ = a_protocol(a_peer("c", max_version_seen=4), a_peer("d", ours=True))
        output = protocol.receive(NOW, B, [["c", "k", 1, 5, 4]], [entry("c", 5), own])
        assert events(output, "update") == [("c", "k", 1)]
        protocol.membership.contact(NOW, B, entry("b"), [])  # b is none of ours, so that d is the only one there is to tell
        assert passed_on(protocol) == expected


def test_what_was_known_already_is_not_passed_on() -> None:
    protocol, _, _ = a_protocol(a_peer("c", max_version_seen=5), a_peer("d", ours=True))
    protocol.receive(NOW, B, [["c", "k", 1, 5, 4]], [entry("c", 5), RUMOR])
    assert passed_on(protocol) == []


def test_who_can_t_apply_a_rumour_asks_for_what_is_missing_and_passes_nothing_on() -> None:
    protocol, _, _ = a_protocol(a_peer("c", max_version_seen=2))
    output = protocol.receive(NOW, B, [["c", "k", 1, 5, 4]], [entry("c", 5), RUMOR])
    (asked,) = sends(output)
    assert [(each.id, each.version, each.reply) for each in asked.digest or []] == [("c", 2, False), ("a", 0, True)]
    assert passed_on(protocol) == []


def test_a_rumour_is_not_answered_for_heartbeats_nor_with_peers_that_it_leaves_out() -> None:
    protocol, _, _ = a_protocol(a_peer("c", heartbeat=9, max_version_seen=5), a_peer("d", heartbeat=4))
    assert sends(protocol.receive(NOW, B, None, [entry("c", 5, heartbeat=3), RUMOR])) == []


def test_what_is_new_is_told_before_the_good_bye() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True))
    protocol.update(NOW, "k", 1)
    protocol.spread(NOW)
    protocol.update(NOW, "l", 2)
    rumor, good_bye = sends(protocol.leave())
    assert [delta[1] for delta in rumor.deltas or []] == ["k", "l"]
    assert good_bye.digest is not None
    assert good_bye.digest[-1].left


# How fast: whole clusters on virtual time


class Watch:
    """Counts the rumours that nodes send."""

    def __init__(self, nodes: list[Gossipmonger]) -> None:
        self.sent = dict.fromkeys([node.local_peer.id for node in nodes], 0)
        for node in nodes:
            node.on("digest send", lambda _, digest, id=node.local_peer.id: self.count(id, digest))

    def count(self, id: str, digest: list[dict[str, object]]) -> None:
        self.sent[id] += "rumor" in digest[-1]


@pytest.fixture
def seed(rng: Random) -> int:
    return rng.randrange(10**6)


@pytest.mark.untraced
def test_an_update_is_at_a_hundred_nodes_within_120_ms_for_at_most_nine_rumours_a_node(seed: int) -> None:
    sim, nodes = a_cluster(100, seed, rumor_fanout=3)
    sim.run(2 * SECOND)
    watch = Watch(nodes)
    took = []
    for n in range(11):
        before = dict(watch.sent)
        nodes[9 * n].update("k", n)
        took.append(sim.run_until(partial(level_with, nodes[9 * n], nodes), limit=30 * SECOND))
        sim.run(SECOND)
        assert max(watch.sent[id] - before[id] for id in before) <= 9
    assert statistics.median(took) <= 120


@pytest.mark.untraced
def test_at_ten_percent_loss_nearly_all_updates_are_everywhere_within_a_round(seed: int) -> None:
    sim, nodes = a_cluster(50, seed, rumor_fanout=3)
    sim.run(2 * SECOND)
    sim.network.loss = 0.1
    took = []
    for n in range(40):
        nodes[n].update("k", n)
        took.append(sim.run_until(partial(level_with, nodes[n], nodes), limit=30 * SECOND))
    assert sum(each <= SECOND for each in took) >= 38


@pytest.mark.untraced
def test_a_joiner_that_catches_up_repeats_nothing(seed: int) -> None:
    sim, nodes = a_cluster(10, seed, rumor_fanout=3)
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
    sim, nodes = a_cluster(25, seed, rumor_fanout=3)
    sim.run(2 * SECOND)
    for n in range(200):
        nodes[7].update(f"k{n}", n)
    assert sim.run_until(lambda: level_with(nodes[7], nodes), limit=30 * SECOND) <= SECOND / 2
