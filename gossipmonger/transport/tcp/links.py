"""All links of a transport, whichever side dialled them: what comes on them, what is written, and how they end.

A link that one side closes on purpose ends with a frame that says so, `CLOSING`. The side that accepted it only asks: the other
side finishes its frames, says the same and closes. Any other end is an event `link`: it may mean that the peer has died.

A host that vanished is noticed by its silence: each round on a link is answered, if only by an empty frame.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic

from gossipmonger.errors import MessageError, SendError
from gossipmonger.state.message import Kind, Message
from gossipmonger.transport.loop import READ, WRITE, Loop
from gossipmonger.transport.tcp.caller import Caller
from gossipmonger.transport.tcp.handshake import Notices, TlsFailure, check_id
from gossipmonger.transport.tcp.link import Link
from gossipmonger.transport.traffic import Traffic
from gossipmonger.wire import CLOSING, EMPTY, Framer, Limits, decode, is_address

__all__ = ["CHUNK", "READS_PER_TURN", "Links"]

#: Bytes per read. Python reuses memory of this size; more is requested from the system and returned each time.
CHUNK = 1 << 16

#: Reads per turn, so that a peer that sends as fast as it is read does not hold up the others.
READS_PER_TURN = 16

#: Rounds without any frame from the other side, after which it counts as gone.
_MAX_UNANSWERED = 3

#: Seconds that the other side is given to close a link that is closed on purpose.
_FAREWELL = 10.0


class Links:
    """Reads, writes and ends links.

    * From any thread: `send`
    * On the loop's thread only: `open`, `take`, `retire`, `end`

    Args:
        loop: Watches their sockets.
        framer: Makes their frames.
        received: Called on the loop's thread with a message; its sender is a `Caller`.
        failed: Called on any thread with an error.
        ended: Called on the loop's thread with a link that is closed now. If it was not `retired`, nobody meant to close it.
        drained: Called on the loop's thread when everything has left that had to wait for a slow link.
        limits: Returns what a part of a message may have.
        notices: Reports failures of TLS.
        receive_timeout: Seconds for a frame to arrive, from its first byte that came to its last.
        send_timeout: Seconds for what is written to leave.

    Attributes:
        traffic: Counts what goes over links and other connections.
        open_links: The links, which change on the loop's thread only.
    """

    def __init__(
        self,
        loop: Loop,
        framer: Framer,
        received: Callable[[Message], None],
        failed: Callable[[Exception], None],
        ended: Callable[[Link], None],
        drained: Callable[[], None],
        limits: Callable[[], Limits],
        notices: Notices,
        *,
        receive_timeout: float,
        send_timeout: float,
    ) -> None:
        self._loop = loop
        self._framer = framer
        self._received = received
        self._failed = failed
        self._ended = ended
        self._drained = drained
        self._limits = limits
        self._notices = notices
        self._receive_timeout = receive_timeout
        self._send_timeout = send_timeout
        self.traffic: Traffic = Traffic("tcp", True, self._count, lambda: [link.sent for link in [*self.open_links]])
        self.open_links: set[Link] = set()

    def send(self, link: Link, message: Message) -> bool:
        """Write a message on the calling thread, as far as the socket takes it; return False if the link cannot carry it.

        Raises:
            TypeError, ValueError: A peer's transport is something that JSON has no form for.
        """
        if link.closed or link.retired:
            return False
        if link.dialled and message.digest is not None and message.digest.kind is Kind.ROUND:
            if link.unanswered >= _MAX_UNANSWERED:
                self._loop.call(partial(self._give_up, link))
                return False
            link.unanswered += 1
        link.used = monotonic()
        return self._write(link, self._framer.frames(message, link.named), message)

    def _write(self, link: Link, data: bytes, message: Message | None = None) -> bool:
        try:
            left = link.write(data, message)
        except OSError:
            return False  # the loop finds out by itself, and ends it
        if left is None:
            self._failed(SendError(f"{link} takes messages slower than they come: one dropped", link.remote, "slow"))
        elif left:
            self._loop.call(partial(self._watch_writing, link))
        return True

    def _count(self) -> dict[str, int]:
        links = list(self.open_links)  # at once, so the loop's thread changes nothing meanwhile
        dialled = sum(link.dialled for link in links)
        return {"dialled": dialled, "accepted": len(links) - dialled}

    # On the loop's thread

    def open(self, link: Link) -> None:
        """Take up a link. What came on it after the `HELLO` is for `take`.

        Raises:
            OSError: The system watches no more sockets.
        """
        self.open_links.add(link)
        with suppress(OSError, AttributeError):  # where the system can tell what is not read from what is read slowly
            link.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._send_timeout * 1000))
        self._loop.watch(link.socket, READ, partial(self._read, link))

    def _watch_writing(self, link: Link) -> None:
        if link.closed or not link.waiting:
            return
        self._loop.watch(link.socket, READ | WRITE, partial(self._read_and_write, link))
        if link.stuck is None:
            link.stuck = self._loop.after(self._send_timeout, partial(self._be_stuck, link))
            link.stuck.start()

    def _read_and_write(self, link: Link) -> None:
        try:
            done = link.write_rest()
        except OSError:
            self.end(link)
            return
        if done:
            link.stuck.cancel()
            link.stuck = None
            self._loop.watch(link.socket, READ, partial(self._read, link))
            if link.retired:
                self._finish(link)
            self._drained()
        self._read(link)

    def _read(self, link: Link) -> None:
        for _ in range(READS_PER_TURN):
            if link.closed:
                return
            try:
                data = link.socket.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                data = b""
                if isinstance(error, TlsFailure):
                    self._notices.tell(link.source, error, link.dialled)
            if not data:
                if len(link.splitter) and not link.retired:
                    self._failed(MessageError("cut off", link.source, "truncated"))
                self.end(link)
                return
            self.take(link, data)
            if len(data) < CHUNK:
                return

    def take(self, link: Link, data: bytes) -> None:
        """Take what came on a link."""
        link.unanswered = 0
        link.used = monotonic()
        self.traffic.received.bytes += len(data)
        try:
            for frame in link.splitter.frames(data):
                if link.begun is not None:
                    begun, link.begun = link.begun, None
                    begun()
                if frame == CLOSING:
                    self.retire(link)
                elif frame != EMPTY:
                    self._take_message(link, frame)
                if link.closed:
                    return
        except Exception as error:  # maybe a lack of memory; where the next frame begins is not known
            self._failed(error)
            self.end(link)
            return
        if len(link.splitter):
            if link.late is None:
                link.late = self._loop.after(self._receive_timeout, partial(self._be_late, link))
                link.late.start()
        elif link.late is not None:
            link.late.cancel()
            link.late = None

    def _take_message(self, link: Link, data: bytes) -> None:
        try:
            message = decode(data, link.source, is_address, link.peer, self._limits())
        except Exception as error:  # a lack of memory, too, costs only this message
            self._failed(error)
            return
        if message.sender is not link.peer:
            unnamed = check_id(link.socket, message.sender)
            if unnamed is not None and not (message.header and message.header.observer):  # an observer's id identifies nobody
                self._notices.tell(link.source, unnamed, link.dialled)
                return
            known = link.peer if message.sender == link.peer else None
            message = message._replace(sender=known or Caller.on(link, message.sender))
        written, digest = link.written, message.digest
        self.traffic.received.note(message)
        self._received(message)
        if digest is not None and digest.kind is Kind.ROUND and not link.dialled and link.written == written:
            self._write(link, EMPTY)

    def _be_late(self, link: Link) -> None:
        self._failed(MessageError(f"incomplete after {self._receive_timeout:g} s", link.source, "late"))
        self.end(link)

    def _be_stuck(self, link: Link) -> None:
        self._failed(SendError(f"can't send to {link}: not read within {self._send_timeout:g} s", link.remote, "slow"))
        self._give_up(link)

    def _give_up(self, link: Link) -> None:
        """Close a link whose other end seems to have vanished, which is no end that the kernel has told."""
        if not link.closed:
            link.retired = True
            self.end(link)

    def renew(self) -> None:
        """Close all links on purpose. Whoever needs one dials anew, and shakes hands with the certificates of then."""
        for link in [*self.open_links]:
            if not link.retired:
                self.retire(link)

    def retire(self, link: Link) -> None:
        """Close a link on purpose, now or when the other side has finished, and say so."""
        if link.closed:
            return
        if link.retired:  # both sides have said so now
            self.end(link)
            return
        link.retired = True
        self._write(link, CLOSING)
        if not link.closed and not link.waiting:
            self._finish(link)
        self._loop.after(_FAREWELL, partial(self.end, link)).start()

    def _finish(self, link: Link) -> None:
        if link.dialled:  # the other side reads what is left, and closes
            with suppress(OSError):
                link.socket.shutdown(socket.SHUT_WR)

    def end(self, link: Link) -> None:
        """Close a link at once. Safe to call again."""
        if link.closed:
            return
        self._loop.unwatch(link.socket)
        link.close()
        self.traffic.end(link.sent, partial(self.open_links.discard, link))
        self._ended(link)

    def close(self) -> None:
        """Say on each link that it is closed on purpose, and close it. The loop has ended, or this is its thread."""
        for link in [*self.open_links]:
            with suppress(OSError):
                link.write(CLOSING)
            link.close()
            self.traffic.end(link.sent, partial(self.open_links.discard, link))
