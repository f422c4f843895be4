"""Durations as people write them: "1s", "250ms", "1m30s"."""

from __future__ import annotations

import re
from datetime import timedelta

from gossipmonger.errors import shown

__all__ = ["duration", "spelled"]

#: Milliseconds in each unit.
_UNITS = {"ms": 1.0, "s": 1_000.0, "m": 60_000.0, "h": 3_600_000.0, "d": 86_400_000.0}

_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"

_WHOLE = re.compile(f"(?:{_PART})+")

#: Milliseconds that a `timedelta` has room for, and nobody waits.
_MOST = 1e15


def duration(text: str) -> timedelta:
    """Return the duration that a text such as "250ms", "1s", "5m", "1h30m" or "2d" stands for.

    Raises:
        ValueError: It is no such text. A number alone is none either: it does not say whether it means seconds.
    """
    bare = text.strip()
    if not _WHOLE.fullmatch(bare):
        advice = f"; with a unit it is {bare}s or {bare}ms" if re.fullmatch(r"\d+(\.\d+)?", bare) else ""
        raise ValueError(f"must be a duration such as 250ms, 1s or 5m, got {shown(text)}{advice}")
    total = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, bare))
    if total > _MOST:
        raise ValueError(f"must be a duration of at most {_MOST:g} ms, got {shown(text)}")
    return timedelta(milliseconds=total)


def spelled(seconds: float) -> str:
    """Return a duration in words short enough for a column: 340ms, 2.1s, 3m05s, 4h12m, 6d03h."""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    if seconds > _MOST:
        return "never"
    whole = round(seconds)
    for size, unit, part, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part:02d}{smaller}"
    return f"{whole // 60}m{whole % 60:02d}s"
