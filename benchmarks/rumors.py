"""How fast rumours are and what they cost, on virtual time: `python -m benchmarks.rumors [--nodes 25 ...] [--rates 0 1 ...]`.

A latency of 1 to 5 ms, options by default unless they are given. Every node writes the time into a key of its own, at random
moments. "Quiet" is one write a second in the whole cluster. A write counts as late, here as a second, if a node has it no
earlier. Messages and bytes are all that nodes send, rounds included; rumours are also counted alone.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

SECOND = 1_000.0

#: Seconds for which a cluster forms and forgets that its nodes are new. A thousand are given less, for the time that it takes;
#: their rumours then have an entry for each peer that they tell of.
SETTLING, SHORTER, MANY = 32, 8, 500

#: Seconds that writes have before they are counted as late.
AFTERWARDS = 1


class Figures(NamedTuple):
    """What one run showed: milliseconds until the last node had a write, until a node had it, and costs per node and second."""

    last: list[float]
    each: list[float]
    rumors: float
    messages: float
    bytes: float


class Run:
    """One cluster. `rate` is writes per node and second, 0 for one a second in all."""

    def __init__(self, count: int, rate: float, loss: float, seed: int = 1, **options: Any) -> None:
        self.sim = Simulation(seed, latency=(1, 5))
        self.nodes = [self.sim.add(f"n{n}", seeds=["n0"], **options) for n in range(count)]
        self.loss = loss
        self.rate = rate * count or 1.0
        self.written: dict[str, list[float]] = {node.local_peer.id: [] for node in self.nodes}  # when, by each node
        self.took: dict[tuple[str, str], list[float]] = {}  # (writer, receiver) -> how long each of the writes took
        self.rumors = 0

    def measure(self, seconds: float) -> Figures:
        """Let the cluster form, then measure."""
        sim = self.sim
        sim.run((SETTLING if len(self.nodes) < MANY else SHORTER) * SECOND)
        for node in self.nodes:
            node.on("update", partial(self._updated, node.local_peer.id))
            node.on("digest send", self._sent)
        sim.network.loss = self.loss
        end = sim.now + seconds * SECOND
        messages, sent = sim.messages, sim.bytes
        self._later(end)
        sim.run(seconds * SECOND)
        per = len(self.nodes) * seconds
        costs = self.rumors / per, (sim.messages - messages) / per, (sim.bytes - sent) / per
        sim.run(AFTERWARDS * SECOND)
        last, each = [], []
        for id, written in self.written.items():
            for number in range(len(written)):
                took = [self._took(id, node.local_peer.id, number) for node in self.nodes if node.local_peer.id != id]
                last.append(max(took))
                each += took
        return Figures(last, each, *costs)

    def _later(self, end: float) -> None:
        wait = self.sim.random.expovariate(self.rate) * SECOND
        if self.sim.now + wait < end:
            self.sim.at(wait, partial(self._write, end))

    def _write(self, end: float) -> None:
        node: Gossipmonger = self.sim.random.choice(self.nodes)
        self.written[node.local_peer.id].append(self.sim.now)
        node.update("k", self.sim.now)
        self._later(end)

    def _updated(self, id: str, owner: str, key: str, at: float) -> None:
        """Count a write as received, and with it those that it has replaced on its way."""
        took = self.took.setdefault((owner, id), [])
        for written in self.written[owner][len(took) :]:
            if written <= at:
                took.append(self.sim.now - written)

    def _took(self, owner: str, id: str, number: int) -> float:
        took = self.took.get((owner, id), [])
        return min(AFTERWARDS * SECOND, took[number]) if number < len(took) else AFTERWARDS * SECOND

    def _sent(self, _: Any, digest: Sequence[dict[str, Any]]) -> None:
        self.rumors += "rumor" in digest[-1]


def quantile(numbers: Iterable[float], share: float) -> float:
    """Return the least number that this share of them is not above."""
    ordered = sorted(numbers)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def row(count: int, rate: float, loss: float, seconds: float, **options: Any) -> str:
    """Measure one run, and return its row of the table."""
    figures = Run(count, rate, loss, **options).measure(seconds)
    last = [f"{quantile(figures.last, share):.0f}" for share in (0.5, 0.95, 0.99)]
    each = [f"{quantile(figures.each, share):.0f}" for share in (0.5, 0.99)]
    missed = sum(took >= AFTERWARDS * SECOND for took in figures.last) / len(figures.last)
    cells = [f"{count:,}", f"{rate:g}" if rate else "quiet", f"{loss:.0%}", *last, *each, f"{missed:.1%}"]
    cells += [f"{figures.rumors:.1f}", f"{figures.messages:.1f}", f"{figures.bytes / 1000:.1f}"]
    return f"| {' | '.join(cells)} |"


def usual(count: int, rate: float) -> float:
    """Return for how many seconds to measure: fewer, the more there is to simulate."""
    if count >= MANY:
        return 10.0 if not rate else 1.0
    return 60.0 if not rate else max(2.0, min(40.0, 1_000 / count / max(1.0, rate)))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rumors", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[5, 25, 100])
    parser.add_argument("--rates", type=float, nargs="*", default=[0, 0.1, 1, 10], help="writes per node and second; 0: quiet")
    parser.add_argument("--losses", type=float, nargs="*", default=[0, 0.1])
    parser.add_argument("--seconds", type=float, help="how long to measure; by default less, the more nodes there are")
    parser.add_argument("--fanout", type=int, default=None)
    parser.add_argument("--rate", type=float, default=None)
    chosen = parser.parse_args()
    options = {"rumor_fanout": chosen.fanout, "rumor_rate": chosen.rate}
    options = {name: value for name, value in options.items() if value is not None}
    print("| nodes | writes per node and s | loss | ms to the last node: median | 95 % | 99 % | ms to a node: median | 99 % | "
          "later than 1 s | rumours per node and s | messages | KB |")  # fmt: skip
    print("|---" * 12 + "|")
    for count in chosen.nodes:
        for rate in chosen.rates:
            for loss in chosen.losses:
                print(row(count, rate, loss, chosen.seconds or usual(count, rate), **options), flush=True)


if __name__ == "__main__":
    main()
