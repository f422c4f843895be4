"""Keys with a ttl whose owners are killed: when each of them disappears at each node that lives on.

    python -m tests.ttls [--keys KEYS] [--nodes NODES] [--seed SEED]

All nodes own keys, with ttls of 5 to 60 s, and set each again every second. Most nodes are killed, one after the other. A key
must disappear at every node that lives, not before its ttl has passed since the owner's last heartbeat that anybody has heard
of, and no later than `BOUND` after that. No key of a node that lives may disappear. The times are those of the simulation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from random import Random, SystemRandom
from typing import Any

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

#: Milliseconds that the news of a last heartbeat takes at most, among 30 nodes with rounds of a second.
BOUND = 5_000

#: Milliseconds by which events of one moment may differ: the sum of floating-point times.
EXACT = 1.0


class Cluster:
    """One run.

    Args:
        seed: All is drawn from it.
        nodes: How many nodes there are; five of six are killed.
        keys: How many keys they have together.

    Attributes:
        wrong: What was wrong.
        late: Milliseconds after its ttl at which each key of a killed owner disappeared at each node that has survived.
    """

    def __init__(self, seed: int, nodes: int, keys: int) -> None:
        self.random = Random(f"ttls {seed}")
        self.sim = Simulation(seed, latency=(1, 20), loss=0.01)
        self.wrong: list[str] = []
        self.late: list[float] = []
        self.ids = [f"n{n}" for n in range(nodes)]
        self.nodes = {id: self.sim.add(id, seeds=["n0"]) for id in self.ids}
        self.ttls: dict[str, dict[str, float]] = {id: {} for id in self.ids}
        for n in range(keys):
            self.ttls[self.random.choice(self.ids)][f"k{n}"] = self.random.uniform(5, 60)
        self.beats: dict[str, dict[int, float]] = {id: {} for id in self.ids}  # id -> its heartbeats, and when it sent each
        self.killed: set[str] = set()
        self.hidden: dict[tuple[str, str, str], float] = {}  # reader, owner, key -> when it disappeared
        for node in self.nodes.values():
            self.follow(node)

    def follow(self, node: Gossipmonger) -> None:
        id = node.local_peer.id

        def sent(_: object, digest: list[dict[str, Any]]) -> None:
            self.beats[id].setdefault(digest[-1]["heartbeat"], self.sim.now)

        node.on("digest send", sent)
        node.on("delete", lambda owner, key: self.disappeared(id, owner, key))
        node.on("update", lambda owner, key, _: self.hidden.pop((id, owner, key), None))

    def disappeared(self, reader: str, owner: str, key: str) -> None:
        if owner not in self.killed:
            self.wrong.append(f"{key} of {owner}, which lives, disappeared at {reader}")
            return
        self.hidden[reader, owner, key] = self.sim.now
        heard = self.nodes[reader].storage.get(owner).heartbeat
        self.see(owner, key, reader, self.beats[owner][heard])

    def see(self, owner: str, key: str, reader: str, beat: float) -> float:
        """Return how long after its ttl a key has disappeared, if that counts from this moment."""
        late = self.hidden[reader, owner, key] - beat - self.ttls[owner][key] * 1000
        if not -EXACT <= late <= BOUND:
            self.wrong.append(f"{key} of {owner} disappeared at {reader} {late:.0f} ms after its ttl")
        return late

    def set_keys(self) -> None:
        for id, ttls in self.ttls.items():
            if id not in self.killed:
                for key, ttl in ttls.items():
                    self.nodes[id].update(key, key, ttl)

    def run(self) -> None:
        self.sim.run_until(lambda: all(len(node.peers()) == len(self.ids) for node in self.nodes.values()), 60_000, every=1_000)
        self.set_keys()
        self.sim.run_until(self.is_everywhere, 60_000, every=1_000)
        victims = self.random.sample(self.ids, len(self.ids) * 5 // 6)
        self.survivors = [id for id in self.ids if id not in victims]
        while victims:
            self.set_keys()
            self.sim.run(self.random.uniform(0, 1_000))
            if self.random.random() < 0.7:
                id = victims.pop()
                (self.sim.crash if self.random.random() < 0.7 else self.sim.vanish)(id)
                self.killed.add(id)
        for _ in range(60 + BOUND // 1_000 + 1):
            self.set_keys()
            self.sim.run(1_000)
        self.judge()

    def is_everywhere(self) -> bool:
        self.set_keys()
        return all(
            len(node.storage.get(id).ttls) == len(ttls) for node in self.nodes.values() for id, ttls in self.ttls.items()
        )

    def judge(self) -> None:
        """See whether every key is where it should be."""
        for reader in self.survivors:
            for owner, ttls in self.ttls.items():
                seen = self.nodes[reader].peer(owner)
                there = set() if seen is None else set(seen.data)
                wanted = set() if owner in self.killed else set(ttls)
                if there != wanted:
                    self.wrong.append(f"{reader} shows {len(there)} keys of {owner} instead of {len(wanted)}")
                heard = max(self.nodes[id].storage.get(owner).heartbeat for id in self.survivors)
                for key in ttls if owner in self.killed else ():
                    if (reader, owner, key) in self.hidden:
                        self.late.append(self.see(owner, key, reader, self.beats[owner][heard]))
                    else:
                        self.wrong.append(f"{reader} was not told that {key} of {owner} is gone")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one, and print what came of it; return the program's status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**9))
    given = parser.parse_args(arguments)
    cluster = Cluster(given.seed, given.nodes, given.keys)
    cluster.run()
    for wrong in cluster.wrong[:20]:
        print(wrong)
    late = sorted(cluster.late)
    print(f"seed {given.seed}: {given.keys} keys of {given.nodes} nodes, of which {len(cluster.killed)} were killed;", end=" ")
    print(f"{len(late)} disappearances, {late[0]:.0f} to {late[-1]:.0f} ms after the ttl, in the median", end=" ")
    print(f"{late[len(late) // 2]:.0f} ms, 99 % within {late[len(late) * 99 // 100]:.0f} ms; {len(cluster.wrong)} wrong")
    return int(bool(cluster.wrong))


if __name__ == "__main__":
    sys.exit(main())
