"""The clock: the monotonic one of the system, anchored to the epoch once."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from gossipmonger.endpoint import clock


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The system's two clocks in seconds, to be set: `wall` and `up`."""
    system = SimpleNamespace(wall=1_700_000_000.0, up=5_000.0)
    fake = SimpleNamespace(time=lambda: system.wall, monotonic=lambda: system.up)
    monkeypatch.setattr(clock, "time", fake)
    return system


def test_it_starts_at_the_milliseconds_since_the_epoch(system: SimpleNamespace) -> None:
    assert clock.monotonic_clock()() == 1_700_000_000_000


def test_it_goes_on_with_the_monotonic_clock(system: SimpleNamespace) -> None:
    now = clock.monotonic_clock()
    system.up += 1.5
    assert now() == 1_700_000_001_500


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_wall_clock_that_is_set_does_not_move_it(system: SimpleNamespace, jump: float) -> None:
    now = clock.monotonic_clock()
    system.up += 1
    system.wall += jump
    assert now() == 1_700_000_001_000


def test_each_clock_is_anchored_when_it_is_made(system: SimpleNamespace) -> None:
    first = clock.monotonic_clock()
    system.wall += 60
    assert (first(), clock.monotonic_clock()()) == (1_700_000_000_000, 1_700_000_060_000)


def test_over_the_systems_clocks_it_tells_the_time_and_never_goes_back() -> None:
    now = clock.monotonic_clock()
    told = [now() for _ in range(1_000)]
    assert told == sorted(told)
    assert abs(told[0] - time.time() * 1_000) < 60_000  # a clock set by NTP meanwhile is no failure
