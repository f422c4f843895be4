"""Whether an overload feeds itself: `python -m benchmarks.overload [SECONDS]`, by default two minutes of it.

Twelve nodes, each a process, with a round every 50 ms and an update per second each, run beside eight programs that do nothing
but use the processor. Before, during and after, this says what they hold and what a message costs. Ten seconds after the
programs have ended, everything must be as it was before, and all nodes must know that all are alive; if not, this fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NamedTuple

from benchmarks.cluster import Cluster
from benchmarks.peers import Variant, ours
from benchmarks.report import figure, table

__all__ = ["Sample", "Watch", "cells", "faults", "main", "written"]

NODES, INTERVAL, LOOPS = 12, 50, 8

#: Seconds of one sample, of what precedes the first, and of what the nodes have to recover.
SAMPLE, SETTLING, RECOVERY = 10, 10, 10

#: How much more than before a node may have or need afterwards. A link more or less at each other node is no matter; equal runs
#: differ by 15 % in CPU, and by more on a machine that has other work.
DESCRIPTORS, THREADS, CPU = 2 * NODES, 1, 1.5


class Sample(NamedTuple):
    """What the nodes did in some seconds, and what they hold at the end: the most that any of them has."""

    when: str
    messages: float  # received, per node and second
    cpu: float  # milliseconds per node and second
    each: float  # microseconds of CPU per message
    descriptors: int
    sockets: int
    threads: int
    rss: float  # MB
    dead: int  # pairs of which one takes the other for dead
    false_deaths: int  # verdicts so far


def held(pid: int) -> tuple[int, int, int]:
    """Return how many descriptors, sockets and threads a process has."""
    folder = f"/proc/{pid}/fd"
    leads = []
    for name in os.listdir(folder):
        try:
            leads.append(os.readlink(f"{folder}/{name}"))
        except FileNotFoundError:  # closed meanwhile
            continue
    return len(leads), sum(lead.startswith("socket:") for lead in leads), len(os.listdir(f"/proc/{pid}/task"))


class Watch:
    """Takes samples of a cluster, in which each second so many nodes write."""

    def __init__(self, cluster: Cluster, writers: int) -> None:
        self._cluster = cluster
        self._writers = writers
        self._written = 0

    def sample(self, when: str, seconds: float = SAMPLE) -> Sample:
        """Let the cluster run for so long; return what it did."""
        cluster, count = self._cluster, len(self._cluster.nodes)
        before, began = self._messages(), time.monotonic()
        usage = cluster.measured(lambda: self._write(seconds))
        share = (time.monotonic() - began) * count
        messages = (self._messages() - before) / share
        descriptors, sockets, threads = (max(each) for each in zip(*[held(node.pid) for node in cluster.nodes], strict=True))
        dead = sum(count - 1 - len(node.known) for node in cluster.nodes)
        cost = usage.cpu * 1000 / messages
        rss = max(cluster.rss())
        return Sample(when, messages, usage.cpu, cost, descriptors, sockets, threads, rss, dead, cluster.false_deaths)

    def _write(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(self._writers):
                self._written += 1
                node = self._cluster.nodes[self._written % len(self._cluster.nodes)]
                self._cluster.tell(node, do="set", key="key", value=str(self._written))
            self._cluster.hear(min(1.0, max(0.0, until - time.monotonic())))

    def _messages(self) -> int:
        return sum(self._cluster.state(node)["messages"] for node in self._cluster.nodes)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many programs that do nothing but use the processor."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


def cells(sample: Sample) -> list[str]:
    """Return the cells of a sample's row."""
    return [figure(field) if isinstance(field, float) else str(field) for field in sample]


def written(samples: Sequence[Sample]) -> str:
    """Return samples as a table."""
    header = ["", "messages", "CPU, ms", "µs a message", "descriptors", "sockets", "threads", "RSS, MB", "dead", "false deaths"]
    return table(header, [cells(sample) for sample in samples])


def faults(before: Sample, after: Sample) -> list[str]:
    """Return what is not as it was before."""
    found = {
        "live nodes are taken for dead": after.dead > 0,
        "descriptors are left": after.descriptors > before.descriptors + DESCRIPTORS,
        "threads are left": after.threads > before.threads + THREADS,
        "a message costs more": after.each > before.each * CPU,
        "there are more messages": after.messages > before.messages * CPU,
    }
    return [fault for fault, there in found.items() if there]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table; exit with 1 if something is not as it was before."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=120, help="of overload")
    seconds = parser.parse_args(arguments).seconds
    variant = replace(Variant("ours", ours), options={"gossip_interval": INTERVAL}, more={"count": True})
    samples: list[Sample] = []
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(variant, NODES))
        watch = Watch(cluster, NODES)

        def take(when: str, length: float = SAMPLE) -> Sample:
            samples.append(watch.sample(when, length))
            print(*cells(samples[-1]), flush=True)
            return samples[-1]

        cluster.hear(SETTLING)
        before = take("before")
        with busy(LOOPS):
            began = time.monotonic()
            while (left := seconds - (time.monotonic() - began)) > 0:
                at = time.monotonic() - began
                take(f"overload, from {at:.0f} s", min(2 * SAMPLE, left))
        take(f"the first {RECOVERY} s after", RECOVERY)
        after = take("then")
    print(written(samples))
    found = faults(before, after)
    sys.exit("; ".join(found) if found else 0)


if __name__ == "__main__":
    main()
