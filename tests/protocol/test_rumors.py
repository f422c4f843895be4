"""Rumours: what is news, how often it is told and to whom."""

from __future__ import annotations

from gossipmonger.protocol import Protocol
from gossipmonger.protocol.rumors import Rumors, choose_news
from gossipmonger.state import Delta, Digest, Kind, Peer
from gossipmonger.state.values import TOMBSTONE

from .steps import B_NODE_JS, NOW, OURS, a_peer, a_protocol, digest_of, entry, events, ids, reply_to, sends, step

NEWS = Delta("c", "k", 1, 5, 4)


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
    assert deltas == [Delta("a", "x", 1, 5, 3, 3), Delta("a", "y", TOMBSTONE, 8, 5)]
    assert told == [peers["a"], peers["c"]]


def test_of_what_there_is_no_room_for_a_few_are_told_and_of_all_the_digest_tells() -> None:
    large = Peer("large", data={"small": (1, 1), "large": ("x" * 20_000, 2), "after": (1, 3)})
    small = Peer("small", data={f"k{n}": (n, n + 1) for n in range(1_000)})
    deltas, told = choose_news({"large": 0, "small": 0}, {"large": large, "small": small}.get)
    assert deltas[0] == Delta("large", "small", 1, 1, 0)
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


def test_a_change_is_told_at_once_to_speakers_of_our_extensions_and_is_no_digest_of_a_round() -> None:
    speakers = [a_peer(f"p{n}", ours=True) for n in range(9)]
    others = [a_peer("node.js", ours=False), a_peer("met never", ours=None), a_peer("dead", ours=True, live=False)]
    protocol, local, _ = a_protocol(*speakers, *others)
    heartbeat = local.heartbeat
    protocol.update(NOW, "k", 1)
    output = protocol.spread(NOW)
    told = sends(output)
    assert len({send.to.id for send in told}) == 3
    assert {send.to.id for send in told} <= {peer.id for peer in speakers}
    for send in told:
        assert send.message is told[0].message
        assert send.message.deltas == [Delta("a", "k", 1, 1, 0)]
        assert send.message.digest == Digest(Kind.RUMOR, OURS, [entry("a", 1, heartbeat=heartbeat)])
    assert len(events(output, "digest send")) == len(events(output, "deltas send")) == 3
    assert local.heartbeat == heartbeat
    assert protocol.rumor_due == NOW + 50


def test_nobody_is_told_without_a_fan_out() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True), rumor_fanout=0)
    protocol.update(NOW, "k", 1)
    assert (protocol.rumor_due, protocol.spread(NOW)) == (None, [])


def passed_on(protocol: Protocol) -> list[tuple[object, list[str]]]:
    return [(send.message.deltas, ids(digest_of(send))) for send in sends(protocol.spread(NOW))]


def test_what_came_in_a_rumour_is_passed_on_and_what_came_otherwise_is_not() -> None:
    for kind, expected in ((Kind.RUMOR, [([NEWS], ["c", "a"])]), (Kind.ROUND, [])):
        protocol, _, _ = a_protocol(a_peer("c", max_version_seen=4), a_peer("d", ours=True))
        output = step(protocol, deltas=[NEWS], entries=[entry("c", 5)], kind=kind)
        assert events(output, "update") == [("c", "k", 1)]
        step(protocol, B_NODE_JS, entries=[], header=None)  # so that d is the only one there is to tell
        assert passed_on(protocol) == expected


def test_what_was_known_already_is_not_passed_on() -> None:
    protocol, _, _ = a_protocol(a_peer("c", max_version_seen=5), a_peer("d", ours=True))
    step(protocol, deltas=[NEWS], entries=[entry("c", 5)], kind=Kind.RUMOR)
    assert passed_on(protocol) == []


def test_who_can_t_apply_a_rumour_asks_for_what_is_missing_and_passes_nothing_on() -> None:
    protocol, _, _ = a_protocol(a_peer("c", max_version_seen=2))
    output = step(protocol, deltas=[NEWS], entries=[entry("c", 5)], kind=Kind.RUMOR)
    assert [(each.id, each.version) for each in reply_to(output).values()] == [("c", 2), ("a", 0)]
    assert passed_on(protocol) == []


def test_a_rumour_is_not_answered_for_heartbeats_nor_with_peers_that_it_leaves_out() -> None:
    protocol, _, _ = a_protocol(a_peer("c", heartbeat=9, max_version_seen=5), a_peer("d", heartbeat=4))
    assert sends(step(protocol, entries=[entry("c", 5, heartbeat=3)], kind=Kind.RUMOR)) == []


def test_who_says_in_a_rumour_that_it_is_behind_is_not_told_what_it_asks_for_elsewhere() -> None:
    for heard, told in ((0, True), (9, False)):
        protocol, _, _ = a_protocol(a_peer("c", data={"k": (1, 5)}))
        assert bool(sends(step(protocol, entries=[entry("c", 4, heard=heard)], kind=Kind.RUMOR))) is told


# Leaving


def test_what_is_new_is_told_before_the_good_bye() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True))
    protocol.update(NOW, "k", 1)
    protocol.spread(NOW)
    protocol.update(NOW, "l", 2)
    rumor, farewell = sends(protocol.leave(NOW))
    assert [delta.key for delta in rumor.message.deltas or []] == ["k", "l"]
    assert digest_of(farewell).kind is Kind.FAREWELL


def test_who_is_back_after_it_left_tells_its_news_again() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True))
    protocol.update(NOW, "k", 1)
    protocol.leave(NOW)
    protocol.join()
    later = NOW + 10_000
    protocol.update(later, "l", 2)
    due = protocol.rumor_due
    assert due is not None
    assert due <= later
    (send,) = sends(protocol.spread(later))
    assert [delta.key for delta in send.message.deltas or []] == ["k", "l"]
