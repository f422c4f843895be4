"""Ratios of two things that took turns in one run, which is all that a busy machine lets one compare."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

__all__ = ["ratio", "times"]


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Return the median of what `these` are of `those`, turn by turn."""
    return statistics.median(this / that for this, that in zip(these, those, strict=True))


def times(these: Sequence[float], those: Sequence[float]) -> str:
    """Return the same as a table's cell, with the least and the greatest."""
    each = [this / that for this, that in zip(these, those, strict=True)]
    return f"**{statistics.median(each):.2f}** ({min(each):.2f}-{max(each):.2f})"
