"""Runs a cluster of node programs, each a process of its own, and tells when what was awaited is on which node.

It knows nothing of any peer: what it says to programs and hears from them is described in `benchmarks.peers`. Each cluster has
a network namespace of its own where that is allowed, so that what its loopback interface counts is that cluster's alone.

Nothing of it outlives a run. Programs end with their stdin, and a namespace with the last process in it, so even a run that is
killed leaves none.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, TypeVar

from benchmarks.peers import Variant

__all__ = ["Cluster", "ClusterError", "Usage", "side_by_side"]

#: The first port where the network is the cluster's own.
FIRST_PORT = 20_000


T = TypeVar("T")


class ClusterError(Exception):
    """A cluster did not do what was awaited; the message says what."""


class Usage(NamedTuple):
    """What a cluster used, per node and second."""

    bytes: float | None
    packets: float | None
    cpu: float  # milliseconds


class Network:
    """A network namespace with a loopback interface alone, or, where that can't be, the machine's own loopback.

    Attributes:
        reason: Why it is none of its own; empty if it is.
        prefix: What to put before a command so that it runs there.
    """

    def __init__(self) -> None:
        self.reason, self.prefix = "", []
        self._holder: subprocess.Popen[str] | None = None
        try:
            self._holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            self.reason = f"no network of its own: {error.strerror}: unshare"
            return
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline().strip()
        if said != "up":
            self.close()
            self.reason = f"no network of its own: {said or 'no namespaces here'}"
            return
        self.prefix = ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--"]

    def ports(self, count: int) -> list[int]:
        """Return `count` ports, each of which and the one above it is free."""
        if self.prefix:
            return [FIRST_PORT + 2 * number for number in range(count)]
        free = (port for port in range(FIRST_PORT, 65_535, 2) if _is_free(port) and _is_free(port + 1))
        return list(islice(free, count))

    def counters(self) -> tuple[int, int] | None:
        """Return the bytes and packets that were sent, headers of IP and TCP or UDP included; None if nobody counts them."""
        if not self.prefix or self._holder is None:
            return None
        numbers = _proc(self._holder.pid, "net/dev").partition(" lo:")[2].split()
        return int(numbers[8]), int(numbers[9])

    def close(self) -> None:
        """End what holds it; idempotent."""
        if self._holder is not None:
            for stream in (self._holder.stdin, self._holder.stdout):
                if stream is not None:
                    stream.close()
            self._holder.kill()
            self._holder.wait()
            self._holder = None


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError as error:
        raise ClusterError(f"can't be measured here: {error.strerror}: /proc/{pid}/{name}") from None


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


class Node:
    """One of the programs."""

    def __init__(self, id: str, process: subprocess.Popen[bytes]) -> None:
        self.id = id
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin: IO[bytes] = process.stdin
        self.stdout: IO[bytes] = process.stdout
        self.pid = 0  # of what is measured; 0 until it is ready
        self.killed = False
        self.known: set[str] = set()  # whom it sees alive
        self.rest = b""


class Cluster:
    """A cluster of `size` nodes, n0 being everyone's seed; a context manager, which returns once all know all.

    Raises:
        ClusterError: A node ended, or they did not find each other in time.
    """

    def __init__(self, variant: Variant, size: int) -> None:
        self.variant, self.size = variant, size
        self.network = Network()
        self.nodes: list[Node] = []
        self.started = 0.0  # seconds from the first process to all knowing all
        #: (owner, key, value) -> observer -> when it had it; and the same of (owner, name of a fill).
        self.updates: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
        #: The dead -> observer -> when it first said so.
        self.deaths: dict[str, dict[str, float]] = defaultdict(dict)
        self.false_deaths = 0
        self._done: dict[tuple[str, str], float] = {}  # (node, key or name) -> when it was set
        self._poll = select.poll()
        self._by_descriptor: dict[int, Node] = {}
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`
        self._closed = False

    @property
    def alive(self) -> list[Node]:
        """Those that were not killed."""
        return [node for node in self.nodes if not node.killed]

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
        program = self.variant.build()
        ports = self.network.ports(self.size)
        seed = {"id": "n0", "port": ports[0]}
        for number, port in enumerate(ports):
            config = {
                "id": f"n{number}", "port": port, "seeds": [seed] if number else [], "options": self.variant.options,
                **self.variant.more,
            }  # fmt: skip
            process = subprocess.Popen(
                [*self.network.prefix, *program.command, json.dumps(config)], env={**os.environ, **program.environment},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, bufsize=0, start_new_session=True,
            )  # fmt: skip
            node = Node(config["id"], process)
            self.nodes.append(node)
            self._by_descriptor[node.stdout.fileno()] = node
            self._poll.register(node.stdout, select.POLLIN)
        limit = 30 + 2 * self.size
        self.wait(lambda: all(node.pid for node in self.nodes), limit, "all nodes listen")
        others = {node.id for node in self.nodes}
        self.wait(lambda: all(node.known == others - {node.id} for node in self.nodes), limit, "all nodes know all")
        self.started = time.monotonic() - began

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
        node.killed = True
        at = time.time()
        os.kill(node.pid, signal.SIGKILL)
        return at

    # Talk

    def tell(self, node: Node, **command: Any) -> None:
        """Send it a command."""
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
            if not node.killed:
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
            node.pid = said["pid"]
        elif event == "peer":
            node.known.add(said["id"])
        elif event == "update":
            self.updates[said["id"], said["key"], said["value"]].setdefault(node.id, at)
        elif event == "has":
            self.updates[said["id"], said["name"]].setdefault(node.id, at)
        elif event in ("set", "filled"):
            self._done[node.id, said.get("key") or said["name"]] = at
        elif event == "dead":
            node.known.discard(said["id"])
            if any(other.killed for other in self.nodes if other.id == said["id"]):
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
        have = self.updates[news]
        others = {node.id for node in self.alive if node is not owner}
        self.wait(lambda: len(have) >= len(others) and (owner.id, what) in self._done, limit, f"{what} is everywhere")
        return max(have.values()) - self._done[owner.id, what]

    def death(self, victim: Node, limit: float) -> list[float]:
        """Kill a node; return the seconds until each of the others that knew it alive has seen it, in order."""
        others = {node.id for node in self.alive if victim.id in node.known}
        at = self.kill(victim)
        seen = self.deaths[victim.id]
        self.wait(lambda: len(seen) >= len(others), limit, f"the death of {victim.id} is seen by all ({len(others)})")
        return sorted(when - at for when in seen.values())

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

    def rss(self) -> float:
        """Return the RSS of the median node, in megabytes (10**6 bytes)."""
        pages = [int(_proc(node.pid, "statm").split()[1]) for node in self.alive]
        return statistics.median(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


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
                print(f"{cluster.variant.name}: {error}", flush=True)
        self.clusters = [cluster for cluster in self.clusters if cluster.variant.name not in self.failed]
        return results


@contextmanager
def side_by_side(variants: list[Variant], size: int) -> Iterator[SideBySide]:
    """Start a cluster of each, one after the other, and keep all of them running."""
    with ThreadPoolExecutor(max(1, len(variants))) as pool, ExitStack() as stack:  # the clusters are closed before the pool
        together = SideBySide(pool)
        for variant in variants:
            try:
                cluster = stack.enter_context(Cluster(variant, size))
            except ClusterError as error:
                together.failed[variant.name] = str(error)
                print(f"{variant.name}: {error}", flush=True)
                continue
            together.clusters.append(cluster)
            print(f"{variant.name}: {size} nodes know each other after {cluster.started:.1f} s", flush=True)
        yield together
