"""One connection: what has come on it, what is still to be written, where it leads.

Nothing here blocks. Where the system has `MSG_DONTWAIT`, sockets stay in the mode in which they were made: to change it costs a
system call, for each connection.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from gossipmonger.errors import MessageError
from gossipmonger.peer import Kin

__all__ = ["Caller", "Connection", "wait_for"]

#: Bytes per read. Memory of this size is reused; much more would be asked of the system, and given back, each time.
_CHUNK = 1 << 16

#: Reads in one turn, so that one that sends as fast as it is read does not hold up others.
_TURN = 16

#: Plain integers: flags of the module `socket` are enums, and to combine two of these takes longer than to send.
_AT_ONCE = int(getattr(socket, "MSG_DONTWAIT", 0))

#: More is to come: the FIN, which so travels with the last of the data, and wakes the other side once.
_MORE = int(getattr(socket, "MSG_MORE", 0))


class Connection:
    """A connection that carries one message, and maybe an answer.

    Args:
        connected: The socket; it is the connection's from now on.
        address: The other side's, as the system gives it.
        dialled: Whether it was opened from here.

    Attributes:
        deadline: When the message, or what is still to be written, has to have passed; in seconds of the monotonic clock.
        size: Bytes that have come.
        outgoing: What is still to be written.
    """

    __slots__ = ("_address", "_chunks", "deadline", "dialled", "outgoing", "size", "socket")

    def __init__(self, connected: socket.socket, address: Any, dialled: bool = False) -> None:
        self.socket = connected
        self.dialled = dialled
        self.deadline = 0.0
        self.size = 0
        self.outgoing: bytes | memoryview = b""
        self._address = address
        self._chunks: list[bytes] = []
        if not _AT_ONCE:
            connected.setblocking(False)

    @property
    def source(self) -> str:
        """The other side's address, for errors. An IPv4 address is one, though the socket be for both versions of IP."""
        host, port = self._address[0].removeprefix("::ffff:"), self._address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __str__(self) -> str:
        return self.source

    @property
    def data(self) -> bytes:
        """What has come."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def read(self, limit: int) -> bool:
        """Take what has come; return whether that is all.

        Raises:
            MessageError: It is more than `limit` bytes.
            OSError: The connection broke.
        """
        for _ in range(_TURN):
            try:
                chunk = self.socket.recv(_CHUNK, _AT_ONCE)
            except BlockingIOError:
                return False
            if not chunk:
                return True
            self._chunks.append(chunk)
            self.size += len(chunk)
            if self.size > limit:
                raise MessageError(f"more than {limit} bytes", self.source)
        return False

    def write(self, data: bytes | memoryview) -> bool:
        """Write as much as goes at once, keep the rest in `outgoing`; return whether that is nothing.

        Raises:
            OSError: The connection broke.
        """
        try:
            sent = self.socket.send(data, _AT_ONCE | _MORE)
        except BlockingIOError:
            sent = 0
        self.outgoing = b"" if sent == len(data) else memoryview(data)[sent:]
        return not self.outgoing


class Caller(Kin):
    """Who sent a message, with the way back: the connection that it came on, for one answer, while the message is handled."""

    way_back: Connection | None = None

    def take(self) -> Connection | None:
        """Return the connection, the first time, and None to all others, on whatever threads; whoever has it has to end it."""
        connection: Connection | None = self.__dict__.pop("way_back", None)
        return connection


def wait_for(waited: socket.socket, *, writing: bool, seconds: float) -> bool:
    """Wait until a socket can be written or read, or is broken; return whether it is so within so many seconds."""
    if not hasattr(select, "poll"):  # Windows, where select has no limit on the numbers of descriptors
        readers, writers, _ = select.select([] if writing else [waited], [waited] * writing, [waited] * writing, seconds)
        return bool(readers or writers)
    poll = select.poll()  # a selector of `selectors` would cost more than all the rest of a connect
    poll.register(waited, select.POLLOUT if writing else select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))
