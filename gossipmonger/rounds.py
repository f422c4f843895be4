"""Rounds: one after the other at an interval, on timers, until they are stopped.

The interval begins when a round is over, whatever came of it. So rounds never overlap, and one that takes long delays the
next one only. A `threading.Timer` is made to run out again and again; timers of another kind are set anew each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Rounds"]

#: Seconds that `stop` waits for a round that runs. A round waits for nothing, so it is over long before.
_PATIENCE = 5.0


class _Ticker(threading.Timer):
    """A timer that runs out again and again, so that no round pays for the start of a thread, which takes about as long."""

    def run(self) -> None:
        while not self.finished.wait(self.interval):
            self.function(*self.args, **self.kwargs)


class Rounds:
    """Sets one timer after the other.

    Args:
        timer: (seconds, function) -> an object with `start()` and `cancel()`, like `threading.Timer`.
        interval: Milliseconds.
        run: What a timer calls; it calls `arm` when it is done.
    """

    def __init__(self, timer: Callable[[float, Callable[[], None]], Any], interval: float, run: Callable[[], None]) -> None:
        self._make = timer
        self._interval = interval / 1000
        self._run = run
        self._timer: Any = None
        self._waits = False  # whether the timer has still to run out
        self._going = False
        self._closed = False
        self._timer_lock = threading.Lock()  # guards the four above

    @property
    def closed(self) -> bool:
        """Whether there will be no more rounds, ever."""
        return self._closed

    @property
    def going(self) -> bool:
        """Whether timers are set."""
        return self._going

    def begin(self) -> bool:
        """Let `arm` set timers from now on; return whether it does, which after `close` it does not."""
        with self._timer_lock:
            self._going = not self._closed
            return self._going

    def arm(self) -> None:
        """Set the next timer, in place of one that is set, unless the rounds were stopped."""
        with self._timer_lock:
            timer = self._timer
            if self._going and isinstance(timer, _Ticker) and timer is threading.current_thread():
                return  # it goes on by itself
            if timer is not None:
                timer.cancel()
                self._timer = None
            if self._going:
                self._set(self._interval, _Ticker if self._make is threading.Timer else self._make)

    def arm_within(self, milliseconds: float) -> None:
        """Set a timer for then, unless one waits already or the rounds were stopped."""
        with self._timer_lock:
            if self._going and not self._waits:
                self._set(milliseconds / 1000, self._make)

    def _set(self, seconds: float, make: Callable[[float, Callable[[], None]], Any]) -> None:
        """Make a timer and start it. This requires holding `_timer_lock`."""
        assert self._timer_lock.locked()
        self._waits = True
        self._timer = make(seconds, self._fire)
        self._timer.daemon = True  # a program that ends need not wait for the next round
        self._timer.name = "gossipmonger-timer"
        self._timer.start()

    def _fire(self) -> None:
        with self._timer_lock:
            self._waits = False
        self._run()

    def stop(self) -> None:
        """Set no more timers until `begin`; wait for a round that runs, unless it is the one that calls."""
        with self._timer_lock:
            self._going = False
            timer, self._timer, self._waits = self._timer, None, False
            if timer is not None:
                timer.cancel()
        if isinstance(timer, threading.Thread) and timer is not threading.current_thread():
            timer.join(_PATIENCE)

    def close(self) -> bool:
        """Let there be no more rounds, ever, and stop those there are with `stop`; return whether this was the first call."""
        with self._timer_lock:
            first, self._closed = not self._closed, True
        return first
