"""Rounds on timers that the test lets run out."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gossipmonger.rounds import Rounds


class Timers:
    """Stands in for `threading.Timer`."""

    def __init__(self) -> None:
        self.made: list[Timers.Timer] = []

    class Timer:
        daemon = False
        name = ""

        def __init__(self, seconds: float, function: Callable[[], None]) -> None:
            self.seconds, self.function, self.state = seconds, function, "new"

        def start(self) -> None:
            self.state = "set"

        def cancel(self) -> None:
            self.state = "cancelled"

    def __call__(self, seconds: float, function: Callable[[], None]) -> Timers.Timer:
        self.made.append(Timers.Timer(seconds, function))
        return self.made[-1]

    @property
    def states(self) -> list[str]:
        return [timer.state for timer in self.made]


def test_timers_are_set_one_after_the_other_at_the_interval_once_it_has_begun() -> None:
    timers = Timers()
    rounds = Rounds(timers, 250, lambda: None)
    rounds.arm()
    assert timers.made == []
    assert rounds.begin()
    rounds.arm()
    assert timers.states == ["set"]
    assert (timers.made[0].seconds, timers.made[0].daemon, timers.made[0].name) == (0.25, True, "gossipmonger-timer")
    rounds.arm()
    assert timers.states == ["cancelled", "set"]


def test_after_stop_none_is_set_until_it_begins_again() -> None:
    timers = Timers()
    rounds = Rounds(timers, 250, lambda: None)
    rounds.begin()
    rounds.arm()
    rounds.stop()
    rounds.arm()
    assert timers.states == ["cancelled"]
    rounds.begin()
    rounds.arm()
    assert timers.states == ["cancelled", "set"]


def test_what_is_closed_does_not_begin_again() -> None:
    rounds = Rounds(Timers(), 250, lambda: None)
    closed = [rounds.closed, rounds.close(), rounds.closed, rounds.close()]
    assert closed == [False, True, True, False]
    assert not rounds.begin()


def test_stop_waits_for_a_round_that_runs_and_not_for_the_one_that_calls_it() -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        go_on.wait(10)
        over.set()

    rounds = Rounds(threading.Timer, 1, run)
    rounds.begin()
    rounds.arm()
    assert begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    rounds.stop()
    assert over.is_set()

    stopped = threading.Event()

    def stop() -> None:
        again.stop()
        stopped.set()

    again = Rounds(threading.Timer, 1, stop)
    again.begin()
    again.arm()
    assert stopped.wait(4)  # less than `stop` would wait for another thread
