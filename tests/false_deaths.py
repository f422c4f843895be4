"""False deaths in clusters that lose messages and whose processes are stopped now and then.

    python -m tests.false_deaths [FIRST LAST] [--count COUNT]

runs the seeds from FIRST to LAST, or new ones, on all cores, each with 50 nodes for two virtual minutes. A node that is paused
may be seen dead once it has been paused for long. Nobody else may, and the paused node itself must declare nobody dead.
"""

from __future__ import annotations

import sys
from random import Random

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

from .search import search


def false_deaths(seed: int, nodes: int = 50, seconds: int = 120) -> int:
    """Return how many wrong verdicts there were."""
    chance = Random(f"false deaths {seed}")
    sim = Simulation(seed, latency=(1, 50), loss=chance.uniform(0, 0.05))
    wrong = 0
    excused: dict[str, float] = {}  # until when a verdict on it may be due to its pause
    pauses: dict[str, tuple[float, float]] = {}  # when its last one begins and ends

    def watch(node: Gossipmonger) -> None:
        def dead(peer: object) -> None:
            nonlocal wrong
            id = peer.id  # type: ignore[attr-defined]
            wrong += sim.now > excused.get(id, 0)

        node.on("peer dead", dead)

    for n in range(nodes):
        watch(sim.add(f"n{n}", seeds=["n0"], compress_above=None))  # it would take a fifth of the time and change nothing
    sim.run(10_000)
    for _ in range(seconds // 10):
        for _ in range(chance.randint(0, 3)):
            id = f"n{chance.randrange(nodes)}"
            pause = chance.uniform(100, 20_000)
            sim.pause(id, pause)
            begin, end = pauses.get(id, (0, 0))
            begin = begin if sim.now <= end else sim.now  # one may begin within another
            end = max(end, sim.now + pause)
            pauses[id] = begin, end
            if end - begin > 10_000:  # its silence, and the time that news of its return takes
                excused[id] = end + 8_000
        sim.run(10_000)
    return wrong


def outcome(seed: int) -> str | None:
    """Return what was wrong with a seed's cluster."""
    wrong = false_deaths(seed)
    return f"seed {seed}: {wrong} false deaths" if wrong else None


if __name__ == "__main__":
    sys.exit(search("clusters", outcome, None, 1_000))
