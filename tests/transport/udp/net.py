"""UDP transports, and raw sockets that play their peers."""

from __future__ import annotations

import errno
import json
import random
import socket
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, ClassVar

from gossipmonger.state import RemotePeer
from gossipmonger.transport import UdpTransport
from gossipmonger.wire import begins_link, hello
from tests.recorder import Recorder

HOST = "127.0.0.1"
LOOPBACKS = [HOST]
with suppress(OSError):  # some machines have no IPv6
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    LOOPBACKS.append("::1")

SENDER = RemotePeer("z", {"host": "z.example", "port": 9742})


class Node(Recorder):
    """A transport of either kind, and what it emits."""

    def wait(self, heard: int = 0, errors: int = 0) -> None:
        self.until(lambda: len(self.heard) >= heard and len(self.errors) >= errors)

    def send(self, peer: RemotePeer, value: Any = "v") -> None:
        self.transport.trust([peer.transport])  # as a seed's address
        self.transport.deltas(peer, SENDER, [["z", "k", value, 1]])


class Wire:
    """A raw peer: a UDP socket, and a TCP one on the same port."""

    link: Any

    def __init__(self, host: str = HOST) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        while True:
            self.tcp = socket.create_server((host, 0), family=family)
            self.udp = socket.socket(family, socket.SOCK_DGRAM)
            self.link = None
            self.port = self.tcp.getsockname()[1]
            try:
                self.udp.bind((host, self.port))
                break
            except OSError:
                self.close()
        self.tcp.settimeout(10)
        self.udp.settimeout(10)
        self.peer = RemotePeer("wire", {"host": host, "port": self.port, "udp": True})

    def datagram(self) -> bytes:
        return self.udp.recv(65_535)

    def datagrams(self, count: int) -> list[bytes]:
        return [self.datagram() for _ in range(count)]

    def message(self) -> bytes:
        """The next one over TCP, on a link."""
        if self.link is None:
            connection, _ = self.tcp.accept()
            connection.settimeout(10)
            with connection:
                self.link = connection.makefile("rwb")
            assert begins_link(self.link.readline())
            self.link.write(hello(None))
            self.link.flush()
        first: bytes = self.link.read(1)
        if first == b"\1":
            return zlib.decompress(self.link.read(int.from_bytes(self.link.read(4), "big")))
        line: bytes = self.link.readline()
        return first + line

    def throw(self, node: Node, data: bytes) -> None:
        self.udp.sendto(data, (HOST, node.transport.port))

    @property
    def source(self) -> str:
        return f"{HOST}:{self.port}"

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
        self.tcp.close()
        self.udp.close()


class Socket(socket.socket):
    """A socket that does what `faults` say before it does what it is told, and loses and swaps some of what it sends."""

    faults: ClassVar[list[Callable[[Socket, str], None]]] = []
    chance: ClassVar[random.Random | None] = None
    held: ClassVar[list[tuple[Any, ...]]] = []
    sent = 0

    def recvfrom(self, *args: Any) -> Any:
        self.fail("recvfrom")
        return super().recvfrom(*args)

    def sendto(self, *args: Any) -> Any:
        self.fail("sendto")
        Socket.sent += 1
        if self.chance is not None:
            fate = self.chance.random()
            if fate < 0.2:
                return len(args[0])
            if fate < 0.4:
                self.held.append(args)
                return len(args[0])
        sent = super().sendto(*args)
        with suppress(IndexError):
            while True:
                super().sendto(*self.held.pop())
        return sent

    def fail(self, doing: str) -> None:
        for fault in list(self.faults):
            fault(self, doing)


class Net(ExitStack):
    """Makes nodes and raw peers, and closes them."""

    def node(self, listen: bool = True, kind: type[Any] = UdpTransport, **options: Any) -> Node:
        transport = kind(**{"host": HOST, "port": 0, **options})
        self.callback(transport.close)
        node = Node(transport)
        if listen:
            transport.listen()
        return node

    def wire(self, host: str = HOST) -> Wire:
        wire = Wire(host)
        self.callback(wire.close)
        return wire


def peer_of(node: Node, **fields: Any) -> RemotePeer:
    return RemotePeer("peer", {**node.transport.address, **fields})


def is_free(kind: int, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def text(sender: RemotePeer = SENDER, **parts: Any) -> bytes:
    """Return the bytes of a message, right or wrong."""
    spoken = {**parts, "sender": {"id": sender.id, "transport": sender.transport}}
    return json.dumps(spoken, ensure_ascii=False, separators=(",", ":")).encode() + b"\r\n"


def failing(doing: str, *numbers: int) -> Callable[[Socket, str], None]:
    left = list(numbers)

    def fault(_: Socket, done: str) -> None:
        if done == doing and left:
            number = left.pop(0)
            raise OSError(number, errno.errorcode[number])

    return fault
