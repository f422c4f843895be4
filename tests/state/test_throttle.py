"""The throttle: how often each cause is let through."""

from __future__ import annotations

from gossipmonger.state import Throttle


def test_each_cause_passes_once_in_so_many_milliseconds() -> None:
    throttle = Throttle(1_000)
    assert [throttle.passes(now, "a") for now in (0, 999, 1_000, 1_001, 2_000)] == [True, False, True, False, True]
    assert throttle.passes(1_001, "b")
    assert throttle.passes(1_001)


def test_a_clock_that_was_set_back_holds_nothing_back() -> None:
    throttle = Throttle(1_000)
    throttle.passes(1e12)
    assert throttle.passes(5)


def test_the_cause_that_passed_first_is_forgotten_first() -> None:
    throttle = Throttle(60_000, most=10)
    for number in range(11):
        throttle.passes(number, number)
    assert [throttle.passes(11, number) for number in (2, 0)] == [False, True]
