"""Histories of whole endpoints on the simulated network, Node.js nodes and observers among them."""

from __future__ import annotations

import math
from random import Random
from typing import Any
from unittest import mock

from gossipmonger import Gossipmonger, MemoryStorage, SendError
from gossipmonger.errors import Reporter
from gossipmonger.simulation import Simulation
from tests.fragments import send_in_fragments
from tests.node_protocol import NodeJsNode

from .judge import Judge, Wrong

KEYS = ["k1", "k2", "k3", "k4", "k5", "k6"]

#: Seconds; None for no ttl.
TTLS = [None, None, 0.5, 3, 20]


class History:
    """One history; `run` raises `Wrong` if a promise was broken in it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = chance = Random(f"history {seed}")
        most = chance.choice([5, 50, 300, 900])
        self.loss = chance.choice([0, 0.05, 0.3])
        self.sim = Simulation(seed, latency=(1, most), loss=self.loss, duplication=chance.choice([0, 0.1]))
        self.began = self.sim.now
        self.options: dict[str, Any] = {
            "max_exchanges_per_gossip": chance.choice([1, 2, 5, None]),
            "max_deltas_per_gossip": chance.choice([1, 2, 5, None]),
            "delta_order": chance.choice(["depth", "breadth"]),
            "gossip_fanout": chance.choice([1, 1, 3]),
            "rumor_fanout": chance.choice([0, 1, 3, 3]),
            "rumor_interval": chance.choice([50, 500]),
            "rumor_rate": chance.choice([1, 25]),
            "flow_control": chance.random() < 0.5,
            "forget_dead_peers_after": chance.choice([30_000, 86_400_000]),
        }
        plain = chance.choice([0, 0, 0, 1, 2])
        if plain:
            self.options["forget_dead_peers_after"] = 86_400_000
        self.ends = Random(f"ends {seed}")
        self.lasting = Random(f"lasting {seed}")
        self.ttls = TTLS if self.lasting.random() < 0.3 else [None]
        pieces = Random(f"pieces {seed}")
        if pieces.random() < 0.3:
            send_in_fragments(self.sim.network, pieces, whole=lambda host: host.startswith("plain"))
        count = chance.randint(2, 5)
        self.ids = [f"n{n}" for n in range(count)]
        self.patience = 2 * most  # a restart takes so long where an answer of a plain node might still be on its way
        self.judge = Judge(lambda: self.sim.now)
        self.truth = self.judge.truth
        self.broken: list[Wrong] = []
        self.crashed: dict[str, float] = {}
        self.storages: dict[str, MemoryStorage] = {}
        self.plain: dict[str, NodeJsNode] = {}
        self.sights = Random(f"sights {seed}")
        self.observed = self.sights.choice([0, 0, 0.1, 0.3])  # how often an observer comes or goes
        self.observers: list[str] = []  # those that are there
        self.came = 0
        for id in self.ids:
            self.truth[id] = {}
            self.storages[id] = MemoryStorage()
            self.watch(self.sim.add(id, seeds=["n0"], storage=self.storages[id], **self.options))
        for n in range(plain):
            id = f"plain{n}"
            self.truth[id] = {}
            self.plain[id] = NodeJsNode(self.sim, id, ["n0"], self.options["max_deltas_per_gossip"] or 5)

    def watch(self, node: Gossipmonger) -> None:
        id = node.local_peer.id
        for event in ("update", "delete", "error", "peer forgotten", "new peer"):
            node.on(event, lambda *args, event=event: self.saw(id, event, args))

    def saw(self, replica: str, event: str, args: tuple[Any, ...]) -> None:
        if event == "error" and isinstance(args[0], SendError) and replica not in self.truth:
            return  # it says of a plain node that it asks none
        if event == "new peer" and args[0].id not in self.truth:
            self.broken.append(Wrong(self.at(f"{replica} knows an observer")))
        try:
            self.judge.saw(replica, event, args)
        except Wrong as wrong:  # what a handler raises would go to the endpoint
            self.broken.append(Wrong(self.at(str(wrong))))

    def at(self, what: str) -> str:
        return f"seed {self.seed}, at {self.sim.now - self.began:g} ms: {what}"

    def fail(self, what: str) -> None:
        raise Wrong(self.at(what))

    # What owners do

    def update(self, id: str) -> None:
        key = self.random.choice(KEYS)
        if id in self.plain:
            self.plain[id].update(key, self.judge.set(id, key))
            return
        ttl = self.lasting.choice(self.ttls)
        value = self.judge.set(id, key, ttl)
        self.sim.node(id).update(key, value, ttl)
        if ttl is not None and self.lasting.random() < 0.3:
            other = self.lasting.choice(self.ttls)
            self.judge.lasts(value, math.inf if other is None else other)
            self.sim.node(id).update(key, value, other)

    def delete(self, id: str) -> None:
        if not self.truth[id] or id in self.plain:
            return
        key = self.random.choice(sorted(self.truth[id]))
        self.judge.deleted(id, key)
        if not self.sim.node(id).delete(key):
            self.fail(f"{id} had no {key} to delete")

    def crash(self, id: str) -> None:
        if id not in self.crashed and id not in self.plain:
            (self.sim.vanish if self.ends.random() < 0.3 else self.sim.crash)(id)
            self.crashed[id] = self.sim.now

    def restart(self, id: str) -> None:
        if self.plain and self.sim.now - self.crashed[id] < self.patience:
            return
        del self.crashed[id]
        options: dict[str, Any] = {}
        if self.random.random() < 0.5:
            options["storage"] = self.storages[id]
            # What waited for flow control to admit it has gone with the life that had it in memory.
            peer = self.storages[id].get(id)
            assert peer is not None
            self.judge.kept(id, {key: value for key, (value, _) in peer.data.items()})
        else:
            self.judge.kept(id, {})
            self.judge.forgot(id)
            self.storages[id] = options["storage"] = MemoryStorage()
            if self.random.random() < 0.4:
                options["ahead"] = -self.random.choice([10_000, 3_600_000])
                self.judge.exempt.add(id)
        self.watch(self.sim.restart(id, **options))

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

    def observe(self) -> None:
        """Let an observer come, or one go, in whatever way."""
        chance = self.sights
        if chance.random() >= self.observed:
            return
        if self.observers and chance.random() < 0.5:
            id = self.observers.pop(chance.randrange(len(self.observers)))
            how = chance.choice(["crash", "vanish", "close"])
            if how == "close":
                self.sim.node(id).close()
            else:
                getattr(self.sim, how)(id)
            return
        id = f"o{self.came}"
        self.came += 1
        self.observers.append(id)
        interval = chance.choice([200, 1_000, 1_000, 4_000])
        self.watch(self.sim.add(id, seeds=["n0"], observer=True, gossip_interval=interval, **self.options))

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
            self.observe()
            self.let_pass(self.random.choice([0, 10, 300, 1_000, 3_000]))
        self.sim.heal()
        self.sim.network.loss = 0
        self.let_pass(self.patience)
        for id in sorted(self.crashed):
            if id == "n0" or self.random.random() < 0.5:  # without the seed, some might never find each other
                self.restart(id)
        if len(self.ttls) > 1:  # until none is left
            self.let_pass(60_000)
        try:
            self.sim.run_until(lambda: self.broken or not self.differences(), 300_000, every=500)
        except TimeoutError:
            self.fail("; ".join(self.differences()))
        self.let_pass(3_000)
        for what in self.differences(level=False):
            self.fail(f"not for long: {what}")

    def let_pass(self, milliseconds: float) -> None:
        self.sim.run(milliseconds)
        if self.broken:
            raise self.broken[0]

    def differences(self, level: bool = True) -> list[str]:
        different = []
        owners = [id for id in self.truth if id not in self.crashed]
        for id, plain in self.plain.items():
            if not plain.versions.keys() <= self.truth.keys():
                self.fail(f"{id} knows an observer")
        for replica in owners + self.observers:
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
    unheard: list[BaseException] = []
    try:
        with mock.patch.object(Reporter, "report", lambda _, error: unheard.append(error)):
            History(seed).run()
    except Wrong as wrong:
        if f"seed {seed}" not in str(wrong):
            raise Wrong(f"seed {seed}: {wrong}") from wrong
        raise
    if unheard:
        raise Wrong(f"seed {seed}: {unheard[0]}") from unheard[0]


def outcome(seed: int) -> str | None:
    """Run one history; return what was wrong with it."""
    try:
        run(seed)
    except Wrong as wrong:
        return str(wrong)
    return None
