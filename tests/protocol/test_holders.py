"""Who holds everything of a node: what is noted, asked, answered and handed on."""

from __future__ import annotations

import pytest

from gossipmonger.protocol import Output, Protocol
from gossipmonger.state import CompactDigest, Delta, ExtendedPeer, Header, Kind, Peer, RemotePeer

from .steps import NOW, Copying, a_peer, a_protocol, digest_of, entry, sends, step

ASK = Header(ask=True)
SEEDS = [RemotePeer("b", "at b"), RemotePeer("s", "at s"), RemotePeer("a", "at a")]


def asked(output: Output) -> list[str]:
    """Whom a digest that asks goes to."""
    return [send.to.id for send in sends(output) if send.message.digest is not None and send.message.digest.header == ASK]


def entries_of(output: Output) -> list[tuple[str, int]]:
    (answer,) = sends(output)
    return [(told.id, told.version) for told in digest_of(answer).entries]


# What is noted


def test_a_digest_shows_what_its_sender_holds() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    protocol.update(NOW, "k", 1)
    protocol.update(NOW, "k2", 1)
    assert not protocol.holders.include(NOW, 2)
    step(protocol, entries=[entry("a", 1), entry("b", heartbeat=1)], kind=Kind.ROUND)
    assert (protocol.holders.include(NOW, 1), protocol.holders.include(NOW, 2)) == (True, False)
    step(protocol, entries=[entry("a", 2), entry("b", heartbeat=2)], kind=Kind.RUMOR)
    assert protocol.holders.include(NOW, 2)
    assert local.max_version_seen == 2


def test_a_compact_digest_shows_it_too() -> None:
    protocol, local, storage = a_protocol(a_peer("b", heartbeat=5))
    protocol.update(NOW, "k", 1)
    compact = CompactDigest([storage.get("b"), local]).encode()
    step(protocol, entries=[entry("b", heartbeat=6)], header=Header(None, compact))
    assert protocol.holders.include(NOW, 1)


def test_a_node_js_node_acknowledges_nothing() -> None:
    protocol, _, _ = a_protocol(a_peer("b"))
    protocol.update(NOW, "k", 1)
    step(protocol, RemotePeer("b", "at b"), entries=[entry("a", 1), entry("b")], header=None)
    assert not protocol.holders.include(NOW, 1)


def test_who_is_dead_or_has_left_holds_nothing() -> None:
    protocol, _, _ = a_protocol(a_peer("b"), a_peer("c"))
    protocol.update(NOW, "k", 1)
    step(protocol, entries=[entry("a", 1), entry("b", heartbeat=1)])
    step(protocol, entries=[entry("b", heartbeat=2, left=True)], kind=Kind.FAREWELL)
    assert not protocol.holders.include(NOW, 1)


def test_what_is_said_of_a_former_life_does_not_count() -> None:
    protocol, local, _ = a_protocol(a_peer("b"))
    protocol.update(NOW, "k", 1)
    step(protocol, entries=[entry("a", 99), entry("b", heartbeat=1)])
    assert local.floor > 99
    assert not protocol.holders.include(NOW, 1)
    step(protocol, entries=[entry("a", local.max_version_seen), entry("b", heartbeat=1)])
    assert protocol.holders.include(NOW, 1)  # it was issued again, and what it was issued as is held


def test_few_are_remembered_those_that_hold_most() -> None:
    protocol, _, _ = a_protocol(*(a_peer(f"p{n}") for n in range(40)), local=Peer("a", max_version_seen=100))
    for n in range(40):
        protocol.holders.note(f"p{n}", n)
    assert [peer.id for peer in protocol.holders.of(0)] == [f"p{n}" for n in range(24, 40)]


# Asking


def test_some_live_peers_and_all_seeds_that_are_none_are_asked() -> None:
    protocol, _, _ = a_protocol(*(a_peer(id) for id in "bcdef"), seeds=SEEDS)
    for peer in protocol.membership.others()[0]:
        peer.speaks_extensions = True
    to = asked(protocol.ask(NOW))
    assert (len(to), to[3:]) == (4, ["s"])
    assert set(to[:3]) < set("bcdef")


def test_seeds_that_are_dead_are_asked() -> None:
    protocol, _, _ = a_protocol(a_peer("b", live=False), seeds=SEEDS)
    assert asked(protocol.ask(NOW)) == ["b", "s"]


def test_with_flow_control_what_waits_is_told_if_everything_is_to_be() -> None:
    protocol, local, _ = a_protocol(a_peer("b"), flow_control=True, gossip_interval=1000)
    step(protocol, entries=[entry("b", heartbeat=1)], header=Header([5.0, 0.5]))
    for n in range(5):
        protocol.update(NOW, f"k{n}", n)
    assert len(protocol.waiting) == 4
    protocol.ask(NOW)
    assert len(protocol.waiting) == 4
    protocol.ask(NOW, everything=True)
    assert (len(protocol.waiting), len(local.data)) == (0, 5)


# Answering


@pytest.mark.parametrize("kind", Kind)
def test_whoever_asks_is_answered_with_the_entries_of_both_sides(kind: Kind) -> None:
    protocol, _, _ = a_protocol(a_peer("b", heartbeat=3), a_peer("c"), max_exchanges_per_gossip=0)
    own = entry("b", heartbeat=4, left=kind is Kind.FAREWELL)
    for _ in range(100):  # however often it asks
        output = step(protocol, entries=[entry("c", heartbeat=0), entry("a", 0), own], kind=kind, header=ASK)
        assert entries_of(output) == [("b", 0), ("a", 0)]
        assert asked(output) == []


@pytest.mark.parametrize("agreed", [False, True])
def test_whoever_asks_compactly_is_answered_too(agreed: bool) -> None:
    protocol, local, storage = a_protocol(
        *(a_peer(id, heartbeat=3, floor=2, max_version_seen=4, ours=True) for id in "bcdefghijklmnop")
    )
    compact = CompactDigest(storage.live_peers()).encode()
    if not agreed:
        compact = compact._replace(fingerprint="another/")
    answer = entries_of(step(protocol, entries=[entry("b", 4, heartbeat=4)], header=Header(None, compact, ask=True)))
    assert ("b", 4) in answer
    assert answer[-1] == ("a", local.max_version_seen)


def test_the_news_of_who_asks_is_passed_on() -> None:
    protocol, _, _ = a_protocol(a_peer("b"), *(a_peer(id, ours=True) for id in "cdef"))
    step(protocol, deltas=[Delta("b", "k", 1, 1, 0)], entries=[entry("b", 1, heartbeat=1)], kind=Kind.REPLY, header=ASK)
    (delta,) = {send.message.deltas[0] for send in sends(protocol.spread(NOW)) if send.message.deltas}
    assert delta == Delta("b", "k", 1, 1, 0)


# Handing on


def lacks(protocol: Protocol, version: int) -> Output:
    return step(protocol, entries=[entry("a", version), entry("b", heartbeat=1)], kind=Kind.REPLY)


def test_who_lacks_something_is_told_it_and_asked_again_as_long_as_somebody_waits() -> None:
    protocol, _, _ = a_protocol(a_peer("b"))
    protocol.update(NOW, "k", 1)
    assert asked(lacks(protocol, 0)) == []
    protocol.ask(NOW)
    (answer,) = sends(lacks(protocol, 0))
    assert (answer.message.deltas, digest_of(answer).header) == ([Delta("a", "k", 1, 1, 0)], ASK)
    protocol.holders.rest()
    assert asked(lacks(protocol, 0)) == []


def test_who_takes_nothing_is_not_asked_for_ever() -> None:
    protocol, _, _ = a_protocol(a_peer("b"))
    for n in range(3):
        protocol.update(NOW, f"k{n}", n)
    protocol.ask(NOW)
    assert [asked(lacks(protocol, version)) for version in (0, 0, 1, 0, 1, 2)] == [["b"], [], ["b"], [], [], ["b"]]
    protocol.ask(NOW)
    assert asked(lacks(protocol, 0)) == ["b"]


def test_a_newcomer_is_held_after_two_round_trips_and_its_keys_go_on_at_once() -> None:
    seed, _, known = a_protocol(*(a_peer(id, ours=True) for id in "cdef"), storage=Copying())
    newcomer, local, _ = a_protocol(local=Peer("j", transport="at j", max_version_seen=10, floor=10), seeds=SEEDS[2:])
    newcomer.update(NOW, "k", 1)
    said = [send.message for send in sends(newcomer.ask(NOW))]
    for turn in (seed, newcomer, seed, newcomer):
        (message,) = said
        assert not newcomer.holders.include(NOW, local.max_version_seen)
        said = [send.message for send in sends(turn.step(NOW, message))]
    assert newcomer.holders.include(NOW, local.max_version_seen)
    assert known.get("j").get("k") == 1
    assert any(send.message.deltas for send in sends(seed.spread(NOW)))


# Leaving


def test_the_first_to_hear_a_farewell_are_those_that_hold_everything() -> None:
    protocol, _, _ = a_protocol(*(a_peer(f"p{n}") for n in range(50)), a_peer("b"))
    protocol.update(NOW, "k", 1)
    step(protocol, entries=[entry("a", 1), entry("b", heartbeat=1)])
    told = [send.to.id for send in sends(protocol.leave(NOW)) if digest_of(send).kind is Kind.FAREWELL]
    assert (len(told), told[0]) == (5, "b")


def test_who_has_met_nobody_tells_its_seeds_that_it_leaves() -> None:
    protocol, _, _ = a_protocol(seeds=SEEDS)
    assert [send.to.id for send in sends(protocol.leave(NOW))] == ["b", "s"]


def test_who_leaves_tells_what_waits() -> None:
    protocol, local, _ = a_protocol(a_peer("b"), flow_control=True)
    step(protocol, entries=[entry("b", heartbeat=1)], header=Header([5.0, 0.5]))
    for n in range(5):
        protocol.update(NOW, f"k{n}", n)
    protocol.leave(NOW)
    assert len(local.data) == 5


# For good


def test_for_good_it_has_to_be_a_seed_or_one_of_those_that_have_lived_longest() -> None:
    """The others may be short programs themselves."""
    peers = [a_peer(f"p{n}", heartbeat=100 + n, ours=True) for n in range(7)]
    for holder, held in (("p0", True), ("p2", True), ("p3", False), ("p6", False), ("p5", True)):
        protocol, _, _ = a_protocol(*peers, seeds=[RemotePeer("seed at p5", "at p5")])
        protocol.update(NOW, "k", 1)
        protocol.ask(NOW)
        sender = ExtendedPeer(holder, f"at {holder}")
        step(protocol, sender, entries=[entry("a", 1), entry(holder, heartbeat=200)], kind=Kind.RUMOR)
        peers[int(holder[1])].heartbeat = 100 + int(holder[1])
        assert (protocol.holders.include(NOW, 1), protocol.holders.include(NOW, 1, for_good=True)) == (True, held)


def test_those_that_have_lived_longest_are_asked_first() -> None:
    protocol, _, _ = a_protocol(*(a_peer(f"p{n}", heartbeat=100 + n, ours=True) for n in range(9)))
    assert sorted(asked(protocol.ask(NOW))) == ["p0", "p1", "p2"]
