"""What of a soak's figures counts as growth. The soak itself is `make soak`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.soak import NODES, Sample, grown

BEFORE = Sample(1.0, 30.0, 5, 40, 38, 500, 4, 1, 0, 0)


def after(**more: Any) -> list[Sample]:
    return [BEFORE, BEFORE, BEFORE._replace(minutes=3.0, **more)]


def test_what_stays_as_it_was_has_not_grown() -> None:
    assert grown(after()) == []
    assert grown(after(rss=34.0, threads=6, descriptors=40 + NODES, keys=5_000, killed=90, deaths=7)) == []


def test_the_first_third_of_the_time_does_not_count() -> None:
    assert grown([BEFORE._replace(rss=20.0, threads=1), BEFORE, BEFORE]) == []


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"rss": 35.0}, "memory"),
        ({"threads": 7}, "threads"),
        ({"descriptors": 99}, "descriptors"),
        ({"links": 99}, "links"),
        ({"unopened": 1}, "messages that no key opens"),
    ],
)
def test_what_has_grown_is_named(more: dict[str, Any], what: str) -> None:
    assert grown(after(**more)) == [what]
