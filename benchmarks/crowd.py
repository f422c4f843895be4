"""A crowd: all nodes of a cluster but one, played by one program, so that the one can be measured in a cluster of any size.

What the node hears is what it would hear among so many real nodes, byte by byte, since the library's own wire room makes the
crowd's messages. What lies behind them is a model:

* A peer's heartbeat rises by GOSSIP_FANOUT a second. Whoever tells of it knows it as it was a while before: see `AGE`.
* Each peer draws its partners, so the node gets GOSSIP_FANOUT rounds a second, mostly from peers that have no link to it.
* What the node sends is answered as the protocol has it: see the table of kinds in `gossipmonger.protocol.protocol`.
* While the cluster forms, each second every node knows of four times as many others as before. Until a while after that,
  digests consist of entries, and rumours tell as many new peers as fit.
* A write is told to the node RUMOR_FANOUT + 1 times, by its predecessors and by peers that are drawn, in at most RUMOR_RATE
  rumours a second.

Each peer has an address in 127.0.0.0/8, and all have the same port. So one socket takes what the node dials.
"""

from __future__ import annotations

import math
import selectors
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from random import Random

from gossipmonger import Options
from gossipmonger.protocol.reconcile import choose_deltas
from gossipmonger.state import CompactDigest, Delta, Digest, Entry, Header, Kind, Message, Peer, RemotePeer
from gossipmonger.wire import CLOSING, COMPRESS_ABOVE, EMPTY, MAX_MESSAGE_SIZE, Framer, Splitter, begins_link, decode, hello

__all__ = ["Crowd"]

#: Links that a node keeps: `max_links` of `TcpTransport`.
LINKS = 128

#: Keys of each peer, and how often the number that a node knows of is multiplied in a second while the cluster forms.
KEYS, GROWTH = 2, 4

#: Seconds after everybody knows everybody until digests are compact.
AGREEING = 3

#: Seconds by which what one peer knows of another's heartbeat is old: so much, and so much more for each time that the cluster
#: is e times as large, give or take so much. In a model in which 100 to 10,000 nodes exchange one heartbeat with three others a
#: second, the median is 0.9 to 1.55 s, and a third of all exchanges bring something. A spread of 0.4 s comes to that share.
AGE, AGE_BY_SIZE, AGE_SPREAD = 0.25, 0.14, 0.4

#: Deltas of new peers in a rumour, with an entry for each peer: about as many as it has room for.
NEW_PEERS = 100

#: Share of the peers above which a reply is a compact digest, as in `gossipmonger.protocol.answers`.
FEW = 0.1

DEFAULTS = Options()


class Wire:
    """A connection between the node and one of the crowd, who is `peer`. `waiting` is what goes after the `HELLO`."""

    def __init__(self, connected: socket.socket, peer: Peer, dialled: bool) -> None:
        self.socket = connected
        self.peer = peer
        self.dialled = dialled
        self.line = bytearray()
        self.greeted = False
        self.retired = False
        self.splitter = Splitter(MAX_MESSAGE_SIZE, peer.id)
        self.waiting: list[bytes] = []


class Crowd:
    """The peers, and their connections.

    Args:
        size: How many peers, the node not counted. The first is to be the node's seed.
        node: Who and where the node is.
        seed: Of all that is drawn.

    Attributes:
        updates: Writes per second in the whole cluster.
        read: Bytes that the node has sent.
        written: Bytes that it was sent.
        messages: How many messages that were, both ways.
        wires: Its connections.
    """

    def __init__(self, size: int, node: RemotePeer, seed: int = 1) -> None:
        self._random = Random(seed)
        self._listener = socket.create_server(("0.0.0.0", 0), backlog=512)  # all of 127.0.0.0/8
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._framer = Framer(MAX_MESSAGE_SIZE, COMPRESS_ABOVE)
        self._began = time.time()
        port = self._listener.getsockname()[1]
        self.peers = [self._make(number, port) for number in range(size)]
        self._by_host = {peer.transport["host"]: peer for peer in self.peers}
        self._found = {peer.id: peer for peer in self.peers}
        age = AGE + AGE_BY_SIZE * math.log(size)
        self._ages = [age + self._random.uniform(-AGE_SPREAD, AGE_SPREAD) for _ in self.peers]
        self._node_remote = node
        self._node = Peer(node.id, transport=node.transport)
        self._met = False
        self._compact = CompactDigest([])
        self._links: OrderedDict[str, Wire] = OrderedDict()  # those that the crowd has dialled, by the peer's id
        self.wires: set[Wire] = set()
        self.updates = 0.0
        self._news: deque[tuple[Delta, int]] = deque()  # a delta, and how often it is still to be told
        self._next_round = self._next_rumor = self._next_write = self._began
        self.read = self.written = self.messages = 0

    def _make(self, number: int, port: int) -> Peer:
        start = int((self._began - self._random.random()) * 1e6)
        host = f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        peer = Peer(
            f"p{number:05}", transport={"host": host, "port": port}, max_version_seen=start, floor=start, heartbeat=start
        )
        for key in range(KEYS):
            peer.issue(f"key-{key}", f"value-{self._random.random()}")
        return peer

    def begin(self) -> None:
        """Let the cluster begin to form now."""
        self._began = self._next_round = self._next_rumor = self._next_write = time.time()

    # What the peers know

    @property
    def known(self) -> int:
        """How many of the crowd its members know of."""
        return int(min(len(self.peers), GROWTH ** (1 + time.time() - self._began)))

    @property
    def agrees(self) -> bool:
        """Whether digests are compact."""
        return time.time() - self._began > math.log(len(self.peers), GROWTH) + AGREEING

    def _age_heartbeats(self, speaker: Peer) -> list[Peer]:
        """Let heartbeats be what this peer knows of them now; return whom it knows of."""
        now, fanout = time.time() * 1e6, DEFAULTS.gossip_fanout
        turn = self._random.randrange(len(self.peers))
        ages = self._ages[turn:] + self._ages[:turn]
        peers = self.peers[: self.known]
        for peer, age in zip(peers, ages, strict=False):
            floor = peer.floor
            peer.heartbeat = floor + fanout * max(0, int((now - floor) / 1e6 - age))
        speaker.heartbeat = speaker.floor + fanout * int((now - speaker.floor) / 1e6)
        return [*peers, self._node] if self._met else peers

    def _summary(self, peers: list[Peer]) -> CompactDigest:
        if not self._compact.covers(peers):
            self._compact = CompactDigest(peers)
        return self._compact

    def _message(self, speaker: Peer, kind: Kind, named: Iterable[Peer], deltas: list[Delta] | None = None) -> Message:
        entries = [peer.entry() for peer in named if peer is not speaker]
        return Message(speaker.remote, deltas, Digest(kind, Header(), [*entries, speaker.entry()]))

    # What they say

    def turn(self, seconds: float) -> None:
        """Play for so long."""
        until = time.time() + seconds
        while True:
            now = time.time()
            due = min(self._next_round, self._next_rumor, self._next_write)
            if now >= until:
                return
            for key, _ in self._selector.select(max(0.0, min(due, until) - now)):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            self._speak(time.time())

    def _speak(self, now: float) -> None:
        while self._next_write <= now:
            if self.updates:
                self._next_write += self._random.expovariate(self.updates)
                self._write()
            else:
                self._next_write = now + 0.1
        if self._next_rumor <= now:
            self._next_rumor = max(now - 1, self._next_rumor) + 1 / DEFAULTS.rumor_rate
            self._rumor()
        if self._next_round <= now:
            self._next_round += self._random.expovariate(DEFAULTS.gossip_fanout)
            self._round(self._random.choice(self.peers[: self.known]))

    def _round(self, speaker: Peer) -> None:
        peers = self._age_heartbeats(speaker)
        if not self.agrees:
            self._tell(speaker, self._message(speaker, Kind.ROUND, peers))
            return
        header = Header(None, self._summary(peers).encode())
        self._tell(speaker, Message(speaker.remote, None, Digest(Kind.ROUND, header, [speaker.entry()])))

    def _write(self) -> None:
        peer = self._random.choice(self.peers)
        before = peer.max_version_seen
        peer.issue("key-0", self._random.random())
        (delta,) = peer.deltas(before)
        self._news.append((delta, DEFAULTS.rumor_fanout + 1))

    def _rumor(self) -> None:
        """Tell some of the news, each as often as it has to be told at this rate; or new peers, while the cluster forms."""
        speaker = self._teller()
        if not self.agrees:
            new = self._random.sample(self.peers[: self.known], min(self.known, NEW_PEERS // KEYS))
            deltas = [delta for peer in new for delta in peer.deltas(peer.floor)]
            self._tell(speaker, self._message(speaker, Kind.RUMOR, new, deltas))
            return
        wanted = self.updates * (DEFAULTS.rumor_fanout + 1) / DEFAULTS.rumor_rate
        chosen = [self._news.popleft() for _ in range(min(len(self._news), max(1, math.ceil(wanted))))]
        if chosen:
            self._news += [(delta, left - 1) for delta, left in chosen if left > 1]
            self._tell(speaker, self._message(speaker, Kind.RUMOR, [], [delta for delta, _ in chosen]))

    def _teller(self) -> Peer:
        """Return one of the node's predecessors, or now and then another."""
        share = self._random.randrange(DEFAULTS.rumor_fanout + 1)
        known = self.peers[: self.known]
        return self._random.choice(known) if share == DEFAULTS.rumor_fanout else known[share % len(known)]

    # What they answer

    def _take(self, wire: Wire, message: Message) -> None:
        digest = message.digest
        for delta in message.deltas or ():
            if delta.peer_id == self._node.id:
                self._node.take(*delta[1:])
        if digest is None or digest.header is None:
            return
        for entry in digest.entries:
            if entry.id == self._node.id:
                self._hear_node(entry)
        if digest.kind in (Kind.RUMOR, Kind.FAREWELL):
            return
        written = self.written
        self._answer(wire, digest, digest.header)
        if digest.kind is Kind.ROUND and self.written == written:
            self._send(wire, EMPTY)

    def _hear_node(self, entry: Entry) -> None:
        self._met = True
        self._node.hear(entry.heartbeat, time.time() * 1000)
        self._node.hear_of(entry.version, entry.floor, True)
        self._node.settle()
        self._compact.note(self._node)

    def _answer(self, wire: Wire, digest: Digest, header: Header) -> None:
        speaker = wire.peer
        peers = self._age_heartbeats(speaker)
        compact = None
        if header.compact is not None:
            compact = self._summary(peers)
            read = compact.decode(header.compact)
            if read is None:
                self._send_message(wire, self._message(speaker, Kind.ROUND, peers))
                return
            numbers = list(read)
        else:
            ids = self._found
            numbers = [(ids[entry.id], entry.heartbeat, entry.version) for entry in digest.entries if entry.id in ids]
        they_lack = [(peer, version) for peer, _, version in numbers if version < peer.max_version_seen]
        told = [self._node] if self._node.behind else []
        if digest.kind is not Kind.REPLY:
            told += [peer for peer, heartbeat, _ in numbers if heartbeat < peer.heartbeat and peer is not self._node]
            if compact is None:
                named = {entry.id for entry in digest.entries}
                told += [peer for peer in peers if peer.id not in named]
        deltas, cut = choose_deltas(they_lack, None, "depth", self._random) if they_lack else ([], [])
        told += cut
        if compact is not None and len(told) > FEW * len(peers):
            reply = Digest(Kind.REPLY, Header(None, compact.encode()), [speaker.entry()])
            self._send_message(wire, Message(speaker.remote, deltas or None, reply))
        elif told:
            self._send_message(wire, self._message(speaker, Kind.REPLY, dict.fromkeys(told), deltas or None))
        elif deltas:
            self._send_message(wire, Message(speaker.remote, deltas))

    # Connections

    def _tell(self, speaker: Peer, message: Message) -> None:
        self._send_message(self._link(speaker), message)

    def _link(self, speaker: Peer) -> Wire:
        """Return the link that this peer has dialled; dial one if there is none."""
        wire = self._links.get(speaker.id)
        if wire is None:
            self._links[speaker.id] = wire = self._dial(speaker)
            if len(self._links) > LINKS:
                _, oldest = self._links.popitem(last=False)
                self._retire(oldest)
        self._links.move_to_end(speaker.id)
        return wire

    def _dial(self, speaker: Peer) -> Wire:
        transport = self._node_remote.transport
        own = speaker.transport["host"]
        connected = socket.create_connection((transport["host"], transport["port"]), timeout=30, source_address=(own, 0))
        wire = self._add(connected, speaker, dialled=True)
        connected.sendall(hello(speaker.remote))
        return wire

    def _accept(self) -> None:
        try:
            connected, _ = self._listener.accept()
        except BlockingIOError:
            return
        peer = self._by_host.get(connected.getsockname()[0])
        if peer is None:  # nobody of this cluster
            connected.close()
        else:
            self._add(connected, peer, dialled=False)

    def _add(self, connected: socket.socket, peer: Peer, dialled: bool) -> Wire:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(30)  # for what is written; it is read when there is something
        wire = Wire(connected, peer, dialled)
        self.wires.add(wire)
        self._selector.register(connected, selectors.EVENT_READ, wire)
        return wire

    def _send_message(self, wire: Wire, message: Message) -> None:
        self.messages += 1
        self._send(wire, self._framer.frames(message, wire.peer.remote))

    def _send(self, wire: Wire, data: bytes) -> None:
        if not wire.greeted:
            wire.waiting.append(data)
        elif not wire.retired and wire in self.wires:
            self.written += len(data)
            try:
                wire.socket.sendall(data)
            except OSError:
                self._end(wire)

    def _retire(self, wire: Wire) -> None:
        """Close a link on purpose."""
        if not wire.retired and wire in self.wires:
            self._send(wire, CLOSING)
            wire.retired = True
            if wire.dialled and wire in self.wires:
                wire.socket.shutdown(socket.SHUT_WR)

    def _end(self, wire: Wire) -> None:
        if wire in self.wires:
            self.wires.discard(wire)
            self._selector.unregister(wire.socket)
            wire.socket.close()
            if self._links.get(wire.peer.id) is wire:
                del self._links[wire.peer.id]

    def _read(self, wire: Wire) -> None:
        try:
            data = wire.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._end(wire)
            return
        self.read += len(data)
        if not wire.greeted:
            wire.line += data
            _, end, rest = wire.line.partition(b"\n")
            if not end:
                return
            if not begins_link(wire.line):  # this program was slow, so the peer passes for a Node.js node
                self._take(self._link(wire.peer), decode(wire.line, wire.peer.id))
                self._end(wire)
                return
            wire.greeted, data = True, bytes(rest)
            if not wire.dialled:
                self._send(wire, hello(wire.peer.remote))
            for frame in wire.waiting:
                self._send(wire, frame)
        for frame in wire.splitter.frames(data) if data else ():
            if frame == CLOSING:
                if wire.retired:
                    self._end(wire)
                else:
                    self._retire(wire)
            elif frame != EMPTY:
                self.messages += 1
                self._take(wire, decode(frame, wire.peer.id, speaker=self._node_remote))
            if wire not in self.wires:
                return

    def close(self) -> None:
        """Close all connections."""
        for wire in [*self.wires]:
            self._end(wire)
        self._listener.close()
        self._selector.close()
