"""Tallies: nothing that any thread adds is lost, whatever it interrupts."""

from __future__ import annotations

import threading

import pytest

from gossipmonger.process import BOUNDS, Tally, Times, marked


def test_it_counts_keys_and_amounts() -> None:
    tally = Tally()
    for key, amount in (("a", 1), ("b", 0), ("a", 2.5)):
        tally.add(key, amount)
    assert tally.read() == {"a": (2, 3.5), "b": (1, 0)}
    tally.add("a")
    assert tally.read() == {"a": (3, 3.5), "b": (1, 0)}


def test_what_several_threads_add_at_once_is_all_counted() -> None:
    tally, begin = Tally(), threading.Barrier(4)

    def add() -> None:
        begin.wait()
        for number in range(5_000):
            tally.add(number % 3, 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = [sum(number for number, _ in tally.read().values()) for _ in range(200)]
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    assert tally.read() == {key: (4 * number, 4 * number) for key, number in ((0, 1667), (1, 1667), (2, 1666))}


def test_what_waits_is_added_up_before_it_is_much() -> None:
    tally = Tally()
    for _ in range(10_000):
        tally.add("a")
        assert len(tally._new) <= 501


def test_a_call_that_interrupts_one_that_holds_a_lock_waits_for_none() -> None:
    tally = Tally()
    with marked(), tally._tally_lock:
        for _ in range(2_000):
            tally.add("a")
    assert tally.read() == {"a": (2_000, 0)}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0, 0), (-1, 0), (BOUNDS[0], 0), (0.002, 1), (0.3, 8), (BOUNDS[-1], 12), (11, 13)]
)
def test_a_time_falls_into_the_first_bucket_that_reaches_so_far(seconds: float, bucket: int) -> None:
    times = Times()
    times.add(seconds)
    assert times.read() == ([0] * bucket + [1] * (len(BOUNDS) + 1 - bucket), max(0, seconds))


def test_buckets_hold_what_lower_ones_do() -> None:
    times = Times()
    for seconds in (0.0005, 0.0005, 3, 100):
        times.add(seconds)
    numbers, total = times.read()
    assert numbers == [2] * 11 + [3, 3, 4]
    assert total == pytest.approx(103.001)
