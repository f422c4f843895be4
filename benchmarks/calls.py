"""Calls of Python functions within the package, which unlike times are the same in every run: `python -m benchmarks.calls`.

Counted with `sys.setprofile`: a compact digest at rest, from its bytes to those of the answer, and an update that tells three
peers, from the call to the bytes of the three messages. All of 25 nodes know each other, over the simulated network, whose own
calls are not counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import gossipmonger
from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

__all__ = ["count_digest", "count_update"]

PACKAGE = str(Path(gossipmonger.__file__).parent)
NODES = 25


def counted(function: Callable[[], object]) -> Counter[str]:
    """Return how often each function of the package is called meanwhile."""
    calls: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(PACKAGE) and not path.endswith(("simulated.py", "simulation.py")):
            calls[f"{Path(path).stem}.{frame.f_code.co_name}"] += 1

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


def at_rest(rumor_fanout: int = 4) -> tuple[Simulation, list[Gossipmonger]]:
    """Return a cluster that knows everything, on a network that forgets what is sent from now on."""
    sim = Simulation(seed=1)
    nodes = [sim.add(f"n{n}", seeds=["n0"], rumor_fanout=rumor_fanout) for n in range(NODES)]
    for node in nodes:
        node.update("key", "value")
    sim.run(30_000)
    return sim, nodes


def count_digest() -> Counter[str]:
    """Return the calls for the digest of a round between two nodes that agree, the median of nine."""
    sim, nodes = at_rest()
    sent: list[tuple[str, bytes]] = []
    send = sim.network.send

    def keep(source: str, host: str, data: bytes) -> None:
        sent.append((host, data))
        send(source, host, data)

    sim.network.send = keep  # type: ignore[method-assign]
    counts: list[Counter[str]] = []
    while len(counts) < 9:
        sent.clear()
        sim.run(100)
        for host, data in sent[:1]:
            node = next(node for node in nodes if node.local_peer.id == host)
            counts.append(counted(lambda node=node, data=data: node.transport.receive(data, "peer")))  # type: ignore[misc]
    return sorted(counts, key=lambda count: count.total())[4]


def count_update() -> Counter[str]:
    """Return the calls for an update of a node that has rested, which tells three peers."""
    _, nodes = at_rest(rumor_fanout=3)
    return counted(lambda: nodes[3].update("key", "another value"))


def main() -> None:
    """Print both."""
    for name, calls in (("a compact digest at rest", count_digest()), ("an update that tells three peers", count_update())):
        print(f"{name}: {calls.total()} calls")
        for function, times in calls.most_common():
            print(f"  {times:3} {function}")


if __name__ == "__main__":
    main()
