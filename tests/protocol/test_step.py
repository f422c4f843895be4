"""One step, whatever the message: nothing that a peer may send makes it raise; if a storage does, nothing has changed."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipmonger.protocol import Protocol
from gossipmonger.state import (
    MAX_VERSION,
    Compact,
    CompactDigest,
    Delta,
    Digest,
    Entry,
    ExtendedPeer,
    Header,
    Kind,
    Message,
    Peer,
    RemotePeer,
)
from gossipmonger.state.compact import narrow
from gossipmonger.storage import MemoryStorage

from .steps import NOW, Copying, a_peer, a_protocol, entry, sends

IDS = st.sampled_from(["a", "b", "c", "d", "new"])
CLOCK = int(NOW * 1000)
BOUND = CLOCK + 10 * 365 * 86_400 * 1_000_000
NUMBERS = st.one_of(
    st.integers(0, 20),
    st.integers(CLOCK - 20, CLOCK + 20),
    st.integers(BOUND - 20, BOUND + 20),
    st.sampled_from([CLOCK + 2**15, CLOCK + 2**31, CLOCK + 2**40, MAX_VERSION - 1, MAX_VERSION]),
    st.integers(0, MAX_VERSION),
)
FLOWS = st.none() | st.lists(st.floats(0, 100), min_size=2, max_size=3)

#: What a compact digest may tell of a peer beyond its floor: whatever fits into 8 bytes.
DISTANCES = st.one_of(
    st.integers(-20, 20),
    st.integers(BOUND - CLOCK - 20, BOUND - CLOCK + 20),
    st.sampled_from([-(2**63), -(2**63) + 1, -(2**31), 2**15, 2**31, MAX_VERSION, 2**63 - CLOCK, 2**63 - 2, 2**63 - 1]),
    st.integers(-(2**63), 2**63 - 1),
)


@st.composite
def entries(draw: st.DrawFn, id: str | None = None) -> Entry:
    version = draw(NUMBERS)
    floor, heard = draw(st.sampled_from([0, version])), draw(st.sampled_from([0, version, MAX_VERSION]))
    id = draw(IDS) if id is None else id
    return Entry(id, version, f"at {id}", draw(st.just(-1) | NUMBERS), floor, heard, draw(st.booleans()))


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    version = draw(NUMBERS.filter(bool))
    after = draw(st.none() | st.sampled_from([0, version - 1]))
    more = 0 if after is None else draw(st.sampled_from([0, 1 if version < MAX_VERSION else 0, MAX_VERSION - version]))
    return Delta(draw(IDS), draw(st.sampled_from("xyz")), draw(st.integers(0, 3)), version, after, more)


@st.composite
def compacts(draw: st.DrawFn, peers: Iterable[Peer]) -> Compact:
    """What somebody may tell who agrees on these peers; the node reads it unless the message itself changes them before."""
    digest = CompactDigest(peers)
    numbers = st.tuples(*[DISTANCES] * len(digest.peers))
    return Compact(digest.fingerprint, narrow(draw(numbers), draw(numbers)))


@st.composite
def digests(draw: st.DrawFn, sender: str, agreed: list[Peer]) -> Digest:
    """A digest of this sender, which may be compact; `agreed` is whom the receiver tells of."""
    if draw(st.booleans()):
        return Digest(Kind.ROUND, None, [*draw(st.lists(entries(), max_size=4)), entry(sender, draw(NUMBERS))])
    if draw(st.booleans()):
        named: list[Entry] = draw(st.sampled_from([[], [], draw(st.lists(entries(), max_size=2))]))
        own = entry(sender, CLOCK, heartbeat=CLOCK + 1, floor=CLOCK)
        kind = draw(st.sampled_from([Kind.ROUND, Kind.REPLY, Kind.PART, Kind.RUMOR]))
        return Digest(kind, Header(draw(FLOWS), draw(compacts(agreed))), [*named, own])
    own = draw(entries(sender))
    own = own._replace(heartbeat=max(0, own.heartbeat))
    return Digest(draw(st.sampled_from(Kind)), Header(draw(FLOWS)), [*draw(st.lists(entries(), max_size=4)), own])


@st.composite
def messages(draw: st.DrawFn, protocol: Protocol, local: Peer, now: float) -> Message:
    sender = draw(st.sampled_from(["b", "c", "new"]))
    told = draw(st.none() | st.lists(deltas(), max_size=4))
    membership = protocol.membership
    agreed = [*membership.told_of(now, *membership.others()), local]
    if sender not in [peer.id for peer in agreed]:  # the message itself makes the sender known
        agreed.append(Peer(sender, transport=f"at {sender}"))
    digest = draw(digests(sender, agreed)) if told is None or draw(st.booleans()) else None
    kind = ExtendedPeer if digest is not None and digest.header is not None else RemotePeer
    return Message(kind(sender, f"at {sender}"), told, digest)


def a_known_protocol(storage: Any = None, **options: Any) -> tuple[Protocol, Peer, Any]:
    peers = [a_peer(id, floor=CLOCK, max_version_seen=CLOCK, heartbeat=CLOCK, ours=True) for id in "bcd"]
    return a_protocol(
        *peers, local=Peer("a", transport="at a", floor=CLOCK, max_version_seen=CLOCK), storage=storage, **options
    )


def check(storage: Any) -> None:
    """Assert what always holds, and that what is known can still be told."""
    for peer in (*storage.live_peers(), *storage.dead_peers()):
        peer._check()
        assert peer.heartbeat <= MAX_VERSION
    CompactDigest(storage.live_peers()).encode()


def run(data: st.DataObject, seen: Counter[str]) -> None:
    storage = Copying() if data.draw(st.booleans()) else None
    protocol, local, storage = a_known_protocol(storage, flow_control=data.draw(st.booleans()))
    now = NOW
    for _ in range(data.draw(st.integers(1, 6))):
        now += data.draw(st.sampled_from([0, 10, 1_000]))
        if data.draw(st.booleans()):
            protocol.update(now, data.draw(st.sampled_from("xyz")), data.draw(st.integers(0, 3)))
        if data.draw(st.booleans()):
            protocol.delete(now, data.draw(st.sampled_from("xyz")))
        if data.draw(st.booleans()):
            protocol.round(now)
        message = data.draw(messages(protocol, local, now))
        output = protocol.step(now, message)
        digest = message.digest
        if digest is not None and digest.header is not None and digest.header.compact is not None:
            answers = [send.message.digest for send in sends(output)]
            refused = any(answer is not None and answer.kind is Kind.ROUND for answer in answers)
            seen["refused" if refused else "read"] += digest.kind is not Kind.RUMOR
        local._check()
        check(storage)


@pytest.mark.untraced
def test_no_message_makes_a_step_raise() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=300)
    @given(st.data())
    def steps(data: st.DataObject) -> None:
        run(data, seen)

    steps()
    assert seen["read"] > 20, seen  # compact digests of the same peers, and not only of others


# A storage that fails


class FailingStorage(MemoryStorage):
    """Raises at the `get` that is so many calls ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 10**9

    def get(self, id: str) -> Peer | None:
        self.ahead -= 1
        if self.ahead < 0:
            raise OSError("the disk is gone")
        return super().get(id)


def state_of(storage: MemoryStorage) -> list[bytes]:
    return [pickle.dumps(peer) for peer in (*storage.live_peers(), *storage.dead_peers())]


@settings(max_examples=200)
@given(st.data(), st.integers(0, 4))
def test_a_step_that_raises_has_changed_nothing(data: st.DataObject, ahead: int) -> None:
    storage = FailingStorage()
    protocol, local, _ = a_known_protocol(storage)
    message = data.draw(messages(protocol, local, NOW))
    before, storage.ahead = state_of(storage), ahead
    try:
        protocol.step(NOW + 10, message)
    except OSError:
        storage.ahead = 10**9
        assert state_of(storage) == before
        protocol.step(NOW + 10, message)  # the same message again is taken as if nothing had happened
        other, _, untroubled = a_known_protocol()
        other.step(NOW + 10, message)
        assert state_of(storage) == state_of(untroubled)


@pytest.mark.parametrize("ahead", range(4))
def test_whichever_peer_cannot_be_looked_up_all_stay_as_they_were(ahead: int) -> None:
    storage = FailingStorage()
    protocol, _, _ = a_known_protocol(storage)
    news = [Delta(id, "k", 1, CLOCK + 1) for id in "bcd"]
    told = [entry(id, CLOCK + 1, heartbeat=CLOCK + 5, floor=CLOCK) for id in "abcd"]
    message = Message(ExtendedPeer("b", "moved"), news, Digest(Kind.ROUND, Header(), told))
    before, storage.ahead = state_of(storage), ahead
    with pytest.raises(OSError, match="the disk is gone"):
        protocol.step(NOW + 10, message)
    assert state_of(storage) == before
