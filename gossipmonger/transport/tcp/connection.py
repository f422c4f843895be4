"""One connection: the bytes that have arrived, the bytes still to be written, and the way back to whoever opened it.

Nothing here blocks but `wait_for`.
"""

from __future__ import annotations

import select
import socket
from typing import Any

from gossipmonger.errors import MessageError
from gossipmonger.state.message import ExtendedPeer

__all__ = ["Caller", "Connection", "wait_for"]

#: Bytes per read. Python reuses memory of this size; a larger buffer is requested from the system and returned each time.
_CHUNK = 1 << 16

#: Reads per turn, so that a peer that sends as fast as it is read does not hold up the others.
_READS_PER_TURN = 16

#: Says that more is to come, namely the FIN. It then leaves with the last of the data, and the receiver wakes once, not twice.
_MORE = int(getattr(socket, "MSG_MORE", 0))


class Connection:
    """A connection that carries one message, and perhaps its answer.

    Args:
        connected: The socket, which the connection owns from now on.
        address: The other side's address, as the system gives it.
        dialled: Whether it was opened from here.

    Attributes:
        deadline: When the message must have arrived, or the rest of the answer must have left; seconds of the monotonic clock.
        size: Bytes that have arrived.
        outgoing: Bytes still to be written.
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
        connected.setblocking(False)

    @property
    def source(self) -> str:
        """The other side's address, for errors. An IPv4 address is shown as one, even on a socket for both versions of IP."""
        host, port = self._address[0].removeprefix("::ffff:"), self._address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __str__(self) -> str:
        return self.source

    @property
    def data(self) -> bytes:
        """The bytes that have arrived."""
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    def read(self, limit: int) -> bool:
        """Take what has arrived; return whether the other side has finished.

        Raises:
            MessageError: More than `limit` bytes have arrived.
            OSError: The connection broke.
        """
        for _ in range(_READS_PER_TURN):
            try:
                chunk = self.socket.recv(_CHUNK)
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
        """Write what the system takes at once and keep the rest in `outgoing`; return whether everything was written.

        Raises:
            OSError: The connection broke.
        """
        try:
            sent = self.socket.send(data, _MORE)
        except BlockingIOError:
            sent = 0
        self.outgoing = b"" if sent == len(data) else memoryview(data)[sent:]
        return not self.outgoing


class Caller(ExtendedPeer):
    """The sender of a message, with the way back: the connection that it came on, for one answer while it is handled."""

    way_back: Connection | None = None

    def take(self) -> Connection | None:
        """Return the connection to the first call, on whatever thread, which must end it; return None to all others."""
        connection: Connection | None = self.__dict__.pop("way_back", None)
        return connection


def wait_for(waited: socket.socket, *, writing: bool, seconds: float) -> bool:
    """Wait until a socket can be read (or written) or is broken; return whether that happened within so many seconds."""
    if not hasattr(select, "poll"):  # Windows, whose select is not limited to low descriptor numbers
        readers, writers, _ = select.select([] if writing else [waited], [waited] * writing, [waited] * writing, seconds)
        return bool(readers or writers)
    poll = select.poll()
    poll.register(waited, select.POLLOUT if writing else select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))
