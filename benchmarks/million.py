"""A million keys of a hundred nodes, to one that joins. The hundred live in four processes: see `peers/ours_many.py`."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmarks import peers
from benchmarks.cluster import Cluster

__all__ = ["joiner_of_million"]

PROCESSES = 4
NAME = "f"
LIMIT = 600.0


def joiner_of_million(cluster: Cluster, scale: Any) -> dict[str, list[float]]:
    """Return the seconds until a node that joins has everything, from when it listens, and its RSS in MB.

    Args:
        cluster: One without nodes.
        scale: `large` nodes with `keys` keys each.
    """
    everybody = [cluster.config(number) for number in range(scale.large)]
    start = int(time.time() * 1e6) - scale.keys - 1
    for number in range(PROCESSES):
        mine = [info["id"] for info in everybody[number::PROCESSES]]
        program, told = peers.ours_many(), {"name": NAME, "keys": scale.keys, "start": start}
        cluster.launch(number, program, all=everybody, mine=mine, **told)
    hosts = list(cluster.nodes)
    cluster.wait(lambda: all(node.pid for node in hosts), LIMIT, "all processes have their keys")
    for step in ("listen", "gossip"):
        for node in hosts:
            cluster.tell(node, do=step)
        done = [cluster.done[node.id, step] for node in hosts]
        cluster.wait(partial(all, done), LIMIT, step)
    cluster.hear(scale.settle)
    joiner = cluster.launch(scale.large)
    have = [cluster.updates[info["id"], NAME] for info in everybody]
    cluster.wait(lambda: all(joiner.id in each for each in have), LIMIT, "all keys are at who joins")
    took = max(each[joiner.id] for each in have) - joiner.began
    return {"seconds": [took], "rss": [cluster.rss()[-1]]}
