"""The compact digest: who agrees on it, what it says, and what a node does that does not agree."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.protocol import Output, Protocol
from gossipmonger.state import MAX_VERSION, Compact, Digest, Entry, Header, Kind, Peer
from gossipmonger.state.compact import CompactDigest, narrow, numbers

from .steps import NOW, B, Copying, a_peer, a_protocol, digest_of, entry, events, ids, sends, step, told_in

SECOND = 1_000


def three(**changes: Any) -> list[Peer]:
    return [Peer(id, **{"floor": 100, "max_version_seen": 105, "heartbeat": 100, **changes}) for id in "bca"]


def numbers_in(digest: CompactDigest) -> list[list[int]]:
    """The heartbeats, then the versions, less the floors, in the order of ids."""
    told = numbers(digest.encode().payload, len(digest.peers))
    assert told is not None
    return [list(each) for each in told]


def with_numbers(digest: CompactDigest, **changed: int) -> Compact:
    """The same digest with other numbers: h2=9 is the heartbeat of the third, v0=1 the version of the first."""
    heartbeats, versions = numbers_in(digest)
    for name, number in changed.items():
        (heartbeats if name[0] == "h" else versions)[int(name[1:])] = number
    return Compact(digest.fingerprint, narrow(heartbeats, versions))


# Alone


def test_who_tells_the_same_of_the_same_peers_has_the_same_fingerprint() -> None:
    peers = three()
    fingerprint = CompactDigest(peers).fingerprint
    assert len(fingerprint) == 8
    assert CompactDigest(reversed(three(heartbeat=7, max_version_seen=300))).fingerprint == fingerprint
    peers[0].transport = {"host": "h", "port": 1}
    moved = CompactDigest(peers).fingerprint
    peers[0].transport = {"port": 1, "host": "h"}
    assert CompactDigest(peers).fingerprint == moved != fingerprint
    assert CompactDigest(three(floor=101)).fingerprint != fingerprint
    assert CompactDigest(three(left=True)).fingerprint != fingerprint
    assert CompactDigest(three()[:2]).fingerprint != fingerprint


def test_an_id_of_half_a_character_has_a_fingerprint_too() -> None:
    one, other = (CompactDigest([Peer(id)]).fingerprint for id in ("\ud800", "\udfff"))
    assert one != other


def test_it_covers_its_peers_until_something_of_the_fingerprint_changes() -> None:
    peers = three()
    digest = CompactDigest(peers)
    peers[0].heartbeat, peers[1].max_version_seen, peers[1].heard = 300, 300, 301
    for peer in (*peers, Peer("of no concern", floor=5)):
        digest.note(peer)
    assert digest.covers(list(peers))
    for change in ({"floor": 101}, {"left": True}, {"transport": "moved"}, {"interval": 250}):
        digest = CompactDigest(peers)
        for name, value in change.items():
            setattr(peers[0], name, value)
        digest.note(peers[0])
        assert not digest.covers(peers)
    assert not CompactDigest(peers).covers(peers[:2])


def test_it_tells_the_numbers_of_now() -> None:
    peers = three()
    digest = CompactDigest(peers)
    assert numbers_in(digest) == [[0, 0, 0], [5, 5, 5]]
    peers[0].heartbeat, peers[1].max_version_seen = 300, 400
    assert numbers_in(digest) == [[0, 200, 0], [5, 5, 300]]  # a, b, c
    assert digest.encode() == CompactDigest(peers).encode()


@pytest.mark.parametrize(("number", "width"), [(2**15 - 1, 2), (2**15, 4), (2**31 - 1, 4), (2**31, 8)])
def test_a_number_that_takes_more_room_is_told_and_read_all_the_same(number: int, width: int) -> None:
    told = CompactDigest(three(heartbeat=100 + number)).encode()
    assert len(told.payload) == 6 * width
    peers = sorted(three(), key=lambda peer: peer.id)
    read = CompactDigest(three()).decode(told)
    assert read is not None
    assert [(peer.id, *pair) for peer, *pair in read] == [(peer.id, 100 + number, 105) for peer in peers]


def test_what_is_told_is_read_by_whoever_has_the_same_fingerprint_and_by_nobody_else() -> None:
    peers = three()
    peers[0].heartbeat, peers[2].max_version_seen = -1, 900
    told, reader = CompactDigest(peers).encode(), three()
    b, c, a = reader
    assert [*(CompactDigest(reader).decode(told) or ())] == [(a, 100, 900), (b, -1, 105), (c, 100, 105)]
    assert CompactDigest(three(floor=99)).decode(told) is None
    assert CompactDigest(three()).decode(Compact("x" + told.fingerprint[1:], told.payload)) is None
    for payload in (b"", bytes(8), bytes(14), bytes(36), bytes(96), told.payload + b"\0"):
        assert CompactDigest(three()).decode(Compact(told.fingerprint, payload)) is None


@given(st.lists(st.tuples(st.integers(-1, 2**34), st.integers(0, 2**34), st.integers(0, 2**34)), min_size=1, max_size=5))
def test_whatever_it_says_is_read_as_it_is_meant(told: list[tuple[int, int, int]]) -> None:
    peers = [
        Peer(f"n{n}", heartbeat=heartbeat, max_version_seen=max(version, floor), floor=floor)
        for n, (heartbeat, version, floor) in enumerate(told)
    ]
    read = CompactDigest(peers).decode(CompactDigest(peers).encode())
    assert read is not None
    assert [*read] == [(peer, peer.heartbeat, peer.max_version_seen) for peer in peers]


# The payload


@given(
    st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=5),
    st.sampled_from([1, 2**16, 2**32, 2**48]),
)
def test_a_payload_is_read_as_it_was_made(pairs: list[tuple[int, int]], scale: int) -> None:
    heartbeats, versions = ([number // scale for number in each] for each in zip(*pairs, strict=True))
    told = numbers(narrow(heartbeats, versions), len(pairs))
    assert told is not None
    assert [list(each) for each in told] == [heartbeats, versions]


def test_a_payload_is_little_endian() -> None:
    assert narrow([1, -2], [3, 256]) == base64.b64decode("AQD+/wMAAAE=")
    assert narrow([2**15], [0]) == bytes([0, 128, 0, 0, 0, 0, 0, 0])


def test_a_number_beyond_64_bits_has_no_payload() -> None:
    with pytest.raises(OverflowError):
        narrow([2**63], [0])
    assert numbers(b"", 0) is None


# Between two nodes


def at_rest(*peers: Peer, **options: Any) -> tuple[Protocol, Peer, Any]:
    protocol, local, storage = a_protocol(*peers, **options)
    for second in range(4):
        protocol.round(NOW + second * SECOND)
    return protocol, local, storage


def compact_of(protocol: Protocol) -> CompactDigest:
    return protocol.membership.compact(protocol.membership.told_of(NOW, *protocol.membership.others()))


def call(protocol: Protocol, *named: Entry, **changed: int) -> Output:
    """Let b tell what the node knows itself, but for these numbers, and these entries."""
    header = Header(None, with_numbers(compact_of(protocol), **changed))
    return step(protocol, entries=named, header=header)


def answer(output: Output) -> Digest:
    (send,) = sends(output)
    return digest_of(send)


def is_short(digest: Digest) -> bool:
    return digest.header is not None and digest.header.compact is not None


def test_at_rest_live_speakers_of_our_extensions_are_told_numbers_and_others_entries() -> None:
    speaker, node_js = a_peer("b", heartbeat=1, ours=True), a_peer("p", ours=False)
    protocol, _, _ = a_protocol(speaker, node_js, gossip_fanout=2)
    seen = {}
    for second in range(5):
        for peer in (speaker, node_js):
            peer.last_time = NOW + second * SECOND
        sent = {send.to.id: digest_of(send) for send in sends(protocol.round(NOW + second * SECOND))}
        seen[second] = {id: (len(digest.entries), is_short(digest)) for id, digest in sent.items()}
    assert seen[0] == {"b": (3, False), "p": (3, False)}
    assert seen[1] == seen[4] == {"b": (1, True), "p": (3, False)}


def test_who_is_new_ends_the_rest() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True))
    assert is_short(answer(protocol.round(NOW + 4 * SECOND)))
    step(protocol, entries=[entry("c", 5, heartbeat=1), entry("b", heartbeat=2)])
    assert len(answer(protocol.round(NOW + 5 * SECOND)).entries) == 3


@pytest.mark.parametrize("change", [{"transport": "moved"}, {"floor": 3, "version": 3}, {"left": True}, {"interval": 5_000}])
def test_what_the_fingerprint_is_made_of_ends_the_rest_too(change: dict[str, Any]) -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), a_peer("c", heartbeat=5, ours=True))
    step(protocol, entries=[entry("c", **{"heartbeat": 6, **change}), entry("b", heartbeat=2)])
    assert not is_short(answer(protocol.round(NOW + 5 * SECOND)))
    assert is_short(answer(protocol.round(NOW + 6 * SECOND)))


def test_numbers_are_read_like_the_entries_that_they_stand_for() -> None:
    c, d = a_peer("c", heartbeat=5), a_peer("d", heartbeat=5, data={"k": (1, 3)})
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c, d)
    output = call(protocol, h2=9, v3=2)  # of a, b, c, d: c's heartbeat, d's version
    assert c.heartbeat == 9
    assert [delta[:5] for delta in told_in(output)] == [("d", "k", 1, 3, 2)]


def test_a_storage_of_copies_gets_what_a_compact_digest_tells() -> None:
    peers = a_peer("b", heartbeat=1, ours=True), a_peer("c", heartbeat=5), a_peer("d", heartbeat=5)
    protocol, _, storage = at_rest(*peers, storage=Copying())
    call(protocol, h2=9, v3=2)
    assert storage.get("c").heartbeat == 9
    assert storage.get("d").heard == 2


def test_what_is_missing_by_the_numbers_is_asked_for() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), *(a_peer(f"c{n:02}", heartbeat=5) for n in range(30)))
    digest = answer(call(protocol, v2=7))
    assert ids(digest) == ["c00", "a"]
    assert digest.kind is Kind.REPLY


@pytest.mark.parametrize(("behind", "entries"), [(range(2, 4), ["c00", "c01", "a"]), (range(2, 32), ["a"])])
def test_many_later_heartbeats_are_replied_as_numbers_and_few_as_entries(behind: range, entries: list[str]) -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), *(a_peer(f"c{n:02}", heartbeat=5) for n in range(30)))
    digest = answer(call(protocol, **{f"h{n}": 4 for n in behind}))
    assert ids(digest) == entries
    assert digest.kind is Kind.REPLY
    assert is_short(digest) == (len(entries) == 1)


def test_a_reply_of_numbers_is_of_the_same_peers_as_the_numbers_it_answers() -> None:
    peers = [a_peer(f"c{n:02}", heartbeat=5) for n in range(30)]
    protocol, local, _ = at_rest(a_peer("b", heartbeat=1, ours=True), *peers)
    fingerprint = compact_of(protocol).fingerprint
    floor = local.floor
    digest = answer(call(protocol, v0=1_000, **{f"h{n}": 4 for n in range(2, 32)}))  # the claim of a version moves our floor
    assert local.floor > floor
    assert digest.header is not None
    assert digest.header.compact is not None
    assert digest.header.compact.fingerprint == fingerprint
    (own,) = digest.entries  # which counts before the numbers
    assert (own.id, own.version, own.floor) == ("a", local.max_version_seen, local.floor)
    told = numbers(digest.header.compact.payload, 32)
    assert told is not None
    assert list(told[0][2:]) == [5] * 30


def test_whom_we_are_behind_with_has_an_entry_beside_the_numbers() -> None:
    c = a_peer("c", heartbeat=5, max_version_seen=3, ours=True)
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c)
    step(protocol, entries=[entry("c", 3, heartbeat=5, heard=9), entry("b", heartbeat=2)])
    digest = answer(protocol.round(NOW + 4 * SECOND))
    assert [(each.id, each.heard) for each in digest.entries] == [("c", 9), ("a", 0)]
    assert is_short(digest)


@pytest.mark.parametrize("exchanges", [1, 64])
def test_another_fingerprint_is_answered_with_all_entries_and_changes_nothing(exchanges: int) -> None:
    c = a_peer("c", heartbeat=5)
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c, max_exchanges_per_gossip=exchanges)
    header = Header(None, Compact("another/", with_numbers(compact_of(protocol), h2=9).payload))
    now = NOW + 10 * SECOND
    answers = [sends(step(protocol, now=now, entries=[], header=header)) for _ in range(exchanges + 1)]
    whole = digest_of(answers[0][0])
    assert (ids(whole), whole.kind) == (["b", "c", "a"], Kind.ROUND)
    assert not is_short(whole)
    assert answers[-1] == []
    assert c.heartbeat == 5


@pytest.mark.parametrize("copies", [False, True])
def test_who_calls_from_below_its_former_life_is_told_what_that_said(copies: bool) -> None:
    dead = a_peer("b", heartbeat=1_000, ours=True, live=False, silent=100_000)
    storage = Copying() if copies else None
    protocol, _, _ = at_rest(a_peer("c", heartbeat=5, ours=True), dead, storage=storage)
    header = Header(None, Compact("another/", compact_of(protocol).encode().payload))
    digest = answer(step(protocol, entries=[entry("c", heartbeat=4), entry("b", heartbeat=7)], header=header))
    assert [(each.id, each.heartbeat) for each in digest.entries[:-1]] == [("c", 5), ("b", 1_000)]


def test_a_heartbeat_or_version_of_ours_that_we_never_had_is_gone_above() -> None:
    protocol, local, _ = at_rest(a_peer("b", heartbeat=1, ours=True))
    (heartbeat, _), (version, _) = numbers_in(compact_of(protocol))
    before = local.heartbeat
    call(protocol, h0=heartbeat + 1_000, v0=version + 1_000)
    assert local.heartbeat > before + 2**20
    assert local.floor > 1_000


def test_an_entry_counts_before_the_numbers() -> None:
    c = a_peer("c", heartbeat=5)
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c)
    output = call(protocol, entry("c", 7, heartbeat=5), entry("b", heartbeat=2), v2=4)
    assert ids(answer(output)) == ["c", "a"]
    assert c.heard == 7
    assert events(output, "error") == []


def test_what_an_entry_changes_may_make_the_fingerprint_another() -> None:
    c = a_peer("c", heartbeat=5)
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c)
    output = call(protocol, entry("c", heartbeat=6, transport="moved"))
    assert answer(output).kind is Kind.ROUND
    assert c.transport == "moved"


@pytest.mark.parametrize("numbers", [{"h2": 2**63 - 1}, {"v2": 2**63 - 1}, {"h2": -(2**63), "v2": -(2**63)}])
def test_a_number_that_no_heartbeat_or_version_can_be_counts_as_not_told(numbers: dict[str, int]) -> None:
    last = MAX_VERSION - 9
    c = a_peer("c", heartbeat=last, max_version_seen=last, floor=last)
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c)
    call(protocol, **numbers)
    c._check()
    assert (c.heartbeat, c.behind, c.max_version_seen) == (last, False, last)
    answer(protocol.round(NOW + 9 * SECOND))


def test_a_compact_digest_in_a_rumour_is_not_read() -> None:
    c = a_peer("c", heartbeat=5)
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c)
    header = Header(None, with_numbers(compact_of(protocol), h2=9))
    assert sends(step(protocol, entries=[], kind=Kind.RUMOR, header=header)) == []
    assert c.heartbeat == 5


def test_a_round_goes_to_b_by_the_object_of_its_peer() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True))
    (send,) = sends(protocol.round(NOW + 4 * SECOND))
    assert send.to == B
    assert send.to.speaks_extensions
