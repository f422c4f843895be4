"""The ten-year bound by itself."""

from __future__ import annotations

from gossipmonger.state import MAX_VERSION, Bound, Entry

NOW = 1_700_000_000_000.0
CLOCK = int(NOW * 1000)
YEARS = 10 * 365 * 86_400 * 1_000_000


def test_the_limit_is_ten_years_ahead_of_the_clock_and_never_beyond_the_last_version() -> None:
    assert Bound().limit(NOW) == CLOCK + YEARS
    assert Bound().limit(MAX_VERSION / 1000) == MAX_VERSION


def test_each_number_beyond_the_limit_counts_as_not_told() -> None:
    bound, limit = Bound(), CLOCK + YEARS
    fine = Entry("c", 7, "at c", 5, 3, 9, True)
    assert bound.within(NOW, fine, 1) == fine
    assert bound.within(NOW, fine._replace(heartbeat=limit + 1), 1) == fine._replace(heartbeat=-1)
    assert bound.within(NOW, fine._replace(heard=limit + 1), 1) == fine._replace(heard=0)
    assert bound.within(NOW, fine._replace(version=limit + 1), 6) == fine._replace(version=6)
    beyond = fine._replace(version=limit + 1, floor=limit + 1, heard=limit + 1)
    assert bound.within(NOW, beyond, 6) == fine._replace(version=6, floor=0, heard=0)
    assert bound.within(NOW, fine._replace(version=limit, heartbeat=limit, floor=limit, heard=limit), 1).version == limit


def test_one_error_a_minute_says_so() -> None:
    bound = Bound()
    assert [len(bound.report(NOW + second * 1000, "c", 1)) for second in (0, 1, 59, 60, 61)] == [1, 0, 0, 1, 0]


def test_a_node_whose_clock_was_never_set_goes_by_the_latest_that_it_has_heard_of() -> None:
    bound, unset = Bound(), 5_000.0
    assert bound.limit(unset) == 1_600_000_000_000_000 + YEARS
    bound.hear(unset, CLOCK)
    assert bound.limit(unset) == bound.limit(NOW) == CLOCK + YEARS
    bound.hear(NOW, CLOCK + YEARS)  # a clock that is set is believed, whatever others say
    assert bound.limit(NOW) == CLOCK + YEARS
