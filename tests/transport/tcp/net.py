"""TCP transports and raw connections on loopback."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

from gossipmonger.state.message import Delta, Digest, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.transport import TcpTransport
from gossipmonger.wire import hello
from tests.recorder import Recorder

HOST = "127.0.0.1"
SENDER = RemotePeer("z", {"host": "z.example", "port": 9742})
LOOPBACKS = [HOST]
with suppress(OSError):  # some machines have no IPv6
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    LOOPBACKS.append("::1")


class Node(Recorder):
    """A TCP transport, and what it emits.

    Attributes:
        links: Each event `link`, as the peer's id and what happened.
    """

    def __init__(self, transport: TcpTransport) -> None:
        super().__init__(transport)
        self.links: list[tuple[str, str]] = []
        self.trusted: list[Any] = []
        transport.on("link", lambda peer, what: self._add(self.links, (peer.id, what)))

    def wait(self, values: int = 0, errors: int = 0, links: int = 0) -> None:
        self.until(lambda: len(self.values) >= values and len(self.errors) >= errors and len(self.links) >= links)

    @property
    def address(self) -> Any:
        return self.transport.bound

    @property
    def peer(self) -> RemotePeer:
        """How others reach it."""
        return peer_at(self.address, f"at {self.address[1]}")

    def send(self, address: Any, *values: Any) -> None:
        self.trusted.append(peer_at(address).transport)
        self.transport.trust(self.trusted)  # as seeds' addresses
        for value in values:
            self.transport.deltas(peer_at(address), SENDER, delta(value))

    def links_open(self) -> int:
        return len(self.transport._links.open_links)


class Connection:
    """A raw connection of the test's own, and what comes on it."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(10)
        self.socket = connected
        self.stream = connected.makefile("rb")

    @property
    def source(self) -> str:
        """How errors of the other side name it."""
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def send(self, data: bytes) -> Connection:
        self.socket.sendall(data)
        return self

    def line(self) -> bytes:
        return self.stream.readline()

    def read(self, count: int = 1) -> bytes:
        return self.stream.read(count)

    def rest(self) -> bytes:
        """All up to the FIN."""
        return self.stream.read()

    def end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def closed(self) -> bool:
        """Whether the other side has closed it, and had nothing more to say; waits for it."""
        try:
            return self.stream.read(1) == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


class Peer:
    """A listening socket on which the test plays a node, or somebody else."""

    def __init__(self, net: Net, id: str = "peer") -> None:
        self.net = net
        self.listening = net.enter_context(socket.create_server((HOST, 0)))
        self.listening.settimeout(10)
        self.address = self.listening.getsockname()
        self.peer = peer_at(self.address, id)
        self.source = "{}:{}".format(*self.address)

    def accept(self) -> Connection:
        return self.net.own(self.listening.accept()[0])

    def link(self) -> Connection:
        """Accept a link: read the `HELLO` and answer it."""
        connection = self.accept()
        assert connection.line().startswith(b'{"hello":')
        return connection.send(hello(self.peer))

    def alone(self) -> bytes:
        """Return what comes on a connection of its own, and close it as a Node.js node does."""
        connection = self.accept()
        try:
            return connection.rest()
        finally:
            connection.close()

    def nobody_came(self) -> bool:
        return not select.select([self.listening], [], [], 0)[0]


class Net(ExitStack):
    """Makes nodes and raw connections on loopback, and closes them."""

    def node(self, listen: bool = True, **options: Any) -> Node:
        transport = TcpTransport(**{"host": HOST, "port": 0, **options})
        self.callback(transport.close)
        node = Node(transport)
        if listen:
            transport.listen()
        return node

    def named(self, id: str, **options: Any) -> Node:
        """Make a node that names itself, as an endpoint makes it do."""
        node = self.node(**options)
        node.transport.local = RemotePeer(id, node.transport.address)
        return node

    def own(self, connected: socket.socket) -> Connection:
        connection = Connection(connected)
        self.callback(connection.close)
        return connection

    def connect(self, node: Node, data: bytes = b"", host: str = HOST) -> Connection:
        return self.own(socket.create_connection((host, node.address[1]), timeout=10)).send(data)

    def link(self, node: Node, peer: RemotePeer | None = SENDER) -> Connection:
        """Dial a link to a node: say `HELLO` and read the answer."""
        connection = self.connect(node, hello(peer))
        assert connection.line().startswith(b'{"hello":')
        return connection

    def settle(self, node: Node) -> None:
        """Wait until all is handled that was sent to a node before."""
        count = len(node.values)
        self.connect(node, message("settled")).close()
        node.wait(values=count + 1)

    def silent(self) -> Any:
        """Return an address that answers no SYN: its backlog is full."""
        listening = self.enter_context(socket.socket())
        listening.bind((HOST, 0))
        listening.listen(0)
        for _ in range(8):
            filler = self.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        return listening.getsockname()

    def refusing(self) -> Any:
        """Return an address that refuses, and that nobody else gets meanwhile."""
        held = self.enter_context(socket.socket())
        held.bind((HOST, 0))
        return held.getsockname()


def peer_at(address: Any, id: str = "peer", of: type[RemotePeer] = RemotePeer) -> RemotePeer:
    return of(id, {"host": address[0], "port": address[1]})


def until(condition: Callable[[], bool]) -> None:
    """For what no event tells of."""
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def delta(value: Any) -> list[list[Any]]:
    return [["z", "k", value, 1]]


def tells(value: Any, sender: RemotePeer = SENDER) -> Message:
    """Return a message that tells the value."""
    return Message(sender, [Delta("z", "k", value, 1)])


def round_of(sender: RemotePeer = SENDER) -> Message:
    """Return a round of one of our nodes."""
    own = Entry(sender.id, 0, sender.transport, heartbeat=1)
    return Message(sender, None, Digest(Kind.ROUND, Header(), [own]))


def own_digest(sender: RemotePeer = SENDER) -> list[Any]:
    """Return a digest that has a header: its sender speaks our extensions."""
    return [{"id": sender.id, "maxVersionSeen": 0, "transport": sender.transport, "heartbeat": 1}]


def text(sender: RemotePeer | None = SENDER, **parts: Any) -> bytes:
    """Return the bytes of a message, right or wrong; on a link, without the sender."""
    spoken = parts if sender is None else {**parts, "sender": {"id": sender.id, "transport": sender.transport}}
    return json.dumps(spoken, ensure_ascii=False, separators=(",", ":")).encode() + b"\r\n"


def message(value: Any = "v", sender: RemotePeer | None = SENDER) -> bytes:
    return text(sender, deltas=delta(value))


def refused(connection: Connection) -> str:
    """How the error begins that the other side emits."""
    return f"message from {connection.source} refused: "
