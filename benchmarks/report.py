"""What a benchmark returns, and how it becomes a page: raw figures, a table, and a plot, each in a file of its own."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Section", "dots", "machine", "p95", "ratio", "spread", "times", "write"]


@dataclass(frozen=True)
class Section:
    """One table of the page.

    Args:
        name: What its files are called, without a suffix.
        title: Its heading.
        text: A paragraph or more, in Markdown: what was measured, and how.
        header: The columns.
        rows: Their cells; as many as there are columns.
        raw: What the table was made of; anything that is JSON.
        plot: Draws on the matplotlib axes that it is given.
        alt: What the plot shows, in words.
    """

    name: str
    title: str
    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    raw: Any
    plot: Callable[[Any], None] | None = None
    alt: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"rows: {row!r} has {len(row)} cells for {len(self.header)} columns")

    def table(self) -> str:
        """Return the table in Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)

    def markdown(self) -> str:
        """Return the whole section in Markdown."""
        picture = f"\n![{self.alt or self.title}](benchmarks/{self.name}.svg)\n" if self.plot else ""
        return f"## {self.title}\n\n{self.text.strip()}\n\n{self.table()}{picture}\n*{machine()}.*\n"


def machine() -> str:
    """Return in a line what kind of machine this is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} on {platform.machine()}, {cores} cores, Python {platform.python_version()}"


def p95(samples: Iterable[float]) -> float:
    """Return the sample that 95 of 100 are not above."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def spread(samples: Sequence[float], digits: int = 3) -> str:
    """Return the median of some samples, the range they lie in, and how many they are."""
    if not samples:
        return ""
    median = f"{statistics.median(samples):,.{digits}f}"
    if len(samples) == 1:
        return f"{median} (one)"
    return f"{median} ({min(samples):,.{digits}f}-{max(samples):,.{digits}f}, n={len(samples)})"


def ratio(value: float | None, base: float | None) -> str:
    """Return how many times `base` it is, empty where either was not measured."""
    return f"{value / base:.2f}" if value is not None and base else ""


def dots(samples: Mapping[str, Sequence[float]], label: str, log: bool = False) -> Callable[[Any], None]:
    """Return a plot of some samples, each name's on a line of its own, with a bar at the median."""

    def draw(axes: Any) -> None:
        names = list(samples)[::-1]
        for row, name in enumerate(names):
            axes.plot(samples[name], [row] * len(samples[name]), "o", markersize=4, alpha=0.4, color="C0")
            axes.plot([statistics.median(samples[name])], [row], "|", markersize=14, color="C3")
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xlabel(label)
        if log:
            axes.set_xscale("log")
        else:
            axes.set_xlim(left=0)

    return draw


def times(these: Sequence[float], those: Sequence[float]) -> str:
    """Return what `these` are of `those`, which took turns with them: the median of the ratios, and the range they lie in."""
    ratios = [this / that for this, that in zip(these, those, strict=True)]
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f})"


def write(section: Section, folder: Path) -> None:
    """Write a section's files to `folder`: its figures, its Markdown and its plot."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = json.dumps({"machine": machine(), "figures": section.raw}, indent=1)
    (folder / f"{section.name}.json").write_text(figures + "\n")
    (folder / f"{section.name}.md").write_text(section.markdown())
    if section.plot:
        _draw(section.plot, folder / f"{section.name}.svg")


def _draw(plot: Callable[[Any], None], path: Path) -> None:
    try:
        import matplotlib as mpl
    except ImportError:
        print("matplotlib is missing, so there are no plots: pip install gossipmonger[bench]", file=sys.stderr)
        return
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gossipmonger"  # the same figures give the same file
    import matplotlib.pyplot as plt

    figure: Any
    figure, axes = plt.subplots(figsize=(7, 3.6))
    plot(axes)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
