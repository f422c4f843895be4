"""One node of ours whose transport only encodes. It makes digests and handles them, and says how long that takes.

The digests it handles are as the original makes them, or, `own`, as ours does. Of two of the latter in a row, each tells of
later heartbeats of one half of the peers, and not of what the one before it told of the other; so each is answered with a
reply. A second of the node's time passes from one to the next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from time import process_time
from typing import Any

from benchmarks.programs.lines import fatal, serve
from gossipmonger import Gossipmonger, Peer, RemotePeer, Transport
from gossipmonger.state import Digest, Header, Kind, Message
from gossipmonger.wire import MAX_MESSAGE_SIZE, decode, split

#: Milliseconds since the epoch.
EPOCH = 1_700_000_000_000.0

SENDER = RemotePeer("sender", {"host": "10.0.0.1", "port": 9742})

#: By how many versions the digest is behind for the peer with this number.
CASES: dict[str, Callable[[int], float]] = {
    "in sync": lambda n: 0,
    "one key": lambda n: n == 1,
    "every peer": lambda n: 1,
    "joiner": lambda n: float("inf"),
}


class InMemory(Transport):
    """Makes the bytes that the TCP transport would send, and keeps the last ones."""

    max_message_size = MAX_MESSAGE_SIZE
    sent = b""

    def send(self, to: RemotePeer, message: Message) -> None:
        """Encode a message."""
        for data in split(message, self.max_message_size):
            self.sent = data

    def receive(self, data: bytes) -> None:
        """Take a message's bytes."""
        self.emit("message", decode(data, "sender"))


class State:
    """The node and what it is sent.

    Args:
        peers: How many it knows.
        keys: That each of them has.
        own: Whether they are of our kind.
        **options: The node's.
    """

    def __init__(self, peers: int, keys: int, own: bool, **options: Any) -> None:
        self.peers, self.keys, self.own = peers, keys, own
        self.base = int(EPOCH * 1000) - 3_600_000_000 if own else 0  # our versions begin at the clock's microseconds
        self.now = EPOCH
        self.round = 0
        info = {"id": "node", "transport": {"host": "10.1.0.0", "port": 9742}}
        options = {"transport": InMemory(), "clock": lambda: self.now, **options}
        self.node = Gossipmonger(info, options)
        self.node.on("error", fatal)
        heartbeat = self.base if own else -1
        for n in range(peers):
            data = {f"key-{key}": (f"value-{n}-{key}", self.base + key + 1) for key in range(keys)}
            peer = Peer(
                f"peer-{n}", data=data, floor=self.base, heartbeat=heartbeat, last_time=EPOCH, transport=transport_of(n),
                intervals=[1000.0],
            )  # fmt: skip
            self.node.storage.put(peer.id, peer)
        sender = Peer(SENDER.id, heartbeat=heartbeat, last_time=EPOCH, transport=SENDER.transport, max_version_seen=self.base)
        self.node.storage.put(SENDER.id, sender)

    def digest(self, name: str) -> bytes:
        """Return the next one of a case."""
        behind, base = CASES[name], self.base
        entries = []
        self.round += 1
        for n in range(self.peers):
            version = int(max(0, base + self.keys - behind(n)))
            entry = {"id": f"peer-{n}", "maxVersionSeen": version, "transport": transport_of(n)}
            if self.own:
                if version > base:
                    entry["floor"] = base
                entry["heartbeat"] = base + (self.round if (n + self.round) % 2 else max(0, self.round - 2))
            entries.append(entry)
        own: dict[str, Any] = {"id": SENDER.id, "maxVersionSeen": base, "transport": SENDER.transport}
        if self.own:
            own |= {"floor": base, "heartbeat": base + self.round}
        entries.append(own)
        message = {"digest": entries, "sender": {"id": SENDER.id, "transport": SENDER.transport}}
        return json.dumps(message, separators=(",", ":")).encode() + b"\r\n"


def transport_of(n: int) -> dict[str, Any]:
    return {"host": f"10.0.{n >> 8}.{n & 255}", "port": 9742}


state: State | None = None


def build(peers: int, keys: int, own: bool) -> dict[str, Any]:
    """Make the state anew."""
    global state
    state = None
    state = State(peers, keys, own)
    return {"bytes": len(state.digest("in sync"))}


def make(count: int) -> dict[str, Any]:
    """Return the microseconds of CPU to make a digest of all peers, each of `count` times; half of it changes each time."""
    assert state is not None
    node, took = state.node, 0.0
    for data in some(state, "in sync", count if state.own else 1):
        state.now += 1000
        node.transport.receive(data)
        others = [peer for peer in node.storage.live_peers() if peer is not node.local_peer]
        for _ in range(1 if state.own else count):
            begun = process_time()
            digest = Digest(Kind.ROUND, Header(), node._protocol.digest(others))
            node.transport.send(SENDER, Message(node.local_peer.remote, None, digest))
            took += process_time() - begun
    return {"us": took * 1e6 / count, "sent": len(node.transport.sent)}


def handle(name: str, count: int) -> dict[str, Any]:
    """Return the microseconds of CPU to handle one, from its bytes to those of the answer, each of `count` times."""
    assert state is not None
    transport, took = state.node.transport, 0.0
    transport.sent = b""
    for data in some(state, name, count):
        state.now += 1000
        begun = process_time()
        transport.receive(data)
        took += process_time() - begun
    return {"us": took * 1e6 / count, "sent": len(transport.sent)}


def some(state: State, name: str, count: int) -> Iterator[bytes]:
    """Yield `count` digests; of the original's kind, the same one each time."""
    if state.own:
        for _ in range(count):
            yield state.digest(name)
    else:
        data = state.digest(name)
        for _ in range(count):
            yield data


if __name__ == "__main__":
    serve(build=build, make=make, handle=handle)
