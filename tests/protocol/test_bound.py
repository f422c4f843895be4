"""The ten-year bound in a step: what is beyond it counts as not told, and the rest of the message is taken."""

from __future__ import annotations

import random

from gossipmonger import MessageError
from gossipmonger.state import CompactDigest, Delta, Header, Peer

from .steps import NOW, B, a_peer, a_protocol, entry, events, step

SECOND = 1_000_000
CLOCK = int(NOW * 1000)
YEARS = 10 * 365 * 86_400 * SECOND


def test_what_is_beyond_the_bound_counts_as_not_told_and_the_rest_is_taken() -> None:
    known, other = a_peer("c", heartbeat=5, max_version_seen=7), a_peer("d", heartbeat=5)
    protocol, _, _ = a_protocol(a_peer("b"), known, other)
    beyond = CLOCK + YEARS + 120 * SECOND
    told = [
        entry("c", beyond, heartbeat=beyond, floor=beyond),
        entry("d", 3, heartbeat=6, heard=beyond),
        entry("b", heartbeat=1),
    ]
    output = step(protocol, B, deltas=[Delta("d", "k", 1, beyond), Delta("d", "l", 1, 2)], entries=told)
    assert (known.heartbeat, known.max_version_seen, known.heard, known.noted) == (5, 7, 0, 0)
    assert (other.heartbeat, other.heard, other.data) == (6, 3, {})
    ((error,),) = events(output, "error")  # one, and no second one within a minute
    assert isinstance(error, MessageError)
    assert "more than ten years ahead" in str(error)
    assert events(step(protocol, B, now=NOW + 59_000, entries=told), "error") == []
    assert len(events(step(protocol, B, now=NOW + 60_000, entries=told), "error")) == 1


def test_a_delta_whose_sender_claims_to_know_beyond_the_bound_is_dropped_with_those_that_follow_it() -> None:
    known, other = a_peer("c"), a_peer("d")
    protocol, _, _ = a_protocol(a_peer("b"), known, other)
    more = CLOCK + YEARS + SECOND
    told = [Delta("c", "k", 1, 1, 0), Delta("c", "l", 1, 3, 1, more), Delta("c", "m", 1, 4), Delta("d", "k", 1, 1, 0)]
    assert len(events(step(protocol, B, deltas=told), "error")) == 1
    assert (sorted(known.data), known.whole) == (["k"], 0)
    assert sorted(other.data) == ["k"]


def test_numbers_of_a_compact_digest_beyond_the_bound_count_as_not_told() -> None:
    b, c = (a_peer(id, ours=True, heartbeat=CLOCK, floor=CLOCK, max_version_seen=CLOCK) for id in "bc")
    local = Peer("a", transport="at a", floor=CLOCK, max_version_seen=CLOCK, heartbeat=CLOCK)
    protocol, _, _ = a_protocol(b, c, local=local)
    told = [a_peer(id, floor=CLOCK, max_version_seen=CLOCK + 1, heartbeat=CLOCK + 2) for id in "abc"]
    told[0].heartbeat, told[0].max_version_seen = local.heartbeat, local.max_version_seen
    told[2].heartbeat, told[2].max_version_seen = CLOCK + YEARS + 2, CLOCK + YEARS + 2
    own = entry("b", CLOCK, floor=CLOCK, heartbeat=CLOCK + 2)
    output = step(protocol, B, entries=[own], header=Header(None, CompactDigest(told).encode()))
    assert len(events(output, "error")) == 1
    assert (b.heartbeat, c.heartbeat) == (CLOCK + 2, CLOCK)
    assert c.heard <= CLOCK


def test_a_leap_stays_within_the_bound() -> None:
    for seed in range(20):
        protocol, local, _ = a_protocol(a_peer("b"), local=Peer("a"), seed=seed)
        claim = CLOCK + YEARS - random.Random(seed).randrange(1, 2**21)
        step(protocol, B, entries=[entry("a", claim, heartbeat=claim, transport=None), entry("b", heartbeat=1)])
        assert claim < local.floor <= CLOCK + YEARS
        assert claim < local.heartbeat <= CLOCK + YEARS


def test_a_peer_whose_heartbeat_is_not_believed_is_counted_for_once_a_round() -> None:
    peer = a_peer("b", heartbeat=CLOCK, ours=True)
    protocol, _, _ = a_protocol(peer)
    own = entry("b", heartbeat=CLOCK + YEARS + 120 * SECOND)
    for _ in range(2):
        step(protocol, B, now=NOW + 500, entries=[own])
    assert (peer.heartbeat, peer.last_time, peer.speaks_extensions) == (CLOCK + 1, NOW + 500, True)
    protocol.round(NOW + 1_000)
    step(protocol, B, now=NOW + 1_500, entries=[own])
    assert peer.heartbeat == CLOCK + 2
