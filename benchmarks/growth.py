"""How a cluster grows: simulated, from 10 to 1,000 nodes with 10 keys each, for 60 virtual seconds.

Each size is a run in a process of its own. One that takes longer than it may is ended, and the table says how far it came.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.programs import FAST, NAMES, PLAIN, kinds, start
from benchmarks.report import Section

__all__ = ["measure", "run"]

SIZES = (10, 30, 100, 300, 1000)
KEYS = 10

#: A node that joins 1,000 others with 10 keys each learns 10,000 of them; five in a message, as the default has it, would make
#: of that 2,000 messages for each. With 2,000 it is five, each about as long as a digest of all.
OPTIONS = {"gossip_fanout": 1, "max_deltas_per_gossip": 2000}


def measure(sizes: tuple[int, ...], seconds: int, limit: float) -> list[dict[str, Any]]:
    """Run all; return what `benchmarks.programs.simulation` returns of each."""
    results = []
    for nodes in sizes:
        with start(kind(), "simulation") as simulation:
            result = simulation.ask(do="run", nodes=nodes, keys=KEYS, seconds=seconds, limit=limit, options=OPTIONS)
        results.append(result)
        print(f"{nodes} nodes: {result}", flush=True)
    return results


def kind() -> str:
    """Return the fastest kind of ours that can be run here."""
    return FAST if FAST in kinds() else PLAIN


def run(quick: bool) -> Section:
    """Measure, and make a table of it; eight minutes, at most half an hour for the largest, quick half of one."""
    seconds = 20 if quick else 60
    results = measure((10, 30, 100) if quick else SIZES, seconds, 30 if quick else 1800)
    return Section(
        name="growth",
        title="How a cluster grows",
        text=f"""
Real endpoints on a virtual clock and network ({NAMES[kind()]}), with a round a second at fan-out 1 and 2,000 deltas in
a message, for {seconds} virtual seconds. Every node has {KEYS} keys and knows of one other node at first. The rounds until all
nodes know all keys of all; in the second half of the run, the bytes and messages that a node sends in a round; then the virtual
milliseconds until the last node has an update. (Of a thousand nodes a digest is so long that it goes deflated.) What it took:
CPU seconds on one core, and the most memory.
""",
        header=[
            "nodes",
            "rounds until all is known",
            "bytes a node and round",
            "messages",
            "an update at all, ms",
            "took, s",
            "MB",
        ],
        rows=[row(result, seconds) for result in results],
        raw=results,
        plot=lambda axes: plot(axes, results),
        alt="Bytes that a node sends in a round, and seconds that the simulation took, over the number of nodes",
    )


def row(result: dict[str, Any], seconds: int) -> list[str]:
    """Return the cells for one size."""
    took = f"{result['cpu']:,.1f}"
    if result["virtual"] < seconds:
        took += f", then ended after {result['virtual']:.0f} of {seconds} virtual s"
    return [
        f"{result['nodes']:,}",
        "not yet" if result["rounds"] is None else f"{result['rounds']:.1f}",
        f"{result['bytes']:,.0f}",
        f"{result['messages']:.1f}",
        f"{median(result['updates']):,.0f}" if result["updates"] else "",
        took,
        f"{result['memory'] / 1e6:,.0f}",
    ]


def plot(axes: Any, results: list[dict[str, Any]]) -> None:
    """Draw bytes and time over the number of nodes, both logarithmic."""
    nodes = [result["nodes"] for result in results]
    axes.plot(nodes, [result["bytes"] / 1000 for result in results], marker="o", label="KB a node and round")
    took = [result["cpu"] * 1000 / result["virtual"] / result["nodes"] for result in results]
    axes.plot(nodes, took, marker="s", label="ms of CPU a node and round")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("nodes")
    axes.legend(fontsize=8)
