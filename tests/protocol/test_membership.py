"""Signs of life, verdicts, who has left and who is forgotten."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gossipmonger.protocol import Output, Protocol
from gossipmonger.state import Delta, Digest, Entry, ExtendedPeer, Kind, Message, Peer, RemotePeer
from gossipmonger.storage import MemoryStorage

from .steps import (
    B_NODE_JS,
    DAY,
    NOW,
    OURS,
    B,
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

C = ExtendedPeer("c", "at c")


def tell(protocol: Protocol, now: float, *entries: Entry) -> Output:
    """Let b, which speaks our extensions, tell these."""
    return step(protocol, now=now, entries=[*entries, entry("b", heartbeat=int(now - NOW) + 1)])


# Meeting


def test_peers_are_learned_from_senders_and_from_digests_with_version_0() -> None:
    protocol, _, storage = a_protocol()
    output = step(protocol, B_NODE_JS, entries=[entry("c", 99), entry("b", 12)], header=None)
    assert events(output, "new peer") == [(B,), (RemotePeer("c", "at c"),)]
    for id in "bc":
        peer = storage.get(id)
        assert peer is not None
        assert (peer.max_version_seen, peer.live, peer.transport) == (0, True, f"at {id}")
        assert (peer.last_time, peer.intervals[0]) == (NOW, 750)
    assert events(step(protocol, entries=[entry("c", 99)]), "new peer") == []


def test_a_sender_of_deltas_is_learned() -> None:
    protocol, _, storage = a_protocol()
    assert events(step(protocol, deltas=[]), "new peer") == [(B,)]
    assert storage.get("b") is not None


def test_the_first_interval_is_three_quarters_of_the_gossip_interval() -> None:
    protocol, _, storage = a_protocol(gossip_interval=100)
    tell(protocol, NOW, entry("c"))
    peer = storage.get("c")
    assert peer is not None
    assert peer.intervals == [75] * 5


def test_a_first_interval_follows_the_peer_s_own_interval_and_is_passed_on() -> None:
    protocol, local, storage = a_protocol(gossip_interval=100)
    tell(protocol, NOW, entry("c", heartbeat=5, interval=30_000), entry("d", heartbeat=5), entry("e"))
    told = {id: (peer.intervals, peer.entry().interval) for id in "cde" if (peer := storage.get(id)) is not None}
    assert told == {"c": ([22_500] * 5, 30_000), "d": ([750] * 5, 1_000), "e": ([75] * 5, 100)}  # e is like a Node.js node's
    assert local.entry().interval == 100


@pytest.mark.parametrize(("interval", "told"), [(0.5, 1), (1.5, 2), (1_000, 1_000), (86_400_000, 86_400_000)])
def test_a_node_tells_its_own_interval_in_whole_milliseconds(interval: float, told: int) -> None:
    _, local, _ = a_protocol(gossip_interval=interval)
    assert local.entry().interval == told


def test_a_sender_that_was_met_without_a_digest_has_its_interval_once_it_tells_it() -> None:
    protocol, _, storage = a_protocol()
    step(protocol, deltas=[])
    step(protocol, now=NOW + 5, entries=[entry("b", heartbeat=3, interval=30_000)])
    peer = storage.get("b")
    assert peer is not None
    assert (peer.interval, peer.intervals) == (30_000, [22_500] * 5)


# Signs of life


@pytest.mark.parametrize("by_owner", [False, True])
def test_a_changed_interval_begins_the_window_afresh_and_follows_the_latest_heartbeat(by_owner: bool) -> None:
    peer = a_peer("b" if by_owner else "c", heartbeat=10, intervals=[300] * 9)
    protocol, _, _ = a_protocol(peer)

    def hear(heartbeat: int, interval: int, now: float) -> None:
        told = entry(peer.id, heartbeat=heartbeat, interval=interval)
        step(protocol, now=now, entries=[told] if by_owner else [told, entry("b", heartbeat=heartbeat)])

    hear(11, 30_000, NOW + 500)
    assert (peer.interval, peer.intervals) == (30_000, [22_500] * 5)
    for old in (10, 11):
        hear(old, 1_000, NOW + 700)
    assert (peer.interval, peer.intervals) == (30_000, [22_500] * 5)
    hear(12, 30_000, NOW + 30_500)
    assert peer.intervals == [22_500] * 5 + [30_000]
    hear(13, 1_000, NOW + 31_500)
    assert (peer.interval, peer.intervals) == (1_000, [750] * 5)


def test_what_others_tell_does_not_change_the_interval_of_a_node_js_node() -> None:
    peer = a_peer("c", heartbeat=10, ours=False, interval=50)
    protocol, _, _ = a_protocol(peer)
    tell(protocol, NOW + 50, entry("c", heartbeat=11, interval=5_000))
    assert (peer.interval, peer.heartbeat) == (50, 11)


def test_among_slower_peers_silence_counts_for_less() -> None:
    quick = a_peer("b", silent=20_000, intervals=[300] * 9)
    slow = [a_peer(f"p{number}", interval=30_000) for number in range(9)]
    protocol, _, _ = a_protocol(quick, *slow)
    assert protocol.membership.phi(NOW, quick) > 8  # nothing is known of a pace yet
    assert events(protocol.round(NOW), "peer dead") == []
    assert protocol.membership.phi(NOW, quick) < 8
    protocol, _, _ = a_protocol(quick, *(a_peer(f"p{number}") for number in range(9)))
    assert events(protocol.round(NOW), "peer dead") == [(quick.remote,)]


def test_a_rising_heartbeat_is_a_sign_of_life_whoever_tells_of_it_and_a_sample_for_each() -> None:
    peer = a_peer("c", heartbeat=10)
    protocol, _, _ = a_protocol(peer)
    tell(protocol, NOW + 3_000, entry("c", heartbeat=13))
    assert (peer.heartbeat, peer.last_time, peer.intervals) == (13, NOW + 3_000, [750, 1_000, 1_000, 1_000])
    for old in (13, 12, 0):
        tell(protocol, NOW + 9_000, entry("c", heartbeat=old))
    assert (peer.heartbeat, peer.last_time, peer.intervals) == (13, NOW + 3_000, [750, 1_000, 1_000, 1_000])


def test_contact_with_one_of_ours_is_no_sign_of_life_by_itself() -> None:
    peer = a_peer("b", heartbeat=10, ours=True)
    protocol, _, _ = a_protocol(peer)
    step(protocol, now=NOW + 5_000, entries=[entry("b", heartbeat=10)])
    step(protocol, now=NOW + 5_000, deltas=[])
    assert peer.last_time == NOW


def test_another_life_is_life_but_no_sample() -> None:
    peer = a_peer("c", heartbeat=10)
    protocol, _, _ = a_protocol(peer)
    tell(protocol, NOW + 3_000, entry("c", heartbeat=3_500))  # more than one per millisecond, as when rounds arrive together
    assert (peer.last_time, peer.intervals) == (NOW + 3_000, [750])
    tell(protocol, NOW + 6_000, entry("c", heartbeat=10**15))
    assert (peer.last_time, peer.intervals) == (NOW + 6_000, [750] * 5)


def test_an_interval_in_which_it_was_thought_dead_is_no_sample() -> None:
    peer = a_peer("c", heartbeat=10, live=False)
    protocol, _, _ = a_protocol(peer)
    tell(protocol, NOW + 50_000, entry("c", heartbeat=20))
    assert (peer.last_time, peer.intervals) == (NOW + 50_000, [750])


def test_for_a_node_js_node_whoever_hears_from_it_counts_once_in_a_round_and_passes_that_on() -> None:
    protocol, _, storage = a_protocol()
    beats = []
    for second in range(3):
        for _ in range(4):
            step(protocol, B_NODE_JS, now=NOW + second * 1_000, entries=[], header=None)
            step(protocol, B_NODE_JS, now=NOW + second * 1_000, deltas=[])
        (send,) = sends(protocol.round(NOW + second * 1_000 + 10))
        beats.append(digest_of(send).entries[0].heartbeat)
    assert beats == [1, 2, 3]
    peer = storage.get("b")
    assert peer is not None
    assert peer.intervals == [750] * 5 + [1_000] * 2
    tell(protocol, NOW + 4_000, entry("n", heartbeat=5))  # and takes what others have counted
    step(protocol, RemotePeer("n", "at n"), now=NOW + 5_000, entries=[], header=None)
    counted = storage.get("n")
    assert counted is not None
    assert counted.heartbeat == 6


# Verdicts


def test_a_silent_peer_dies_and_is_live_again_after_a_sign_of_life() -> None:
    protocol, _, storage = a_protocol(a_peer("b"))
    protocol.round(NOW)
    for second in range(19):
        assert events(protocol.round(NOW + second * 1_000), "peer dead") == []  # up to 18.4 intervals
    assert events(protocol.round(NOW + 18_500), "peer dead") == [(B,)]
    assert [dead.id for dead in storage.dead_peers()] == ["b"]
    assert events(protocol.round(NOW + 18_600), "peer dead") == []
    step(protocol, B_NODE_JS, now=NOW + 18_700, entries=[], header=None)
    assert [dead.id for dead in storage.dead_peers()] == ["b"]  # judged in rounds only
    assert events(protocol.round(NOW + 18_800), "peer live") == [(B,)]
    assert "b" in [live.id for live in storage.live_peers()]


def test_a_peer_never_met_is_judged_from_when_it_was_heard_of() -> None:
    protocol, _, _ = a_protocol()
    step(protocol, B_NODE_JS, entries=[entry("c", 5)], header=None)
    dead = []
    for second in range(20):
        dead += events(protocol.round(NOW + second * 1_000), "peer dead")
    assert sorted(peer.id for (peer,) in dead) == ["b", "c"]


@pytest.mark.parametrize("late", [2_001, 20_000, 3_600_000])
def test_our_own_lateness_is_nobody_s_silence(late: float) -> None:
    peer = a_peer("b")
    protocol, _, _ = a_protocol(peer)
    protocol.round(NOW)
    assert events(protocol.round(NOW + 1_000 + late), "peer dead") == []
    assert peer.last_time == NOW + late
    assert peer.phi(NOW + 1_000 + late) == pytest.approx(1_000 / 750 * 0.4343, rel=1e-3)


def test_after_our_own_lateness_nobody_is_judged_before_what_came_meanwhile_is_read() -> None:
    peer = a_peer("c", silent=13_000, heartbeat=1)
    protocol, _, _ = a_protocol(peer)
    protocol.round(NOW)
    assert events(protocol.round(NOW + 20_000), "peer dead") == []
    tell(protocol, NOW + 20_001, entry("c", heartbeat=5))
    assert events(protocol.round(NOW + 21_000), "peer dead") == []


def test_a_little_lateness_is_not_made_up_for() -> None:
    peer = a_peer("b")
    protocol, _, _ = a_protocol(peer)
    protocol.round(NOW)
    protocol.round(NOW + 1_900)
    assert peer.last_time == NOW


def test_who_was_heard_after_our_lateness_is_not_moved_beyond_now() -> None:
    peer = a_peer("b", silent=-59_000)
    protocol, _, _ = a_protocol(peer)
    protocol.round(NOW)
    protocol.round(NOW + 60_000)
    assert peer.last_time == NOW + 60_000


def test_what_passed_between_two_lives_is_no_silence_of_the_peers_in_the_storage() -> None:
    storage = MemoryStorage()
    storage.put("b", a_peer("b", silent=DAY))
    protocol = Protocol(Peer("a"), storage, a_config(), random.Random(0), NOW)
    assert events(protocol.round(NOW), "peer dead") == []


# Addresses


def test_an_address_follows_a_later_heartbeat_and_the_peer_s_own_messages() -> None:
    peer = a_peer("c", heartbeat=10)
    protocol, _, _ = a_protocol(peer)
    tell(protocol, NOW, entry("c", heartbeat=10, transport="old news"))
    assert peer.transport == "at c"
    tell(protocol, NOW, entry("c", heartbeat=11, transport="moved"))
    assert peer.transport == "moved"
    step(protocol, ExtendedPeer("c", "moved again"), entries=[entry("c", heartbeat=12, transport="moved again")])
    assert peer.transport == "moved again"
    step(protocol, ExtendedPeer("c", "of a former life"), entries=[entry("c", heartbeat=3)])
    assert peer.transport == "moved again"


def test_deltas_alone_move_a_node_js_node_and_none_of_ours() -> None:
    """They tell no heartbeat, so they may have been recorded before the peer moved."""
    peer = a_peer("c", heartbeat=10)
    protocol, _, _ = a_protocol(peer)
    for speaks, address in [(False, "moved"), (None, "moved again"), (True, "moved again")]:
        peer.speaks_extensions = speaks
        step(protocol, RemotePeer("c", "moved" if speaks is not None else "moved again"), deltas=[Delta("c", "k", 1, 5)])
        assert peer.transport == address


# Leaving


def test_leaving_is_told_to_a_few_at_once() -> None:
    protocol, local, _ = a_protocol(*(a_peer(f"p{n}") for n in range(9)))
    before = local.heartbeat
    told = sends(protocol.leave(NOW))
    assert len({send.to.id for send in told}) == 5
    farewell = told[0].message
    assert all(send.message is farewell for send in told)
    assert farewell.deltas is None
    assert farewell.digest == Digest(Kind.FAREWELL, OURS, [entry("a", left=True, heartbeat=before + 1)])


def test_who_left_is_told_of_for_a_while_and_not_judged() -> None:
    protocol, _, storage = a_protocol(a_peer("b", heartbeat=1), a_peer("c", heartbeat=10))
    assert events(tell(protocol, NOW, entry("c", heartbeat=11, left=True)), "peer left") == [(C,)]
    assert events(tell(protocol, NOW, entry("c", heartbeat=11, left=True)), "peer left") == []
    told = []
    for second in range(60):
        now = NOW + second * 1_000
        tell(protocol, now)
        output = protocol.round(now)
        assert events(output, "peer dead") == events(output, "peer live") == []
        (send,) = sends(output)
        assert send.to.id == "b"
        digest = digest_of(send)
        assert digest.header is not None
        compact = protocol.membership.compact(protocol.membership.told_of(now, *protocol.membership.others()))
        told.append("c" in ([peer.id for peer in compact.peers] if digest.header.compact else ids(digest)))
    assert told == [True] * 30 + [False] * 30
    peer = storage.get("c")
    assert peer is not None
    assert peer.state == "left"


def test_a_later_heartbeat_brings_back_who_left() -> None:
    protocol, _, _ = a_protocol(a_peer("c", heartbeat=10))
    tell(protocol, NOW, entry("c", heartbeat=11, left=True))
    tell(protocol, NOW, entry("c", heartbeat=10))
    assert events(protocol.round(NOW), "peer live") == []
    tell(protocol, NOW, entry("c", heartbeat=12))
    assert [peer.id for (peer,) in events(protocol.round(NOW + 1_000), "peer live")] == ["c"]


def test_a_dead_peer_that_was_heard_of_again_is_told_of_before_the_round_that_finds_it_live() -> None:
    protocol, _, _ = a_protocol(a_peer("b"), a_peer("c", silent=60_000, heartbeat=10, live=False))
    assert "c" not in ids(digest_of(sends(protocol.round(NOW))[0]))
    tell(protocol, NOW, entry("c", heartbeat=11))
    assert "c" in ids(digest_of(sends(protocol.round(NOW + 1_000))[0]))


def test_who_has_left_is_met_as_left_and_its_keys_are_asked_for() -> None:
    protocol, _, storage = a_protocol(a_peer("b"))
    output = tell(protocol, NOW, entry("c", 7, heartbeat=1, left=True))
    assert (events(output, "new peer"), events(output, "peer left")) == ([(C,)], [(C,)])
    assert storage.get("c").state == "left"
    (answer,) = sends(output)
    assert [(told.id, told.version) for told in digest_of(answer).entries] == [("c", 0), ("a", 0)]
    assert events(protocol.step(NOW, Message(B, [Delta("c", "k", 1, 7, 0)])), "update") == [("c", "k", 1)]


def test_all_forget_who_has_left_at_the_same_time_whenever_they_met() -> None:
    protocol, _, storage = a_protocol(a_peer("b"))
    tell(protocol, NOW, entry("c", heartbeat=1, left=True, age=int(DAY) - 60_000))
    tell(protocol, NOW, entry("d", heartbeat=1, left=True, age=int(DAY) + 1))
    assert (storage.get("c").last_time, storage.get("d")) == (NOW - DAY + 60_000, None)
    assert "c" not in ids(digest_of(sends(protocol.round(NOW + 1_000))[0]))  # all have known that for long
    output = [events(protocol.round(NOW + second * 1_000 + 1), "peer forgotten") for second in range(1, 61)]
    assert output == [*[[]] * 59, [(C,)]]


def test_a_newcomer_is_told_who_has_left_the_latest_first_and_only_while_it_is_new() -> None:
    gone = [a_peer(f"p{n}", silent=60_000 + n, heartbeat=1, left=True, live=False) for n in range(120)]
    protocol, _, _ = a_protocol(*gone)
    told = reply_to(step(protocol, entries=[entry("p3", 0, heartbeat=1), entry("b", heartbeat=1)]))
    assert [id for id in told if id[0] == "p"] == [f"p{n}" for n in range(101) if n != 3]
    assert told["p7"] == entry("p7", heartbeat=1, left=True, age=60_007)
    assert reply_to(step(protocol, now=NOW + 2_999, entries=[entry("b", heartbeat=2)])).keys() > {"p0", "p1"}
    assert reply_to(step(protocol, now=NOW + 3_000, entries=[entry("b", heartbeat=3)])).keys() == {"a"}
    protocol.step(NOW, Message(C))
    newcomer = ExtendedPeer("d", "at d")
    assert "p0" not in reply_to(step(protocol, newcomer, entries=[entry("d", heartbeat=1)], kind=Kind.PART))


def test_a_newcomer_is_answered_with_the_own_entry_at_once() -> None:
    protocol, local, _ = a_protocol()
    assert [*reply_to(step(protocol, entries=[]))] == ["a"]
    assert sends(step(protocol, entries=[local.entry()])) == []  # it knows us by now


# Another life


FIRST, SECOND = 1_000, 9_000_000  # where the two lives begin


def two_lives(storage: Any = None) -> tuple[Protocol, Any]:
    """A node that has a key of a former life of c, and has just heard of the next one, which has said nothing yet."""
    data = {"k": (1, FIRST + 1), "k2": (2, FIRST + 2)}
    c = Peer("c", data=data, transport="at c", last_time=NOW - 100, floor=FIRST, heartbeat=FIRST)
    protocol, _, storage = a_protocol(a_peer("b"), c, storage=storage)
    output = tell(protocol, NOW, entry("c", SECOND, floor=SECOND, heartbeat=SECOND + 1))
    assert events(output, "delete") == []
    return protocol, storage


def gone(output: Output) -> list[str]:
    return [key for _, key in events(output, "delete")]


def test_a_new_life_that_has_said_nothing_leaves_the_former_one_alone() -> None:
    protocol, storage = two_lives()
    for now in (NOW + 10, NOW + 5_000, NOW + 60_000):  # its heartbeat does not rise: it has been killed
        output = tell(protocol, now, entry("c", SECOND, floor=SECOND, heartbeat=SECOND + 1)) + protocol.round(now)
        assert gone(output) == []
    (told,) = [each for each in protocol.membership.digest([storage.get("c")]) if each.id == "c"]
    assert (told.version, told.floor, told.heard) == (FIRST + 2, FIRST, 0)


@pytest.mark.parametrize("storage", [MemoryStorage, Copying])
def test_it_drops_the_former_one_once_its_heartbeat_has_risen_for_an_interval(storage: Any) -> None:
    protocol, kept = two_lives(storage())
    for milliseconds, keys in ((500, []), (999, []), (1_000, ["k", "k2"]), (1_500, [])):
        beat = SECOND + milliseconds // 250
        assert gone(tell(protocol, NOW + milliseconds, entry("c", SECOND, floor=SECOND, heartbeat=beat))) == keys
    assert (kept.get("c").floor, kept.get("c").max_version_seen) == (SECOND, SECOND)


def test_it_drops_the_former_one_when_it_leaves() -> None:
    protocol, storage = two_lives()
    output = tell(protocol, NOW + 1, entry("c", SECOND, floor=SECOND, heartbeat=SECOND + 2, left=True))
    assert (gone(output), storage.get("c").state) == (["k", "k2"], "left")


@pytest.mark.parametrize("rumor", [False, True])
def test_it_drops_the_former_one_when_it_tells_a_key(rumor: bool) -> None:
    protocol, storage = two_lives()
    after = SECOND if rumor else FIRST + 2  # as a rumour has it, and as an answer to what is told here
    output = step(
        protocol,
        C,
        now=NOW + 1,
        deltas=[Delta("c", "k", 3, SECOND + 1, after)],
        entries=[entry("c", SECOND + 1, floor=SECOND, heartbeat=SECOND + 1)],
        kind=Kind.RUMOR if rumor else Kind.REPLY,
    )
    assert (events(output, "update"), gone(output)) == ([("c", "k", 3)], ["k2"])
    assert storage.get("c").data == {"k": (3, SECOND + 1)}
    assert gone(tell(protocol, NOW + 2, entry("c", SECOND + 3, floor=SECOND + 3, heartbeat=SECOND + 1))) == ["k"]  # all deleted


def test_whoever_has_nothing_of_the_former_one_takes_its_floor_at_once() -> None:
    protocol, _, storage = a_protocol(a_peer("b"))
    tell(protocol, NOW, entry("c", SECOND, floor=SECOND, heartbeat=SECOND + 1))
    assert (storage.get("c").floor, storage.get("c").max_version_seen) == (SECOND, SECOND)


def test_a_life_that_is_heard_of_from_others_first_counts_from_then_on() -> None:
    protocol, _, _ = a_protocol(a_peer("b"))
    tell(protocol, NOW, entry("c", FIRST + 1, floor=FIRST, heartbeat=SECOND + 1))  # from a node that has kept the keys
    step(protocol, deltas=[Delta("c", "k", 1, FIRST + 1, 0)])
    assert gone(tell(protocol, NOW + 500, entry("c", SECOND, floor=SECOND, heartbeat=SECOND + 1))) == []
    assert gone(tell(protocol, NOW + 1_200, entry("c", SECOND, floor=SECOND, heartbeat=SECOND + 2))) == ["k"]


# Forgetting


def forgotten_c() -> tuple[Protocol, MemoryStorage]:
    protocol, _, storage = a_protocol(a_peer("c", silent=DAY, heartbeat=10, live=False), a_peer("b"))
    assert events(protocol.round(NOW), "peer forgotten") == []
    assert events(protocol.round(NOW + 1), "peer forgotten") == [(C,)]
    assert storage.get("c") is None
    return protocol, storage


def test_who_has_been_dead_for_long_is_forgotten_and_old_news_does_not_bring_it_back() -> None:
    protocol, storage = forgotten_c()
    for old in (entry("c", heartbeat=10), entry("c", heartbeat=9), entry("c")):
        assert events(tell(protocol, NOW + 2, old), "new peer") == []
    assert storage.get("c") is None


def test_a_later_heartbeat_brings_back_who_was_forgotten() -> None:
    protocol, storage = forgotten_c()
    tell(protocol, NOW + 2, entry("c", heartbeat=11))
    assert storage.get("c") is not None


def test_a_direct_message_brings_back_who_was_forgotten() -> None:
    protocol, storage = forgotten_c()
    step(protocol, C, now=NOW + 2, deltas=[])
    assert storage.get("c") is not None


def test_so_does_its_old_news_after_that() -> None:
    protocol, storage = forgotten_c()
    step(protocol, C, now=NOW + 2, deltas=[])
    peer = storage.get("c")
    assert peer is not None
    tell(protocol, NOW + 3, entry("c", heartbeat=3))
    assert peer.heartbeat == 3


def test_a_storage_without_remove_keeps_its_dead() -> None:
    class Least(MemoryStorage):
        def remove(self, id: str) -> None:
            raise NotImplementedError

    storage = Least()
    protocol = Protocol(Peer("a"), storage, a_config(), random.Random(0), NOW)
    storage.put("c", a_peer("c", silent=2 * DAY, live=False))
    assert events(protocol.round(NOW), "peer forgotten") == []
    assert storage.get("c") is not None


# What lies below a floor


def test_a_node_that_is_behind_says_what_it_has_heard_of_and_others_believe_it() -> None:
    peer = a_peer("c", data={"k": (1, 3)}, heartbeat=1)
    protocol, _, _ = a_protocol(peer)
    tell(protocol, NOW, entry("c", 9, heartbeat=1, floor=5))
    (own_entry,) = [each for each in protocol.membership.digest([peer]) if each.id == "c"]
    assert (own_entry.version, own_entry.heard) == (3, 9)
    assert not own_entry.floor

    other = a_peer("c", data={"k": (1, 3)}, heartbeat=1)
    protocol, _, _ = a_protocol(other)
    tell(protocol, NOW, entry("c", 7, heartbeat=1, floor=5))
    step(protocol, deltas=[Delta("c", "new", 1, 7, 3)])
    tell(protocol, NOW, entry("c", 7, heartbeat=1, heard=9))  # k may have been written again at 8 or 9
    assert other.get("k") == 1
    output = step(protocol, deltas=[Delta("c", "newer", 1, 9, 7)])
    output += tell(protocol, NOW, entry("c", 9, heartbeat=1))
    assert events(output, "delete") == [("c", "k")]


def test_a_version_of_ours_that_someone_has_heard_of_is_left_below_too() -> None:
    protocol, local, _ = a_protocol()
    tell(protocol, NOW, entry("a", 0, heard=1_000))
    assert local.floor > 1_000 + 2**20


def test_the_owner_s_last_word_replaces_what_others_said_of_its_floor() -> None:
    peer = a_peer("c", data={"k": (1, 3)}, heartbeat=10)
    protocol, _, _ = a_protocol(peer)
    tell(protocol, NOW, entry("c", 50, heartbeat=10, floor=40))  # of a life that is gone with all its data
    step(protocol, C, entries=[entry("c", 3, heartbeat=9)])  # this was overtaken by later messages
    before = (peer.unsettled, peer.behind)
    step(protocol, C, entries=[entry("c", 3, heartbeat=11)])
    assert (before, peer.unsettled, peer.behind) == ((True, True), False, False)
    assert peer.get("k") == 1


def test_a_floor_is_settled_in_the_next_round_if_nobody_speaks_of_the_peer() -> None:
    peer = a_peer("c", data={"k": (1, 3)}, heartbeat=1)
    protocol, _, _ = a_protocol(peer)
    tell(protocol, NOW, entry("c", 7, heartbeat=1, floor=5))
    assert events(protocol.round(NOW), "delete") == []
    step(protocol, deltas=[Delta("c", "new", 1, 7, 3)])
    assert events(protocol.round(NOW), "delete") == [("c", "k")]


@pytest.mark.parametrize("late", [0, 60_000])
def test_a_storage_of_copies_gets_what_a_round_has_settled(late: int) -> None:
    protocol, _, storage = a_protocol(a_peer("c", data={"k": (1, 3)}, heartbeat=1), storage=Copying())
    tell(protocol, NOW, entry("c", 7, heartbeat=1, floor=5))
    protocol.round(NOW)
    step(protocol, deltas=[Delta("c", "new", 1, 7, 3)])
    assert events(protocol.round(NOW + 1_000 + late), "delete") == [("c", "k")]
    peer = storage.get("c")
    assert peer is not None
    assert (peer.floor, peer.data, peer.last_time) == (5, {"new": (1, 7)}, NOW + late)
