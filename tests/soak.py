"""A long life: whether twenty nodes that write all the time, change keys, are killed and come back, stay as small as they were.

`python -m tests.soak [MINUTES]` prints a table, a line for each part of the time, with the most that any node has. Each node is
a process with a round every 50 ms. It sets, deletes and lets expire keys. Every few seconds one is killed and started again,
and in each part of the time the key that seals all messages is changed for another. In the end, all replicas must be equal and
nothing may have grown; if not, this fails. At 50 ms, a process that waits 0.3 s for its turn may be taken for dead, so on a
machine that has other work there are false deaths, which do not count.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.network import Loopback
from benchmarks.report import figure, table
from gossipmonger import Keyring
from tests.far import Far, until

__all__ = ["Sample", "Soak", "grown", "main"]

NODES, INTERVAL = 20, 50

#: Milliseconds between two writes of a node. Twenty nodes make ten of them a second.
LOAD = 2_000

#: Seconds from one that is killed to the next, and until it is started again.
KILL, AWAY = 15.0, 2.0

#: Seconds from one step of a change of keys to the next: some rounds, in which all that was sealed before arrives.
STEP = 2.0

#: Parts of the time.
PARTS = 10

#: Seconds until all is everywhere.
LIMIT = 60.0

#: How much more than after a third of the time a node may have at the end. A link more or less at each other node is no matter.
MEMORY, THREADS, DESCRIPTORS, LINKS = 1.15, 1, 2 * NODES, 2 * NODES


class Sample(NamedTuple):
    """The most that any node has."""

    minutes: float
    rss: float  # MB
    threads: int
    descriptors: int
    links: int
    keys: int  # own ones and others', as the node that has the most of them counts
    killed: int  # so far
    rotations: int  # so far
    unopened: int  # messages that no key opened, in all lives that go on
    deaths: int  # verdicts on nodes that were not killed, in this part of the time


class Soak:
    """The nodes.

    Attributes:
        nodes: Those that run, by their ids.
        samples: One for each part of the time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._random = random.SystemRandom()
        self._network = Loopback()
        self._addresses = {f"n{number}": self._network.address(number) for number in range(NODES)}
        self._keys = [Keyring.generate()]
        self._gone: set[str] = set()  # killed in this part of the time
        self._killed = self._rotations = 0
        self.nodes: dict[str, Far] = {}
        self.samples: list[Sample] = []

    def start(self) -> None:
        """Start all, and wait until they know each other."""
        for id in self._addresses:
            self._start(id)
        ids = self._addresses.keys()
        until(self._changed, lambda: all(ids - {id} <= node.live for id, node in self.nodes.items()), LIMIT, self.__str__)

    def _start(self, id: str) -> None:
        host, port = self._addresses[id]
        config = {"id": id, "host": host, "port": port, "keys": self._keys, "load": LOAD}
        config["seeds"] = [self._addresses[seed] for seed in ("n0", "n1") if seed != id]
        config["options"] = {"gossip_interval": INTERVAL, "cluster": "soak"}
        self.nodes[id] = Far(self._changed, config, self._network.prefix(0))

    def run(self, seconds: float) -> None:
        """Let some time pass."""
        end = time.monotonic() + seconds
        while time.monotonic() + AWAY < end:
            self._wait(min(KILL - AWAY, end - time.monotonic() - AWAY))
            id = self._random.choice([*self._addresses])
            self._gone.add(id)
            self.nodes.pop(id).kill()
            self._killed += 1
            self._wait(AWAY)
            self._start(id)
            until(self._changed, lambda: all(node.listening for node in self.nodes.values()), LIMIT, self.__str__)

    def _wait(self, seconds: float) -> None:
        """Let some time pass in which no process ends by itself."""
        with self._changed:
            ended = self._changed.wait_for(lambda: any(node.ended for node in self.nodes.values()), seconds)
        assert not ended, f"a process has ended: {self}"

    def rotate(self) -> None:
        """Change the key of all for another one."""
        former, new = self._keys[0], Keyring.generate()
        for do, key, keys in (("add", new, [former, new]), ("promote", new, [new, former]), ("remove", former, [new])):
            for node in self.nodes.values():
                node.ask("keyring", do, key)
            self._keys = keys
            self._wait(STEP)
        self._rotations += 1

    def sample(self, minutes: float) -> Sample:
        """Return what the nodes have."""
        metrics = [node.ask("metrics") for node in self.nodes.values()]
        folders = [Path(f"/proc/{node.process.pid}") for node in self.nodes.values()]
        status = [dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines()) for folder in folders]
        with self._changed:
            deaths = sum(id not in self._gone for node in self.nodes.values() for id in node.deaths)
            for node in self.nodes.values():
                node.deaths.clear()
            self._gone.clear()
        taken = Sample(
            minutes,
            max(int(each["VmRSS"].split()[0]) for each in status) / 1024,
            max(int(each["Threads"]) for each in status),
            max(len([*(folder / "fd").iterdir()]) for folder in folders),
            max(sum(each["links"].values()) for each in metrics),
            max(sum(each["keys"].values()) for each in metrics),
            self._killed,
            self._rotations,
            sum(each["messages_refused"].get("sealed", 0) for each in metrics),
            deaths,
        )
        self.samples.append(taken)
        return taken

    def rest(self) -> float:
        """Write no more; return after how many seconds all replicas are equal."""
        for node in self.nodes.values():
            node.ask("rest")
        began = time.monotonic()
        while True:
            states = [{id: data for id, (_, data) in node.ask("state").items()} for node in self.nodes.values()]
            if states[0].keys() == self.nodes.keys() and all(state == states[0] for state in states):
                return time.monotonic() - began
            assert time.monotonic() - began < LIMIT, f"replicas differ after {LIMIT} s: {self}"

    def close(self) -> None:
        for node in self.nodes.values():
            node.kill()
        self._network.close()

    def __str__(self) -> str:
        return "; ".join(map(str, self.nodes.values()))


def grown(samples: Sequence[Sample]) -> list[str]:
    """Return what has grown since a third of the time."""
    before, after = samples[len(samples) // 3], samples[-1]
    found = {
        "memory": after.rss > before.rss * MEMORY,
        "threads": after.threads > before.threads + THREADS,
        "descriptors": after.descriptors > before.descriptors + DESCRIPTORS,
        "links": after.links > before.links + LINKS,
        "messages that no key opens": after.unopened > before.unopened,
    }
    return [what for what, there in found.items() if there]


def cells(sample: Sample) -> list[str]:
    """Return the cells of a sample's row."""
    return [figure(field) if isinstance(field, float) else str(field) for field in sample]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table; exit with 1 if something has grown."""
    given = sys.argv[1:] if arguments is None else arguments
    minutes = float(given[0]) if given else 30.0
    soak = Soak()
    try:
        soak.start()
        began = time.monotonic()
        for part in range(1, PARTS + 1):
            soak.run(began + minutes * 60 * part / PARTS - time.monotonic())
            soak.rotate()
            print(*cells(soak.sample((time.monotonic() - began) / 60)), flush=True)
        seconds = soak.rest()
    finally:
        soak.close()
    header = [
        "minutes",
        "RSS, MB",
        "threads",
        "descriptors",
        "links",
        "keys",
        "killed",
        "rotations",
        "unopened",
        "false deaths",
    ]
    print(table(header, [cells(sample) for sample in soak.samples]))
    print(f"all replicas are equal {seconds:.1f} s after the last write")
    sys.exit(f"grown: {', '.join(found)}" if (found := grown(soak.samples)) else 0)


if __name__ == "__main__":
    main()
