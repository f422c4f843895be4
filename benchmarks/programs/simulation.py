"""A simulated cluster of ours: how long it takes, in its time and in ours, and what it says."""

from __future__ import annotations

import gc
import resource
import sys
import time
from typing import Any

from benchmarks.programs.lines import serve
from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

#: Virtual milliseconds.
ROUND = 1_000
STEP = 50
GIVE_UP = 30_000

#: Updates whose spread is measured.
UPDATES = 3


class Knowledge:
    """Whether all know what all have said. Nobody forgets, so who knew all has to be asked no more."""

    def __init__(self, nodes: list[Gossipmonger]) -> None:
        self._nodes = nodes
        self._versions = {node.local_peer.id: node.local_peer.max_version_seen for node in nodes}
        self._level = 0

    def complete(self) -> bool:
        """Whether they do."""
        while self._level < len(self._nodes) and self._knows_all(self._nodes[self._level]):
            self._level += 1
        return self._level == len(self._nodes)

    def _knows_all(self, node: Gossipmonger) -> bool:
        for id, version in self._versions.items():
            peer = node.storage.get(id)
            if peer is None or peer.max_version_seen < version:
                return False
        return True


def run(nodes: int, keys: int, seconds: int, limit: float, options: dict[str, Any]) -> dict[str, Any]:
    """Run for so many virtual seconds, but for `limit` seconds of ours at most.

    Returns:
        Of the first, `rounds` until all knew everything, None if they never did; `bytes` and `messages` for each node and round
        in the second half; `updates`, milliseconds until all had one; `virtual`, `wall` and `cpu`, how many seconds
        passed; `memory`, the most bytes there were.
    """
    gc.disable()  # a node makes no cycles, and to look for some among the peers of a thousand nodes is a fifth of all the work
    begun, used = time.perf_counter(), time.process_time()
    sim = Simulation(seed=1)
    members = [sim.add(f"n{n}", seeds=["n0"], **options) for n in range(nodes)]
    for node in members:
        for key in range(keys):
            node.update(f"key-{key}", f"value-{key}")
    start, end = sim.now, seconds * ROUND
    knowledge, converged = Knowledge(members), None
    half: tuple[float, int, int] | None = None
    while sim.now - start < end and time.perf_counter() - begun < limit:
        sim.run(STEP)
        if converged is None and knowledge.complete():
            converged = (sim.now - start) / ROUND
        if half is None and sim.now - start >= end / 2:
            half = sim.now, sim.bytes, sim.messages
    passed, wall, cpu = sim.now - start, time.perf_counter() - begun, time.process_time() - used
    since, bytes, messages = half or (start, 0, 0)
    share = nodes * max(STEP, sim.now - since) / ROUND
    said, sent = (sim.bytes - bytes) / share, (sim.messages - messages) / share
    updates = [update(sim, members, n) for n in range(UPDATES)] if converged is not None and passed >= end else []
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "nodes": nodes, "rounds": converged, "bytes": said, "messages": sent, "updates": updates, "virtual": passed / 1000,
        "wall": wall, "cpu": cpu, "memory": memory,
    }  # fmt: skip


def update(sim: Simulation, members: list[Gossipmonger], number: int) -> float:
    """Set a key at a node, a second after the one before; return the virtual milliseconds until all have it."""
    sim.run(ROUND)
    members[number * len(members) // UPDATES].update("news", number)
    return sim.run_until(Knowledge(members).complete, limit=GIVE_UP)


def fast() -> bool:
    """Return whether messages are decoded by msgspec."""
    return "gossipmonger.wire.msgspec_decoder" in sys.modules


serve(run=run, fast=fast)
