"""The figures of the documentation's page on experiments that are counted in rounds: `make figures`. Ten minutes on one core.

The tests hold the same figures to their bounds, with fewer repetitions; what they have in common stands there.
"""

from __future__ import annotations

import statistics
from functools import partial

from tests.test_behaviour import SECOND, a_cluster, deaths, known, level_with

SEEDS = range(1, 4)


def spread() -> list[float]:
    took = []
    for seed in SEEDS:
        sim, nodes = a_cluster(100, seed)
        for n in range(20):
            owner = nodes[4 * n]
            owner.update("k", n)
            took.append(sim.run_until(partial(level_with, owner, nodes), limit=60 * SECOND) / SECOND)
    return took


def two_hundred_keys() -> list[float]:
    took = []
    for seed in SEEDS:
        sim, nodes = a_cluster(50, seed)
        for n in range(200):
            nodes[7].update(f"k{n}", n)
        took.append(sim.run_until(partial(level_with, nodes[7], nodes), limit=60 * SECOND) / SECOND)
    return took


def restart() -> list[float]:
    took = []
    for seed in SEEDS:
        sim, nodes = a_cluster(50, seed)
        sim.crash("n7")
        sim.run(40 * SECOND)
        assert not any("n7" in known(node) for node in nodes if node is not nodes[7])
        nodes[7] = sim.restart("n7")
        nodes[7].update("life", 2)
        took.append(sim.run_until(partial(level_with, nodes[7], nodes), limit=60 * SECOND) / SECOND)
    return took


def line(took: list[float]) -> str:
    return f"{statistics.median(took):.1f} rounds in the median, {min(took):.1f} to {max(took):.1f}, of {len(took)}"


def main() -> None:
    """Print them."""
    print("an update at all of 100 nodes:", line(spread()), flush=True)
    print("200 keys at all of 50 nodes:", line(two_hundred_keys()), flush=True)
    print("a restarted node's first update at all of 50:", line(restart()), flush=True)
    for fanout in (1, 3):
        for count in (10, 50, 100, 200):
            last = []
            for seed in SEEDS:
                sim, nodes = a_cluster(count, seed, gossip_fanout=fanout)
                sim.run(30 * SECOND)
                last.append(deaths(sim, nodes, "n3")[-1] / SECOND)
            print(f"a death seen by the last of {count} nodes at fan-out {fanout}:", line(last), flush=True)


if __name__ == "__main__":
    main()
