"""The pool: who runs a job, when a thread is started, and how it all ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any
from unittest import mock

import pytest

from gossipmonger.transport.tcp.pool import Pool

Job = Callable[[], Any]
LONG = 10  # seconds that nothing here takes
NAME = "test-pool"


@pytest.fixture
def make() -> Iterator[Callable[[int], Pool[Job]]]:
    """Make pools that call their jobs, and close them."""
    made: list[Pool[Job]] = []

    def run(job: Job) -> Job | None:
        more = job()
        return more if callable(more) else None

    def make(size: int) -> Pool[Job]:
        made.append(Pool(NAME, size, run))
        return made[-1]

    yield make
    for pool in made:
        pool.close()
        assert pool.wait_closed(LONG)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def until(condition: Callable[[], bool]) -> None:
    """For what no event tells of."""
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


class Gate:
    """A job that says that it has begun and then waits to be let through."""

    def __init__(self) -> None:
        self.begun, self.open, self.ended = threading.Event(), threading.Event(), False

    def __call__(self) -> None:
        self.begun.set()
        assert self.open.wait(10)
        self.ended = True


# Who runs a job


@pytest.mark.parametrize("size", [1, 2, 8])
def test_every_job_runs_once_whoever_hands_it_in(make: Callable[[int], Pool[Job]], size: int) -> None:
    pool, ran, lock = make(size), [], threading.Lock()

    def job(number: int) -> None:
        with lock:
            ran.append(number)

    def hand_in(first: int) -> None:
        for number in range(first, first + 250):
            assert pool.put(partial(job, number)) is True

    callers = [threading.Thread(target=hand_in, args=(first,)) for first in range(0, 1_000, 250)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert pool.join(LONG)
    assert sorted(ran) == list(range(1_000))


def test_jobs_begin_in_the_order_they_were_handed_in(make: Callable[[int], Pool[Job]]) -> None:
    pool = make(1)
    ran: list[int] = []
    for number in range(100):
        pool.put(partial(ran.append, number))
    assert pool.join(LONG)
    assert ran == list(range(100))


def test_the_threads_are_daemons_with_the_pools_name(make: Callable[[int], Pool[Job]]) -> None:
    pool, ran = make(1), []
    pool.put(lambda: ran.append(threading.current_thread()))
    assert pool.join(LONG)
    assert [(thread.name, thread.daemon) for thread in ran] == [(NAME, True)]


def test_a_job_that_is_returned_is_done_after_those_that_wait(make: Callable[[int], Pool[Job]]) -> None:
    order: list[str] = []
    gate = Gate()

    def first() -> Job:
        gate()
        order.append("first")
        return partial(order.append, "again")

    pool = make(1)
    pool.put(first)
    assert gate.begun.wait(10)
    pool.put(lambda: order.append("second"))
    gate.open.set()
    assert pool.join(LONG)
    assert order == ["first", "second", "again"]


def test_a_job_that_is_returned_while_none_waits_stays_on_its_thread(make: Callable[[int], Pool[Job]]) -> None:
    pool, ran = make(4), []

    def again() -> Any:
        ran.append(threading.current_thread())
        return again if len(ran) < 5 else None

    pool.put(again)
    assert pool.join(LONG)
    assert len(ran) == 5
    assert threads() == [ran[0]]
    assert set(ran) == {ran[0]}


def test_a_job_that_is_returned_after_close_is_not_done(make: Callable[[int], Pool[Job]]) -> None:
    pool, ran, gate = make(1), [], Gate()

    def again() -> Any:
        ran.append(1)
        gate()
        return again

    pool.put(again)
    assert gate.begun.wait(10)
    pool.close()
    gate.open.set()
    assert pool.wait_closed(LONG)
    assert pool.join(LONG)
    assert ran == [1]


# When a thread is started


def test_no_thread_is_started_before_there_is_a_job(make: Callable[[int], Pool[Job]]) -> None:
    pool = make(4)
    assert threads() == []
    pool.put(lambda: None)
    assert len(threads()) == 1


def test_an_idle_thread_takes_the_next_job_and_none_is_started(make: Callable[[int], Pool[Job]]) -> None:
    pool, ran = make(4), []
    for _ in range(5):
        pool.put(lambda: ran.append(threading.current_thread()))
        assert pool.join(LONG)
    assert len(ran) == 5
    assert set(ran) == set(threads())
    assert len(threads()) == 1


def test_as_many_jobs_run_at_once_as_there_are_threads(make: Callable[[int], Pool[Job]]) -> None:
    pool, met = make(3), []
    barrier = threading.Barrier(3)
    for _ in range(3):
        pool.put(lambda: met.append(barrier.wait(10)))
    assert pool.join(LONG)
    assert sorted(met) == [0, 1, 2]


def test_two_jobs_in_a_row_are_not_left_to_one_idle_thread(make: Callable[[int], Pool[Job]]) -> None:
    pool, met = make(2), []
    pool.put(lambda: None)
    assert pool.join(LONG)
    barrier = threading.Barrier(2)
    for _ in range(2):
        pool.put(lambda: met.append(barrier.wait(10)))
    assert pool.join(LONG)
    assert sorted(met) == [0, 1]


def test_there_are_never_more_threads_than_its_size(make: Callable[[int], Pool[Job]]) -> None:
    pool, gates = make(2), [Gate(), Gate()]
    ran: list[int] = []
    for gate in gates:
        pool.put(gate)
    for gate in gates:
        assert gate.begun.wait(10)
    for number in range(10):
        pool.put(partial(ran.append, number))
    assert len(threads()) == 2
    assert ran == []
    for gate in gates:
        gate.open.set()
    assert pool.join(LONG)
    assert sorted(ran) == list(range(10))
    assert len(threads()) == 2


# When no thread can be started


def no_start() -> Any:
    return mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread"))


def test_where_there_is_no_thread_a_job_is_the_callers_again(make: Callable[[int], Pool[Job]]) -> None:
    pool, ran = make(2), []
    with no_start(), pytest.raises(RuntimeError, match="no thread"):
        pool.put(lambda: ran.append("given back"))
    assert pool.join(0)  # nothing of it is left
    assert pool.put(lambda: ran.append("taken")) is True
    assert pool.join(LONG)
    assert ran == ["taken"]


def test_where_there_is_another_thread_it_takes_the_job_later(make: Callable[[int], Pool[Job]]) -> None:
    pool, gate, ran = make(2), Gate(), []
    pool.put(gate)
    assert gate.begun.wait(10)
    with no_start():
        assert pool.put(lambda: ran.append("later")) is True
    gate.open.set()
    assert pool.join(LONG)
    assert ran == ["later"]
    assert len(pool._threads) == 1  # one that never started could not be waited for


# Jobs that raise


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(1), KeyboardInterrupt()])
def test_what_a_job_raises_is_reported_and_its_thread_goes_on(
    make: Callable[[int], Pool[Job]], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append((args.exc_value, args.thread)))
    pool, ran = make(1), []

    def fail() -> None:
        ran.append(threading.current_thread())
        raise error

    pool.put(fail)
    pool.put(lambda: ran.append(threading.current_thread()))
    assert pool.join(LONG)
    assert len(ran) == 2
    assert ran[0] is ran[1]
    assert reported == [(error, ran[0])]


# Join


def test_join_tells_whether_all_is_done(make: Callable[[int], Pool[Job]]) -> None:
    pool, gate, ran = make(1), Gate(), []
    assert pool.join(LONG) is True  # nothing to do
    pool.put(gate)
    pool.put(lambda: ran.append("after"))
    assert gate.begun.wait(10)
    assert pool.join(0) is False
    threading.Timer(0.05, gate.open.set).start()
    assert pool.join(LONG) is True
    assert gate.ended
    assert ran == ["after"]


def test_join_from_one_of_its_own_threads_returns_at_once(make: Callable[[int], Pool[Job]]) -> None:
    pool, answers = make(1), []
    done = threading.Event()

    def job() -> None:
        answers.append(pool.join(3_600))
        done.set()

    pool.put(job)
    assert done.wait(10)
    assert answers == [False]


# The end


def test_close_returns_what_was_not_begun_and_takes_no_more(make: Callable[[int], Pool[Job]]) -> None:
    pool, gate, ran = make(1), Gate(), []
    jobs: list[Job] = [lambda: ran.append(1), lambda: ran.append(2)]
    pool.put(gate)
    assert gate.begun.wait(10)
    for job in jobs:
        pool.put(job)
    assert pool.close() == jobs
    assert pool.put(lambda: ran.append(3)) is False
    assert pool.close() == []
    gate.open.set()
    assert pool.wait_closed(LONG)
    assert gate.ended  # what runs is not cut off
    assert ran == []


def test_close_ends_idle_threads(make: Callable[[int], Pool[Job]]) -> None:
    pool, barrier = make(3), threading.Barrier(3)
    for _ in range(3):
        pool.put(lambda: barrier.wait(10))
    assert pool.join(LONG)
    pool.close()
    assert pool.wait_closed(LONG) is True
    assert threads() == []


def test_close_of_a_pool_without_threads_is_all_there_is_to_do(make: Callable[[int], Pool[Job]]) -> None:
    pool = make(3)
    assert pool.close() == []
    assert pool.wait_closed(0) is True
    assert pool.join(0) is True


def test_wait_closed_tells_that_a_job_still_runs(make: Callable[[int], Pool[Job]]) -> None:
    pool, gate = make(1), Gate()
    pool.put(gate)
    assert gate.begun.wait(10)
    pool.close()
    assert pool.wait_closed(0.01) is False
    gate.open.set()
    assert pool.wait_closed(LONG) is True


def test_wait_closed_from_one_of_its_threads_waits_for_the_others_only(make: Callable[[int], Pool[Job]]) -> None:
    pool, gate, answers = make(2), Gate(), []
    done = threading.Event()

    def close() -> None:
        assert gate.begun.wait(10)
        pool.close()
        answers.append(pool.wait_closed(0.01))
        gate.open.set()
        answers.append(pool.wait_closed(LONG))
        done.set()

    pool.put(gate)
    pool.put(close)
    assert done.wait(10)
    assert answers == [False, True]
