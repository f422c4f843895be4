"""Messages that can be held up, places that they are sent to, and the failures that come of it."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from gossipmonger.state.message import RemotePeer


class Place:
    """A port of loopback, and the peer there: refuses at first, accepts after `listen`, and is read by the test itself."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(10)
        self.socket.bind(("127.0.0.1", 0))  # nobody else gets the port meanwhile
        self.port: int = self.socket.getsockname()[1]
        self.peer = RemotePeer(f"at {self.port}", {"host": "127.0.0.1", "port": self.port})
        self._fill: list[socket.socket] = []

    def listen(self) -> Place:
        self.socket.listen(100)
        return self

    def get_stuck(self) -> Place:
        """Listen with a backlog that is full: whoever connects gets no answer to its SYN."""
        self.socket.listen(0)
        for _ in range(8):
            self._fill.append(socket.socket())
            self._fill[-1].setblocking(False)
            self._fill[-1].connect_ex(("127.0.0.1", self.port))
        return self

    def read(self) -> bytes:
        """Accept a connection and return all of it, up to the FIN."""
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(10)
            return b"".join(iter(partial(connection.recv, 65_536), b""))

    def nobody_came(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]

    def close(self) -> None:
        for each in (self.socket, *self._fill):
            each.close()


class Message:
    """The parts of a message. It tells on which thread they are sent, and waits there until `open` if it is a gate."""

    def __init__(self, *parts: bytes, gate: bool = False) -> None:
        self.parts, self.thread = parts, ""
        self.begun, self.open = threading.Event(), threading.Event()
        if not gate:
            self.open.set()

    def __iter__(self) -> Iterator[bytes]:
        self.thread = threading.current_thread().name
        self.begun.set()
        assert self.open.wait(10)
        return iter(self.parts)


class Failures(list[Exception]):
    changed = threading.Condition()

    def __call__(self, error: Exception) -> None:
        with self.changed:
            self.append(error)
            self.changed.notify_all()

    def wait(self, count: int) -> Any:
        """Wait for so many; return the last."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self) == count, 10)
        return self[-1]
