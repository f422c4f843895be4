"""How long news takes to be everywhere, beside what else there is: one key, 200 at once, 10,000 at once."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import peers
from benchmarks.cluster import Cluster, ClusterError
from benchmarks.peers import Variant, available
from benchmarks.report import Section, dots, p95, ratio, spread

__all__ = ["run"]

SIZES = (25,)
UPDATES = 21  # of one key
FILLS = 3

#: Seconds after all know all before anything is measured, so that the talk of the start is over.
SETTLE = 3.0
#: Seconds that all repetitions of one measurement may take, by the number of nodes; what takes longer is repeated less often.
BUDGETS = {5: 12.0, 25: 20.0}
#: Seconds after which something counts as not arriving.
LIMIT = 90.0

VARIANTS = [
    Variant("ours", peers.ours, interval=1000, keys=True),
    Variant("ours, without msgspec", peers.ours_bare, interval=1000, keys=True, more={"without": ["msgspec"]}),
    Variant("ours, UDP", peers.ours, interval=1000, keys=True, more={"transport": "UdpTransport"}),
    Variant("ours, 100 ms", peers.ours, {"gossip_interval": 100}, interval=100, keys=True),
    Variant("original", peers.original, interval=1000, keys=True),
    Variant("original, 100 ms", peers.original, {"GOSSIP_INTERVAL": 100}, interval=100, keys=True),
    Variant("chitchat", peers.chitchat, {"interval": 1000}, interval=1000, keys=True),
    Variant("chitchat, 200 ms", peers.chitchat, {"interval": 200}, interval=200, keys=True),
    Variant("memberlist", peers.memberlist),
    Variant("kinship", peers.kinship),
    Variant("serf", peers.serf, []),
]

#: 200 keys at 1,000 ms are minutes of waiting for its next round: the row at 100 ms has them.
SLOW = "original"

BULK = [
    Variant("ours", peers.ours, {"max_deltas_per_gossip": 500}, interval=1000, keys=True),
    Variant(
        "ours, without msgspec", peers.ours_bare, {"max_deltas_per_gossip": 500}, 1000, keys=True, more={"without": ["msgspec"]}
    ),
    Variant("ours, 100 ms", peers.ours, {"max_deltas_per_gossip": 500, "gossip_interval": 100}, 100, keys=True),
    Variant("original, 100 ms", peers.original, {"MAX_DELTAS_PER_GOSSIP": 500, "GOSSIP_INTERVAL": 100}, 100, keys=True),
    Variant("chitchat", peers.chitchat, {"interval": 1000}, interval=1000, keys=True),
]
BULK_KEYS = 10_000
BULK_FILLS = 2


def repeat(count: int, measure: Callable[[int], float], budget: float) -> list[float]:
    """Measure up to `count` times, at least once, until the budget is spent."""
    until = time.monotonic() + budget
    samples: list[float] = []
    while len(samples) < count and (not samples or time.monotonic() < until):
        samples.append(measure(len(samples)))
    return samples


def measure_updates(variant: Variant, size: int, count: int, fills: int, settle: float = SETTLE) -> dict[str, Any]:
    """Run a cluster; return the seconds that each update and each 200 keys took."""
    choice = random.Random(1)  # the same owners and pauses for each
    with Cluster(variant, size) as cluster:
        cluster.hear(settle)

        def update(number: int) -> float:
            cluster.hear(choice.random() * min(1.0, (variant.interval or 500) / 1000))  # at any time within a round
            return cluster.update(choice.choice(cluster.nodes), "key", str(number), LIMIT)

        result: dict[str, Any] = {"started": cluster.started, "updates": repeat(count, update, BUDGETS[size])}
        if variant.keys and variant.name != SLOW:

            def fill(number: int) -> float:
                return cluster.fill(choice.choice(cluster.nodes), f"f{number}", 200, LIMIT)

            result["fill"] = repeat(fills, fill, BUDGETS[size])
        return result


def measure_bulk(variant: Variant, size: int, fills: int, keys: int) -> dict[str, Any]:
    """Run a cluster; return the seconds that each 10,000 keys took."""
    with Cluster(variant, size) as cluster:
        cluster.hear(SETTLE)

        def fill(number: int) -> float:
            return cluster.fill(cluster.nodes[number + 1], f"f{number}", keys, LIMIT)

        return {"fill": repeat(fills, fill, BUDGETS[size])}


def collect(variants: list[Variant], sizes: tuple[int, ...], measure: Callable[[Variant, int], dict[str, Any]]) -> Any:
    """Measure each variant at each size; return name -> size -> figures, or the error, and why others are missing."""
    there, reasons = available(variants)
    figures: dict[str, dict[str, Any]] = {}
    for size in sizes:
        for variant in there:
            try:
                result = measure(variant, size)
            except ClusterError as error:
                result = {"error": str(error)}
            figures.setdefault(variant.name, {})[str(size)] = result
            print(f"{variant.name}, {size} nodes: {say(result)}", flush=True)
    return figures, reasons


def say(result: dict[str, Any]) -> str:
    """Return the medians of some figures, for the log."""
    if "error" in result:
        return str(result["error"])
    return ", ".join(f"{name} {spread(values)} s" for name, values in result.items() if isinstance(values, list))


def median(figures: dict[str, Any], name: str, size: str, what: str) -> float | None:
    """Return the median of what was measured, None if it was not."""
    samples = figures.get(name, {}).get(size, {}).get(what)
    return statistics.median(samples) if samples else None


def update_rows(figures: dict[str, Any], reasons: dict[str, str], variants: list[Variant], sizes: list[str]) -> list[list[str]]:
    """Return the rows of the first table."""
    rows = []
    for size in sizes:
        base, fill_base = median(figures, "ours", size, "updates"), median(figures, "ours", size, "fill")
        for variant in variants:
            start = [size, variant.name]
            result = figures.get(variant.name, {}).get(size, {"error": reasons.get(variant.name, "")})
            if "error" in result:
                rows.append([*start, result["error"], "", "", "", "", ""])
                continue
            samples, fill = result["updates"], result.get("fill", [])
            middle = statistics.median(samples)
            rounds = f"{middle * 1000 / variant.interval:.1f}" if variant.interval else ""
            rows.append([
                *start, spread(samples), f"{p95(samples):.3f}", rounds, ratio(middle, base),
                spread(fill) if variant.keys else "no keys", ratio(statistics.median(fill), fill_base) if fill else "",
            ])  # fmt: skip
    return rows


def bulk_rows(figures: dict[str, Any], reasons: dict[str, str], variants: list[Variant], sizes: list[str]) -> list[list[str]]:
    """Return the rows of the second table."""
    rows = []
    for size in sizes:
        for variant in variants:
            base = median(figures, "ours, 100 ms" if variant.interval == 100 else "ours", size, "fill")
            result = figures.get(variant.name, {}).get(size, {"error": reasons.get(variant.name, "")})
            if "error" in result:
                rows.append([size, variant.name, result["error"], ""])
            else:
                rows.append([size, variant.name, spread(result["fill"], 2), ratio(statistics.median(result["fill"]), base)])
    return rows


def plot(figures: dict[str, Any], size: str, what: str) -> Callable[[Any], None]:
    """Return a plot of what was measured at one size."""
    samples = {name: sizes[size][what] for name, sizes in figures.items() if sizes.get(size, {}).get(what)}
    return dots(samples, f"seconds until the last of {size} nodes has it; the bar is the median", log=True)


def run(quick: bool) -> list[Section]:
    """Measure and return both tables."""
    sizes = (5,) if quick else SIZES
    names = [str(size) for size in sizes]
    count, fills, settle = (3, 1, SETTLE / 3) if quick else (UPDATES, FILLS, SETTLE)
    variants = [variant for variant in VARIANTS if not quick or variant.interval != 1000 or variant.name == "ours"]
    figures, reasons = collect(variants, sizes, lambda variant, size: measure_updates(variant, size, count, fills, settle))
    bulk = [variant for variant in BULK if not quick or variant.interval == 100]
    keys = 1_000 if quick else BULK_KEYS
    many, more_reasons = collect(
        bulk, sizes, lambda variant, size: measure_bulk(variant, size, 1 if quick else BULK_FILLS, keys)
    )
    return [
        Section(
            "updates",
            "An update, and 200 keys at once, until the last node has them",
            """
A random node sets a key at a random time within a round; it is over when the last of the others reports it. Then one sets 200
new keys at once. Seconds: the median, in brackets the least and the most and how often it was done. Where a round has a set
length the median is also given in rounds. *x ours* is the median over that of the row *ours* of the same size. All run with
their defaults (memberlist, kinship and serf those for a LAN) but for the interval where one is named; chitchat has none and is
run at 1,000 ms, as ours. memberlist and kinship carry one small blob for each node and no keys; serf is measured by a user
event, since its agent holds back news of tags for a second. 200 keys of the original at 1,000 ms are minutes of waiting for its
next round: the row at 100 ms has them.
""",
            ["nodes", "", "an update, s", "95 of 100, s", "rounds", "x ours", "200 keys, s", "x ours"],
            update_rows(figures, reasons, variants, names),
            figures,
            plot(figures, names[-1], "updates"),
            "The time that each update took, by peer",
        ),
        Section(
            "bulk",
            f"{keys:,} keys at once",
            f"""
One node sets {keys:,} keys of a few bytes at once; it is over when the last of the others has all of them.
MAX_DELTAS_PER_GOSSIP is 500 where there is such a setting; chitchat fills its datagrams. *x ours* is the median over that of
ours at the same interval.
""",
            ["nodes", "", "seconds", "x ours"],
            bulk_rows(many, more_reasons, bulk, names),
            many,
            plot(many, names[-1], "fill"),
            "The time that each took, by peer",
        ),
    ]
