"""The timer: calls a function again and again, one interval after it returned, until it is stopped.

The interval begins when a call is over, whatever came of it. Calls therefore never overlap, and a slow one delays only the
next. With the standard library's `threading.Timer`, one thread serves all calls; timers of another kind are made anew for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from gossipmonger.process import PatientTimer, fresh, join, marked

__all__ = ["MakeTimer", "Timer"]

#: (seconds, function) -> an object with `start()` and `cancel()`, like `threading.Timer`.
MakeTimer = Callable[[float, Callable[[], None]], Any]

#: Seconds that `stop` waits for a call that is under way. Rounds never block, so they end long before.
_STOP_TIMEOUT = 5.0


class Timer:
    """Calls a function at an interval, or once within a given time.

    * Life: `begin`, `stop`, `close`, `after_fork`, and the attributes `going`, `lapsed` and `closed`
    * Setting the timer: `arm`, `arm_by`

    Args:
        make: Makes the timers underneath; `threading.Timer`, or what stands in for it.
        interval: Milliseconds.
        run: What is called when the time is over, on the timer's thread. It calls `arm` when it is done.

    Attributes:
        going: Whether timers are set. Read only.
        lapsed: Whether the last timer could not be set, so that nothing will be called before `arm`. Read only.
        closed: Whether there will be no more calls, ever. Read only.
    """

    def __init__(self, make: MakeTimer, interval: float, run: Callable[[], None]) -> None:
        self._make = make
        self._interval = interval / 1000
        self._run = run
        self._current: Any = None
        self._pending = False  # whether the current timer has yet to run out
        self._pending_until = 0.0
        self.going: bool = False
        self.lapsed: bool = False
        self.closed: bool = False
        self._timer_lock = threading.Lock()  # guards the six above: they are written only while it is held

    def begin(self) -> bool:
        """Let `arm` set timers from now on; return whether it will, which it does not once this is closed."""
        with marked(), self._timer_lock:
            self.going = not self.closed
            return self.going

    def arm(self) -> None:
        """Start the interval anew, replacing a timer that is set; does nothing unless `begin` was called.

        Raises:
            Exception: What making or starting a timer raised; `lapsed` says so until another is set.
        """
        with marked(), self._timer_lock:
            current = self._current
            if self.going and isinstance(current, PatientTimer) and self._make is threading.Timer:
                if current is not threading.current_thread():  # or it repeats by itself
                    current.restart()
                return
            if current is not None:
                current.cancel()
                self._current = None
            if self.going:
                # To start a thread costs about as much as a whole round, so ours repeats.
                make: MakeTimer = partial(PatientTimer, repeat=True) if self._make is threading.Timer else self._make
                self._set(self._interval, make)

    def arm_by(self, now: float, due: float) -> None:
        """Set a timer for a moment, unless one is pending that runs out before; does nothing unless `begin` was called.

        Both are in milliseconds, of the same clock each time.
        """
        with marked(), self._timer_lock:
            if not self.going or (self._pending and self._pending_until <= due):
                return
            if self._pending:
                self._current.cancel()
            self._pending_until = due
            self._set(max(1.0, due - now) / 1000, self._make)

    def _set(self, seconds: float, make: MakeTimer) -> None:
        """Make a timer and start it. This requires holding `_timer_lock`."""
        assert self._timer_lock.locked()
        self.lapsed = True
        self._pending = False
        timer = make(seconds, self._fire)
        timer.daemon = True  # a program that ends need not wait for the next round
        timer.name = "gossipmonger-timer"
        self._current = timer
        try:
            timer.start()
        except BaseException:
            self._current = None
            timer.cancel()  # a signal handler may have cut its start short
            raise
        self._pending, self.lapsed = True, False

    def _fire(self) -> None:
        with marked(), self._timer_lock:
            self._pending = False
        timer = threading.current_thread()
        if self.closed and isinstance(timer, PatientTimer):
            timer.cancel()  # a signal handler has cut `stop` short
        else:
            self._run()

    def stop(self) -> None:
        """Set no more timers until `begin`. Waits for a call that is under way, except for one that calls this itself."""
        with marked(), self._timer_lock:
            self.going = self.lapsed = False
            current = self._current
            if current is not None:
                current.cancel()
            self._current, self._pending = None, False
        if isinstance(current, threading.Thread):
            join(current, _STOP_TIMEOUT)

    def after_fork(self, started: bool) -> None:
        """Call no more, in the child of a fork; or, if the node has not been started, get a new lock."""
        if started:
            self.going = False
            if self._current is not None:
                self._current.cancel()  # the very thread of it may have forked
        self._timer_lock = fresh(self._timer_lock)

    def close(self) -> None:
        """Never `begin` again. What is set already is for `stop` to end."""
        with marked(), self._timer_lock:
            self.closed = True
