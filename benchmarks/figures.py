"""Figures of whole clusters on virtual time, for the page of experiments: `make figures`. Ten minutes on one core.

The tests hold the same figures to their bounds, with fewer repetitions; what they have in common stands there.
"""

from __future__ import annotations

import statistics
from functools import partial

from tests.test_behaviour import SECOND, a_cluster, deaths, known, level_with
from tests.test_refusals import seen_by_all
from tests.test_simulated_clusters import Watch

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


def rumors(count: int, updates: int, loss: float = 0) -> tuple[list[float], int]:
    """Return after how many milliseconds each update was everywhere, and the most rumours that a node sent for one."""
    sim, nodes = a_cluster(count, 1, rumor_fanout=4)
    sim.run(2 * SECOND)
    sim.network.loss = loss
    took, most = [], 0
    watch = Watch(nodes)
    for n in range(updates):
        owner, before = nodes[n % count], dict(watch.sent)
        owner.update("k", n)
        took.append(sim.run_until(partial(level_with, owner, nodes), limit=60 * SECOND, every=5))
        sim.run(SECOND)
        most = max(most, *(watch.sent[id] - before[id] for id in before))
    return took, most


def line(took: list[float]) -> str:
    return f"{statistics.median(took):.1f} rounds in the median, {min(took):.1f} to {max(took):.1f}, of {len(took)}"


def main() -> None:
    """Print them."""
    print("an update at all of 100 nodes:", line(spread()), flush=True)
    print("200 keys at all of 50 nodes:", line(two_hundred_keys()), flush=True)
    print("a restarted node's first update at all of 50:", line(restart()), flush=True)
    for count, updates in ((25, 100), (100, 100), (1000, 3)):
        took, most = rumors(count, updates)
        print(
            f"an update at all of {count} nodes by rumours: {statistics.median(took):.0f} ms in the median, {min(took):.0f} to "
            f"{max(took):.0f}, of {updates}; at most {most} rumours a node",
            flush=True,
        )
    took, _ = rumors(100, 100, loss=0.1)
    print(
        f"at 10 % loss, updates at all of 100 nodes within a round: {sum(each <= SECOND for each in took)} of 100", flush=True
    )
    for fanout in (1, 3):
        for count in (10, 50, 100, 200):
            last = []
            for seed in SEEDS:
                sim, nodes = a_cluster(count, seed, gossip_fanout=fanout)
                sim.run(30 * SECOND)
                last.append(deaths(sim, nodes, "n3")[-1] / SECOND)
            print(f"a lost host seen dead by the last of {count} nodes at fan-out {fanout}:", line(last), flush=True)
            killed = []
            for seed in SEEDS:
                sim, nodes = a_cluster(count, seed, gossip_fanout=fanout, rumor_fanout=3)
                sim.run((20 + count / fanout) * SECOND)
                sim.crash("n3")
                killed.append(seen_by_all(sim, nodes, "n3", limit=60 * SECOND) / SECOND)
            print(f"a killed process seen dead by the last of {count} nodes at fan-out {fanout}:", line(killed), flush=True)


if __name__ == "__main__":
    main()
