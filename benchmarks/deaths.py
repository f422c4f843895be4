"""How long a death by `kill -9` takes to be seen by all others, and how many living are thought dead, beside others."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from benchmarks import peers
from benchmarks.cluster import Cluster, side_by_side
from benchmarks.peers import Variant, available
from benchmarks.report import Section, dots, ratio, spread

__all__ = ["run"]

SIZES = (25,)

#: Seconds from the last cluster's start to the first death: detectors need some intervals to know what is usual.
SETTLE = 25.0
#: Seconds after which no other node is killed.
BUDGET = 45.0
#: Seconds after which a death counts as not seen.
LIMIT = 120.0

#: Milliseconds. Those with this interval run apart from the others: all at once is more than two cores can do in time.
FAST = 200

#: What others are compared with, by their interval.
BASES: dict[float | None, str] = {None: "ours, fan-out 3", 1000: "ours, fan-out 3", 200: "ours, fan-out 3, 200 ms"}

VARIANTS = [
    Variant("ours", peers.ours, interval=1000),
    Variant("ours, fan-out 3", peers.ours, {"gossip_fanout": 3}, interval=1000),
    Variant("ours, fan-out 3, 200 ms", peers.ours, {"gossip_fanout": 3, "gossip_interval": 200}, interval=200),
    Variant("original, 100 ms", peers.original, {"GOSSIP_INTERVAL": 100}, interval=100),
    Variant("chitchat", peers.chitchat, {"interval": 1000}, interval=1000),
    Variant("chitchat, 200 ms", peers.chitchat, {"interval": 200}, interval=200),
    Variant("memberlist", peers.memberlist),
    Variant("kinship", peers.kinship),
    Variant("serf", peers.serf, []),
]


def kill_some(cluster: Cluster, count: int, settle: float) -> dict[str, Any]:
    """Kill some nodes, one after the other; return when the others have seen it."""
    began = time.monotonic()
    cluster.hear(settle)
    choice = random.Random(1)
    deaths: list[list[float]] = []
    until = time.monotonic() + BUDGET
    while len(deaths) < count and (not deaths or time.monotonic() < until):
        deaths.append(cluster.death(choice.choice([node for node in cluster.alive if node.id != "n0"]), LIMIT))
        cluster.hear(choice.random())  # so that the next one is not always just after a round
    return {
        "last": [seen[-1] for seen in deaths],
        "median": [statistics.median(seen) for seen in deaths],
        "false": cluster.false_deaths,
        "watched": time.monotonic() - began,
    }


def measure(variants: list[Variant], size: int, kills: int, settle: float) -> tuple[dict[str, Any], dict[str, str]]:
    """Kill nodes in a cluster of each at the same time."""
    with side_by_side(variants, size) as together:
        figures = together.each(lambda cluster: kill_some(cluster, kills, settle))
        for name, result in figures.items():
            print(f"{name}, {size} nodes: last observer {spread(result['last'], 1)} s, {result['false']} false", flush=True)
        return figures, together.failed


def rows(figures: dict[str, Any], missing: dict[str, str], size: str) -> list[list[str]]:
    """Return the rows of one size."""
    table = []
    for variant in VARIANTS:
        if variant.name in missing:
            table.append([size, variant.name, missing[variant.name], "", "", ""])
        if variant.name not in figures:
            continue
        result = figures[variant.name]
        base = figures.get(BASES.get(variant.interval, ""), {}).get("last", [])
        table.append([
            size, variant.name, spread(result["last"], 1),
            ratio(statistics.median(result["last"]), statistics.median(base) if base else None),
            spread(result["median"], 1), f"{result['false']} in {result['watched']:.0f} s",
        ])  # fmt: skip
    return table


def run(quick: bool) -> Section:
    """Kill nodes in clusters of each size."""
    # With a fan-out of 1 a death takes some 20 seconds.
    there, reasons = available([variant for variant in VARIANTS if not quick or variant.name != "ours"])
    table: list[list[str]] = []
    raw: dict[str, dict[str, Any]] = {}
    for size in (5,) if quick else SIZES:
        kills, settle = (1, SETTLE / 5) if quick else (min(5, size // 2), SETTLE)
        figures: dict[str, Any] = {}
        missing = dict(reasons)
        for group in ([v for v in there if v.interval != FAST], [v for v in there if v.interval == FAST]):
            some, failed = measure(group, size, kills, settle)
            figures.update(some)
            missing.update(failed)
        raw[str(size)] = figures
        table += rows(figures, missing, str(size))
    largest = raw[max(raw, key=int)]
    last = {variant.name: largest[variant.name]["last"] for variant in VARIANTS if variant.name in largest}
    return Section(
        "deaths",
        "A node that is killed, until the last of the others has seen it",
        f"""
A cluster of each runs at the same time, each in a network of its own, but for those at {FAST} ms, which run together after the
others. {SETTLE:.0f} seconds after all know all, in each of them a random node is killed with `kill -9`; when all others have
said so, the next. Seconds: the median, in brackets the least and the most and how many were killed. *x ours* is the median
over that of ours with a fan-out of 3 at the same interval (chitchat has a fan-out of 3; those without a setting are compared
with ours at 1,000 ms). *False* are verdicts on nodes that lived. memberlist, kinship and serf run with their defaults for a
LAN. chitchat's first interval is five of its own at 200 ms too, as it is by default at 1,000.
""",
        ["nodes", "", "last observer, s", "x ours", "median observer, s", "false"],
        table,
        raw,
        dots(last, "seconds until the last node has seen it; the bar is the median"),
        "The time until the last node had seen each death, by peer",
    )
