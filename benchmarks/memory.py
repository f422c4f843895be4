"""Memory: what a key costs, and what a node costs that does nothing. Ours beside the original.

Each in a process of its own, one after the other.
"""

from __future__ import annotations

import time
from statistics import median
from typing import NamedTuple

from benchmarks.programs import NAMES, free_ports, kinds, start, without
from benchmarks.report import Section

__all__ = ["Memory", "measure", "run"]

PEERS = 100
KEYS = 10_000


class Memory(NamedTuple):
    """What one kind of node has.

    Attributes:
        kind: Of the node.
        key: Bytes for each key of others that it knows.
        idle: Bytes of the whole process when there is only the node itself.
    """

    kind: str
    key: float
    idle: int


def one(kind: str, peers: int, keys: int) -> Memory:
    """Measure one kind."""
    with start(kind, "keys") as node:
        filled = node.ask(do="fill", peers=peers, keys=keys)
    if filled["known"] != peers * keys:
        raise RuntimeError(f"{kind}: {filled['known']} keys are known of {peers * keys}")
    with start(kind, "node", port=free_ports(1)[0], gossip=True) as node:
        time.sleep(2)  # a round or two
        idle = node.ask(do="state")["rss"]
    return Memory(kind, (filled["after"] - filled["before"]) / (peers * keys), idle)


def measure(turns: int, peers: int, keys: int) -> list[Memory]:
    """Run all."""
    results = []
    for _ in range(turns):
        for kind in kinds():
            results.append(one(kind, peers, keys))
            print(f"{NAMES[kind]}: {results[-1].key:.0f} bytes a key, idle {results[-1].idle / 1e6:.1f} MB", flush=True)
    return results


def run(quick: bool) -> Section:
    """Measure, and make a table of it; two minutes, quick half of one."""
    turns, peers, keys = (1, PEERS, KEYS // 10) if quick else (1, PEERS, KEYS)
    results = measure(turns, peers, keys)
    rows = []
    for kind, name in NAMES.items():
        found = [result for result in results if result.kind == kind]
        if found:
            key, idle = (median(figures) for figures in ([each.key for each in found], [each.idle for each in found]))
            rows.append([name, f"{key:,.0f}", f"{idle / 1e6:.1f}"])
    return Section(
        name="memory",
        title="Memory",
        text=f"""
Resident memory. For a key: what {peers * keys:,} keys add to a process whose node learns them of {peers} peers by messages of
500 deltas. All peers have the same {keys:,} keys, `key-0` and so on, each with another value, a string like
`value-42-4711`; versions are those that each kind has, which count from 1 in the original and from the clock's microseconds in
ours. And the process of one node that gossips with nobody yet.
{without()}""",
        header=["", "bytes a key", "a node, MB"],
        rows=rows,
        raw=[result._asdict() for result in results],
    )
