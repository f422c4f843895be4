"""What a node costs, beside what else there is: bytes, packets and CPU a second, idle and under load, and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import peers
from benchmarks.cluster import Cluster, ClusterError, Usage, side_by_side
from benchmarks.peers import Variant, available
from benchmarks.report import Section, ratio

__all__ = ["run"]

#: Sizes that are run side by side, idle and under load; and the one that is run alone, idle.
SIZES = (25,)
LARGE = 100

#: Seconds after all know all before anything is measured.
SETTLE = 8.0
WINDOW = 8.0
WINDOWS = 2
LOAD = 8.0

VARIANTS = [
    Variant("ours", peers.ours, interval=1000, keys=True),
    Variant("ours, without msgspec", peers.ours_bare, interval=1000, keys=True, more={"without": ["msgspec"]}),
    Variant("ours, UDP", peers.ours, interval=1000, keys=True, more={"transport": "UdpTransport"}),
    Variant("ours, fan-out 3", peers.ours, {"gossip_fanout": 3}, interval=1000, keys=True),
    Variant("original", peers.original, interval=1000, keys=True),
    Variant("chitchat", peers.chitchat, {"interval": 1000}, interval=1000, keys=True),
    Variant("memberlist", peers.memberlist),
    Variant("kinship", peers.kinship),
    Variant("serf", peers.serf, []),
]

#: Those of which a hundred are run.
MANY = ("ours", "ours, fan-out 3", "chitchat", "memberlist", "kinship")


def idle(cluster: Cluster, windows: int, window: float, settle: float) -> dict[str, Any]:
    """Return what it uses while nothing happens."""
    cluster.hear(settle)
    return {"idle": [cluster.usage(window)._asdict() for _ in range(windows)], "rss": cluster.rss()}


def load(cluster: Cluster, seconds: float) -> Usage:
    """Set a key of each node each second; return what that uses."""

    def work() -> None:
        began = time.monotonic()
        for number in range(int(cluster.size * seconds)):
            cluster.tell(cluster.nodes[number % cluster.size], do="set", key="load", value=str(number))
            cluster.hear(began + (number + 1) / cluster.size - time.monotonic())

    return cluster.measured(work)


def measure(variants: list[Variant], size: int, quick: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a cluster of each: all of them idle at the same time, then under load in turn."""
    with side_by_side(variants, size) as together:
        windows, share = (1, 0.25) if quick else (WINDOWS, 1)  # of what is waited for
        figures = together.each(lambda cluster: idle(cluster, windows, share * WINDOW, share * SETTLE))
        for cluster in together.clusters:
            figures[cluster.variant.name]["network"] = cluster.network.reason
            try:
                figures[cluster.variant.name]["load"] = load(cluster, share * LOAD)._asdict()
            except ClusterError as error:
                print(f"{cluster.variant.name}: {error}", flush=True)
            print(f"{cluster.variant.name}, {size} nodes: {say(figures[cluster.variant.name])}", flush=True)
        return figures, together.failed


def measure_alone(variants: list[Variant], size: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a cluster of each, one after the other, idle."""
    figures, failed = {}, {}
    for variant in variants:
        try:
            with Cluster(variant, size) as cluster:
                print(f"{variant.name}: {size} nodes know each other after {cluster.started:.1f} s", flush=True)
                figures[variant.name] = {**idle(cluster, WINDOWS, WINDOW, SETTLE), "network": cluster.network.reason}
                print(f"{variant.name}, {size} nodes: {say(figures[variant.name])}", flush=True)
        except ClusterError as error:
            failed[variant.name] = str(error)
            print(f"{variant.name}: {error}", flush=True)
    return figures, failed


def say(result: dict[str, Any]) -> str:
    """Return it in a line, for the log."""
    return f"{result['idle'][-1]}, {result['rss']:.1f} MB, under load {result.get('load')}"


def cell(windows: list[dict[str, Any]], name: str, digits: int) -> str:
    """Return the median of some windows and what it was between; empty where nothing was counted."""
    values = [window[name] for window in windows if window[name] is not None]
    if not values:
        return ""
    middle = f"{statistics.median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def rows(figures: dict[str, Any], missing: dict[str, str], variants: list[Variant], size: int) -> list[list[str]]:
    """Return the rows of one size."""
    table = []
    base = figures.get("kinship", {}).get("rss")
    for variant in variants:
        start = [str(size), variant.name]
        result = figures.get(variant.name)
        if result is None:
            table.append([*start, missing.get(variant.name, ""), *[""] * 7])
            continue
        loaded = [result["load"]] if "load" in result else []
        table.append([
            *start, cell(result["idle"], "bytes", 0), cell(result["idle"], "packets", 1), cell(result["idle"], "cpu", 2),
            f"{result['rss']:.1f}", ratio(result["rss"], base),
            cell(loaded, "bytes", 0), cell(loaded, "packets", 1), cell(loaded, "cpu", 2),
        ])  # fmt: skip
    return table


def plot(figures: dict[str, Any], size: str) -> Callable[[Any], None]:
    """Return what draws the bytes of an idle node."""

    def draw(axes: Any) -> None:
        names = list(reversed(figures))
        values = [statistics.median([window["bytes"] or 0 for window in figures[name]["idle"]]) for name in names]
        bars = axes.barh(range(len(names)), values)
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], fontsize=8, padding=2)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.margins(x=0.12)
        axes.set_xlabel(f"bytes per node and second, {size} idle nodes")

    return draw


def run(quick: bool) -> Section:
    """Measure small clusters side by side, and large ones alone."""
    there, reasons = available(VARIANTS)
    table, raw = [], {}
    for size in (5,) if quick else SIZES:
        figures, failed = measure(there, size, quick)
        raw[str(size)] = figures
        table += rows(figures, {**reasons, **failed}, VARIANTS, size)
    if not quick:
        many = [variant for variant in VARIANTS if variant.name in MANY]
        figures, failed = measure_alone([variant for variant in there if variant in many], LARGE)
        raw[str(LARGE)] = figures
        table += rows(figures, {**reasons, **failed}, many, LARGE)
    reason = next((result["network"] for figures in raw.values() for result in figures.values() if result["network"]), "")
    return Section(
        "costs",
        "What a node costs",
        f"""
Bytes and packets per node and second as the loopback interface of a cluster's own network namespace counts them, once each,
with headers, handshakes and acknowledgements; CPU in milliseconds per node and second, of the node's process; RSS of the
median node, and how often kinship's that is. Idle: nothing is set; {WINDOWS} windows of {WINDOW:.0f} seconds, all clusters of
5 and of 25 at the same time, those of {LARGE} alone. Under load: each node sets one key (its blob; serf: a user event) a
second, one cluster at a time; it includes what a node takes to say that it has heard of each.
"""
        + (f"\nBytes and packets are missing: {reason}." if reason else ""),
        [
            "nodes", "", "idle: bytes", "packets", "CPU, ms", "RSS, MB", "x kinship",
            "load: bytes", "packets", "CPU, ms",
        ],
        table,
        raw,
        None if reason else plot(raw[max(raw, key=int)], max(raw, key=int)),
        "Bytes per node and second of idle clusters, by peer",
    )  # fmt: skip
