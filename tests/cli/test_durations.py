from __future__ import annotations

import math
from datetime import timedelta

import pytest

from gossipmonger.cli.durations import duration, spelled


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("250ms", 250), ("1s", 1_000), ("1.5s", 1_500), ("5m", 300_000), ("1h30m", 5_400_000), ("2d", 172_800_000), (" 0s ", 0)],
)
def test_a_duration_has_a_unit(text: str, milliseconds: float) -> None:
    assert duration(text) == timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize("text", ["", "s", "1", "-1s", "1 s", "1w", "1s2", "1S", "inf", "1e3s", "\x1b[0m", "9" * 400 + "d"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        duration(text)


def test_a_number_alone_is_asked_for_its_unit() -> None:
    with pytest.raises(ValueError, match="with a unit it is 5s or 5ms"):
        duration("5")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0ms"), (0, "0ms"), (0.34, "340ms"), (1, "1.0s"), (59.94, "59.9s"), (59.99, "1m00s"), (185, "3m05s"),
        (15_120, "4h12m"), (529_200, "6d03h"), (math.inf, "never"),
    ],
)  # fmt: skip
def test_a_duration_is_spelled_in_a_few_characters(seconds: float, text: str) -> None:
    assert spelled(seconds) == text
