"""A loop with a listening socket, and the clients that talk to it."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import closing
from time import monotonic
from typing import Any

from gossipmonger.transport.tcp.connection import Connection
from gossipmonger.transport.tcp.loop import Loop
from gossipmonger.transport.tcp.server import Server

#: So long that a reader handles it.
LONG = b"x" * 70_000

#: More than sockets take at once.
HUGE = b"x" * 30_000_000


class Serving:
    """A loop with a listening socket, which keeps what comes and answers with `reply`, if there is one."""

    def __init__(self, **options: Any) -> None:
        self.messages: queue.Queue[tuple[bytes, str]] = queue.Queue()
        self.failures: queue.Queue[Exception] = queue.Queue()
        self.received = options.pop("received", lambda data, source: self.messages.put((data, source)))
        self.reply: bytes | None = options.pop("reply", None)
        self.answered: list[bool] = []
        limits = {"readers": 2, "max_connections": 100, "max_message_size": 1_000_000}
        timeouts = {"receive_timeout": 10, "send_timeout": 10}
        failed = options.pop("failed", self.failures.put)
        self.acceptor = Server("127.0.0.1", 0)
        self.address = self.acceptor.server_address
        self.loop = Loop(self.receive, failed, **{**limits, **timeouts, **options})
        self.loop.accept_from(self.acceptor)

    def receive(self, connection: Connection) -> None:
        try:
            self.received(connection.data, connection.source)
        finally:
            if self.reply is None or connection.dialled:
                self.loop.close(connection)
            else:
                self.answered.append(self.loop.answer(connection, self.reply))

    def message(self) -> bytes:
        return self.messages.get(timeout=10)[0]

    def failure(self) -> Exception:
        return self.failures.get(timeout=10)

    def quiet(self) -> bool:
        return self.messages.empty() and self.failures.empty()

    def close(self) -> None:
        self.loop.stop()


class Client:
    def __init__(self, server: Serving, data: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.address[1]), 10)
        self.source = "{}:{}".format(*self.socket.getsockname()[:2])
        self.close = self.socket.close
        self.socket.sendall(data)

    def end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> bytes:
        return b"".join(iter(lambda: self.socket.recv(1 << 20), b""))

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def closed(self) -> bool:  # waits for it
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class Slow:
    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.ended: list[bool] = []

    def __call__(self, *_: Any) -> None:
        self.begun.set()
        self.ended.append(self.go_on.wait(10))


class Call:
    """A connection that a loop opened, and its other end. The message is written, and ended by FIN."""

    def __init__(self) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            address = listening.getsockname()
            connected = socket.create_connection(address)
            self.peer, _ = listening.accept()
        self.peer.settimeout(10)
        connected.shutdown(socket.SHUT_WR)
        self.source = "{}:{}".format(*address)
        self.connection = Connection(connected, address, dialled=True)

    def close(self) -> None:
        self.peer.close()

    def closed(self) -> bool:
        """Whether the loop has closed its end; waits for it."""
        assert self.peer.recv(1) == b""  # its FIN
        try:
            while True:
                self.peer.send(b"x")
        except OSError:
            return True


Start = Callable[..., Serving]
Connect = Callable[..., Client]
MakeCall = Callable[[], Call]


def until(condition: Callable[[], bool]) -> None:
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


def parked(server: Serving, *sizes: int) -> None:  # the slow, in the acceptor's hands, by how much each has sent
    until(lambda: [connection.size for connection in list(server.loop._parked)] == list(sizes))


def unread(server: Serving) -> None:  # an answer, that is more than the sockets take
    until(lambda: [bool(connection.outgoing) for connection in list(server.loop._parked)] == [True])


def say(connect: Connect, server: Serving, data: bytes) -> None:
    connect(server, data).end()
