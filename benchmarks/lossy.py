"""A cluster on a bad network: `python -m benchmarks.lossy [SECONDS] [--nodes 100] [--loss 0.05] [--latency 100] [--jitter 50]`.

Each node is a process with default options on a host of its own, and one of them writes each second. Packets between hosts are
lost and late. Links, descriptors and memory should stay flat, and nobody should be taken for dead; if somebody is, this fails.
Needs root.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.cluster import Cluster
from benchmarks.network import Lossy
from benchmarks.overload import Sample, Watch, cells, written
from benchmarks.peers import Variant, ours

__all__ = ["main"]

#: Seconds of a sample.
SAMPLE = 30


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table; exit with 1 if a node was taken for dead."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lossy", description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=600)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--loss", type=float, default=0.05, help="share of packets")
    parser.add_argument("--latency", type=float, default=100, help="milliseconds from host to host")
    parser.add_argument("--jitter", type=float, default=50, help="milliseconds by which that is more or less")
    chosen = parser.parse_args(arguments)
    samples: list[Sample] = []
    network = Lossy(chosen.nodes, chosen.loss, chosen.latency, chosen.jitter)
    variant = replace(Variant("ours", ours), more={"count": True})
    with Cluster(variant, chosen.nodes, network=network) as cluster:
        print(f"all know all after {cluster.started:.1f} s, false deaths so far: {cluster.false_deaths}", flush=True)
        watch, began = Watch(cluster, 1), time.monotonic()
        while (at := time.monotonic() - began) < chosen.seconds:
            samples.append(watch.sample(f"from {at:.0f} s", SAMPLE))
            print(*cells(samples[-1]), flush=True)
        false_deaths = cluster.false_deaths
    print(written(samples))
    sys.exit("live nodes were taken for dead" if false_deaths else 0)


if __name__ == "__main__":
    main()
