"""What is measured, row by row: each runs clusters of every peer that can do the work, and returns samples.

A row has a name, by which it can be run alone, and one or more lines of the table, each with its target. Clusters of the same
row run one after the other, so that none takes another's time; where nothing but seconds of waiting is measured, they run side
by side. `SCALE.quick` makes everything small, to see whether it works.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from benchmarks import peers
from benchmarks.cluster import Cluster, ClusterError, Node, Usage, side_by_side
from benchmarks.million import joiner_of_million
from benchmarks.peers import Variant
from benchmarks.report import percentile

__all__ = ["ROWS", "SLOW", "VARIANTS", "Line", "Row", "lags", "measure", "merged"]

#: The columns. Each runs with its defaults, memberlist and kinship with those for a LAN. chitchat has no default interval.
VARIANTS = (
    Variant("ours", peers.ours, keys=True),
    Variant("ours, UDP", peers.ours, keys=True, more={"transport": "UdpTransport"}),
    Variant("ours, TLS", peers.ours_tls, keys=True, more={"certificates": str(peers.BUILD / "tls")}),
    Variant("ours, sealed", peers.ours_sealed, keys=True, more={"keyring": peers.KEY}),
    Variant("ours, UDP, sealed", peers.ours_sealed, keys=True, more={"transport": "UdpTransport", "keyring": peers.KEY}),
    Variant("chitchat", peers.chitchat, {"interval": 1000}, keys=True),
    Variant("memberlist", peers.memberlist),
    Variant("kinship", peers.kinship),
    Variant("serf", peers.serf, []),
    Variant("original", peers.original, keys=True),
)

#: Seconds after which something counts as not arriving.
LIMIT = 120.0
#: Seconds for the last updates under load.
LATE = 30.0

#: Digests that a node of an old cluster has sent: as many as in a day and a half.
AGE = 1 << 17

Samples = dict[str, list[float]]


class Scale(NamedTuple):
    """How much of everything.

    Attributes:
        size, large: Nodes of a cluster.
        settle: Seconds after all know all, before anything is measured.
        mature: The same before a node is killed or lost: detectors need some intervals to know what is usual.
        window: Seconds over which CPU and bytes are counted.
        windows: How many, at rest.
        updates: In a quiet cluster.
        pause: Seconds between two of these, on average.
        victims: Nodes that are killed or lost.
        fills: How often many keys are set.
        keys: How many are many.
        budget: Seconds for all updates, and for all fills, of one cluster.
    """

    size: int = 25
    large: int = 100
    settle: float = 10.0
    mature: float = 40.0
    window: float = 20.0
    windows: int = 3
    updates: int = 25
    pause: float = 2.0
    victims: int = 5
    fills: int = 5
    keys: int = 10_000
    budget: float = 120.0


FULL = Scale()
QUICK = Scale(5, 8, 2.0, 8.0, 3.0, 1, 3, 1.0, 1, 1, 1_000, 20.0)


class Line(NamedTuple):
    """A line of the table.

    Attributes:
        label: What it says, with the unit.
        target: What ours is to reach.
        samples: The name of its samples.
        share: Of 100 samples, how many may not be above the figure; None for the median and the range.
    """

    label: str
    target: str
    samples: str
    share: int | None = None


@dataclass(frozen=True)
class Row:
    """What is measured together.

    Attributes:
        lines: Of the table.
        measure: Takes a cluster and the scale, returns its samples by name.
        size: Of the scale, how many nodes the cluster has.
        without: The names of those that can't do it, and why.
        hosts: Whether each node has a host of its own.
        together: Whether the clusters run side by side.
        clusters: Of the scale, how many clusters of each are run, one after the other.
        more: What else the programs are told.
    """

    lines: Sequence[Line]
    measure: Callable[[Cluster, Scale], Samples]
    size: Callable[[Scale], int]
    without: Mapping[str, str] = field(default_factory=dict)
    hosts: bool = False
    together: bool = False
    clusters: Callable[[Scale], int] = lambda scale: 1
    more: Mapping[str, Any] | None = None


def measure(row: Row, there: Sequence[Variant], scale: Scale) -> dict[str, Any]:
    """Run a row; return samples and false deaths, or why there are none, by the variant's name."""
    chosen = [
        Variant(each.name, each.build, each.options, each.keys, {**each.more, **(row.more or {})})
        for each in there
        if each.name not in row.without
    ]
    results: dict[str, Any] = {each.name: {"missing": row.without[each.name]} for each in there if each.name in row.without}

    def one(cluster: Cluster) -> dict[str, Any]:
        try:
            result: dict[str, Any] = {"samples": row.measure(cluster, scale), "network": cluster.network.reason}
        except ClusterError as error:
            result = {"missing": str(error)}
        result["false"] = cluster.false_deaths
        print(f"  {cluster.variant.name}: {_brief(result)}", flush=True)
        return result

    if row.together:
        with side_by_side(chosen, row.size(scale), row.hosts) as clusters:
            results |= clusters.each(one)
            failed = clusters.failed
    else:
        failed = {}
        for variant in chosen:
            try:
                for _ in range(row.clusters(scale)):
                    with Cluster(variant, row.size(scale), row.hosts) as cluster:
                        results[variant.name] = merged(results.get(variant.name), one(cluster))
            except ClusterError as error:
                failed[variant.name] = str(error)
    for name, reason in failed.items():
        print(f"  {name}: {reason}", flush=True)
        results[name] = {"missing": reason}
    return {variant.name: results[variant.name] for variant in there}


def _brief(result: Mapping[str, Any]) -> str:
    said = (f"{name} {percentile(values, 50):.4g}" for name, values in result.get("samples", {}).items() if values)
    return f"{result.get('missing') or ', '.join(said)}; {result['false']} false deaths"


def merged(first: dict[str, Any] | None, then: dict[str, Any]) -> dict[str, Any]:
    """Return the results of two clusters as one; what one of them could not do is missing."""
    if first is None:
        return then
    false = first["false"] + then["false"]
    for each in (first, then):
        if "missing" in each:
            return {**each, "false": false}
    samples = {name: values + then["samples"][name] for name, values in first["samples"].items()}
    return {**then, "samples": samples, "false": false}


# What is measured


def quiet(cluster: Cluster, scale: Scale) -> Samples:
    """Milliseconds until an update is at all others, each set at any time within a round."""
    choice = random.Random(1)  # the same owners and pauses for each
    cluster.hear(scale.settle)
    took: list[float] = []
    until = time.monotonic() + scale.budget
    while len(took) < scale.updates and time.monotonic() < until:
        cluster.hear(scale.pause * (0.75 + choice.random() / 2))
        took.append(cluster.update(choice.choice(cluster.nodes), "key", str(len(took)), LIMIT) * 1000)
    return {"ms": took}


def load(cluster: Cluster, scale: Scale) -> Samples:
    """What one update a second and node costs, and the milliseconds within which receivers have it, all of one window."""
    cluster.hear(scale.settle)
    number = 0

    def work(seconds: float) -> None:
        nonlocal number
        began, first = time.monotonic(), number
        while number - first < int(seconds * cluster.size):
            cluster.tell(cluster.nodes[number % cluster.size], do="set", key="load", value=str(number // cluster.size))
            number += 1
            cluster.hear(began + (number - first) / cluster.size - time.monotonic())

    work(scale.settle)
    before = number // cluster.size
    used = cluster.measured(lambda: work(scale.window))
    after = number // cluster.size
    news = [cluster.updates[owner.id, "load", str(after - 1)] for owner in cluster.nodes]
    cluster.hear(LATE, lambda: all(len(each) >= cluster.size - 1 for each in news))
    delays: list[float] = []
    for owner in cluster.nodes:
        seen = [cluster.updates[owner.id, "load", str(value)] for value in range(after)]
        others = [node.id for node in cluster.nodes if node is not owner]
        delays += lags(cluster.done[owner.id, "load"], seen, others, before)
    within = {f"within {share}": percentile(delays, share) * 1000 for share in (50, 95, 99, 100)}
    return {**_samples([used]), **{name: [ms] if ms < math.inf else [] for name, ms in within.items()}}


def lags(sets: Sequence[float], seen: Sequence[Mapping[str, float]], receivers: Iterable[str], since: int) -> list[float]:
    """Return the seconds until each receiver had each value of one key, or a later one, which makes it needless.

    Args:
        sets: When each value was set.
        seen: Who had which when, value by value.
        receivers: Who should.
        since: The first value that counts.

    Returns:
        Infinity for those that never did.
    """
    delays = []
    for receiver in receivers:
        earliest = math.inf
        for value in reversed(range(since, len(sets))):
            earliest = min(earliest, seen[value].get(receiver, math.inf))
            delays.append(earliest - sets[value])
    return delays


def idle(cluster: Cluster, scale: Scale) -> Samples:
    """What a node costs while nothing happens."""
    cluster.hear(scale.settle)
    return _samples([cluster.usage(scale.window) for _ in range(scale.windows)])


def old(cluster: Cluster, scale: Scale) -> Samples:
    """The same where heartbeats have risen far above where they began."""
    if cluster.state(cluster.nodes[-1])["age"] < AGE:
        raise ClusterError("its heartbeats are low")
    return idle(cluster, scale)


def _samples(usages: Sequence[Usage]) -> Samples:
    counted = [usage.bytes for usage in usages if usage.bytes is not None]
    return {"cpu": [usage.cpu for usage in usages], "bytes": counted}


def ends(how: Callable[[Cluster, Node], float], cluster: Cluster, scale: Scale) -> Samples:
    """Seconds until the last of at least 25 has seen that a node has gone; several go, one after the other."""
    choice = random.Random(1)
    cluster.hear(scale.mature)
    last = []
    for _ in range(scale.victims):
        cluster.hear(choice.random())  # so that it is not always just after a round
        victim = choice.choice([node for node in cluster.alive if node.id != "n0"])
        last.append(cluster.death(partial(how, cluster), victim, LIMIT))
    return {"seconds": last}


def fills(keys: Callable[[Scale], int], cluster: Cluster, scale: Scale) -> Samples:
    """Seconds until keys that one node sets at once are at all others."""
    choice = random.Random(1)
    cluster.hear(scale.settle)
    took: list[float] = []
    until = time.monotonic() + scale.budget
    while len(took) < scale.fills and time.monotonic() < until:
        cluster.hear(scale.pause * (0.75 + choice.random() / 2))  # at any time within a round
        took.append(cluster.fill(choice.choice(cluster.nodes), f"f{len(took)}", keys(scale), 2 * LIMIT))
    return {"seconds": took}


def joiner(cluster: Cluster, scale: Scale) -> Samples:
    """Seconds until a node that joins two others has the keys of one of them, from when it listens."""
    cluster.fill(cluster.nodes[1], "f", scale.keys, 2 * LIMIT)
    cluster.hear(scale.settle + random.random())
    return {"seconds": [cluster.join(cluster.nodes[1], "f", 2 * LIMIT)]}


def memory(cluster: Cluster, scale: Scale) -> Samples:
    """RSS of each node, in MB."""
    cluster.hear(scale.settle)
    return {"rss": cluster.rss()}


def _size(scale: Scale) -> int:
    return scale.size


def _costs(what: str, cpu: str, size: str) -> list[Line]:
    return [
        Line(f"{what}: CPU per node and second, ms", cpu, "cpu"),
        Line(f"{what}: bytes per node and second", size, "bytes"),
    ]


NO_KEYS = dict.fromkeys(("memberlist", "kinship", "serf"), "no keys")
FEW_KEYS = {**NO_KEYS, "original": "5 keys a message"}
NOT_OURS = {each.name: "ours only" for each in VARIANTS if not each.name.startswith("ours")}

ROWS: dict[str, Row] = {
    "quiet": Row(
        [
            Line("a quiet update at all of 25, ms", "20", "ms"),
            Line("95 of 100 quiet updates at all of 25 within, ms", "60", "ms", 95),
        ],
        quiet, _size,
    ),
    "quiet100": Row(
        [
            Line("a quiet update at all of 100, ms", "80", "ms"),
            Line("95 of 100 quiet updates at all of 100 within, ms", "150", "ms", 95),
        ],
        quiet, lambda scale: scale.large,
    ),
    "load": Row(
        [
            *_costs("25 nodes, 1 update a second and node", "13", "16,000"),
            Line("99 of 100 receivers have it within, ms", "300", "within 99"),
        ],
        load, _size,
    ),
    "idle": Row(_costs("25 idle nodes", "1.8", "2,000"), idle, _size),
    "idle100": Row(_costs("100 idle nodes", "2", "4,000"), idle, lambda scale: scale.large),
    "old": Row(
        _costs("25 idle nodes, old", "1.8", "2,000"), old, _size, without=NOT_OURS, more={"age": AGE}
    ),
    "old100": Row(
        _costs("100 idle nodes, old", "2", "4,000"),
        old, lambda scale: scale.large, without=NOT_OURS, more={"age": AGE},
    ),
    "kill": Row(
        [Line("`kill -9`, the last of 25 has seen it, s", "3", "seconds")],
        partial(ends, Cluster.kill), lambda scale: scale.size + scale.victims, together=True,
    ),
    "lost": Row(
        [Line("a lost host, the last of 25 has seen it, s", "8", "seconds")],
        partial(ends, Cluster.lose), lambda scale: scale.size + scale.victims, hosts=True, together=True,
    ),
    "keys200": Row(
        [Line("200 keys at all of 25, s", "0.2", "seconds")],
        partial(fills, lambda scale: 200), _size, without=NO_KEYS,
    ),
    "keys10000": Row(
        [Line("10,000 keys at all of 25, s", "1.5", "seconds")],
        partial(fills, lambda scale: scale.keys), _size, without=FEW_KEYS,
    ),
    "two": Row(
        [Line("10,000 keys between two nodes, s", "0.3", "seconds")],
        partial(fills, lambda scale: scale.keys), lambda scale: 2, without=FEW_KEYS,
    ),
    "joiner": Row(
        [Line("10,000 keys to a third that joins, s", "0.5", "seconds")],
        joiner, lambda scale: 2, without=FEW_KEYS, clusters=lambda scale: scale.fills,
    ),
    "million": Row(
        [
            Line("1,000,000 keys of 100 nodes to one that joins, s", "30", "seconds"),
            Line("its RSS then, MB", "500", "rss"),
        ],
        joiner_of_million, lambda scale: 0, without=dict.fromkeys(
            [each.name for each in VARIANTS if each.name != "ours"], "not run"
        ),
    ),
    "memory": Row([Line("RSS of an idle node, of 25, MB", "25", "rss")], memory, _size),
}  # fmt: skip

#: What runs only when it is named.
SLOW = ("million",)
