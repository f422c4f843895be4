"""One step, whatever the message: nothing that a peer may send makes it raise."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gossipmonger import Peer, RemotePeer
from gossipmonger.entry import Entry
from gossipmonger.peer import MAX_VERSION, Kin
from gossipmonger.roll import Roll

from .protocols import NOW, a_protocol

IDS = st.sampled_from(["a", "b", "c", "d", "new"])
CLOCK = int(NOW * 1000)
NUMBERS = st.one_of(
    st.integers(0, 20),
    st.integers(CLOCK - 20, CLOCK + 20),
    st.sampled_from([CLOCK + 2**15, CLOCK + 2**31, CLOCK + 2**40, MAX_VERSION - 1, MAX_VERSION]),
    st.integers(0, MAX_VERSION),
)
FLOWS = st.none() | st.lists(st.floats(0, 100), min_size=2, max_size=3)


@st.composite
def entries(draw: st.DrawFn, id: str | None = None) -> Entry:
    version = draw(NUMBERS)
    floor, heard = draw(st.sampled_from([0, version])), draw(st.sampled_from([0, version, MAX_VERSION]))
    id = draw(IDS) if id is None else id
    return Entry(id, version, f"at {id}", draw(st.just(-1) | NUMBERS), floor, heard, draw(st.booleans()))


@st.composite
def deltas(draw: st.DrawFn) -> list[Any]:
    version = draw(NUMBERS.filter(bool))
    delta = [draw(IDS), draw(st.sampled_from("xyz")), draw(st.integers(0, 3)), version]
    if draw(st.booleans()):
        delta.append(draw(st.sampled_from([0, version - 1])))
        if draw(st.booleans()):
            delta.append(draw(st.sampled_from([0, 1, MAX_VERSION - version])))
    return delta


@st.composite
def digests(draw: st.DrawFn, sender: str, known: list[Peer]) -> list[Entry]:
    digest = draw(st.lists(entries(), max_size=4))
    near = draw(st.booleans())
    own = Entry(sender, CLOCK, f"at {sender}", CLOCK + 1, CLOCK) if near else draw(entries(sender))
    if own.heartbeat >= 0:
        call = None
        if draw(st.booleans()):
            numbers = draw(st.sampled_from([NUMBERS, st.integers(CLOCK, CLOCK + 20)]))
            told = [Peer(peer.id, transport=peer.transport, floor=peer.floor, left=peer.left) for peer in known]
            for peer in told:
                peer.max_version_seen, peer.heartbeat = draw(numbers), draw(numbers)
            call, digest = Roll(told).call(), draw(st.sampled_from([[], digest]))
        kind = draw(st.sampled_from([{}, {"reply": True}, {"rumor": True}, {"part": True}]))
        own = own.marked(**kind, flow=draw(FLOWS), roll=call)
    return [*digest, own]


@settings(max_examples=300)
@given(st.data())
def test_no_message_makes_a_step_raise(data: st.DataObject) -> None:
    peers = [
        Peer(id, transport=f"at {id}", last_time=NOW, floor=CLOCK, max_version_seen=CLOCK, heartbeat=CLOCK) for id in "bcd"
    ]
    local = Peer("a", transport="at a", floor=CLOCK, max_version_seen=CLOCK)
    flow_control = data.draw(st.booleans())
    protocol, local, storage = a_protocol(*peers, local=local, flow_control=flow_control)
    now = NOW
    for _ in range(data.draw(st.integers(1, 6))):
        now += data.draw(st.sampled_from([0, 10, 1_000]))
        if data.draw(st.booleans()):
            protocol.update(now, data.draw(st.sampled_from("xyz")), data.draw(st.integers(0, 3)))
        if data.draw(st.booleans()):
            protocol.round(now)
        sender = data.draw(st.sampled_from(["b", "c", "new"]))
        told = data.draw(st.none() | st.lists(deltas(), max_size=4))
        known = storage.live_peers()
        if sender == "new" and storage.get("new") is None:
            known.append(Peer("new", transport="at new"))
        digest = data.draw(digests(sender, known)) if told is None or data.draw(st.booleans()) else None
        protocol.receive(now, data.draw(st.sampled_from([Kin, RemotePeer]))(sender, f"at {sender}"), told, digest)
        for peer in (*storage.live_peers(), *storage.dead_peers()):
            assert peer.log.last <= peer.max_version_seen
            assert peer.heard >= peer.whole
