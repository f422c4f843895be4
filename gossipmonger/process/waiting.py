"""What threads wait on. A signal handler or a finalizer may interrupt the wait and end it, on the very thread that waits.

`threading.Event` and `threading.Condition` hold a lock for a moment when a wait begins and ends. If a signal handler sets them
at that moment, on the same thread, it waits for that lock for ever. The classes here have no such moment: each is one lock,
which is only ever taken to wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from gossipmonger.errors import report
from gossipmonger.process.guard import here

__all__ = ["Bell", "Latch", "PatientTimer", "finish", "join"]

#: Seconds that a wait blocks at a time. Python runs signal handlers between two steps of the main thread; a signal that arrives
#: just as the thread begins to block would otherwise wait with it, for ever.
_SLICE = 0.5

#: How often `finish` takes a step that is cut short.
_TRIES = 3


class Bell:
    """Wakes one thread. A ring that nobody waits for is kept for the next wait; several count as one."""

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake who waits, or who waits next. May be called from anywhere."""
        with suppress(RuntimeError):  # it has been rung already
            self._silence.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a ring, up to so many seconds; return whether there was one."""
        return self._silence.acquire(timeout=-1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX)))


class Latch:
    """Something that happens once, and that any number of threads wait for."""

    def __init__(self) -> None:
        self._gate = Bell()
        self._open = False

    def set(self) -> None:
        """Let all go on that wait, now and later. May be called from anywhere, and again."""
        self._open = True
        self._gate.ring()

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._open

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened, up to so many seconds; return whether it has."""
        deadline = None if timeout is None else monotonic() + timeout
        while not self._open:
            left = _SLICE if deadline is None else min(_SLICE, deadline - monotonic())
            if left <= 0:
                return self._open
            self._gate.wait(left)
        self._gate.ring()  # for the next one that waits
        return True


def join(thread: threading.Thread | None, timeout: float) -> None:
    """Wait for a thread's end, up to so many seconds; not if it is the calling one, or has never been started."""
    if thread is not None and thread.ident is not None and thread is not threading.current_thread():
        thread.join(timeout)


def finish(steps: list[Callable[[], object]]) -> None:
    """Take all these steps, whatever one of them raises, and one again if an exception such as Ctrl-C's cuts it short.

    Args:
        steps: Those that are taken are removed. If any are left, exceptions came so fast that this has to be called again.

    Raises:
        BaseException: The first that was raised.
    """
    try:
        _take(steps)
    except BaseException:
        _take(steps)
        raise


def _take(steps: list[Callable[[], object]]) -> None:
    failure: BaseException | None = None
    tries = 0
    while steps:
        try:
            tries += 1
            steps[0]()
            del steps[0]
            tries = 0
        except BaseException as error:
            failure = failure or error
            if isinstance(error, Exception) or tries == _TRIES:
                del steps[0]
                tries = 0
    if failure is not None:
        raise failure


class PatientTimer(threading.Timer):
    """A `threading.Timer` that may be cancelled from anywhere, and that repeats if it is told to.

    Args:
        interval: Seconds.
        function: What is called then. Nothing that it raises ends the timer.
        repeat: Whether it is called again and again, an interval after it returned each time.
    """

    def __init__(self, interval: float, function: Callable[[], object], repeat: bool = False) -> None:
        super().__init__(interval, function)
        self._repeat = repeat
        self._over = False
        self._bell = Bell()

    def run(self) -> None:
        """Wait and call."""
        thread = here()
        thread.own = True
        while not self._over:
            if self._bell.wait(self.interval):
                continue  # the interval begins anew, or it is over
            if not self._repeat:
                self._over = True
            for call in (self.function, thread.settle):
                try:
                    call()
                except BaseException as error:  # nothing ends the rounds
                    report(error)

    def restart(self) -> None:
        """Begin the interval anew, unless it is over."""
        self._bell.ring()

    def cancel(self) -> None:
        """Never call again."""
        self._over = True
        self._bell.ring()
