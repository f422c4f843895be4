"""One link: what is written at once, what waits until the socket takes it, and its end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from gossipmonger.errors import shown
from gossipmonger.process import marked
from gossipmonger.state.message import Message, RemotePeer
from gossipmonger.transport.tcp.caller import Caller
from gossipmonger.transport.traffic import Count
from gossipmonger.wire import Greeter, Splitter

__all__ = ["Link"]

#: Bytes that may wait for a link whose peer is slow to read, beyond which messages are dropped. Gossip repeats what they told.
_MAX_WAITING = 1 << 20


class Link:
    """A connection after both `HELLO`s.

    Frames may be written on any thread; everything else happens on the loop's.

    Args:
        connected: The socket, which the link owns from now on. It does not block.
        source: The other side's address, for errors.
        dialled: Whether it was opened from here.
        named: How this side named itself.
        peer: How the other side named itself.
        limit: Bytes that a message may have.
        cluster: The cluster that both sides have named; None for none.
        greeter: What has said and heard the `HELLO`s, if they were sealed.

    Attributes:
        closed: Whether the socket is closed.
        peer: The other end, with the way back; None if it did not say who it is.
        retired: Whether one of the two sides has said that it closes the link on purpose.
        unanswered: Rounds that were sent since the last frame came.
        used: When something came or went on it last; seconds of the monotonic clock.
        written: Frames that were written.
        sent: What they were.
        late: What closes the link if the rest of a frame does not come in time.
        begun: Called when the first frame has come; None if that has been done.
        stuck: What closes it if the rest of a frame does not leave in time.
    """

    __slots__ = (
        "_link_lock", "_outgoing", "_records", "begun", "closed", "cluster", "dialled", "late", "named", "peer", "retired",
        "sent", "socket", "source", "splitter", "stuck", "unanswered", "used", "written",
    )  # fmt: skip

    def __init__(
        self,
        connected: socket.socket,
        source: str,
        *,
        dialled: bool,
        named: RemotePeer | None,
        peer: RemotePeer | None,
        limit: int,
        cluster: str | None = None,
        greeter: Greeter | None = None,
    ) -> None:
        self.socket: socket.socket = connected
        self.cluster: str | None = cluster
        self.source: str = source
        self.dialled: bool = dialled
        self.named: RemotePeer | None = named
        self.peer: Caller | None = None if peer is None else Caller.on(self, peer)
        greeter = greeter or Greeter()
        self._records = greeter.records
        self.splitter: Splitter = greeter.splitter(limit, source)
        self.begun: Callable[[], None] | None = None
        self.closed: bool = False
        self.retired: bool = False
        self.unanswered: int = 0
        self.used: float = monotonic()
        self.written: int = 0
        self.sent: Count = Count()
        self.late: Any = None
        self.stuck: Any = None
        self._outgoing = bytearray()
        self._link_lock = threading.Lock()  # guards the socket's writing side and its end, _outgoing, closed, written and sent

    def __str__(self) -> str:
        return f"peer {'unknown' if self.peer is None else shown(self.peer.id)} at {self.source}"

    @property
    def remote(self) -> RemotePeer | None:
        """Who is at the other end, without the way back."""
        return None if self.peer is None else RemotePeer(*self.peer)

    @property
    def waiting(self) -> int:
        """Bytes that are still to be written."""
        return len(self._outgoing)

    def write(self, data: bytes, message: Message | None = None, sealed: bool = False) -> bool | None:
        """Write what the system takes at once, and keep the rest. `message` is the one in it, if there is one.

        What is `sealed` already, such as a `HELLO`, goes as it is.

        Returns:
            Whether the socket has to be watched from now on until it can be written; None if the frame is lost, because too
            much waits already.

        Raises:
            OSError: The link is broken or closed.
        """
        with marked(), self._link_lock:
            if self.closed:
                raise ConnectionError("the link is closed")
            if self._outgoing:
                if len(self._outgoing) > _MAX_WAITING and len(data) > 1:  # that a link is closed has to be said
                    return None
                data = data if sealed else self._seal(data)
                self._outgoing += data
                self.written += 1
                self.sent.note(message, len(data))
                return False
            try:
                data = data if sealed else self._seal(data)
                sent = self.socket.send(data)
            except BlockingIOError:
                sent = 0
            except BaseException as error:
                if not isinstance(error, OSError):  # out of a signal handler: nobody knows how much of the frame has left
                    self.socket.shutdown(socket.SHUT_RDWR)
                raise
            self.written += 1
            self.sent.note(message, len(data))
            if sent == len(data):
                return False
            self._outgoing += memoryview(data)[sent:]
            return True

    def _seal(self, data: bytes) -> bytes:
        """Return what goes on the wire for these frames. This requires holding `_link_lock`: records are numbered."""
        assert self._link_lock.locked()
        return data if self._records is None else self._records.seal(data)

    @property
    def sealed(self) -> bool:
        """Whether what goes on it is sealed."""
        return self._records is not None

    def write_rest(self) -> bool:
        """Write more of what waits; return whether nothing is left.

        Raises:
            OSError: The link is broken.
        """
        with marked(), self._link_lock:
            try:
                del self._outgoing[: self.socket.send(self._outgoing)]
            except BlockingIOError:
                pass
            return not self._outgoing

    def close(self) -> None:
        """Close the socket. Safe to call again."""
        with marked(), self._link_lock:
            self.closed = True
            self._outgoing.clear()
            self.socket.close()
        self.splitter = Splitter(0, self.source)  # frees a partial frame: timers may hold the link for seconds
        for timer in (self.late, self.stuck):
            if timer is not None:
                timer.cancel()
