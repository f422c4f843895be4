"""The arrival window: which samples it has, what phi makes of the silence."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.state import PhiAccrual
from gossipmonger.state.phi import FIRST_INTERVAL

NOW = 1_700_000_000_000.0
MILLISECONDS = st.floats(0, 1e9)


def test_a_window_starts_with_one_sample_of_750_ms() -> None:
    window = PhiAccrual()
    assert FIRST_INTERVAL == 750
    assert window.intervals == [750]
    assert (window.sum, window.mean, window.max_intervals, window.last_time) == (750, 750, 100, None)


def test_a_window_takes_what_it_is_given() -> None:
    window = PhiAccrual([100, 200, 600], last_time=NOW, max_intervals=5)
    assert window.intervals == [100, 200, 600]
    assert (window.sum, window.mean, window.max_intervals, window.last_time) == (900, 300, 5, NOW)


def test_a_window_keeps_the_last_of_what_it_is_given() -> None:
    window = PhiAccrual([100, 200, 600], max_intervals=2)
    assert (window.intervals, window.sum) == ([200, 600], 800)


def test_an_older_sample_makes_room() -> None:
    window = PhiAccrual([1, 2], max_intervals=3)
    seen = []
    for interval in (3, 4, 5):
        window.add(interval)
        seen.append((window.intervals, window.sum, window.mean))
    assert seen == [([1, 2, 3], 6, 2), ([2, 3, 4], 9, 3), ([3, 4, 5], 12, 4)]


def test_a_contact_adds_the_time_since_the_one_before() -> None:
    window = PhiAccrual()
    window.contact(NOW)
    assert (window.intervals, window.last_time) == ([750, 750], NOW)
    window.contact(NOW + 1_200)
    assert (window.intervals, window.last_time) == ([750, 750, 1_200], NOW + 1_200)


def test_contacts_at_one_moment_are_samples_of_zero() -> None:
    window = PhiAccrual([], last_time=NOW)
    window.contact(NOW)
    window.contact(NOW)
    assert (window.intervals, window.mean) == ([0, 0], 0)


def test_intervals_are_a_copy() -> None:
    window = PhiAccrual()
    window.intervals.append(1)
    given = [5.0]
    other = PhiAccrual(given)
    given.append(1)
    assert (window.intervals, other.intervals) == ([750], [5])


@given(st.lists(MILLISECONDS), st.lists(MILLISECONDS, max_size=300), st.integers(1, 100))
def test_the_window_is_the_last_samples(first: list[float], added: list[float], most: int) -> None:
    window = PhiAccrual(first, max_intervals=most)
    for interval in added:
        window.add(interval)
    assert window.intervals == [*first, *added][-most:]
    assert window.sum == pytest.approx(math.fsum(window.intervals), rel=1e-9, abs=1e-3)


def test_the_sum_never_drifts_far_from_the_samples(rng: random.Random) -> None:
    # A sample of a month among those of seconds, and ten million seconds of gossip in all.
    window = PhiAccrual()
    for count in range(100_000):
        window.add(rng.expovariate(1 / 1_000) if count % 1_000 else 2.6e9)
        if count % 97 == 0:
            assert window.sum == pytest.approx(math.fsum(window.intervals), rel=1e-6)
    for _ in range(100):
        window.add(0.1)
    assert window.mean == pytest.approx(0.1, abs=1e-3)


def test_phi_is_the_silence_in_means_times_log10_e() -> None:
    window = PhiAccrual([400, 600], last_time=NOW)
    assert window.phi(NOW + 500) == pytest.approx(math.log10(math.e))
    assert window.phi(NOW + 5_000) == pytest.approx(10 * math.log10(math.e))


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=100), st.floats(1, 1e6))
def test_phi_is_minus_log10_of_the_chance_of_a_longer_interval(intervals: list[float], silence: float) -> None:
    mean = math.fsum(intervals) / len(intervals)
    chance = math.exp(-silence / mean)
    if chance > 1e-300:
        assert PhiAccrual(intervals, last_time=0.0).phi(silence) == pytest.approx(-math.log10(chance), rel=1e-9, abs=1e-12)


def test_phi_passes_8_after_18_point_4_means_of_silence() -> None:
    window = PhiAccrual([1_000] * 50, last_time=NOW)
    assert window.phi(NOW + 18_400) < 8 < window.phi(NOW + 18_450)


def test_each_step_of_1_takes_as_long_as_the_one_before() -> None:
    window = PhiAccrual([1_000], last_time=0.0)
    step = 1_000 * math.log(10)
    assert [window.phi(n * step) for n in range(1, 10)] == pytest.approx(range(1, 10))


def test_phi_only_grows_with_silence() -> None:
    window = PhiAccrual([1_000], last_time=NOW)
    course = [window.phi(NOW + after) for after in range(0, 100_000, 500)]
    assert course == sorted(set(course))


@pytest.mark.parametrize("silence", [0, -1, -1e12])
@pytest.mark.parametrize("intervals", [None, [], [0.0], [1_000.0]])
def test_phi_without_silence_is_zero(silence: float, intervals: list[float] | None) -> None:
    assert PhiAccrual(intervals, last_time=NOW).phi(NOW + silence) == 0


def test_before_the_first_sign_of_life_the_silence_is_750_ms() -> None:
    window = PhiAccrual([1_500])
    assert window.phi(0) == window.phi(NOW) == pytest.approx(math.log10(math.e) / 2)


@pytest.mark.parametrize("intervals", [[], [0.0], [0.0, 0.0]])
def test_without_a_mean_any_silence_is_beyond_all_bounds(intervals: list[float]) -> None:
    window = PhiAccrual(intervals, last_time=NOW)
    assert (window.mean, window.phi(NOW + 1)) == (0, math.inf)


def test_a_mean_below_the_least_counts_as_that() -> None:
    window = PhiAccrual([10.0] * 5, last_time=NOW)
    assert window.phi(NOW + 1_000, least=100.0) == pytest.approx(PhiAccrual([100.0], last_time=NOW).phi(NOW + 1_000))
    assert window.phi(NOW + 1_000, least=5.0) == window.phi(NOW + 1_000)


def test_a_window_that_begins_afresh_has_five_first_samples_and_keeps_its_length() -> None:
    arrivals = PhiAccrual([5.0] * 7, 0, 8)
    arrivals.add(9, 4)
    arrivals.restart(4_000)
    assert (arrivals.intervals, arrivals.sum, arrivals.mean) == ([3_000] * 5, 15_000, 3_000)
    arrivals.add(1_000, 4)
    assert arrivals.intervals == [3_000] * 4 + [1_000] * 4
    short = PhiAccrual([], 0, 2)
    short.restart(1_000)
    assert short.intervals == [750] * 2
