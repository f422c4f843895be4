"""The receiving half of TCP: messages from connections, however slow, in either direction.

One thread has a selector, and in it the listening socket, if there is one, and every connection that waits for its peer. It
reads what has come, without ever waiting, so a peer that opens a connection and falls silent costs a descriptor and no thread,
and holds up nobody. A message that is whole and small it takes through to the end itself, since a hand-over to another thread
would cost more than that takes: Python runs one at a time. All that is long goes to a pool of readers. What is done with a
message may block where a storage does, and then nothing is accepted meanwhile; but neither could it be handled, for the storage
is the lock's that all messages need.

A connection that was opened here and waits for its answer is watched in the same way. So is one whose peer is slow to read its
answer.
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
from gossipmonger.transport.connection import Connection, wait_for
from gossipmonger.transport.pool import Pool

__all__ = ["Acceptor", "Watcher"]

#: Bytes of a message that is taken through at once: 0.1 ms for a hundred entries, on the way to some milliseconds.
_SMALL = 1 << 16

#: Seconds that a sender waits for the answer itself. It takes a millisecond or so on a LAN; a stopped process never answers.
_PATIENCE = 0.02

#: Seconds without a look for new connections where there is no descriptor for them, and nobody to take one from.
_PAUSE = 0.1

#: What the system says when it is out of descriptors or memory, and goes on to say as long as somebody wants to connect.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: Connections that are accepted before the others have their turn.
_CROWD = 64


class Acceptor(Protocol):
    """A listening socket. It does not block."""

    def fileno(self) -> int:
        """Return its descriptor."""

    def accept(self) -> Connection:
        """Return the next connection; raise what the system says, `BlockingIOError` if there is none."""

    def server_close(self) -> None:
        """Close it."""


class Watcher:
    """Reads messages, writes answers, and sees to it that neither takes too long.

    Args:
        received: Called on any thread with a connection whose message is whole; it has to `close` it, or to `answer` on it.
        failed: Called on any thread with what went wrong with a connection.
        readers: Size of the pool.
        max_connections: Beyond it, the connection that has been slow for longest is closed.
        max_message_size: Bytes.
        receive_timeout: Milliseconds from the accept, or from the FIN of what is answered, to the FIN.
        send_timeout: Milliseconds for an answer to leave.
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
        self._receive_timeout = receive_timeout / 1000
        self._send_timeout = send_timeout / 1000
        self._open: set[Connection] = set()  # all that are not closed yet; to add and to discard one is atomic
        self._handed: deque[Connection] = deque()  # from other threads to the watching one
        self._parked: dict[Connection, None] = {}  # the watching thread's own: an ordered set
        self._look_at = math.inf  # the same: no deadline of these is before it
        self._expected = 1.0  # the same: how many connections are accepted at once
        self._acceptor: Acceptor | None = None
        self._pool: Pool[Connection] = Pool("gossipmonger-tcp-reader", readers, self._handle)
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._start_lock = threading.Lock()  # guards _thread, and _stopping as it is set

    # From any thread

    def accept_from(self, acceptor: Acceptor) -> None:
        """Take connections from a listening socket, and close it at the end. There can be one.

        Raises:
            RuntimeError, OSError: The system has no thread, or no descriptor, to do that with.
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
        """Take the answer on a connection that was opened here and has sent all: at once if it comes within a moment."""
        now = monotonic()
        connection.deadline, patience_ends = now + self._receive_timeout, now + _PATIENCE
        while now < patience_ends and wait_for(connection.socket, writing=False, seconds=patience_ends - now):
            if self._advance(connection, here=True):
                return
            now = monotonic()
        self._watch(connection)

    def answer(self, connection: Connection, data: bytes) -> bool:
        """Write the answer to the message that came on a connection, and end it; return whether that can be done."""
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
        """Accept no more, close every connection, end the threads, except for the calling one. Safe to call again."""
        with self._start_lock:
            self._stopping = True
        if self._thread is not None:
            self._wake()
            if threading.current_thread() is not self._thread:
                self._thread.join(1)
        self._pool.close()
        self._pool.wait_closed(1_000)
        for connection in list(self._open):
            self.close(connection)

    def _start(self) -> bool:
        """Let the watching thread look for what is new; return whether there is one."""
        with self._start_lock:
            if self._stopping:
                return False
            if self._thread is None:
                with ExitStack() as undo:
                    self._selector = undo.enter_context(selectors.DefaultSelector())
                    self._waker, self._wakeup = map(undo.enter_context, socket.socketpair())
                    self._waker.setblocking(False)
                    self._wakeup.setblocking(False)
                    self._selector.register(self._wakeup, selectors.EVENT_READ, self._wakeup)
                    thread = threading.Thread(target=self._run, name="gossipmonger-tcp", daemon=True)
                    thread.start()
                    self._thread = thread
                    undo.pop_all()
        self._wake()
        return True

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # full, so the thread is about to look; or closed, so it has gone

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
        """Read what there is; return whether the connection is done with, or handed over, and need not be watched.

        Args:
            connection: Whose message.
            here: Whether a long message is to be handled on this thread as well.
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
            if connection.size:  # who only looks whether the port is open sends nothing, and is no error
                if here or connection.size <= _SMALL:
                    self._handle(connection)
                else:
                    self._hand_over(connection)
                return True
        self.close(connection)
        return True

    def _handle(self, connection: Connection) -> None:
        try:
            self._received(connection)
        except BaseException as error:  # nothing ends a thread, not even SystemExit out of a listener
            if not connection.outgoing:
                self.close(connection)
            report(error)

    def _hand_over(self, connection: Connection) -> None:
        try:
            taken = self._pool.put(connection)
        except RuntimeError as error:  # no thread can be started
            taken = False
            self._failed(MessageError(str(error), connection.source))
        if not taken:
            self.close(connection)

    # On the watching thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                wait = None if self._look_at == math.inf else max(0.0, self._look_at - monotonic())
                for key, _ in self._selector.select(wait):
                    self._attend_to(key.data)
                if self._look_at <= monotonic():
                    self._expire()
        finally:
            self._selector.close()
            if self._acceptor is not None:
                self._acceptor.server_close()
            self._wakeup.close()
            self._waker.close()

    def _attend_to(self, ready: Any) -> None:
        if self._stopping:
            pass  # what was ready may be closed
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
        # To be told that nobody else is there costs a fifth of what a message does, so it is not asked each time.
        for _ in range(int(self._expected)):
            try:
                connection = acceptor.accept()
            except BlockingIOError:
                self._expected = max(1.0, self._expected / 2)
                return
            except OSError as error:  # out of descriptors, or the peer was gone already
                self._failed(error)
                if error.errno in _EXHAUSTED and not self._evict():
                    self._pause()
                return
            if len(self._open) >= self._max_connections and not self._evict():
                connection.socket.close()  # the readers are behind with all that is open
                self._failed(MessageError(f"there are {self._max_connections} connections already", connection.source))
                continue
            self._open.add(connection)
            if not self._advance(connection, here=False):
                connection.deadline = monotonic() + self._receive_timeout
                self._park(connection)
            if self._stopping:
                return
        self._expected = min(_CROWD, self._expected + 0.25)

    def _pause(self) -> None:
        # Nothing is parked, so there is nothing to watch but the wakeup.
        wait_for(self._wakeup, writing=False, seconds=_PAUSE)

    def _park(self, connection: Connection) -> None:
        if self._stopping:  # and `stop` may have been here already
            self.close(connection)
            return
        event = selectors.EVENT_WRITE if connection.outgoing else selectors.EVENT_READ
        try:
            self._selector.register(connection.socket, event, connection)
        except OSError as error:  # the system watches no more than so many
            self.close(connection)
            self._failed(MessageError(str(error), connection.source))
            return
        self._parked[connection] = None
        self._look_at = min(self._look_at, connection.deadline)

    def _unpark(self, connection: Connection) -> None:
        del self._parked[connection]
        self._selector.unregister(connection.socket)

    def _resume(self, connection: Connection) -> None:
        if connection not in self._parked:
            return  # evicted since it was seen to be ready
        if connection.outgoing:
            self._write(connection)
        elif connection.deadline <= monotonic():
            self._refuse(connection, self._late(connection))
        else:
            # It can't stay in the selector: whoever gets it next may close it.
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
        self._look_at = min((connection.deadline for connection in self._parked), default=math.inf)

    def _late(self, connection: Connection) -> str:
        seconds = self._send_timeout if connection.outgoing else self._receive_timeout
        return f"not all there after {seconds * 1000:g} ms"

    def _evict(self) -> bool:
        slowest = min(self._parked, key=lambda connection: connection.deadline, default=None)
        if slowest is not None:
            self._refuse(slowest, f"slower than {self._max_connections} others")
        return slowest is not None

    def _refuse(self, connection: Connection, reason: str) -> None:
        self._unpark(connection)
        self.close(connection)
        if connection.outgoing:
            self._failed(SendError(f"can't send all of the answer to {connection.source}: {reason}"))
        elif connection.size or not connection.dialled:  # who is asked need not answer
            self._failed(MessageError(reason, connection.source))
