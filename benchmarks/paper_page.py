"""The plots and the table of `benchmarks.paper`. Needs matplotlib: `pip install gossipmonger[bench]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Samples = list[dict[str, float]]

#: What the paper's figures show, read off the pictures: +-1 s, +-60 mappings.
PAPER = {
    "depth": {"peak": "24 s at 86", "stale": "2,240", "at98": "590"},
    "breadth": {"peak": "62 s at 118", "stale": "3,050", "at98": "1,670"},
}


def write(results: dict[str, Samples], folder: Path) -> None:
    """Write the plots and the tables."""
    plots(results, folder)
    (folder / "paper-overload.md").write_text(overload_table(results))
    (folder / "paper-flow.md").write_text(flow_table(results))


def peak(samples: Samples, name: str, since: float = 0, until: float = 1e9) -> tuple[float, float]:
    """The highest value of it and when it was reached."""
    best = max((row for row in samples if since <= row["t"] <= until), key=lambda row: row[name])
    return best[name], best["t"]


def mean(samples: Samples, name: str, since: float, until: float) -> float:
    """Its mean from one second to another."""
    rows = [row[name] for row in samples if since <= row["t"] <= until]
    return sum(rows) / len(rows)


def overload_table(results: dict[str, Samples]) -> str:
    """The overload without flow control."""
    lines = [
        "| | staleness, t < 25 | its peak (at t) | the paper's "
        "| stale mappings, peak | the paper's | at t = 98 | the paper's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("depth", "breadth", "conversations"):
        samples, paper = results[name], PAPER.get(name, {})
        high, at = peak(samples, "staleness")
        stale, _ = peak(samples, "stale")
        at98 = next(row["stale"] for row in samples if row["t"] == 98)
        before = peak(samples, "staleness", 16, 24)[0]
        lines.append(
            f"| {name} | {before:.1f} s | {high:.1f} s ({at:.0f}) | {paper.get('peak', '')} | {stale:,.0f} | "
            f"{paper.get('stale', '')} | {at98:,.0f} | {paper.get('at98', '')} |"
        )
    return "\n".join(lines) + "\n"


def flow_table(results: dict[str, Samples]) -> str:
    """The cut with flow control."""
    lines = [
        "| | updates a second, t = 50-90 | lowest after the cut (at t) | t = 125-150 "
        "| staleness, t = 50-90 | its peak after the cut |",
        "|---|---|---|---|---|---|",
        "| the paper, depth | ~1.0 | ~0.35 (108-114) | ~0.5 | 3-7 s | 10-11 s |",
    ]
    for name in ("flow, depth", "flow, breadth"):
        samples = results[name]
        smooth = [
            {"t": row["t"], "updates": mean(samples, "updates", row["t"] - 2, row["t"] + 2)} for row in samples if row["t"] > 3
        ]
        low = min((row for row in smooth if 91 <= row["t"] <= 125), key=lambda row: row["updates"])
        lines.append(
            f"| {name.split(', ')[1]} | {mean(samples, 'updates', 50, 90):.2f} | {low['updates']:.2f} ({low['t']:.0f}) | "
            f"{mean(samples, 'updates', 125, 150):.2f} | {mean(samples, 'staleness', 50, 90):.1f} s | "
            f"{peak(samples, 'staleness', 91, 150)[0]:.1f} s |"
        )
    return "\n".join(lines) + "\n"


def plots(results: dict[str, Samples], folder: Path) -> None:
    """Four pictures."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("matplotlib is missing: pip install gossipmonger[bench]") from error
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "gossipmonger"  # the same figures give the same file
    import matplotlib.pyplot as plt

    def plot(file: str, names: dict[str, str], what: str, label: str, marks: dict[int, str]) -> None:
        figure: Any
        figure, axes = plt.subplots(figsize=(7, 3.2))
        for name, legend in names.items():
            axes.plot([row["t"] for row in results[name]], [row[what] for row in results[name]], label=legend)
        for at, text in marks.items():
            axes.axvline(at, color="0.7", linewidth=0.8)
            axes.text(at + 0.5, axes.get_ylim()[1] * 0.01, text, fontsize=7, color="0.4")
        axes.set_xlabel("t, seconds")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / file, metadata={"Date": None})
        plt.close(figure)

    overloads = {
        "depth": "depth, one exchange",
        "breadth": "breadth, one exchange",
        "conversations": "depth, up to 64 exchanges (the default)",
    }
    loads = {25: "load doubled", 75: "back", 120: "none"}
    plot("staleness.svg", overloads, "staleness", "highest staleness, s", loads)
    plot("stale.svg", overloads, "stale", "stale mappings per participant", loads)
    flows = {"flow, depth": "depth", "flow, breadth": "breadth"}
    plot("flow-rate.svg", flows, "updates", "updates per participant and second", {90: "limit cut to 50"})
    plot("flow-staleness.svg", flows, "staleness", "highest staleness, s", {90: "limit cut to 50"})
