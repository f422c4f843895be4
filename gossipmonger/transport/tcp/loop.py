"""The receiving half of TCP: reads messages from connections, however slow, in either direction.

One thread owns a selector that holds the listening socket, if there is one, and every connection that waits for its peer. It
reads what has arrived and never waits for more, so a peer that connects and falls silent costs a descriptor but no thread, and
holds up nobody. The loop handles a short message to the end itself, because handing it to another thread would cost more; long
messages go to a pool of readers. A handler may block where a storage does. Nothing is accepted meanwhile, but nothing could be
handled either, since every message needs the lock that the storage is under.

Connections that were opened here and wait for an answer are watched in the same way, and so are those whose peer is slow to
read its answer.
"""

from __future__ import annotations

import errno
import math
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import Any, Protocol

from gossipmonger.errors import MessageError, SendError, report
from gossipmonger.transport.tcp.connection import Connection, wait_for
from gossipmonger.transport.tcp.pool import Pool

__all__ = ["Acceptor", "Loop"]

#: Bytes of a message that the loop handles itself. A message of a hundred entries takes 0.1 ms.
_SHORT = 1 << 16

#: Seconds that a sender itself waits for the answer. It takes about a millisecond on a LAN; a stopped process never answers.
_PATIENCE = 0.02

#: Seconds to stop accepting when the process is out of descriptors and no slow connection can be closed to free one.
_PAUSE = 0.1

#: Errors that say that the system is out of descriptors or memory. They repeat for as long as somebody wants to connect.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: Connections that are accepted before the others have their turn.
_ACCEPTS_PER_TURN = 16


class Acceptor(Protocol):
    """A listening socket that does not block."""

    def fileno(self) -> int:
        """Return its descriptor."""

    def accept(self) -> Connection:
        """Return the next connection. Raises what the system says, `BlockingIOError` if there is none."""

    def server_close(self) -> None:
        """Close it."""


class Loop:
    """Reads messages, writes answers, and ends connections that take too long.

    Args:
        received: Called on any thread with a connection whose message is complete; it must `close` it or `answer` on it.
        failed: Called on any thread with the error of a connection.
        readers: Threads in the pool.
        max_connections: Beyond it, the slowest connection is closed.
        max_message_size: Bytes.
        receive_timeout: Seconds for a message to arrive: from the accept, or from the FIN of what it answers, to its own FIN.
        send_timeout: Seconds for an answer to leave.
    """

    def __init__(
        self,
        received: Callable[[Connection], None],
        failed: Callable[[Exception], None],
        *,
        readers: int,
        max_connections: int,
        max_message_size: int,
        receive_timeout: float,
        send_timeout: float,
    ) -> None:
        self._received = received
        self._failed = failed
        self._max_connections = max_connections
        self._max_message_size = max_message_size
        self._receive_timeout = receive_timeout
        self._send_timeout = send_timeout
        self._open: set[Connection] = set()  # not closed yet; adding and discarding are atomic
        self._handed: deque[Connection] = deque()  # from other threads to the loop's
        self._parked: dict[Connection, None] = {}  # only for the loop's thread: an ordered set of those that wait
        self._next_deadline = math.inf  # only for the loop's thread: no deadline of the parked is earlier
        self._acceptor: Acceptor | None = None
        self._pool: Pool[Connection] = Pool("gossipmonger-tcp-reader", readers, self._handle)
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._start_lock = threading.Lock()  # guards _thread and the selector; _stopping is set under it and read anywhere

    # From any thread

    def accept_from(self, acceptor: Acceptor) -> None:
        """Take connections from a listening socket, and close it in the end. There can be one.

        Raises:
            RuntimeError, OSError: The system has no thread or no descriptor for it.
        """
        self._acceptor = acceptor
        try:
            started = self._start()
        except BaseException:
            self._acceptor = None
            acceptor.server_close()
            raise
        if not started:
            acceptor.server_close()

    def hear(self, connection: Connection) -> None:
        """Wait for the answer on a connection that was opened here: a moment on this thread, and then in the loop."""
        now = monotonic()
        connection.deadline, patience_ends = now + self._receive_timeout, now + _PATIENCE
        while now < patience_ends and wait_for(connection.socket, writing=False, seconds=patience_ends - now):
            if self._advance(connection, here=True):
                return
            now = monotonic()
        self._watch(connection)

    def answer(self, connection: Connection, data: bytes) -> bool:
        """Write the answer to the message that came on a connection, and end it; return False if the connection is broken."""
        try:
            if connection.write(data):
                self.close(connection)
            else:
                connection.deadline = monotonic() + self._send_timeout
                self._watch(connection)
        except OSError:
            self.close(connection)
            return False
        return True

    def close(self, connection: Connection) -> None:
        """Close a connection."""
        connection.socket.close()
        self._open.discard(connection)

    def stop(self) -> None:
        """Accept no more, close every connection, and end all threads but the calling one. Safe to call again."""
        with self._start_lock:
            self._stopping = True
        if self._thread is not None:
            self._wake()
            if threading.current_thread() is not self._thread:
                self._thread.join(1)
        self._pool.close()
        self._pool.wait_closed(1)
        for connection in list(self._open):
            self.close(connection)

    def _start(self) -> bool:
        """Start the loop if it does not run, and wake it to see what is new; return False if it has been stopped."""
        with self._start_lock:
            if self._stopping:
                return False
            if self._thread is None:
                self._start_thread()
        self._wake()
        return True

    def _start_thread(self) -> None:
        """Make the selector and start the loop's thread. This requires holding `_start_lock`."""
        assert self._start_lock.locked()
        with ExitStack() as undo:
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._waker, self._wakeup = map(undo.enter_context, socket.socketpair())
            self._waker.setblocking(False)
            self._wakeup.setblocking(False)
            self._selector.register(self._wakeup, selectors.EVENT_READ, self._wakeup)
            # A daemon: a program that ends need not wait for gossip.
            thread = threading.Thread(target=self._run, name="gossipmonger-tcp", daemon=True)
            thread.start()
            self._thread = thread
            undo.pop_all()

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # full, so the thread is about to look; or closed, so it has ended

    def _watch(self, connection: Connection) -> None:
        self._open.add(connection)
        self._handed.append(connection)
        try:
            started = self._start()
        except (RuntimeError, OSError) as error:  # out of threads or descriptors
            started = False
            self._handed.remove(connection)
            self._failed(error)
        if not started:
            self.close(connection)

    def _advance(self, connection: Connection, *, here: bool) -> bool:
        """Read what has arrived; return whether the connection is finished or handed over, so need not be watched.

        Args:
            connection: The connection.
            here: Whether this thread handles long messages too.
        """
        try:
            if not connection.read(self._max_message_size):
                return False
        except MessageError as error:
            self._failed(error)
        except OSError as error:
            if connection.size:
                self._failed(MessageError(f"cut off: {error}", connection.source))
        else:
            if connection.size:  # a connection without a byte, as a port scan makes, is not an error
                if here or connection.size <= _SHORT:
                    self._handle(connection)
                else:
                    self._hand_over(connection)
                return True
        self.close(connection)
        return True

    def _handle(self, connection: Connection) -> None:
        try:
            self._received(connection)
        except BaseException as error:  # nothing ends a thread, not even SystemExit from a listener
            if not connection.outgoing:
                self.close(connection)
            report(error)

    def _hand_over(self, connection: Connection) -> None:
        try:
            taken = self._pool.put(connection)
        except RuntimeError as error:  # the system cannot start a thread
            taken = False
            self._failed(MessageError(str(error), connection.source))
        if not taken:
            self.close(connection)

    # On the loop's thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                wait = None if self._next_deadline == math.inf else max(0.0, self._next_deadline - monotonic())
                for key, _ in self._selector.select(wait):
                    self._attend_to(key.data)
                if self._next_deadline <= monotonic():
                    self._expire()
        finally:
            self._selector.close()
            if self._acceptor is not None:
                self._acceptor.server_close()
            self._wakeup.close()
            self._waker.close()

    def _attend_to(self, ready: Any) -> None:
        if self._stopping:
            pass  # the connection may be closed already
        elif type(ready) is Connection:
            self._resume(ready)
        elif ready is self._wakeup:
            self._take_over()
        else:
            self._accept(ready)

    def _take_over(self) -> None:
        try:
            while self._wakeup.recv(4096):
                pass
        except BlockingIOError:
            pass
        acceptor = self._acceptor
        if acceptor is not None and acceptor.fileno() not in self._selector.get_map():
            try:
                self._selector.register(acceptor.fileno(), selectors.EVENT_READ, acceptor)
            except OSError as error:
                self._failed(error)
        while self._handed:
            connection = self._handed.popleft()
            if len(self._open) > self._max_connections:
                self._evict()
            self._park(connection)

    def _accept(self, acceptor: Acceptor) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection = acceptor.accept()
            except BlockingIOError:
                return
            except OSError as error:  # out of descriptors, or the peer has gone already
                self._failed(error)
                if error.errno in _EXHAUSTED and not self._evict():
                    self._pause()
                return
            if len(self._open) >= self._max_connections and not self._evict():
                connection.socket.close()
                reason = f"the readers are busy with {self._max_connections} connections"
                self._failed(MessageError(reason, connection.source))
                continue
            self._open.add(connection)
            if not self._advance(connection, here=False):
                connection.deadline = monotonic() + self._receive_timeout
                self._park(connection)
            if self._stopping:
                return

    def _pause(self) -> None:
        # No connection is parked, so there is nothing to watch but the wakeup.
        wait_for(self._wakeup, writing=False, seconds=_PAUSE)

    def _park(self, connection: Connection) -> None:
        if self._stopping:  # `stop` may have closed the others already
            self.close(connection)
            return
        event = selectors.EVENT_WRITE if connection.outgoing else selectors.EVENT_READ
        try:
            self._selector.register(connection.socket, event, connection)
        except OSError as error:  # the system's limit on watched sockets
            self.close(connection)
            self._failed(MessageError(str(error), connection.source))
            return
        self._parked[connection] = None
        self._next_deadline = min(self._next_deadline, connection.deadline)

    def _unpark(self, connection: Connection) -> None:
        del self._parked[connection]
        self._selector.unregister(connection.socket)

    def _resume(self, connection: Connection) -> None:
        if connection not in self._parked:
            return  # evicted since it was found ready
        if connection.outgoing:
            self._write(connection)
        elif connection.deadline <= monotonic():
            self._refuse(connection, self._late(connection))
        else:
            # It must leave the selector first: whoever handles it may close it.
            self._unpark(connection)
            if not self._advance(connection, here=False):
                self._park(connection)

    def _write(self, connection: Connection) -> None:
        try:
            if not connection.write(connection.outgoing):
                return
        except OSError as error:
            self._refuse(connection, str(error))
        else:
            self._unpark(connection)
            self.close(connection)

    def _expire(self) -> None:
        now = monotonic()
        for connection in [parked for parked in self._parked if parked.deadline <= now]:
            self._refuse(connection, self._late(connection))
        self._next_deadline = min((connection.deadline for connection in self._parked), default=math.inf)

    def _late(self, connection: Connection) -> str:
        seconds = self._send_timeout if connection.outgoing else self._receive_timeout
        return f"incomplete after {seconds:g} s"

    def _evict(self) -> bool:
        slowest = min(self._parked, key=lambda connection: connection.deadline, default=None)
        if slowest is not None:
            self._refuse(slowest, f"the slowest of more than {self._max_connections} connections")
        return slowest is not None

    def _refuse(self, connection: Connection, reason: str) -> None:
        self._unpark(connection)
        self.close(connection)
        if connection.outgoing:
            self._failed(SendError(f"can't send the answer to {connection.source}: {reason}"))
        elif connection.size or not connection.dialled:  # a peer need not answer
            self._failed(MessageError(reason, connection.source))
