"""Random histories of a small cluster, and a judge who knows what every owner did and when.

    python -m tests.histories FIRST LAST

runs the seeds from FIRST to LAST, prints those that fail, and ends with status 1 if any did. A seed replays its history.

Two promises are kept. While it happens: at no replica does a key vanish that lived on at its owner, nor does one that was
deleted come back. After all is healed: every node's view of every owner is the owner's data. Two things are beyond them, and
the documentation says so. An owner that lost its data and had its clock set back is, for a while, believed less than its
former life. And a message without `after`, as a Node node sends it, may leave a gap at a node that restarted, or forgot whom
it is of, while it was on its way; so with such nodes a restart here takes a while, and nobody is forgotten.
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Any

from gossipmonger import Gossipmonger, MemoryStorage
from gossipmonger.simulation import Simulation

from .pieces import send_in_pieces
from .plain import PlainNode

KEYS = ["k1", "k2", "k3", "k4", "k5", "k6"]


class Wrong(AssertionError):
    """A promise was broken."""


class History:
    """One history; `run` raises `Wrong` if a promise was broken in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = chance = Random(f"history {seed}")
        most = chance.choice([5, 50, 300, 900])
        self.loss = chance.choice([0, 0.05, 0.3])
        self.sim = Simulation(seed, latency=(1, most), loss=self.loss, duplication=chance.choice([0, 0.1]))
        self.options: dict[str, Any] = {
            "max_exchanges_per_gossip": chance.choice([1, 2, 5, 64]),
            "max_deltas_per_gossip": chance.choice([1, 2, 5, 50]),
            "delta_order": chance.choice(["depth", "breadth"]),
            "gossip_fanout": chance.choice([1, 1, 3]),
            "rumor_fanout": chance.choice([0, 1, 3, 3]),
            "rumor_interval": chance.choice([50, 500]),
            "flow_control": chance.random() < 0.5,
            "forget_dead_peers_after": chance.choice([30_000, 86_400_000]),
        }
        plain = chance.choice([0, 0, 0, 1, 2])
        if plain:
            self.options["forget_dead_peers_after"] = 86_400_000
        pieces = Random(f"pieces {seed}")
        if pieces.random() < 0.3:
            send_in_pieces(self.sim.network, pieces, whole=lambda host: host.startswith("plain"))
        count = chance.randint(2, 5)
        self.ids = [f"n{n}" for n in range(count)]
        self.patience = 2 * most  # a restart takes so long where an answer of a plain node might still be on its way
        self.issued = 0
        self.value_set: dict[tuple[str, str, int], float] = {}  # owner, key, value -> when it was set
        self.ends: dict[tuple[str, str], list[float]] = defaultdict(list)  # owner, key -> when it ceased to be there
        self.truth: dict[str, dict[str, int]] = {}
        self.seen: dict[tuple[str, str, str], int] = {}  # replica, owner, key -> the latest value seen there
        self.gone: set[tuple[str, str, str]] = set()
        self.exempt: set[str] = set()
        self.crashed: dict[str, float] = {}
        self.storages: dict[str, MemoryStorage] = {}
        self.plain: dict[str, PlainNode] = {}
        for id in self.ids:
            self.truth[id] = {}
            self.storages[id] = MemoryStorage()
            self.watch(self.sim.add(id, seeds=["n0"], storage=self.storages[id], **self.options))
        for n in range(plain):
            id = f"plain{n}"
            self.truth[id] = {}
            self.plain[id] = PlainNode(self.sim, id, ["n0"], self.options["max_deltas_per_gossip"])

    # What replicas see

    def watch(self, node: Gossipmonger) -> None:
        id = node.local_peer.id
        node.on("update", lambda owner, key, value: self.saw_update(id, owner, key, value))
        node.on("delete", lambda owner, key: self.saw_delete(id, owner, key))
        node.on("error", lambda error: self.saw_error(id, error))
        node.on("peer forgotten", lambda peer: self.forget(id, peer.id))

    def forget(self, replica: str, owner: str | None) -> None:
        """What a replica has forgotten, of one owner or of all, it may learn again from its beginning."""
        for seen in [seen for seen in self.seen if seen[0] == replica and owner in (None, seen[1])]:
            del self.seen[seen]
            self.gone.discard(seen)

    def saw_error(self, replica: str, error: Exception) -> None:
        raise Wrong(f"{replica} had an error: {error!r}") from error

    def saw_update(self, replica: str, owner: str, key: str, value: int) -> None:
        if owner in self.exempt:
            return
        last = self.seen.get((replica, owner, key), 0)
        if value < last or (value == last and (replica, owner, key) in self.gone):
            self.fail(f"{owner}'s {key}={value} is back at {replica}, which had {last}")
        self.seen[replica, owner, key] = value
        self.gone.discard((replica, owner, key))

    def saw_delete(self, replica: str, owner: str, key: str) -> None:
        if owner in self.exempt:
            return
        last = self.seen.get((replica, owner, key))  # none if what came and went in one message was told as gone
        since = 0.0 if last is None else self.value_set[owner, key, last]
        if not any(end >= since for end in self.ends[owner, key]):
            self.fail(f"{owner}'s {key}={last} vanished at {replica}, though it lives on at its owner")
        self.gone.add((replica, owner, key))

    def fail(self, what: str) -> None:
        raise Wrong(f"seed {self.seed}, at {self.sim.now - 1_700_000_000_000:g} ms: {what}")

    # What owners do

    def update(self, id: str) -> None:
        key = self.random.choice(KEYS)
        self.issued += 1
        self.value_set[id, key, self.issued] = self.sim.now
        self.truth[id][key] = self.issued
        node = self.plain.get(id) or self.sim.node(id)
        node.update(key, self.issued)

    def delete(self, id: str) -> None:
        if not self.truth[id] or id in self.plain:
            return
        key = self.random.choice(sorted(self.truth[id]))
        del self.truth[id][key]
        self.ends[id, key].append(self.sim.now)
        if not self.sim.node(id).delete(key):
            self.fail(f"{id} had no {key} to delete")

    def crash(self, id: str) -> None:
        if id not in self.crashed and id not in self.plain:
            self.sim.crash(id)
            self.crashed[id] = self.sim.now

    def restart(self, id: str) -> None:
        if self.plain and self.sim.now - self.crashed[id] < self.patience:
            return
        del self.crashed[id]
        options: dict[str, Any] = {}
        if self.random.random() < 0.5:
            options["storage"] = self.storages[id]
            # What waited for flow control to admit it has gone with the life that had it in memory.
            self.truth[id] = self.stored(id)
        else:
            for key in self.truth[id]:
                self.ends[id, key].append(self.sim.now)
            self.truth[id] = {}
            self.storages[id] = MemoryStorage()
            options["storage"] = self.storages[id]
            if self.random.random() < 0.4:
                options["ahead"] = -self.random.choice([10_000, 3_600_000])
                self.exempt.add(id)
            self.forget(id, None)
        self.watch(self.sim.restart(id, **options))

    def stored(self, id: str) -> dict[str, int]:
        peer = self.storages[id].get(id)
        assert peer is not None
        kept = {key: value for key, (value, _) in peer.data.items()}
        for key in self.truth[id].keys() - kept.keys():
            self.ends[id, key].append(self.sim.now)
        return kept

    def act(self) -> None:
        chance = self.random
        id = chance.choice(self.ids + list(self.plain))
        what = chance.random()
        if id in self.crashed:
            if what < 0.5:
                self.restart(id)
        elif what < 0.45:
            for _ in range(chance.choice([1, 1, 3, 10])):
                self.update(id)
        elif what < 0.7:
            for _ in range(chance.choice([1, 1, 5])):
                self.delete(id)
        elif what < 0.8:
            self.crash(id)
        elif what < 0.87:
            self.sim.partition(chance.sample(self.ids, chance.randint(1, len(self.ids))))
        elif what < 0.92:
            self.sim.heal()
        elif what < 0.97 and id not in self.plain:
            self.sim.pause(id, chance.choice([500, 5_000, 40_000]))

    # All of it

    def run(self) -> None:
        try:
            self._run()
        finally:
            self.sim.network.loss = 1
            self.sim.close()

    def _run(self) -> None:
        for _ in range(self.random.randint(10, 50)):
            self.act()
            self.sim.run(self.random.choice([0, 10, 300, 1_000, 3_000]))
        self.sim.heal()
        self.sim.network.loss = 0
        self.sim.run(self.patience)
        for id in sorted(self.crashed):
            if id == "n0" or self.random.random() < 0.5:  # without the seed, some might never find each other
                self.restart(id)
        try:
            self.sim.run_until(lambda: not self.differences(), 300_000, every=500)
        except TimeoutError:
            self.fail("; ".join(self.differences()))
        self.sim.run(3_000)
        for what in self.differences(level=False):
            self.fail(f"not for long: {what}")

    def differences(self, level: bool = True) -> list[str]:
        different = []
        owners = [id for id in self.truth if id not in self.crashed]
        for replica in owners:
            for owner in owners:
                truth: dict[str, Any] = self.truth[owner]
                if replica in self.plain:
                    view = self.plain[replica].view(owner)
                    if owner != replica:  # what it holds beyond that it was never told to drop, or holds as a tombstone
                        view = {key: value for key, value in view.items() if key in truth}
                else:
                    peer = self.sim.node(replica).peer(owner)
                    view = {} if peer is None else dict(peer.data)
                if view != truth or (level and not self.level(replica, owner)):
                    different.append(f"{replica} has {owner} as {view} instead of {truth}")
        return different

    def level(self, replica: str, owner: str) -> bool:
        """Whether an equal view is more than a coincidence on the way."""
        if replica in self.plain:
            return True
        seen = self.sim.node(replica).storage.get(owner)
        if owner in self.plain:
            return seen is not None and seen.max_version_seen == self.plain[owner].versions[owner]
        local = self.sim.node(owner).local_peer
        waits = self.sim.node(owner).peers()[owner].data != {key: value for key, (value, _) in local.data.items()}
        return seen is not None and seen.max_version_seen == local.max_version_seen and not waits


def run(seed: int) -> None:
    """Run one history.

    Raises:
        Wrong: A promise was broken; the seed stands in the message.
    """
    unheard: list[BaseException | None] = []
    before, threading.excepthook = threading.excepthook, lambda args: unheard.append(args.exc_value)
    try:
        History(seed).run()
    except Wrong as wrong:
        if f"seed {seed}" not in str(wrong):
            raise Wrong(f"seed {seed}: {wrong}") from wrong
        raise
    finally:
        threading.excepthook = before
    if unheard:
        raise Wrong(f"seed {seed}: {unheard[0]}") from unheard[0]


def outcome(seed: int) -> str | None:
    """Run one history; return what was wrong with it."""
    try:
        run(seed)
    except Wrong as wrong:
        return str(wrong)
    return None


def main() -> int:
    first, last = map(int, sys.argv[1:3])
    failed, seeds = 0, range(first, last + 1)
    with ProcessPoolExecutor() as pool:
        for wrong in pool.map(outcome, seeds, chunksize=10):
            if wrong is not None:
                failed += 1
                print(wrong, flush=True)
    print(f"{last - first + 1} histories, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
