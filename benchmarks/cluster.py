"""Runs a cluster of node programs, each a process of its own, and tells when what was awaited is on which node.

It knows nothing of any peer: what it says to programs and hears from them is described in `benchmarks.peers`. Each cluster has
a network of its own where that is allowed (`benchmarks.network`), so that what is counted there is that cluster's alone.

Nothing of it outlives a run: programs end with their stdin, so even a run that is killed leaves none.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, TypeVar

from benchmarks.network import Hosts, Loopback, Network, NetworkError
from benchmarks.peers import Program, Variant

__all__ = ["Cluster", "ClusterError", "Usage", "side_by_side"]

T = TypeVar("T")


class ClusterError(Exception):
    """A cluster did not do what was awaited; the message says what."""


class Usage(NamedTuple):
    """What a cluster used, per node and second."""

    bytes: float | None
    packets: float | None
    cpu: float  # milliseconds


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise ClusterError(f"can't be measured here: {error.strerror}: /proc/{pid}/{name}") from None


class Node:
    """One of the programs."""

    def __init__(self, id: str, number: int, process: subprocess.Popen[bytes]) -> None:
        self.id, self.number = id, number
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin: IO[bytes] = process.stdin
        self.stdout: IO[bytes] = process.stdout
        self.pid = 0  # of what is measured; 0 until it is ready
        self.began = 0.0  # when it started to listen
        self.gone = False  # killed, or cut off from the others
        self.known: set[str] = set()  # whom it sees alive
        self.rest = b""


class Cluster:
    """A cluster of `size` nodes, n0 being everyone's seed; a context manager, which returns once all know all.

    Args:
        variant: What nodes.
        size: How many; 0 for none, all of which are then started with `launch`.
        hosts: Whether each has a host of its own, which can be lost.
        network: Where they live, if neither will do. It is closed with the cluster.

    Raises:
        ClusterError: A node ended, or they did not find each other in time, or there are no such hosts here.
    """

    def __init__(self, variant: Variant, size: int, hosts: bool = False, network: Network | None = None) -> None:
        self.variant, self.size = variant, size
        self.nodes: list[Node] = []
        self.started = 0.0  # seconds from the first process to all knowing all
        #: (owner, key, value) -> observer -> when it had it; and the same of (owner, name of a fill).
        self.updates: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        #: The dead -> observer -> when it first said so.
        self.deaths: dict[str, dict[str, float]] = defaultdict(dict)
        self.false_deaths = 0
        #: (node, key or name of a fill) -> when it was set, each time.
        self.done: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.states: dict[str, dict[str, Any]] = {}  # node -> what it said of its state last
        self._told: dict[tuple[str, str], int] = defaultdict(int)  # how often it was told to set that
        self._poll = select.poll()
        self._by_descriptor: dict[int, Node] = {}
        self._closed = False
        try:
            self.network: Network = network or (Hosts(size) if hosts else Loopback())
        except NetworkError as error:
            raise ClusterError(str(error)) from None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`

    @property
    def alive(self) -> list[Node]:
        """Those that were neither killed nor lost."""
        return [node for node in self.nodes if not node.gone]

    # Life

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        began = time.monotonic()
        for _ in range(self.size):
            self.launch()
        limit = 30 + 2 * self.size
        self.wait(lambda: all(node.pid for node in self.nodes), limit, "all nodes listen")
        others = {node.id for node in self.nodes}
        self.wait(lambda: all(node.known >= others - {node.id} for node in self.nodes), limit, "all nodes know all")
        self.started = time.monotonic() - began

    def config(self, number: int) -> dict[str, Any]:
        """Return who and where a node is."""
        host, port = self.network.address(number)
        return {"id": f"n{number}", "host": host, "port": port}

    def launch(self, number: int | None = None, program: Program | None = None, **more: Any) -> Node:
        """Start a node, or another program with a configuration like one's."""
        program = program or self.variant.build()
        number = len(self.nodes) if number is None else number
        seeds = [self.config(0)] if number else []
        config = {**self.config(number), "seeds": seeds, "options": self.variant.options, **self.variant.more, **more}
        process = subprocess.Popen(
            [*self.network.prefix(number), *program.command, json.dumps(config)], env={**os.environ, **program.environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0, start_new_session=True,
        )  # fmt: skip
        node = Node(config["id"], number, process)
        self.nodes.append(node)
        self._by_descriptor[node.stdout.fileno()] = node
        self._poll.register(node.stdout, select.POLLIN)
        return node

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and the network; idempotent, and safe while another thread waits for something."""
        if self._closed:
            return
        self._closed = True
        for node in self.nodes:
            node.stdin.close()
        until = time.monotonic() + 2
        for node in self.nodes:
            try:
                node.process.wait(max(0.01, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(node.process.pid, signal.SIGKILL)  # and what it may have started itself
            except ProcessLookupError:
                pass
            node.process.wait()
            node.stdout.close()
        self.network.close()
        self._stderr.close()

    def kill(self, node: Node) -> float:
        """Kill it as `kill -9` does; return when that was."""
        node.gone = True
        at = time.time()
        os.kill(node.pid, signal.SIGKILL)
        return at

    def lose(self, node: Node) -> float:
        """Drop all packets to and from its host; return when that was."""
        node.gone = True
        at = time.time()
        self.network.lose(node.number)
        return at

    # Talk

    def tell(self, node: Node, **command: Any) -> None:
        """Send it a command."""
        if command["do"] in ("set", "fill"):
            self._told[node.id, command.get("key") or command["name"]] += 1
        node.stdin.write(json.dumps(command).encode() + b"\n")

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Hear the nodes until `done()`.

        Raises:
            ClusterError: It was not done in time, or a node ended.
        """
        if not self.hear(seconds, done):
            raise ClusterError(f"not within {seconds:.0f} s: {what}")

    def hear(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Hear the nodes for so long or until `done()`; return whether it is."""
        until = time.monotonic() + seconds
        while not done():
            left = until - time.monotonic()
            if left <= 0:
                return False
            for descriptor, _ in self._poll.poll(min(left, 0.5) * 1000):
                if self._closed:
                    raise ClusterError("closed")
                self._read(self._by_descriptor[descriptor])
            if self._closed:
                raise ClusterError("closed")
        return True

    def _read(self, node: Node) -> None:
        data = os.read(node.stdout.fileno(), 1 << 18)
        if not data:
            self._poll.unregister(node.stdout)
            if not node.gone:
                self._stderr.seek(0)
                last = self._stderr.read()[-300:].decode(errors="replace").strip()
                raise ClusterError(f"{node.id} of {self.variant.name} ended: {last or 'it said nothing'}")
            return
        *lines, node.rest = (node.rest + data).split(b"\n")
        for line in lines:
            self._heard(node, json.loads(line))

    def _heard(self, node: Node, said: dict[str, Any]) -> None:
        event, at = said["event"], said["at"]
        if event == "ready":
            node.pid, node.began = said["pid"], at
        elif event == "peer":
            node.known.add(said["id"])
        elif event == "update":
            self.updates[said["id"], said["key"], said["value"]].setdefault(node.id, at)
        elif event == "has":
            self.updates[said["id"], said["name"]].setdefault(node.id, at)
        elif event in ("set", "filled"):
            self.done[node.id, said.get("key") or said["name"]].append(at)
        elif event == "state":
            self.states[node.id] = said
        elif event == "dead" and not node.gone:  # who is cut off takes all others for dead
            node.known.discard(said["id"])
            if any(other.gone for other in self.nodes if other.id == said["id"]):
                self.deaths[said["id"]].setdefault(node.id, at)
            else:
                self.false_deaths += 1

    # Measurements

    def update(self, owner: Node, key: str, value: str, limit: float) -> float:
        """Set one key; return the seconds until the last of the others has it."""
        self.tell(owner, do="set", key=key, value=value)
        return self._everywhere(owner, key, (owner.id, key, value), limit)

    def fill(self, owner: Node, name: str, count: int, limit: float) -> float:
        """Set `count` keys at once; return the seconds until the last of the others has all of them."""
        self.tell(owner, do="fill", name=name, count=count)
        return self._everywhere(owner, name, (owner.id, name), limit)

    def _everywhere(self, owner: Node, what: str, news: tuple[str, ...], limit: float) -> float:
        have, done = self.updates[news], self.done[owner.id, what]
        others = {node.id for node in self.alive if node is not owner}
        told = self._told[owner.id, what]
        self.wait(lambda: len(have) >= len(others) and len(done) >= told, limit, f"{what} is everywhere")
        return max(have.values()) - done[-1]

    def join(self, owner: Node, name: str, limit: float) -> float:
        """Start a further node; return the seconds from when it listens until it has all keys of a fill."""
        node, have = self.launch(), self.updates[owner.id, name]
        self.wait(lambda: node.id in have, limit, f"{name} is at {node.id}")
        return have[node.id] - node.began

    def death(self, end: Callable[[Node], float], victim: Node, limit: float) -> float:
        """Kill or lose a node; return the seconds until the last of the others that knew it alive has seen it."""
        others = {node.id for node in self.alive if node is not victim and victim.id in node.known}
        at = end(victim)
        seen = self.deaths[victim.id]
        self.wait(lambda: len(seen) >= len(others), limit, f"the death of {victim.id} is seen by all ({len(others)})")
        return max(seen.values()) - at

    def state(self, node: Node) -> dict[str, Any]:
        """Return what a node says of its state."""
        self.states.pop(node.id, None)
        self.tell(node, do="state")
        self.wait(lambda: node.id in self.states, 10, f"{node.id} says its state")
        return self.states[node.id]

    def usage(self, seconds: float) -> Usage:
        """Hear the nodes for so long; return what they used in that time."""
        return self.measured(lambda: self.hear(seconds))

    def measured(self, work: Callable[[], Any]) -> Usage:
        """Do it; return what the nodes used meanwhile."""
        began, counted, used = time.monotonic(), self.network.counters(), self._cpu()
        work()
        share = (time.monotonic() - began) * len(self.alive)
        after = self.network.counters()
        cpu = (self._cpu() - used) * 1000 / share
        if counted is None or after is None:
            return Usage(None, None, cpu)
        return Usage((after[0] - counted[0]) / share, (after[1] - counted[1]) / share, cpu)

    def _cpu(self) -> float:
        """Seconds of CPU that the nodes have used."""
        ticks = 0
        for node in self.alive:
            user_and_system = _proc(node.pid, "stat").rpartition(")")[2].split()[11:13]
            ticks += sum(int(field) for field in user_and_system)
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss(self) -> list[float]:
        """Return the RSS of each node, in megabytes (10**6 bytes)."""
        pages = [int(_proc(node.pid, "statm").split()[1]) for node in self.alive]
        return [count * os.sysconf("SC_PAGE_SIZE") / 1e6 for count in pages]


class SideBySide:
    """Clusters that run at the same time, under the same conditions: see `side_by_side`."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.clusters: list[Cluster] = []
        self.failed: dict[str, str] = {}  # name of a variant -> why it is not among them
        self._pool = pool

    def each(self, do: Callable[[Cluster], T]) -> dict[str, T]:
        """Do it with each at the same time; return what came of it, by the variant's name. Those that fail are out."""
        results = {}
        for cluster, future in [(cluster, self._pool.submit(do, cluster)) for cluster in self.clusters]:
            try:
                results[cluster.variant.name] = future.result()
            except ClusterError as error:
                self.failed[cluster.variant.name] = str(error)
        return results


@contextmanager
def side_by_side(variants: list[Variant], size: int, hosts: bool = False) -> Iterator[SideBySide]:
    """Start a cluster of each, one after the other, and keep all of them running."""
    with ThreadPoolExecutor(max(1, len(variants))) as pool, ExitStack() as stack:  # the clusters are closed before the pool
        together = SideBySide(pool)
        for variant in variants:
            try:
                together.clusters.append(stack.enter_context(Cluster(variant, size, hosts)))
            except ClusterError as error:
                together.failed[variant.name] = str(error)
        yield together
