"""One real node in a cluster of any size: `python -m benchmarks.generated [--peers 100 ...] [--updates 0.01] [--seconds 15]`.

The node is a process of its own with default options, over TCP on loopback. All others are played: see `benchmarks.crowd`. For
each size it is measured while the cluster forms, at rest, and with so many updates per second and node. Each size takes a
minute and a half at most.

`--hold` keeps the cluster at rest afterwards, so that a profiler can look at the node.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import peers
from benchmarks.crowd import Crowd
from benchmarks.programs import free_ports
from benchmarks.report import figure, table
from gossipmonger.state import RemotePeer

__all__ = ["Usage", "main", "measure"]

#: What is measured by default.
SIZES = (100, 1_000, 3_000, 9_999)

#: Seconds after which a cluster that has not formed is given up; seconds from forming to rest, when most links are there that a
#: node keeps; and seconds before the updates are measured.
LIMIT, RESTING, SETTLING = 60, 40, 5


class Usage(NamedTuple):
    """What the node used, per second; while the cluster formed, in all."""

    seconds: float
    cpu: float  # milliseconds
    read: float  # bytes
    written: float
    messages: float  # both ways
    rss: float  # MB
    links: int
    threads: int
    descriptors: int

    def per_second(self) -> Usage:
        share = self.seconds
        return self._replace(
            cpu=self.cpu / share, read=self.read / share, written=self.written / share, messages=self.messages / share
        )


class Node:
    """The real node. What it says is counted."""

    def __init__(self, port: int, seed: RemotePeer) -> None:
        self.remote = RemotePeer("node", {"host": "127.0.0.1", "port": port})
        program = peers.ours()
        config = {"id": "node", "host": "127.0.0.1", "port": port, "options": {}, "seeds": [{"id": seed.id, **seed.transport}]}
        self._process = subprocess.Popen(
            [*program.command, json.dumps(config)], env={**os.environ, **program.environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self.began = time.time()
        self.said: Counter[str] = Counter()
        self.deaths: list[str] = []
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self.said[said["event"]] += 1
            if said["event"] == "dead":
                self.deaths.append(f"{said['id']} at {said['at'] - self.began:.1f} s")

    def cpu(self) -> float:
        """Milliseconds of CPU so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def status(self, name: str) -> int:
        """Return a number of its /proc/PID/status."""
        return int(Path(f"/proc/{self.pid}/status").read_text().partition(f"{name}:")[2].split()[0])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def used(node: Node, crowd: Crowd, seconds: float, done: Any = lambda: False) -> Usage:
    """Play for so long, or until `done()`; return what the node used meanwhile, in all."""
    began, cpu = time.monotonic(), node.cpu()
    read, written, messages = crowd.read, crowd.written, crowd.messages
    while time.monotonic() - began < seconds and not done():
        crowd.turn(0.5)
    return Usage(
        time.monotonic() - began, node.cpu() - cpu, crowd.written - written, crowd.read - read, crowd.messages - messages,
        node.status("VmRSS") / 1000, len(crowd.wires), node.status("Threads"), node.descriptors(),
    )  # fmt: skip


def measure(size: int, updates: float, seconds: float, hold: bool = False) -> dict[str, Usage]:
    """Return what the node uses while a cluster of this size forms, at rest, and with so many updates per second and node."""
    (port,) = free_ports(1)
    crowd = Crowd(size - 1, RemotePeer("node", {"host": "127.0.0.1", "port": port}))
    node = Node(port, crowd.peers[0].remote)
    try:
        while not node.said["ready"]:
            time.sleep(0.05)
        crowd.begin()
        results = {}
        formed = used(node, crowd, LIMIT, lambda: crowd.agrees and node.said["peer"] >= size - 1)
        results["forming, in all"] = formed
        crowd.turn(RESTING)
        results["at rest"] = used(node, crowd, seconds).per_second()
        crowd.updates = updates * size
        crowd.turn(SETTLING)
        results[f"{updates:g} updates"] = used(node, crowd, seconds).per_second()
        crowd.updates *= hold
        print(f"{size:,}: {dict(node.said)}, false deaths: {node.deaths}", flush=True)
        while hold:
            crowd.turn(1)
    finally:
        crowd.close()
        node.close()
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generated", description=__doc__)
    parser.add_argument("--peers", type=int, nargs="+", default=SIZES, help="nodes of each cluster, the real one counted")
    parser.add_argument("--updates", type=float, default=0.01, help="per second and node")
    parser.add_argument("--seconds", type=float, default=15, help="for which each is measured")
    parser.add_argument("--hold", action="store_true", help="go on until it is interrupted")
    chosen = parser.parse_args(arguments)
    header = ["nodes", "", "s", "CPU, ms", "KB in", "KB out", "messages", "RSS, MB", "links", "threads", "descriptors"]
    rows = []
    for size in chosen.peers:
        for what, usage in measure(size, chosen.updates, chosen.seconds, chosen.hold).items():
            kilobytes = [figure(usage.read / 1000), figure(usage.written / 1000)]
            counts = [str(count) for count in (usage.links, usage.threads, usage.descriptors)]
            numbers = [figure(usage.seconds), figure(usage.cpu), *kilobytes, figure(usage.messages), figure(usage.rss)]
            rows.append([f"{size:,}", what, *numbers, *counts])
            print(rows[-1], flush=True)
    print(table(header, rows))


if __name__ == "__main__":
    main()
