"""The timer, mostly on timers that the test lets run out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from unittest import mock

import pytest

from gossipmonger.endpoint.timer import Timer
from gossipmonger.errors import Reporter

from ..guarded import guarded


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
    timer = Timer(timers, 250, lambda: None)
    timer.arm()
    assert timers.made == []
    assert timer.begin()
    timer.arm()
    assert timers.states == ["set"]
    assert (timers.made[0].seconds, timers.made[0].daemon, timers.made[0].name) == (0.25, True, "gossipmonger-timer")
    timer.arm()
    assert timers.states == ["cancelled", "set"]


def test_after_stop_none_is_set_until_it_begins_again() -> None:
    timers = Timers()
    timer = Timer(timers, 250, lambda: None)
    timer.begin()
    timer.arm()
    timer.stop()
    timer.arm()
    assert timers.states == ["cancelled"]
    timer.begin()
    timer.arm()
    assert timers.states == ["cancelled", "set"]


def test_what_is_closed_does_not_begin_again() -> None:
    timer = Timer(Timers(), 250, lambda: None)
    open_at_first = not timer.closed
    timer.close()
    assert (open_at_first, timer.closed, timer.begin()) == (True, True, False)


def test_stop_waits_for_a_round_that_runs_and_not_for_the_one_that_calls_it() -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        go_on.wait(10)
        over.set()

    timer = Timer(threading.Timer, 1, run)
    timer.begin()
    timer.arm()
    assert begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    timer.stop()
    assert over.is_set()

    stopped = threading.Event()

    def stop() -> None:
        again.stop()
        stopped.set()

    again = Timer(threading.Timer, 1, stop)
    again.begin()
    again.arm()
    assert stopped.wait(4)  # less than `stop` would wait for another thread


def test_on_timers_of_the_standard_library_one_thread_does_all_timer() -> None:
    threads: list[threading.Thread] = []
    enough = threading.Event()

    def run() -> None:
        threads.append(threading.current_thread())
        timer.arm()
        if len(threads) == 5:
            enough.set()

    timer = Timer(threading.Timer, 1, run)
    timer.begin()
    timer.arm()
    assert enough.wait(10)
    timer.stop()
    assert {(thread.name, thread.daemon) for thread in threads} == {("gossipmonger-timer", True)}
    assert len(set(threads)) == 1
    assert not threads[0].is_alive()


def test_arming_from_elsewhere_begins_the_interval_anew() -> None:
    threads: list[threading.Thread] = []
    ran = threading.Semaphore(0)

    def run() -> None:
        threads.append(threading.current_thread())
        timer.arm()
        ran.release()

    timer = Timer(threading.Timer, 1, run)
    timer.begin()
    for _ in range(2):
        timer.arm()
        assert ran.acquire(timeout=10)
    timer.stop()
    assert len(set(threads)) == 1  # the thread stays
    assert not any(thread.is_alive() for thread in threads)


def test_of_two_times_the_sooner_is_kept() -> None:
    timers = Timers()
    timer = Timer(timers, 250, lambda: None)
    timer.arm_by(0, 40)
    assert timers.made == []
    timer.begin()
    timer.arm_by(0, 40)
    timer.arm_by(0, 50)
    assert [timer.seconds for timer in timers.made] == [0.04]
    timer.arm_by(20, 41)
    timer.arm_by(20, 30)
    assert [timer.seconds for timer in timers.made] == [0.04, 0.01]
    assert timers.states == ["cancelled", "set"]
    timers.made[1].function()
    timer.arm_by(30, 120)  # none is pending
    timer.arm_by(40, 30)  # it is past
    assert [timer.seconds for timer in timers.made] == [0.04, 0.01, 0.09, 0.001]
    timer.stop()
    assert timers.states[-1] == "cancelled"


def test_attributes_are_only_set_under_the_lock() -> None:
    timers = Timers()
    timer: Timer = guarded(Timer, "_timer_lock")(timers, 250, lambda: timer.arm())
    timer.begin()
    timer.arm()
    timers.made[0].function()
    timer.arm_by(0, -10)
    timer.stop()
    timer.close()
    assert timers.states == ["cancelled"] * 3


def test_setting_a_timer_requires_the_lock() -> None:
    timer = Timer(Timers(), 250, lambda: None)
    with pytest.raises(AssertionError):
        timer._set(0.25, Timers())


def test_what_a_call_raises_does_not_end_the_calls() -> None:
    calls: list[int] = []
    enough = threading.Event()

    def run() -> None:
        calls.append(len(calls))
        if len(calls) == 3:
            enough.set()
        raise SystemExit(1)

    timer = Timer(threading.Timer, 1, run)
    timer.begin()
    with mock.patch.object(Reporter, "report") as report:
        timer.arm()
        assert enough.wait(10)
        timer.stop()
    assert report.call_count == len(calls)
