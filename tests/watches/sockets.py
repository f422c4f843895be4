"""Watches of real nodes, whose owners write at full speed on threads of their own, while one node comes and goes."""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random, SystemRandom
from typing import Any

from gossipmonger import Change, Gossipmonger, SendError, Watch

from .follower import Follower

OPTIONS = {"gossip_interval": 100, "max_deltas_per_gossip": 500}
KEYS = 50

#: Seconds of writing between two quiet moments, and seconds that it may take until all is quiet.
BUSY, QUIET = 1.5, 60.0

#: The owner that deletes nothing, so that its values come in their order: keys that are issued again when deletions are
#: forgotten come with older values.
ORDERED = "a"


class Cluster:
    """Nodes, their writers and their followers.

    Attributes:
        wrong: What was wrong.
        written: How many keys were set or deleted.
        followers: All that there have been.
        turns: How often all was quiet.
    """

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.wrong: list[str] = []
        self.written = 0
        self.turns = 0
        self.followers: list[Follower] = []
        self.numbers = itertools.count(1)
        self.writing = threading.Event()
        self.over = threading.Event()
        self.idle = [threading.Event() for _ in range(4)]  # whether each writer has nothing to do
        self.threads: list[threading.Thread] = []
        self.nodes: dict[str, Gossipmonger] = {}
        self.current: dict[str, list[Follower]] = {}
        self.seeds: list[dict[str, Any]] = []
        for id in "abc":
            self.start(id)
        for place, id in enumerate("abcd"):
            self.begin(self.write, id, Random(f"{seed} {id}"), self.idle[place])

    def start(self, id: str) -> None:
        node = Gossipmonger({"id": id, "transport": {"host": "127.0.0.1", "port": 0}}, OPTIONS, seeds=self.seeds)
        node.on("error", self.failed)
        node.transport.listen()
        self.seeds = self.seeds or [{"id": id, "transport": dict(node.local_peer.transport)}]
        self.current[id] = []
        self.nodes[id] = node
        self.follow(id)
        node.gossip()
        self.follow(id)

    def failed(self, error: Exception) -> None:
        if not isinstance(error, SendError):
            self.wrong.append(f"an error: {error!r}")

    def follow(self, id: str) -> None:
        """Begin to follow what a node knows, in one way or another."""
        chance, node = self.chance, self.nodes[id]
        prefix, peer = chance.choice(["", "", "k1"]), chance.choice([None, None, "b", "d"])
        follower = Follower(node, prefix, peer, order=order)
        pause = chance.choice([0, 0, 0.0005, 0.01])
        hear = partial(self.hear, follower, pause)
        self.followers.append(follower)
        self.current[id].append(follower)
        if chance.random() < 0.5:
            node.watch(handler=hear, **follower.arguments)
        else:
            self.begin(self.fetch, node.watch(**follower.arguments), hear)

    def begin(self, function: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=function, args=args)
        self.threads.append(thread)
        thread.start()

    def hear(self, follower: Follower, pause: float, change: Change) -> None:
        follower.hear(change)
        if pause:
            self.over.wait(pause)

    def fetch(self, watch: Watch, hear: Callable[[Change], None]) -> None:
        for change in watch:
            hear(change)

    def write(self, id: str, chance: Random, idle: threading.Event) -> None:
        """Write one node's keys whenever there is to be written, as long as the node is there."""
        while not self.over.is_set():
            if not self.writing.is_set() or id not in self.nodes:
                idle.set()
                self.writing.wait(0.01)
                continue
            idle.clear()
            node = self.nodes.get(id)
            key = f"k{chance.randrange(KEYS)}"
            if node is not None and not node.closed:
                try:
                    if id != ORDERED and chance.random() < 0.3:
                        node.delete(key)
                    else:
                        node.update(key, next(self.numbers))
                    self.written += 1
                except Exception as error:
                    if not node.closed:
                        self.wrong.append(f"a write: {error!r}")

    def turn(self) -> None:
        """Let one node come or go, and watches begin; write for a while; then look when all is quiet."""
        self.writing.set()
        self.over.wait(BUSY / 2)
        if "d" in self.nodes:
            node = self.nodes.pop("d")
            del self.current["d"]
            if self.chance.random() < 0.5:  # as if it were killed
                node.stop()
                node.transport.close()
            node.close()
        else:
            self.start("d")
        self.follow(self.chance.choice("abc"))
        self.over.wait(BUSY / 2)
        self.writing.clear()
        deadline = time.monotonic() + QUIET
        while (differences := self.differences()) and time.monotonic() < deadline:
            self.over.wait(0.05)
        self.wrong += differences
        self.turns += 1

    def differences(self) -> list[str]:
        if not all(idle.is_set() for idle in self.idle):
            return ["writers go on"]
        views = {id: node.peers() for id, node in self.nodes.items()}
        different = [
            f"{replica} has {owner} as {view[owner].state if owner in view else None}, {len(view)}"
            for replica, view in views.items()
            for owner in "abcd"
            if not self.is_seen(view.get(owner), views.get(owner))
        ]
        return different or [what for followers in self.current.values() for each in followers for what in each.differences()]

    def is_seen(self, seen: Any, own: Any) -> bool:
        """Whether a peer is seen as it is."""
        if own is None:
            return seen is None or seen.state != "live"
        return seen is not None and seen.state == "live" and seen.data == own[seen.id].data

    def end(self) -> None:
        self.over.set()
        for node in self.nodes.values():
            node.close()
        for thread in self.threads:
            thread.join(30)
        self.wrong += [f"{thread.name} goes on" for thread in self.threads if thread.is_alive()]


def order(id: str, _: str, value: int) -> int | None:
    """The value itself, where the values of an owner come in their order."""
    return value if id == ORDERED else None


def run(seed: int, seconds: float) -> Cluster:
    """Let a cluster write for so long, at least, until something is wrong; return it."""
    cluster = Cluster(seed)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not cluster.wrong:
            cluster.turn()
    finally:
        cluster.end()
    return cluster


def main(arguments: Sequence[str]) -> int:
    """Run one, and print what came of it; return the program's status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60, help="how long, at least; by default 60")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(10**9), help="of what is drawn")
    given = parser.parse_args(arguments)
    cluster = run(given.seed, given.seconds)
    told = sum(follower.told for follower in cluster.followers)
    for wrong in cluster.wrong[:20]:
        print(wrong)
    print(f"seed {given.seed}: {cluster.written:,} writes, {told:,} changes told to {len(cluster.followers)} watches,", end=" ")
    print(f"{cluster.turns} quiet moments, {len(cluster.wrong)} wrong")
    return int(bool(cluster.wrong))
