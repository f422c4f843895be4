"""A digest held against what is known: what each entry, and each number of a roll, makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import MemoryStorage, Options, Peer
from gossipmonger.comparison import Comparison
from gossipmonger.entry import Entry
from gossipmonger.membership import Membership
from gossipmonger.output import Output
from gossipmonger.roll import Roll

from .protocols import NOW, a_peer, entry


class Known:
    """What a node knows, and what it makes of digests."""

    def __init__(self, *peers: Peer, by_reference: bool = True) -> None:
        self.puts: list[str] = []
        storage = Counting(self.puts)
        storage.by_reference = by_reference
        self.local = a_peer("a", heartbeat=50, max_version_seen=5)
        for peer in (self.local, *peers):
            storage.put(peer.id, peer)
        self.storage = storage
        self.membership = Membership(self.local, storage, Options.parse(None, {}), NOW)
        self.claims: list[Entry] = []
        self.output: Output = []
        self.puts.clear()

    def compared(self) -> Comparison:
        return Comparison(NOW + 100, self.local, self.storage.get, self.membership, self.claims.append, self.output)

    def read(self, *digest: Entry) -> Comparison:
        compared = self.compared()
        compared.read(list(digest), "s")
        return compared

    def roll(self) -> Roll:
        return self.membership.roll(self.membership.told_of(NOW, *self.membership.others()))


class Counting(MemoryStorage):
    def __init__(self, puts: list[str]) -> None:
        super().__init__()
        self._puts = puts

    def put(self, id: str, peer: Peer) -> None:
        self._puts.append(id)
        super().put(id, peer)


def c(**attributes: Any) -> Peer:
    return a_peer("c", **{"heartbeat": 10, "max_version_seen": 3, **attributes})


@pytest.mark.parametrize("noted", [0, 2, 9])
def test_an_entry_that_says_nothing_new_changes_nothing(noted: int) -> None:
    peer = c()
    peer.noted, peer.heard, peer.told_at = noted, 9, "at c"
    known = Known(peer)
    for told in (entry("c", 3, heartbeat=10), entry("c", 3, heartbeat=10, heard=9), entry("c", 3, floor=min(2, noted))):
        compared = known.read(told)
        assert (compared.lacking, compared.missing) == ([], [])
    assert known.puts == ["c"] * (3 if 0 < noted <= 3 else 0)  # what may be settled now is looked at again
    assert (peer.heard, peer.noted, peer.heartbeat) == (9, noted, 10)


def test_what_is_less_than_known_here_is_lacking_and_what_is_more_is_missing() -> None:
    peer, other = c(), a_peer("d", max_version_seen=7)
    compared = Known(peer, other).read(entry("c", 9), entry("d", 5))
    assert (compared.missing, compared.lacking) == ([peer], [(other, 5)])
    assert (peer.heard, other.heard) == (9, 0)


def test_a_peer_that_is_behind_is_missing_again_though_the_entry_is_no_news() -> None:
    peer = c()
    known = Known(peer)
    for _ in range(2):
        assert known.read(entry("c", 9)).missing == [peer]
    assert known.puts == ["c"]


@pytest.mark.parametrize("by_reference", [True, False])
def test_a_later_heartbeat_is_heard_and_put_where_a_storage_has_to_be_told(by_reference: bool) -> None:
    peer = c()
    peer.told_at = "at c"
    known = Known(peer, by_reference=by_reference)
    roll = known.roll()
    known.read(entry("c", 3, heartbeat=12))
    assert (peer.heartbeat, peer.last_time) == (12, NOW + 100)
    assert known.puts == ["c"] * (not by_reference)
    assert known.roll() is roll
    assert roll.call() == Roll(roll.called).call()


def test_an_earlier_heartbeat_makes_the_peer_one_to_tell_of_but_not_the_node_itself() -> None:
    peer = c()
    known = Known(peer)
    assert known.read(entry("c", 3, heartbeat=9), entry("a", 5, heartbeat=9)).later == [peer]
    assert peer.heartbeat == 10


@pytest.mark.parametrize("claim", [{"heartbeat": 51}, {"version": 6}, {"heard": 6}, {"floor": 1}])
def test_what_claims_more_of_the_node_than_it_knows_is_read_as_a_claim(claim: dict[str, int]) -> None:
    known = Known()
    claimed = entry("a", **{"version": 5, "heartbeat": 50, **claim})
    known.read(entry("a", 5, heartbeat=50))
    assert known.claims == []
    known.read(claimed)
    assert known.claims == [claimed]


def test_what_a_roll_claims_of_the_node_is_a_claim_and_its_sender_lacks_the_answer() -> None:
    known = Known(c())
    roll = known.roll()
    heartbeats, versions = roll.heartbeats[:], roll.versions[:]
    heartbeats[0], versions[0] = 70, 8
    compared = known.compared()
    compared.read_roll(roll, (heartbeats, versions), [])
    assert [(each.id, each.heartbeat, each.version) for each in known.claims] == [("a", 70, 8)]
    assert (compared.lacking, compared.missing, known.local.heard) == ([(known.local, 8)], [], 0)


def test_whom_an_entry_tells_of_the_roll_does_not() -> None:
    peer = c()
    known = Known(peer)
    roll = known.roll()
    heartbeats, versions = roll.heartbeats[:], roll.versions[:]
    heartbeats[1], versions[1] = 99, 99
    compared = known.compared()
    compared.read_roll(roll, (heartbeats, versions), [entry("c", 3), entry("nobody", 3)])
    assert (peer.heartbeat, peer.heard, compared.missing, compared.later) == (10, 0, [], [])


_peers = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 4)), min_size=1, max_size=6)


@given(_peers, _peers, st.booleans())
def test_a_roll_says_what_its_entries_would(ours: Any, theirs: Any, by_reference: bool) -> None:
    pairs = list(zip(ours, theirs, strict=False))
    results = []
    for as_roll in (True, False):
        peers = [Peer(f"p{n}", heartbeat=mine[0], max_version_seen=mine[1], last_time=NOW) for n, (mine, _) in enumerate(pairs)]
        for peer in peers:
            peer.told_at = f"at {peer.id}"
        known = Known(*peers, by_reference=by_reference)
        compared = known.compared()
        if as_roll:
            roll = known.roll()
            heartbeats, versions = roll.heartbeats[:], roll.versions[:]
            for n, (_, (heartbeat, version)) in enumerate(pairs):
                heartbeats[n + 1], versions[n + 1] = heartbeat, version
            compared.read_roll(roll, (heartbeats, versions), [])
            assert (roll.call(), roll.behind) == (Roll(roll.called).call(), Roll(roll.called).behind)
            risen = {peer.id for peer, (mine, _) in zip(peers, pairs, strict=True) if peer.heartbeat > mine[0]}
            behind = {peer.id for peer in compared.missing}
            assert set(known.puts) == (behind if by_reference else behind | risen)
        else:
            told = [entry(f"p{n}", version, heartbeat=max(0, heartbeat)) for n, (_, (heartbeat, version)) in enumerate(pairs)]
            for each, (_, (heartbeat, _)) in zip(told, pairs, strict=True):
                each.heartbeat = heartbeat
            compared.read(told, "s")
        found: list[tuple[str, int | None]] = [(peer.id, version) for peer, version in compared.lacking]
        found += [(peer.id, None) for peer in (*compared.missing, *compared.later)]
        results.append((found, [(peer.heartbeat, peer.behind, peer.last_time, peer.intervals) for peer in peers]))
    assert results[0] == results[1]
