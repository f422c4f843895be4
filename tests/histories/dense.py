"""Dense histories: bare protocols whose messages wait in a pool, to be delivered in any order, twice or never.

In each step one thing happens: a node writes, deletes, does a round, tells rumours, restarts, goes away, or a message arrives.
A step takes little or no time, so that messages meet states of their receivers which on a real network they would meet once in
a long while. At the end everybody talks until all have the same, and that has to last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

from gossipmonger import DuplicateError, MemoryStorage
from tests.fragments import cut, is_rumor, separate

from .judge import Judge, Wrong
from .nodes import NOW, Node, Sent, copied, views

KEYS = ["k", "l", "m"]

#: Seconds; None for no ttl.
TTLS = [None, None, 0.1, 3, 20]

#: What happens rarely; the last of these only in histories in which peers are forgotten.
RARE = ["restart", "restart", "go away", "leave", "write a file", "be alone"]

#: Messages in the pool; beyond it some are lost.
MOST = 60

#: Rounds of everybody, without loss, until all have to have the same.
ROUNDS = 80

#: Milliseconds that a node's clock may be behind what it read when its former life began.
BACK = [0, 1, 10_000, 3_600_000]


class History:
    """One history; `run` raises `Wrong` if a promise was broken in it.

    Args:
        seed: All is drawn from it.
        altered: What the network makes of each message, to see that a fault would be found.
    """

    def __init__(self, seed: int, altered: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self.seed = seed
        self.altered = altered
        self.random = chance = Random(f"dense {seed}")
        self.ids = ["a", "b", "c", "d"][: chance.choice([3, 3, 4])]
        self.forgets = chance.random() < 0.2
        self.interval = 3_000 if self.forgets else 1_000
        self.options: dict[str, Any] = {
            "rumor_fanout": chance.choice([0, 1, 2]),
            "rumor_rate": chance.choice([1, 25]),
            "gossip_fanout": chance.choice([1, 2]),
            "max_deltas_per_gossip": chance.choice([1, 2, None]),
            "max_exchanges_per_gossip": chance.choice([1, 3, None]),
            "delta_order": chance.choice(["depth", "breadth"]),
            "flow_control": chance.random() < 0.1,
            "gossip_interval": self.interval,
            "dead_peer_phi": 2 if self.forgets else 1000,
            "forget_dead_peers_after": 20_000 if self.forgets else 86_400_000,
            "compress_above": None,
        }
        self.transport = chance.choice(["whole", "datagrams", "datagrams", "datagrams", "no exchange"])
        self.in_order = chance.choice([0, 0, 0, 0, 0.3])  # how many of the messages arrive before all that were sent later
        self.slow = chance.choice([None, self.ids[0]])  # a node that most messages reach late
        self.restarts = chance.choice([0, 0, 0.03])
        self.loses = chance.random() < 0.5  # whether restarts may lose something
        self.leaver = chance.choice(self.ids)  # nobody else leaves: two halves that left each other stay apart for long
        self.turns_back = chance.random() < 0.2  # whether clocks may
        self.steps = chance.choice([200, 400])
        self.lasting = Random(f"lasting {seed}")
        self.ttls = TTLS if self.lasting.random() < 0.3 else [None]
        self.now = NOW
        self.pool: list[Sent] = []
        self.judge = Judge(lambda: self.now)
        self.truth = self.judge.truth
        self.nodes: dict[str, Node] = {}  # those that are there
        self.storages: dict[str, MemoryStorage] = {}
        self.kept: dict[str, MemoryStorage] = {}  # what a storage wrote to its file last
        self.ahead = dict.fromkeys(self.ids, 0.0)  # milliseconds that a node's clock is ahead of `now`
        self.began = dict.fromkeys(self.ids, 0.0)  # what its clock read when its life began
        self.starts: dict[str, set[float]] = {id: set() for id in self.ids}  # clocks at which lives began without data
        self.twins: set[str] = set()  # owners of whose lives two began so at the very same reading
        self.highest = dict.fromkeys(self.ids, 0)  # the highest number that any of its lives has told
        for id in self.ids:
            self.truth[id] = {}
            self.begin(id)

    # Lives

    def begin(self, id: str, storage: MemoryStorage | None = None) -> None:
        now = self.clock(id)
        if storage is None or storage.get(id) is None:
            if now in self.starts[id]:
                self.twins.add(id)
            self.starts[id].add(now)
        node = Node(id, now, storage=storage, seeds=self.ids, seed=self.random.random(), **self.options)
        self.nodes[id], self.storages[id], self.began[id] = node, node.storage, now

    def clock(self, id: str) -> float:
        return self.now + self.ahead[id]

    def end(self, id: str) -> None:
        self.highest[id] = max(self.highest[id], self.nodes.pop(id).highest)

    def restart(self, id: str) -> None:
        chance, storage = self.random, self.storages[id]
        how = chance.choice(["same", "copied", "replicas", "file", "nothing"]) if self.loses else "same"
        if self.turns_back and chance.random() < 0.5:
            self.ahead[id] = self.began[id] - chance.choice(BACK) - self.now
        elif self.clock(id) <= self.began[id] + 1:
            self.now += 2
        if how == "same":
            self.kept.setdefault(id, copied(storage, self.clock(id), without=id))
        elif how == "copied":
            storage = copied(storage, self.clock(id))
        elif how == "replicas":
            storage = copied(storage, self.clock(id), without=id)
        else:
            storage = self.kept.pop(id, MemoryStorage()) if how == "file" else MemoryStorage()
        self.judge.restored(id, views(storage))
        self.judge.kept(id, views(storage).get(id, {}))  # what waited for flow control to admit it has gone
        if how not in ("same", "copied") and self.clock(id) * 1000 <= self.highest[id]:
            self.judge.exempt.add(id)
        self.begin(id, storage)

    # Messages

    def send(self, sent: list[Sent]) -> None:
        for message in sent:
            if self.transport == "whole" and self.altered is None:
                self.pool.append(message)
                continue
            content = json.loads(message.data)
            if self.altered is not None:
                content = self.altered(content)
            if self.transport == "no exchange":
                parts = separate(content)
            elif self.transport == "datagrams" and not is_rumor(content):
                parts = cut(content, lambda: self.random.choice([1, 1, 2, 3]))
            else:
                parts = [content]
            if parts == [content] and self.altered is None:
                self.pool.append(message)
            else:
                self.pool += [Sent(message.sender, message.to, json.dumps(part).encode()) for part in parts]

    def deliver(self, number: int, again: bool = False) -> None:
        message = self.pool[number] if again else self.pool.pop(number)
        node = self.nodes.get(message.to)
        if node is not None:
            self.send(node.receive(self.clock(node.id), message.data))
            self.judged(node)

    def judged(self, node: Node) -> None:
        for name, args in node.events:
            if name == "error" and isinstance(args[0], DuplicateError) and node.id in self.judge.exempt:
                continue  # it met more than a few numbers that its former lives had told
            self.judge.saw(node.id, name, args)
        node.events.clear()
        node.check(owner for owner in self.nodes.values() if owner.id not in self.judge.exempt)

    # Steps

    def act(self) -> None:
        chance = self.random
        self.now += chance.choice([0, 1, 20, 100, 300])
        id = chance.choice(self.ids)
        node, what = self.nodes.get(id), chance.random()
        if node is None:
            if what < 0.2:
                self.restart(id)
            else:
                self.arrive()
        elif what < 0.1:
            key = chance.choice(KEYS)
            ttl = self.lasting.choice(self.ttls)
            value = self.judge.set(id, key, ttl)
            node.update(self.clock(id), key, value, ttl)
            if ttl is not None and self.lasting.random() < 0.3:
                other = self.lasting.choice(self.ttls)
                self.judge.lasts(value, math.inf if other is None else other)
                node.update(self.clock(id), key, value, other)
            self.judged(node)
        elif what < 0.2 and self.truth[id]:
            key = chance.choice(sorted(self.truth[id]))
            self.judge.deleted(id, key)
            node.delete(self.clock(id), key)
            self.judged(node)
        elif what < 0.34:
            self.send(node.round(self.clock(id)))
            self.judged(node)
        elif what < 0.38:
            self.send(node.spread(self.clock(id)))
            self.judged(node)
        elif what < 0.38 + self.restarts:
            self.rarely(
                node, chance.choice(["restart", "restart", "away", "leave", "write", "alone" if self.forgets else "write"])
            )
        else:
            self.arrive()
        while len(self.pool) > MOST:
            self.pool.pop(chance.randrange(len(self.pool)))

    def arrive(self) -> None:
        chance = self.random
        if not self.pool:
            return
        number = 0 if chance.random() < self.in_order else chance.randrange(len(self.pool))
        if self.pool[number].to == self.slow and chance.random() < 0.7:
            return
        what = chance.random()
        if what < 0.05:
            del self.pool[number]
        else:
            self.deliver(number, again=what < 0.12)

    def rarely(self, node: Node, what: str) -> None:
        id = node.id
        if what == "write a file":
            self.kept[id] = copied(node.storage, self.clock(id), without=id)
        elif what == "be alone":  # for so long that it forgets the others
            for _ in range(12):
                self.now += 1.6 * self.interval
                node.round(self.clock(id))
                self.judged(node)
        else:
            if what == "leave" and self.leaver == id:
                self.send(node.leave(self.clock(id)))
                self.judged(node)
            self.end(id)
            if what == "restart":
                self.restart(id)

    # All of it

    def run(self) -> None:
        try:
            self._run()
        except Wrong as wrong:
            raise Wrong(f"seed {self.seed}: {wrong}") from wrong
        except Exception as error:
            raise Wrong(f"seed {self.seed}: {error!r}") from error

    def _run(self) -> None:
        for _ in range(self.random.choice([0, 2, 2, 2])):  # after two rounds all know each other
            self.talk()
        for _ in range(self.steps):
            self.act()
        for id in self.ids:
            if id not in self.nodes and self.random.random() < 0.7:
                self.restart(id)
        for _ in range(ROUNDS):
            self.talk()
            if not self.differences() and not any(node.local.ttls for node in self.nodes.values()):
                break
        else:
            raise Wrong("; ".join(self.differences()))
        self.talk()
        for what in self.differences(level=False):
            raise Wrong(f"not for long: {what}")

    def talk(self) -> None:
        """Let everybody do a round, and lose nothing."""
        self.now += self.interval
        for node in list(self.nodes.values()):
            self.send(node.round(self.clock(node.id)) + node.spread(self.clock(node.id)))
            self.judged(node)
        while self.pool:
            self.deliver(0)

    def differences(self, level: bool = True) -> list[str]:
        different = []
        for replica in self.nodes.values():
            for owner in self.nodes.values():
                view, truth = replica.view(owner.id), self.truth[owner.id]
                if owner.id in self.twins and owner is not replica:
                    continue  # the versions of both lives are the same, and nobody may have noticed
                if view != truth or (level and not replica.is_level(owner)):
                    different.append(f"{replica.id} has {owner.id} as {view} instead of {truth}")
        return different


def run(seed: int) -> None:
    """Run one history.

    Raises:
        Wrong: A promise was broken; the seed stands in the message.
    """
    History(seed).run()


def outcome(seed: int) -> str | None:
    """Run one history; return what was wrong with it."""
    try:
        run(seed)
    except Wrong as wrong:
        return str(wrong)
    return None
