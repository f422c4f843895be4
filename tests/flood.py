"""A flood of invented peers: how many a node takes, what that costs, and what of them is left an hour after.

`python -m tests.flood [COUNT]` prints this for two nodes with default options, on the virtual clock.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, NamedTuple

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation
from tests.attackers import rss

__all__ = ["Flood", "flood"]

#: Entries in a message, and milliseconds between two.
_AT_ONCE, _APART = 1_000, 100


class Flood(NamedTuple):
    """What was measured.

    Attributes:
        known: Peers that either node knows at most.
        left: Those that it still knows an hour later.
        delay: Virtual milliseconds that an update from one to the other takes when the flood has come.
        cpu: Seconds of CPU that it takes to take one invented peer, or to refuse it, a thousand times.
        minutes: Virtual minutes from the last message until all are forgotten.
        total: Seconds of CPU for both nodes until then.
        grown: MB of memory that the flood has taken, and that are left an hour later.
    """

    known: int
    left: int
    delay: float
    cpu: float
    minutes: int
    total: float
    grown: tuple[float, float]


def flood(count: int, **options: Any) -> Flood:
    """Tell one of two nodes of so many peers that do not exist."""
    with Simulation(seed=1) as sim:
        nodes = [sim.add(id, seeds=["a"], **options) for id in "ab"]
        for node in nodes:
            node.on("error", lambda error: None)
        sim.run(30_000)
        memory, began = rss(), time.process_time()
        known, took = 0, 0.0
        for first in range(0, count, _AT_ONCE):
            entries = [
                {
                    "id": f"x{number}",
                    "maxVersionSeen": 0,
                    "heartbeat": 9,
                    "transport": {"host": f"h{number % 50_000}", "port": 9},
                }
                for number in range(first, min(count, first + _AT_ONCE))
            ]
            sender = {"id": f"x{first}", "transport": {"host": "evil", "port": 9}}
            data = json.dumps({"digest": entries, "sender": sender}).encode()
            start = time.process_time()
            nodes[0].transport.receive(data, "evil")
            took += time.process_time() - start
            sim.run(_APART)
            known = max(known, *map(_others, nodes))
        nodes[0].update("k", "v")
        delay = sim.run_until(lambda: nodes[1].get("a", "k") == "v", limit=60_000)
        most = (rss() - memory) / 1e6
        passed = 0
        while passed < 60 and max(map(_others, nodes)) > 1:
            sim.run(60_000)
            passed += 1
        total = time.process_time() - began
        sim.run((60 - passed) * 60_000)
        left = max(map(_others, nodes)) - 1
        return Flood(known, left, delay, took * 1000 / count, passed, total, (most, (rss() - memory) / 1e6))


def _others(node: Gossipmonger) -> int:
    return len(node.storage.live_peers()) + len(node.storage.dead_peers()) - 1


def main() -> None:
    print(flood(int((sys.argv[1:2] or ["100000"])[0])))


if __name__ == "__main__":
    main()
