"""The loop: one thread that watches sockets and calls what is due, for all of a transport's sockets.

Sockets are non-blocking, so a peer that is slow or silent costs a descriptor, and no thread. Other threads hand functions to
the loop with `call`; whatever only the loop's thread touches needs no lock.

The thread is a daemon, since a program that ends need not wait for gossip. It is started once, when it is first needed, and
stays until `stop`. Nothing ends it: what a function raises is reported, and the loop goes on.

After a fork, the child has no copy of the thread. A loop that had begun does nothing there, so the child never touches the
selector, which it shares with the parent.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

from gossipmonger.errors import report
from gossipmonger.process import Latch, after_fork, fresh, here, join, marked, own

__all__ = ["READ", "WRITE", "Handle", "Loop"]

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Seconds that `stop` waits for the thread, which may be in a handler that does not return.
_STOP_TIMEOUT = 1.0

#: Seconds to leave the sockets alone when the system cannot watch them.
_PAUSE = 0.1


class Handle:
    """A call that is to come: `start` it, or `cancel` it, like a `threading.Timer`."""

    def __init__(self, loop: Loop, seconds: float, function: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._function = function
        self.cancelled: bool = False

    def start(self) -> None:
        """Let the time begin."""
        self._loop._call_at(monotonic() + self._seconds, self)

    def cancel(self) -> None:
        """Do not call, and drop the function at once."""
        self.cancelled, self._function = True, lambda: None

    def run(self) -> None:
        """Call, unless it was cancelled."""
        self._function()


class Loop:
    """Watches sockets on a thread of its own.

    * From any thread: `start`, `call`, `after`, `stop`
    * On the loop's thread only: `watch`, `unwatch`

    Args:
        name: The thread's name.
        ended: Called on the thread after its last call, once it was stopped. `stop` may have returned by then: it waits at
            most a second, in which a busy system may not run the thread.

    Attributes:
        begun: Whether the thread has been started.
        forked: Whether this is a child's copy, which does nothing.
        stopped: Whether `stop` was called.
    """

    def __init__(self, name: str, ended: Callable[[], object] = lambda: None) -> None:
        self._name = name
        self._at_last = ended
        self._calls: deque[Callable[[], object]] = deque()
        self._due: list[tuple[float, int, Handle]] = []  # a heap
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._selector: selectors.BaseSelector | None = None
        self._waker: socket.socket | None = None
        self._wakeup: socket.socket | None = None
        self._awake = False  # whether the thread is about to look at what it was handed
        self.begun: bool = False
        self.forked: bool = False
        self.stopped: bool = False
        self._ended = Latch()  # set with `stopped`
        self._loop_lock = threading.Lock()  # guards all of the above but `forked`
        after_fork(self)

    # From any thread

    def start(self) -> None:
        """Start the thread, if it does not run.

        Raises:
            RuntimeError, OSError: The system has no thread or no descriptor for it.
        """
        with marked(), self._loop_lock:
            self._start()

    def _start(self) -> None:
        """Start the thread. This requires holding `_loop_lock`."""
        assert self._loop_lock.locked()
        if self._thread is not None or self.stopped or self.forked:
            return
        self.begun = True
        with ExitStack() as undo:
            selector = undo.enter_context(own(selectors.DefaultSelector))
            waker, wakeup = map(undo.enter_context, own(socket.socketpair))
            waker.setblocking(False)
            wakeup.setblocking(False)
            selector.register(wakeup, READ, self._drain)
            thread = threading.Thread(target=self._run, args=(selector, wakeup, waker), name=self._name, daemon=True)
            self._selector, self._waker, self._wakeup = selector, waker, wakeup
            self._thread = thread
            undo.callback(self._forget)
            try:
                thread.start()
            except Exception:
                raise
            except BaseException:  # out of a signal handler: it may have been started, and ends then, and closes them
                self._forget()
                waker.send(b"\0")
                undo.pop_all()
                raise
            undo.pop_all()

    def _forget(self) -> None:
        self._thread = self._selector = self._waker = self._wakeup = None

    def call(self, function: Callable[[], object]) -> None:
        """Call a function on the loop's thread, soon; if the loop has stopped, never.

        Raises:
            RuntimeError, OSError: The thread does not run, and the system cannot start it.
        """
        with marked(), self._loop_lock:
            self._start()
            self._calls.append(function)
            self._wake()

    def after(self, seconds: float, function: Callable[[], None]) -> Handle:
        """Return what calls a function on the loop's thread so many seconds after its `start`. It is not started yet."""
        return Handle(self, seconds, function)

    def _call_at(self, due: float, handle: Handle) -> None:
        with marked(), self._loop_lock:
            self._start()
            heapq.heappush(self._due, (due, next(self._order), handle))
            if self._due[0][2] is handle:
                self._wake()

    def _wake(self) -> None:
        """Let the thread look at what is new. This requires holding `_loop_lock`."""
        assert self._loop_lock.locked()
        if self._awake or self._waker is None or threading.current_thread() is self._thread:
            return
        with suppress(OSError):  # closed, so the thread has ended
            self._waker.send(b"\0")
        self._awake = True  # not before: an exception out of a signal handler in between must not leave the thread asleep

    @property
    def current(self) -> bool:
        """Whether the calling thread is the loop's."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the thread, after what it is doing, and wait for that unless this is it. Sockets are the caller's to close."""
        with marked(), self._loop_lock:
            self.stopped = True
            self._ended.set()
            self._calls.clear()
            self._due.clear()
            thread = self._thread
            self._wake()
        join(thread, _STOP_TIMEOUT)

    # On the loop's thread

    def watch(self, watched: Any, events: int, function: Callable[[], None]) -> None:
        """Call a function whenever a socket can be read or written. Called again, this replaces what was asked before.

        Raises:
            OSError: The system watches no more.
        """
        if self.forked:
            return
        assert self._selector is not None
        if watched.fileno() in self._selector.get_map():
            self._selector.modify(watched, events, function)
        else:
            self._selector.register(watched, events, function)

    def unwatch(self, watched: Any) -> None:
        """Do not watch a socket any more. It must not be closed yet."""
        if self._selector is not None and not self.forked:
            with suppress(KeyError, ValueError):
                self._selector.unregister(watched)

    @property
    def _at_end(self) -> bool:
        return self.stopped or self.forked

    def _run(self, selector: selectors.BaseSelector, wakeup: socket.socket, waker: socket.socket) -> None:
        here().own = True
        try:
            while not self._at_end and self._selector is selector:
                try:
                    here().settle()
                    ready = selector.select(self._patience())
                except Exception as error:  # nothing ends the loop, not even a lack of memory
                    if self._selector is selector:
                        report(error)
                        self._ended.wait(_PAUSE)
                    continue
                for key, _ in ready:
                    if not self._at_end and self._selector is selector:
                        _safely(key.data)
                self._run_due()
        finally:
            for each in (selector, wakeup, waker):
                each.close()
            if self.stopped and not self.forked:
                _safely(self._at_last)

    def _patience(self) -> float | None:
        with marked(), self._loop_lock:
            if self._calls or self.stopped:
                return 0.0
            while self._due and self._due[0][2].cancelled:
                heapq.heappop(self._due)
            return max(0.0, self._due[0][0] - monotonic()) if self._due else None

    def _drain(self) -> None:
        assert self._wakeup is not None
        with suppress(BlockingIOError):
            while len(self._wakeup.recv(4096)) == 4096:
                pass
        with marked(), self._loop_lock:  # not before, or a byte that comes in between is read, and no other one is sent
            self._awake = False

    def _run_due(self) -> None:
        for _ in range(len(self._calls)):
            with suppress(IndexError):  # stopped meanwhile
                _safely(self._calls.popleft())
        now = monotonic()
        while not self._at_end:
            with marked(), self._loop_lock:
                if not self._due or self._due[0][0] > now:
                    return
                handle = heapq.heappop(self._due)[2]
            _safely(handle.run)

    # In the child of a fork

    def after_fork(self) -> None:
        """Do nothing any more, if the parent has begun; its sockets have been closed."""
        if self.begun:
            self.forked = True
        else:
            self._loop_lock = fresh(self._loop_lock)


def _safely(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException as error:  # nothing ends the loop, not even SystemExit from a listener
        report(error)
