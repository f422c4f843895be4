"""Where the time of a message and of a round goes, in one node of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from statistics import median
from time import process_time

from benchmarks.programs.digests import SENDER, InMemory, State
from benchmarks.programs.lines import fatal, serve
from gossipmonger import RemotePeer, TcpTransport
from gossipmonger.state import Compact, CompactDigest, Digest, Header, Kind, Message
from gossipmonger.state.payload import narrow
from gossipmonger.wire import decode, encode


class Stopwatch(InMemory):
    """Adds up the seconds of CPU that go to decoding and encoding."""

    decoding = encoding = 0.0

    def send(self, to: RemotePeer, message: Message) -> None:
        """Encode a message."""
        begun = process_time()
        super().send(to, message)
        self.encoding += process_time() - begun

    def receive(self, data: bytes) -> None:
        """Take a message's bytes."""
        begun = process_time()
        message = decode(data, "sender")
        self.decoding += process_time() - begun
        self.emit("message", message)

    def reset(self) -> None:
        """Begin anew."""
        self.decoding = self.encoding = 0.0


class NoTimer:
    """A timer that never runs out, so that a round is one that is asked for."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        pass

    def start(self) -> None:
        """Nothing begins."""

    def cancel(self) -> None:
        """Nothing ends."""


def made(peers: int, keys: int) -> tuple[State, Stopwatch]:
    transport = Stopwatch()
    state = State(peers, keys, True, transport=transport, timer=NoTimer)
    state.node.on("error", fatal)
    return state, transport


def split(transport: Stopwatch, count: int, total: float) -> dict[str, float]:
    """Return microseconds for each of `count`: what was decoding, what encoding, and what neither."""
    rest = total - transport.decoding - transport.encoding
    steps = {"decode": transport.decoding, "work": rest, "encode": transport.encoding}
    return {name: seconds * 1e6 / count for name, seconds in steps.items()}


def best(measure: Callable[[], dict[str, float]], turns: int) -> dict[str, float]:
    """Return the medians of some turns."""
    results = [measure() for _ in range(turns)]
    return {name: median(result[name] for result in results) for name in results[0]}


def digest(peers: int, keys: int, name: str, count: int, turns: int) -> dict[str, float]:
    """Return the microseconds of one digest of a case of `benchmarks.programs.digests`."""
    state, transport = made(peers, keys)

    def turn() -> dict[str, float]:
        transport.reset()
        total = 0.0
        for _ in range(count):
            data = state.digest(name)
            state.now += 1000
            begun = process_time()
            transport.receive(data)
            total += process_time() - begun
        return split(transport, count, total)

    return best(turn, turns)


def deltas(deltas: int, count: int, turns: int) -> dict[str, float]:
    """Return the microseconds of a message with so many deltas of one peer, all news of keys that are known."""
    state, transport = made(2, deltas)
    version = state.base + deltas

    def turn() -> dict[str, float]:
        nonlocal version
        transport.reset()
        total = 0.0
        for _ in range(count):
            told = [["peer-0", f"key-{n}", f"news-{version}-{n}", version + n + 1, version + n] for n in range(deltas)]
            version += deltas
            sender = {"id": SENDER.id, "transport": SENDER.transport}
            data = json.dumps({"deltas": told, "sender": sender}, separators=(",", ":")).encode()
            begun = process_time()
            transport.receive(data)
            total += process_time() - begun
        return split(transport, count, total)

    return best(turn, turns)


def compact(peers: int, count: int, turns: int) -> dict[str, float]:
    """Return the microseconds of one compact digest, half of whose heartbeats are news; it is answered for the other half."""
    state, transport = made(peers, 10)
    node = state.node
    transport.receive(state.digest("in sync"))
    membership = node._protocol.membership

    def turn() -> dict[str, float]:
        transport.reset()
        total = 0.0
        for _ in range(count):
            state.now += 1000
            state.round += 1
            known = membership.compact(membership.told_of(state.now, *membership.others()))
            others = sorted(known.peers, key=lambda peer: peer.id)
            news = [peer is not node.local_peer and (1 if place % 2 else -1) for place, peer in enumerate(others)]
            heartbeats = [peer.heartbeat - peer.floor + rise for peer, rise in zip(others, news, strict=True)]
            payload = narrow(heartbeats, [peer.max_version_seen - peer.floor for peer in others])
            sender = node.storage.get(SENDER.id)
            assert sender is not None
            own = sender.entry()
            header = Header(None, Compact(known.fingerprint, payload))
            digest = Digest(Kind.ROUND, header, [own._replace(heartbeat=own.heartbeat + 1)])
            data = encode(Message(SENDER, None, digest))
            begun = process_time()
            transport.receive(data)
            total += process_time() - begun
        return split(transport, count, total)

    return best(turn, turns)


def round(peers: int, rest: bool, count: int, turns: int) -> dict[str, float]:
    """Return the microseconds of a round, half of whose peers have been heard of since the one before it."""
    state, transport = made(peers, 10)
    node = state.node

    def turn() -> dict[str, float]:
        transport.reset()
        total = encoding = 0.0
        for _ in range(count):
            state.now += 1000
            transport.receive(state.digest("in sync"))
            if not rest:
                node._protocol.membership._compact = CompactDigest([])
            transport.reset()
            begun = process_time()
            node.gossip()
            total += process_time() - begun
            encoding += transport.encoding
        return {name: seconds * 1e6 / count for name, seconds in {"work": total - encoding, "encode": encoding}.items()}

    return best(turn, turns)


def tcp(entries: int, count: int, turns: int) -> dict[str, float]:
    """Return the microseconds that a digest costs both sides over TCP, apart from encoding and decoding."""
    state, _ = made(entries, 1)
    digest = Digest(Kind.ROUND, Header(), [peer.entry() for peer in state.node.storage.live_peers()])
    sender, receiver = TcpTransport(host="127.0.0.1", port=0), TcpTransport(host="127.0.0.1", port=0)
    arrived = threading.Event()
    try:
        for transport in (sender, receiver):
            transport.on("error", fatal)
            transport.listen()
        receiver.on("message", lambda _: arrived.set())
        source = RemotePeer("sender", sender.address)
        target = RemotePeer("receiver", receiver.address)

        def turn() -> dict[str, float]:
            begun = process_time()
            for _ in range(count):
                arrived.clear()
                sender.send(target, Message(source, None, digest))
                if not arrived.wait(10):
                    raise TimeoutError("a message did not arrive")
            both = process_time() - begun
            begun = process_time()
            for _ in range(count):
                decode(encode(Message(source, None, digest)), "sender")
            return {"tcp": (both - (process_time() - begun)) * 1e6 / count}

        return best(turn, turns)
    finally:
        sender.close()
        receiver.close()


if __name__ == "__main__":
    serve(digest=digest, deltas=deltas, compact=compact, round=round, tcp=tcp)
