"""Rumours: what is news, to whom it is told, how often and at what cost."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from gossipmonger.protocol import Protocol
from gossipmonger.protocol.rumors import Rumors, successors
from gossipmonger.state import Delta, Digest, Kind, Peer
from gossipmonger.state.values import TOMBSTONE

from .steps import (
    B_NODE_JS,
    NOW,
    OURS,
    Copying,
    a_config,
    a_peer,
    a_protocol,
    digest_of,
    entry,
    events,
    ids,
    reply_to,
    sends,
    step,
)

NEWS = Delta("c", "k", 1, 5, 4)

#: Milliseconds after which news is old to everybody, and the entries of new peers are left out.
OLD = 31_000


class Teller:
    """Rumours of one node among others, and what it told to whom."""

    def __init__(self, others: int, peers: dict[str, Peer] | None = None, **config: Any) -> None:
        self.local = Peer("a")
        self.others = [Peer(f"p{n:02}") for n in range(others)]
        self.peers = {} if peers is None else peers
        self.rumors = Rumors(self.local, a_config(**config), Random(1))

    def news(self, id: str, after: int = 0, to: int = 1) -> None:
        self.peers.setdefault(id, Peer(id, max_version_seen=to))
        self.rumors.note(id, after)

    def tell(self, now: float, hurry: bool = False) -> tuple[list[str], list[str]]:
        """Whom it tells now, and the peers that it tells of; nobody if nothing is due."""
        if not hurry and (not self.rumors.news or now < self.rumors.due):
            return [], []
        partners, _, told, _ = self.rumors.tell(now, self.others, self.peers.get, hurry)
        return [peer.id for peer in partners], [peer.id for peer in told]

    def counts(self, times: range) -> dict[int, int]:
        """How many it tells at these times, where it is anybody."""
        told = {now: len(self.tell(now)[0]) for now in times}
        return {now: count for now, count in told.items() if count}


# How often


def test_news_is_told_at_once_to_many_and_once_more_an_interval_later() -> None:
    teller = Teller(20)
    assert not teller.rumors.news
    teller.news("x")
    assert teller.counts(range(0, 500, 10)) == {0: 4, 50: 1}
    assert not teller.rumors.news


def test_what_is_new_a_moment_later_waits_for_a_moment_and_travels_together() -> None:
    teller = Teller(20)
    teller.news("x")
    teller.tell(0)
    teller.news("y")
    teller.news("z")
    assert teller.rumors.due == 10
    assert teller.tell(9) == ([], [])
    partners, told = teller.tell(10)
    assert len(partners) == 4
    assert told == ["x", "y", "z"]
    assert teller.counts(range(11, 500)) == {60: 1}


def test_news_of_a_peer_begins_where_the_oldest_news_begins_that_is_still_told() -> None:
    peers = {"x": Peer("x", data={"k": (1, 5), "l": (2, 9)})}
    teller = Teller(20, peers)

    def told(now: float) -> list[int]:
        return [delta.version for delta in teller.rumors.tell(now, teller.others, peers.get)[1]]

    teller.rumors.note("x", 4)
    teller.rumors.note("x", 8)  # is part of what is told anyway
    assert told(0) == [5, 9]
    peers["x"].take("m", 3, 12, 9)
    teller.rumors.note("x", 9)
    assert told(10) == [5, 9, 12]
    assert told(60) == [12]
    assert not teller.rumors.news


def test_who_has_few_others_tells_each_of_them_once_and_one_once_more() -> None:
    for others in (1, 3):
        teller = Teller(others)
        teller.news("x")
        assert teller.counts(range(0, 500, 10)) == {0: others, 50: 1}


def test_what_nobody_is_there_to_be_told_is_left_to_the_rounds() -> None:
    teller = Teller(0)
    teller.news("x")
    assert teller.tell(0) == ([], [])
    assert not teller.rumors.news


# The bucket


def test_a_bucket_of_a_seconds_messages_bounds_what_is_sent() -> None:
    teller = Teller(20, rumor_rate=20)
    sent = []
    for now in range(10_000):
        teller.news(f"x{now}")
        sent.append(len(teller.tell(now)[0]))
    assert sum(sent[:1_000]) <= 40
    assert sum(sent[1_000:]) == pytest.approx(180, abs=2)
    assert set(sent[1_000:]) == {0, 2}


def test_who_has_no_tokens_tells_more_often_later_what_it_told_to_few() -> None:
    teller = Teller(20, rumor_rate=20)
    for n in range(6):
        teller.news(f"x{n}")
        teller.tell(10 * n)
    teller.news("late")
    copies = 0
    for now in range(60, 1_000):
        partners, told = teller.tell(now)
        copies += len(partners) * ("late" in told)
    assert copies == 5


def test_a_full_bucket_has_the_tokens_for_one_piece_of_news_however_low_the_rate() -> None:
    teller = Teller(20, rumor_rate=1)
    teller.news("x")
    assert teller.counts(range(0, 500, 10)) == {0: 4, 50: 1}
    teller.news("y")
    assert teller.rumors.due == pytest.approx(1_000, abs=0.1)


def test_who_is_in_a_hurry_asks_no_bucket() -> None:
    teller = Teller(20, rumor_rate=1)
    for id in "xyz":
        teller.news(id)
        assert len(teller.tell(0, hurry=True)[0]) == 4


# To whom


@pytest.mark.parametrize("count", [6, 25, 64, 100])
def test_all_are_reached_along_successors_in_logarithmically_many_hops(count: int) -> None:
    peers = [Peer(f"n{n}") for n in range(count)]
    nexts = {peer.id: [each.id for each in successors(peer, [o for o in peers if o is not peer], 4)] for peer in peers}
    assert {len(each) for each in nexts.values()} <= {3, 4}  # its own place may be among them
    for peer in peers:
        reached, hops = {peer.id}, 0
        while len(reached) < count:
            reached |= {each for id in reached for each in nexts[id]}
            hops += 1
        assert hops <= math.ceil(math.log(count, 4))


def test_few_others_are_all_successors() -> None:
    local, *others = [Peer(id) for id in "cabde"]
    assert successors(local, others, 4) == others


def test_the_first_telling_goes_to_the_successors_and_the_second_to_anybody() -> None:
    first, second = set(), set()
    for n in range(40):
        teller = Teller(20)
        teller.rumors._random = Random(n)
        teller.news("x")
        first.add(frozenset(teller.tell(0)[0]))
        second.update(teller.tell(50)[0])
    own = {peer.id for peer in successors(teller.local, teller.others, 4)}
    assert all(own <= told for told in first)
    assert all(len(told) == 4 for told in first)
    assert len(second) > 10


def test_without_tokens_for_all_successors_they_are_told_in_turn_and_now_and_then_somebody_else() -> None:
    teller = Teller(20, rumor_rate=20)
    told = []
    for now in range(5_000):
        teller.news(f"x{now}")
        told += teller.tell(now)[0]
    own = {peer.id for peer in successors(teller.local, teller.others, 4)}
    late = told[-40:]
    assert all(late.count(id) in range(8, 14) for id in own)
    assert set(late) - own


# What


def test_news_is_what_the_log_has_after_the_version_where_it_begins() -> None:
    peers = {
        "a": Peer("a", data={"old": (0, 3), "x": (1, 5), "y": (TOMBSTONE, 8)}),
        "b": Peer("b", data={"z": (2, 4)}),
    }
    teller = Teller(5, peers)
    for id, after in (("a", 3), ("b", 4), ("gone", 1)):
        teller.rumors.note(id, after)
    _, deltas, told, cut = teller.rumors.tell(0, teller.others, peers.get)
    assert deltas == [Delta("a", "x", 1, 5, 3, 3), Delta("a", "y", TOMBSTONE, 8, 5)]
    assert (told, cut) == ([peers["a"]], [])


def test_nobody_is_told_of_peers_that_are_forgotten() -> None:
    teller = Teller(5)
    teller.rumors.note("gone", 1)
    assert teller.tell(0) == ([], [])
    assert not teller.rumors.news


def test_of_what_fits_into_no_rumour_a_few_are_told() -> None:
    large = Peer("large", data={"small": (1, 1), "large": ("x" * 20_000, 2), "after": (1, 3)})
    flood = Peer("flood", data={f"k{n}": (n, n + 1) for n in range(1_000)})
    teller = Teller(5, {"large": large, "flood": flood})
    for id in teller.peers:
        teller.rumors.note(id, 0)
    _, deltas, told, cut = teller.rumors.tell(0, teller.others, teller.peers.get)
    assert deltas[0] == Delta("large", "small", 1, 1, 0)
    assert [delta[:4:3] for delta in deltas[1:]] == [("flood", n) for n in range(1, 9)]
    assert told == cut == [large, flood]


def test_as_many_are_told_as_there_is_room_for() -> None:
    peer = Peer("p", data={f"k{n}": (n, n + 1) for n in range(200)})
    teller = Teller(5, {"p": peer})
    teller.rumors.note("p", 0)
    _, deltas, _, cut = teller.rumors.tell(0, teller.others, teller.peers.get)
    assert len(deltas) == 200
    assert cut == []


def test_what_does_not_fit_beside_the_rest_is_told_first_in_the_next_rumour() -> None:
    teller = Teller(20, {id: Peer(id, data={"k": ("x" * 6_000, 1)}) for id in "uvwxyz"})
    for id in teller.peers:
        teller.rumors.note(id, 0)
    copies = dict.fromkeys(teller.peers, 0)
    rumors = []
    for now in range(0, 500, 10):
        partners, told = teller.tell(now)
        rumors += ["".join(told)] if told else []
        for id in told:
            copies[id] += len(partners)
    assert rumors[:3] == ["uv", "wx", "yz"]
    assert set(copies.values()) == {5}


# In the protocol


def test_a_change_is_told_at_once_to_speakers_of_our_extensions_and_is_no_digest_of_a_round() -> None:
    speakers = [a_peer(f"p{n}", ours=True) for n in range(9)]
    others = [a_peer("node.js", ours=False), a_peer("met never", ours=None), a_peer("dead", ours=True, live=False)]
    protocol, local, _ = a_protocol(*speakers, *others, rumor_fanout=3)
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
    assert protocol.due == NOW + 50
    assert protocol.spread(NOW + 49) == []


def test_nobody_is_told_without_a_fan_out() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True), rumor_fanout=0)
    protocol.update(NOW, "k", 1)
    assert (protocol.due, protocol.spread(NOW)) == (None, [])


def test_a_storage_that_hands_out_copies_will_do() -> None:
    protocol, _, _ = a_protocol(*[a_peer(f"p{n}", ours=True) for n in range(9)], storage=Copying())
    protocol.update(NOW, "k", 1)
    assert len({send.to.id for send in sends(protocol.spread(NOW))} - {"a"}) == 4


def passed_on(protocol: Protocol, now: float = NOW) -> list[tuple[object, list[str]]]:
    return [(send.message.deltas, ids(digest_of(send))) for send in sends(protocol.spread(now))]


def test_what_came_in_a_rumour_is_passed_on_and_what_came_otherwise_is_not() -> None:
    for kind, expected in ((Kind.RUMOR, [([NEWS], ["a"])]), (Kind.ROUND, [])):
        protocol, _, _ = a_protocol(a_peer("c", max_version_seen=4), a_peer("d", ours=True))
        output = step(protocol, deltas=[NEWS], entries=[], kind=kind)
        assert events(output, "update") == [("c", "k", 1)]
        step(protocol, B_NODE_JS, entries=[], header=None)  # so that d is the only one there is to tell
        assert passed_on(protocol) == expected


def test_what_was_known_already_is_not_passed_on() -> None:
    protocol, _, _ = a_protocol(a_peer("c", max_version_seen=5), a_peer("d", ours=True))
    step(protocol, deltas=[NEWS], entries=[], kind=Kind.RUMOR)
    assert passed_on(protocol) == []


@pytest.mark.parametrize("what", ["new", "restarted", "moved", "known"])
def test_a_peer_has_an_entry_while_it_is_new_restarted_or_moved(what: str) -> None:
    known = [] if what == "new" else [a_peer("c", max_version_seen=4, heartbeat=10)]
    protocol, _, storage = a_protocol(*known, a_peer("d", ours=True))
    life = {"heartbeat": int(NOW * 1000), "floor": 4} if what == "restarted" else {"heartbeat": 11}
    step(protocol, entries=[entry("c", 4, **life, transport="at x" if what == "moved" else "at c")])
    step(protocol, B_NODE_JS, entries=[], header=None)
    storage.get("c").max_version_seen = 4
    for now, named in ((NOW, what != "known"), (NOW + OLD, False)):
        delta = Delta("c", "k", now, *((5, 4) if now == NOW else (6, 5)))
        protocol.step(now, sends(rumor_of(delta))[0].message)
        step(protocol, B_NODE_JS, now=now, entries=[], header=None)
        assert {"c" in told for _, told in passed_on(protocol, now)} == {named}


def rumor_of(delta: Delta) -> Any:
    """What b sends when it passes a delta of c on."""
    b = Peer("b", transport="at b")
    protocol, _, _ = a_protocol(a_peer("c", max_version_seen=delta.version - 1), a_peer("a", ours=True), local=b)
    step(protocol, B_NODE_JS._replace(id="e"), deltas=[delta], entries=[], kind=Kind.RUMOR)
    return protocol.spread(NOW)


@pytest.mark.parametrize("entries", [[], [entry("c", 5)]])
def test_who_can_t_apply_a_rumour_asks_for_what_is_missing_and_passes_nothing_on(entries: list[Any]) -> None:
    protocol, _, _ = a_protocol(a_peer("c", max_version_seen=2))
    output = step(protocol, deltas=[NEWS], entries=entries, kind=Kind.RUMOR)
    assert [(each.id, each.version, each.heard) for each in reply_to(output).values()] == [("c", 2, 5), ("a", 0, 0)]
    assert passed_on(protocol) == []


def test_the_reply_that_asks_is_answered_with_what_is_missing() -> None:
    protocol, _, _ = a_protocol(a_peer("c", max_version_seen=2))
    (asks,) = sends(step(protocol, deltas=[NEWS], entries=[], kind=Kind.RUMOR))
    teller, _, _ = a_protocol(a_peer("c", data={"j": (0, 4), "k": (1, 5)}), local=Peer("b", transport="at b"))
    (answer,) = sends(teller.step(NOW, asks.message))
    assert events(protocol.step(NOW, answer.message), "update") == [("c", "j", 0), ("c", "k", 1)]


def test_deltas_of_an_unknown_peer_are_dropped_but_its_entry_asks_for_them() -> None:
    for entries, asked in (([], []), ([entry("c", 5, heartbeat=1)], ["c", "a"])):
        protocol, _, _ = a_protocol(a_peer("b", ours=True))
        output = step(protocol, deltas=[NEWS], entries=entries, kind=Kind.RUMOR)
        assert events(output, "unknown peer") == [("c",)]
        assert [*reply_to(output)] == asked


def test_of_whom_a_rumour_is_the_first_word_its_deltas_are_taken_and_passed_on() -> None:
    """If the entry's floor says from where on there is anything to know, as it does of all our nodes."""
    protocol, _, storage = a_protocol(a_peer("b", ours=True))
    news = [Delta("c", "k", 1, 5, 4), Delta("c", "k2", 1, 6, 5)]
    output = step(protocol, deltas=news, entries=[entry("c", 6, floor=4, heartbeat=1)], kind=Kind.RUMOR)
    assert [args[0].id for args in events(output, "new peer")] == ["c"]
    assert (events(output, "update"), events(output, "unknown peer")) == ([("c", "k", 1), ("c", "k2", 1)], [])
    assert (sends(output), passed_on(protocol)[0]) == ([], (news, ["c", "a"]))
    assert (storage.get("c").max_version_seen, storage.get("c").floor) == (6, 4)


def test_the_owner_is_not_told_its_own_news() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True), a_peer("d", ours=True))
    step(protocol, deltas=[Delta("b", "k", 1, 1, 0)], entries=[], kind=Kind.RUMOR)
    assert {send.to.id for send in sends(protocol.spread(NOW))} == {"d"}


def test_a_rumour_is_not_answered_for_heartbeats_nor_with_what_its_sender_lacks() -> None:
    protocol, _, _ = a_protocol(a_peer("c", heartbeat=9, data={"k": (1, 5)}), a_peer("d", heartbeat=4))
    assert sends(step(protocol, entries=[entry("c", 4, heartbeat=3)], kind=Kind.RUMOR)) == []


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
    due = protocol.due
    assert due is not None
    assert due <= later
    (send,) = sends(protocol.spread(later))
    assert [delta.key for delta in send.message.deltas or []] == ["k", "l"]
