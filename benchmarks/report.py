"""What figures have in common: medians and ranges, and tables in Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Section", "figure", "machine", "percentile", "spread", "table", "times"]


@dataclass(frozen=True)
class Section:
    """A part of the page with a table of its own.

    Args:
        title: Its heading.
        text: A paragraph or more, in Markdown: what was measured, and how.
        header: The columns.
        rows: Their cells; as many as there are columns.
        raw: What the table was made of; anything that is JSON.
    """

    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    raw: Any = None

    def markdown(self) -> str:
        """Return the whole section in Markdown."""
        return f"## {self.title}\n\n{self.text.strip()}\n\n{table(self.header, self.rows)}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown.

    Raises:
        ValueError: A row has more or fewer cells than there are columns.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"rows: {row!r} has {len(row)} cells for {len(header)} columns")
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def machine() -> str:
    """Return in a line what kind of machine this is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} on {platform.machine()}, {cores} cores, Python {platform.python_version()}"


def percentile(samples: Iterable[float], share: int) -> float:
    """Return the sample that so many of 100 are not above."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def figure(value: float) -> str:
    """Return a number with three digits or as many as it has before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(samples: Sequence[float]) -> str:
    """Return the median of some samples and the range they lie in."""
    middle, least, most = (figure(value) for value in (statistics.median(samples), min(samples), max(samples)))
    return middle if least == most else f"{middle} ({least}-{most})"


def times(these: Sequence[float], those: Sequence[float]) -> str:
    """Return what `these` are of `those`, which took turns with them: the median of the ratios, and the range they lie in."""
    ratios = [this / that for this, that in zip(these, those, strict=True)]
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f})"
