"""TCP transports and raw connections on loopback."""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

from gossipmonger.state import RemotePeer
from gossipmonger.transport import TcpTransport
from tests.recorder import Recorder

HOST = "127.0.0.1"
SENDER = RemotePeer("z", {"host": "z.example", "port": 9742})
MOVING = ("moving.example", 1)
LOOPBACKS = [HOST]
with suppress(OSError):  # some machines have no IPv6
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    LOOPBACKS.append("::1")


class Node(Recorder):
    """A TCP transport, and what it emits."""

    def wait(self, values: int = 0, errors: int = 0) -> None:
        self.until(lambda: len(self.values) >= values and len(self.errors) >= errors)

    @property
    def address(self) -> Any:
        return self.transport.bound

    def send(self, address: Any, *values: Any) -> None:
        for value in values:
            self.transport.deltas(RemotePeer("peer", dict(zip(("host", "port"), address, strict=True))), SENDER, delta(value))


class Net(ExitStack):
    """Makes nodes and raw connections on loopback, and closes them."""

    def node(self, listen: bool = True, **options: Any) -> Node:
        transport = TcpTransport(**{"host": HOST, "port": 0, **options})
        self.callback(transport.close)
        node = Node(transport)
        if listen:
            transport.listen()
        return node

    def connect(self, node: Node, data: bytes = b"", host: str = HOST) -> socket.socket:
        connection = self.enter_context(socket.create_connection((host, node.address[1]), timeout=10))
        connection.sendall(data)
        return connection

    def settle(self, node: Node) -> None:
        """Wait until all is read that was sent to a node before. It has one reader, which takes connections in their order."""
        count = len(node.values)
        self.connect(node, message("settled")).close()
        node.wait(values=count + 1)


class Fake:
    """A server that the test plays: `accept` gives what was sent, up to its FIN, and the connection."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.listening = net.enter_context(socket.create_server((HOST, 0)))
        self.listening.settimeout(10)
        self.peer = peer_at(self.listening.getsockname())
        self.source = "{}:{}".format(*self.listening.getsockname())

    def accept(self) -> tuple[bytes, socket.socket]:
        connection = self.net.enter_context(self.listening.accept()[0])
        connection.settimeout(10)
        return b"".join(iter(lambda: connection.recv(65_536), b"")), connection

    def nobody_came(self) -> bool:
        return not select.select([self.listening], [], [], 0)[0]


def peer_at(address: Any, of: type[RemotePeer] = RemotePeer) -> RemotePeer:
    return of("peer", {"host": address[0], "port": address[1]})


def until(condition: Callable[[], bool]) -> None:
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


def delta(value: Any) -> list[list[Any]]:
    return [["z", "k", value, 1]]


def own_digest(sender: RemotePeer = SENDER) -> list[Any]:
    """Return a digest that has a header: its sender speaks our extensions."""
    return [{"id": sender.id, "maxVersionSeen": 0, "transport": sender.transport, "heartbeat": 1}]


def text(sender: RemotePeer = SENDER, **parts: Any) -> bytes:
    """Return the bytes of a message, right or wrong."""
    spoken = {**parts, "sender": {"id": sender.id, "transport": sender.transport}}
    return json.dumps(spoken, ensure_ascii=False, separators=(",", ":")).encode() + b"\r\n"


def message(value: Any = "v") -> bytes:
    return text(deltas=delta(value))


def refused(connection: socket.socket) -> str:
    """How the error begins that the other side emits."""
    host, port = connection.getsockname()[:2]
    return f"message from {f'[{host}]' if ':' in host else host}:{port} refused: "


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
