"""A digest held against what is known: what each entry, and each number of a compact digest, makes of it."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gossipmonger.protocol import Output
from gossipmonger.protocol.config import Node
from gossipmonger.protocol.identity import Identity
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.reconcile import Reconciliation, choose_deltas
from gossipmonger.state import Bound, Delta, Entry, Message, Peer, RemotePeer
from gossipmonger.storage import MemoryStorage
from gossipmonger.wire import encode

from .steps import DAY, NOW, Copying, a_config, a_peer, entry


class Counting(MemoryStorage):
    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []

    def put(self, id: str, peer: Peer) -> None:
        self.puts.append(id)
        super().put(id, peer)


class CountingCopies(Copying, Counting):
    pass


class Claims(Identity):
    """Notes what is told of the node itself, and does nothing about it."""

    def __init__(self, local: Peer) -> None:
        super().__init__(local, Bound(), random.Random(0))
        self.heard: list[tuple[int, int, int]] = []

    def hear(self, now: float, version: int, heartbeat: int, floor: int, output: Output, transport: Any = None) -> bool:
        self.heard.append((version, heartbeat, floor))
        return False


class Known:
    """What a node knows, and what it makes of digests."""

    def __init__(self, *peers: Peer, copies: bool = False) -> None:
        self.storage = CountingCopies() if copies else Counting()
        self.local = a_peer("a", heartbeat=50, max_version_seen=5)
        for peer in (self.local, *peers):
            self.storage.put(peer.id, peer)
        self.membership = Membership(Node(self.local, self.storage, a_config(), random.Random(0)), NOW)
        self.claims = Claims(self.local)
        self.output: Output = []
        self.puts = self.storage.puts
        self.puts.clear()

    def reconciliation(self) -> Reconciliation:
        return Reconciliation(NOW + 100, self.local, self.membership, self.claims, self.output)

    def read(self, *entries: Entry) -> Reconciliation:
        self.membership.look_up([each.id for each in entries])
        found = self.reconciliation()
        found.read(entries, "s")
        self.membership.put_changes()
        return found

    def read_compact(self, numbers: dict[str, tuple[int, int]], *named: str) -> Reconciliation:
        """Read heartbeats and versions by id; of all others, what is known here."""
        compact = self.membership.compact(self.membership.told_of(NOW, *self.membership.others()))
        told = []
        for peer in sorted(compact.peers, key=lambda peer: peer.id):
            told.append((peer, *numbers.get(peer.id, (peer.heartbeat, peer.max_version_seen))))
        found = self.reconciliation()
        found.read_compact(told, set(named))
        self.membership.put_changes()
        return found


def c(**attributes: Any) -> Peer:
    return a_peer("c", **{"heartbeat": 10, "max_version_seen": 3, **attributes})


@pytest.mark.parametrize("noted", [0, 2, 9])
def test_an_entry_that_says_nothing_new_changes_nothing(noted: int) -> None:
    peer = c()
    peer.noted, peer.heard = noted, 9
    known = Known(peer)
    for told in (entry("c", 3, heartbeat=10), entry("c", 3, heartbeat=10, heard=9), entry("c", 3, floor=min(2, noted))):
        found = known.read(told)
        assert (found.they_lack, found.we_lack) == ([], [])
    assert known.puts == ["c"] * (3 if 0 < noted <= 3 else 0)  # what may be settled now is looked at again
    assert (peer.heard, peer.noted, peer.heartbeat) == (9, noted, 10)


def test_what_is_less_than_known_here_they_lack_and_what_is_more_we_lack() -> None:
    peer, other = c(), a_peer("d", max_version_seen=7)
    found = Known(peer, other).read(entry("c", 9), entry("d", 5))
    assert (found.we_lack, found.they_lack) == ([peer], [(other, 5)])
    assert peer.heard == 9
    assert not other.behind


def test_we_lack_a_peer_again_though_the_entry_is_no_news() -> None:
    peer = c()
    known = Known(peer)
    for _ in range(2):
        assert known.read(entry("c", 9)).we_lack == [peer]
    assert known.puts == ["c"]


@pytest.mark.parametrize("copies", [False, True])
def test_a_later_heartbeat_is_heard_and_put(copies: bool) -> None:
    known = Known(c(), copies=copies)
    known.read(entry("c", 3, heartbeat=12))
    peer = known.storage.get("c")
    assert peer is not None
    assert (peer.heartbeat, peer.last_time) == (12, NOW + 100)
    assert known.puts == ["c"]


def test_an_earlier_heartbeat_makes_the_peer_one_to_tell_of_but_not_the_node_itself() -> None:
    peer = c()
    known = Known(peer)
    assert known.read(entry("c", 3, heartbeat=9), entry("a", 5, heartbeat=9)).fresher_heartbeats == [peer]
    assert peer.heartbeat == 10


@pytest.mark.parametrize("claim", [{"heartbeat": 51}, {"version": 6}, {"heard": 6}, {"floor": 1}])
def test_what_is_told_of_the_node_itself_is_a_claim_and_nothing_else(claim: dict[str, int]) -> None:
    known = Known()
    claimed = {"version": 5, "heartbeat": 50, **claim}
    known.read(entry("a", **claimed))
    assert known.claims.heard == [(claimed.get("heard", claimed["version"]), claimed["heartbeat"], claimed.get("floor", 0))]
    assert (known.local.heard, known.local.noted, known.local.heartbeat) == (0, 0, 50)
    assert known.puts == []


def test_what_a_compact_digest_claims_of_the_node_is_a_claim() -> None:
    known = Known(c())
    known.read_compact({"a": (70, 8)})
    assert known.claims.heard == [(8, 70, 0)]
    assert (known.local.heard, known.local.heartbeat, known.puts) == (0, 50, [])


def test_who_claims_too_much_of_the_node_lacks_its_answer() -> None:
    for compact in (False, True):
        known = Known(c())
        identity = Identity(known.local, known.membership.bound, random.Random(0))
        found = Reconciliation(NOW + 100, known.local, known.membership, identity, known.output)
        if compact:
            found.read_compact([(known.local, 70, 8)], set())
        else:
            known.membership.look_up([])
            found.read([entry("a", 8, heartbeat=70)], "s")
        assert (found.they_lack, found.we_lack) == ([(known.local, 8)], [])
        assert known.local.floor > 8


def test_of_whom_there_is_an_entry_the_compact_digest_tells_nothing() -> None:
    peer = c()
    found = Known(peer).read_compact({"c": (99, 99)}, "c", "nobody")
    assert (peer.heartbeat, peer.heard, found.we_lack, found.fresher_heartbeats) == (10, 0, [], [])


def test_a_peer_that_is_ignored_is_nobody_s_lack() -> None:
    found = Known().read(entry("gone", 3, heartbeat=9, left=True, age=10 * int(DAY)))
    assert (found.they_lack, found.we_lack, found.fresher_heartbeats) == ([], [], [])


_peers = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 4)), min_size=1, max_size=6)


@given(_peers, _peers, st.booleans())
def test_a_compact_digest_says_what_its_entries_would(ours: Any, theirs: Any, copies: bool) -> None:
    pairs = list(zip(ours, theirs, strict=False))
    results = []
    for compact in (True, False):
        peers = [a_peer(f"p{n}", heartbeat=mine[0], max_version_seen=mine[1]) for n, (mine, _) in enumerate(pairs)]
        known = Known(*peers, copies=copies)
        if compact:
            found = known.read_compact({f"p{n}": told for n, (_, told) in enumerate(pairs)})
        else:
            found = known.read(*(entry(f"p{n}", told[1], heartbeat=told[0]) for n, (_, told) in enumerate(pairs)))
        lists: list[tuple[str, int | None]] = [(peer.id, version) for peer, version in found.they_lack]
        lists += [(peer.id, None) for peer in (*found.we_lack, *found.fresher_heartbeats)]
        kept = known.storage.live_peers()
        for peer in kept:
            peer._check()
        states = [(peer.id, peer.heartbeat, peer.behind, peer.last_time, peer.intervals) for peer in kept]
        results.append((lists, sorted(states), known.output))
    assert results[0] == results[1]


# What to tell

MANY = Peer("many", data={f"k{n}": (n, n + 1) for n in range(4)})
FEW = Peer("few", data={"x": (0, 8), "y": (0, 9)})


def test_depth_tells_the_peer_with_most_first_and_is_cut_at_the_limit() -> None:
    chance = random.Random(0)
    whole = [
        Delta("many", "k1", 1, 2, 1),
        Delta("many", "k2", 2, 3, 2),
        Delta("many", "k3", 3, 4, 3),
        Delta("few", "x", 0, 8, 0, 1),  # it leaps, and 9 is known too
        Delta("few", "y", 0, 9, 8),
    ]
    for all_of_it in (10, 5, None):
        assert choose_deltas([(FEW, 0), (MANY, 1)], all_of_it, "depth", chance) == (whole, [])
    assert choose_deltas([(FEW, 0), (MANY, 1)], 4, "depth", chance) == (whole[:4], [FEW])
    assert choose_deltas([(FEW, 0), (MANY, 1)], 2, "depth", chance) == (whole[:2], [MANY, FEW])


def test_breadth_tells_one_of_each_before_the_second_of_any() -> None:
    deltas, more = choose_deltas([(FEW, 0), (MANY, 1)], 3, "breadth", random.Random(0))
    assert {delta[0] for delta in deltas[:2]} == {"few", "many"}
    assert deltas[2][0] == deltas[0][0]
    assert more


@pytest.mark.parametrize("order", ["breadth", "random"])
def test_the_order_of_peers_is_drawn_anew_for_each_message(order: str) -> None:
    chance = random.Random(0)
    first = Counter(choose_deltas([(FEW, 0), (MANY, 1)], 1, order, chance)[0][0].peer_id for _ in range(1_000))
    assert 400 < first["few"] < 600


@pytest.mark.parametrize("order", ["depth", "breadth", "random"])
def test_all_that_have_more_are_named_those_whose_turn_is_next_first(order: str) -> None:
    they_lack = [(Peer(f"p{n:02}", data={f"k{m}": (m, m + 1) for m in range(4)}), 0) for n in range(50)]
    deltas, more = choose_deltas(they_lack, 5, order, random.Random(0))
    told = Counter(delta.peer_id for delta in deltas)
    assert len(deltas) == 5
    assert len(set(more)) == len(more) == len([peer for peer, _ in they_lack if told[peer.id] < 4])
    assert deltas[4].peer_id in [peer.id for peer in more[:5]]


def bytes_of(deltas: list[Delta]) -> int:
    return len(encode(Message(RemotePeer("a", None), deltas)))


@pytest.mark.parametrize("order", ["depth", "breadth", "random"])
@pytest.mark.parametrize("length", [0, 1, 100, 5_000, 40_000])
def test_without_a_limit_a_message_is_as_full_as_64_kilobytes_allow(order: str, length: int) -> None:
    floor = 1_700_000_000_000_000
    peers = [Peer(f"p{n}", data={f"k{m}": ("v" * length, floor + m) for m in range(3_000)}, floor=floor) for n in range(3)]
    deltas, more = choose_deltas([(peer, floor - 1) for peer in peers], None, order, random.Random(0))
    assert 57_344 - length - 1_000 < bytes_of(deltas) < 58_400
    assert len(more) == 3


def test_a_message_has_one_delta_however_large_it_is() -> None:
    huge = Peer("huge", data={"x": ("v" * 100_000, 1), "y": ("v" * 100_000, 2), "z": (3, 3)})
    for known in (0, 1):
        assert choose_deltas([(huge, known)], None, "depth", random.Random(0)) == (huge.deltas(known, 1), [huge])
    assert choose_deltas([(huge, 2)], None, "depth", random.Random(0)) == (huge.deltas(2), [])


def test_few_deltas_are_made_in_vain_and_of_a_million_keys_none_is_looked_at_beyond_them(monkeypatch: Any) -> None:
    peers = [Peer(f"p{n}", data={f"k{m}": ("v" * 5_000, m + 1) for m in range(1_000)}) for n in range(10)]
    made = []
    deltas_of = Peer.deltas

    def counted(peer: Peer, after: int, limit: int | None = None) -> list[Delta]:
        made.extend(found := deltas_of(peer, after, limit))
        return found

    monkeypatch.setattr(Peer, "deltas", counted)
    for order in ("depth", "breadth"):
        made.clear()
        deltas, _ = choose_deltas([(peer, 0) for peer in peers], None, order, random.Random(0))
        assert len(deltas) == 11
        assert len(made) <= 64


def test_of_equals_it_is_drawn_who_is_told_first_in_depth_s_order_too() -> None:
    they_lack = [(Peer(f"p{n}", data={f"k{m}": (m, m + 1) for m in range(4)}), 0) for n in range(5)]
    chance = random.Random(0)
    first = Counter(choose_deltas(they_lack, 4, "depth", chance)[0][0].peer_id for _ in range(1_000))
    assert min(first.values()) > 140
    assert len(first) == 5


@given(
    st.lists(st.tuples(st.lists(st.sampled_from("aab"), max_size=9), st.sampled_from([0, 0, 2, 5])), max_size=9),
    st.sampled_from([1, 1, 2, 6]),
)
@example([(list("ab"), 0), (list("aaaaa"), 0)], 1)
@example([(list("aaaaa"), 0), (list("ab"), 0)], 1)
def test_in_depth_s_order_nobody_is_told_of_while_another_has_more(writes: list[tuple[list[str], int]], limit: int) -> None:
    they_lack = []
    for number, (keys, known) in enumerate(writes):
        floor = 1_000 * (number % 2)
        peer = Peer(f"p{number}", floor=floor)
        for version, key in enumerate(keys, floor + 1):
            peer.update_with_delta(key, version, version)  # of what is written again there is one delta, and a gap
        they_lack.append((peer, known and floor + known))
    told = Counter(delta[0] for delta in choose_deltas(they_lack, limit, "depth", random.Random(0))[0])
    counts = [(peer.count_after_version(known), told[peer.id]) for peer, known in they_lack]
    assert sum(told.values()) == min(limit, sum(count for count, _ in counts))
    assert min([count for count, of in counts if of], default=9) >= max([count for count, of in counts if not of], default=0)


PEERS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7)), max_size=6)


@given(PEERS, st.integers(1, 12), st.sampled_from(["depth", "breadth", "random"]), st.integers())
def test_in_every_order_a_peer_s_deltas_ascend_and_leave_no_gap(
    sizes: list[tuple[int, int]], limit: int, order: str, seed: int
) -> None:
    they_lack = [
        (Peer(f"p{n}", data={f"k{m}": (m, m + 1) for m in range(keys)}), known) for n, (keys, known) in enumerate(sizes)
    ]
    deltas, more = choose_deltas(they_lack, limit, order, random.Random(seed))
    assert len(deltas) == min(limit, sum(max(0, keys - known) for keys, known in sizes))
    for peer, known in they_lack:
        told = [delta for delta in deltas if delta[0] == peer.id]
        assert [delta[1:4] for delta in told] == peer.deltas_after_version(known, len(told))
        assert [delta[4] for delta in told] == [known, *(delta[3] for delta in told)][: len(told)]
        assert (peer in more) == (len(told) < peer.count_after_version(known))
