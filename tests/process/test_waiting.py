"""What threads wait on: bells, latches, and timers."""

from __future__ import annotations

import threading
import time

import pytest

from gossipmonger.process import Bell, Latch, PatientTimer, here, waiting


def test_a_ring_is_kept_for_the_next_wait_and_several_count_as_one() -> None:
    bell = Bell()
    assert bell.wait(0) is False
    for _ in range(3):
        bell.ring()
    assert bell.wait() is True
    assert bell.wait(0.001) is False


def test_a_bell_wakes_who_waits() -> None:
    bell, heard = Bell(), list[bool]()
    thread = threading.Thread(target=lambda: heard.append(bell.wait(10)))
    thread.start()
    bell.ring()
    thread.join(10)
    assert heard == [True]


def test_a_latch_lets_all_go_that_wait_then_and_later() -> None:
    latch, went = Latch(), list[bool]()
    assert latch.wait(0) is False
    assert latch.wait(0.001) is False
    threads = [threading.Thread(target=lambda: went.append(latch.wait())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert not latch.is_set()
    latch.set()
    latch.set()
    for thread in threads:
        thread.join(10)
    assert went == [True] * 4
    assert latch.is_set()
    assert latch.wait(0) is True


def test_a_latch_is_noticed_even_if_its_ring_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_SLICE", 0.001)
    latch = Latch()
    threading.Timer(0.01, lambda: setattr(latch, "_open", True)).start()  # as if it were cut short by an exception
    assert latch.wait(10) is True


def test_a_timer_calls_once_on_a_thread_that_may_not_wait() -> None:
    called: list[bool] = []
    timer = PatientTimer(0.001, lambda: called.append(here().own))
    timer.start()
    timer.join(10)
    assert called == [True]


def test_a_timer_that_is_cancelled_does_not_call() -> None:
    timer = PatientTimer(3600, lambda: pytest.fail("called"))
    timer.start()
    timer.cancel()
    timer.join(10)
    assert not timer.is_alive()


def test_a_timer_that_repeats_goes_on_whatever_is_raised_until_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[BaseException] = []
    monkeypatch.setattr(waiting, "report", reported.append)
    rounds = threading.Semaphore(0)

    def call() -> None:
        rounds.release()
        raise SystemExit

    timer = PatientTimer(0.001, call, repeat=True)
    timer.start()
    for _ in range(3):
        assert rounds.acquire(timeout=10)
    timer.cancel()
    timer.join(10)
    assert not timer.is_alive()
    assert len(reported) >= 3


def test_a_timer_that_is_cancelled_by_its_own_call_ends() -> None:
    timer = PatientTimer(0.001, lambda: timer.cancel(), repeat=True)
    timer.start()
    timer.join(10)
    assert not timer.is_alive()


def test_an_interval_that_begins_anew_takes_its_whole_time() -> None:
    called = threading.Event()
    timer = PatientTimer(0.2, called.set)
    timer.start()
    begun = time.monotonic()
    timer.restart()
    assert called.wait(10)
    assert time.monotonic() - begun >= 0.2


def test_what_a_timers_thread_has_deferred_is_done_after_the_call() -> None:
    done = threading.Event()

    def call() -> None:
        with here().mark:
            here().defer("a", done.set)

    PatientTimer(0.001, call).start()
    assert done.wait(10)
