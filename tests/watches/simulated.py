"""Watches at every node of a random history, which handlers hear at once and iterators now and then."""

from __future__ import annotations

from functools import partial
from random import Random

from gossipmonger import Gossipmonger, Watch
from gossipmonger.protocol import Output

from ..histories import simulated
from ..histories.judge import Wrong
from .follower import Follower


class Watched(simulated.History):
    """A history whose nodes have followers; `run` raises `Wrong` if one of them was told something wrong."""

    def __init__(self, seed: int) -> None:
        self.own = Random(f"watches {seed}")  # another one, so that the history is that of the seed
        self.handlers: dict[str, list[tuple[Follower, Watch]]] = {}
        self.iterators: dict[str, list[tuple[Follower, Watch]]] = {}
        super().__init__(seed)

    def watch(self, node: Gossipmonger) -> None:
        super().watch(node)
        id = node.local_peer.id
        self.handlers[id] = []
        self.iterators[id] = []
        for follower in (Follower(node, order=partial(self.version, node)), self.follower(node)):
            self.handlers[id].append((follower, node.watch(handler=follower.hear, **follower.arguments)))
        for follower in (Follower(node), self.follower(node)):
            self.iterators[id].append((follower, node.watch(**follower.arguments)))

    def version(self, node: Gossipmonger, id: str, key: str, _: int) -> int | None:
        """The version of what a handler is told; None of own keys, those with a ttl, and if the owner's clock was set back."""
        unknown = id == node.local_peer.id or id in self.judge.exempt or key in node.storage.get(id).ttls
        return None if unknown else node.storage.get(id).data[key][1]

    def follower(self, node: Gossipmonger) -> Follower:
        own = self.own
        return Follower(node, own.choice(["", "k", "k3"]), own.choice([None, *self.ids]), replay=own.random() < 0.5)

    def let_pass(self, milliseconds: float) -> None:
        for _ in range(self.own.choice([0, 0, 3])):  # so as to look more often
            self.sim.run(milliseconds / 4)
            milliseconds -= milliseconds / 4
            self.look()
        super().let_pass(milliseconds)
        self.look()

    def act(self) -> None:
        super().act()
        self.renew()

    def look(self) -> None:
        for id in self.ids:
            if id in self.crashed:
                continue
            for follower, _ in self.handlers[id]:
                self.fail_if(follower.differences())
            for follower, watch in self.iterators[id]:
                often = (
                    0.2 if follower.arguments["prefix"] else 0.04
                )  # so that some miss that a peer was forgotten and met again
                if self.own.random() < often:
                    while (change := watch.next(0)) is not None:
                        follower.hear(change)
                    self.fail_if(follower.differences())
                elif self.own.random() < 0.05 and (change := watch.next(0)) is not None:
                    follower.hear(change)

    def fail_if(self, wrong: list[str]) -> None:
        if wrong:
            self.fail("; ".join(wrong))

    def renew(self) -> None:
        """Cancel a watch, and begin another; or let a node forget a peer, which it meets again."""
        id = self.own.choice(self.ids)
        if id in self.crashed:
            return
        if self.own.random() < 0.2 and not self.plain:
            self.forget(self.sim.node(id), self.own.choice(self.ids))
        if self.own.random() < 0.2:
            _, watch = self.handlers[id].pop()
            watch.cancel()
            follower = self.follower(self.sim.node(id))
            self.handlers[id].append((follower, self.sim.node(id).watch(handler=follower.hear, **follower.arguments)))

    def forget(self, node: Gossipmonger, id: str) -> None:
        """Let a node forget a peer, as if it had been dead for long."""

        def step(now: float) -> Output:
            output: Output = []
            node._protocol.membership.forgetting.drop(peer, peer.heartbeat, output)
            return output

        peer = node.storage.get(id)
        if peer is not None and id != node.local_peer.id:
            node._engine._step(self.raised, step)

    def raised(self, error: Exception) -> None:
        self.fail(repr(error))


def run(seed: int) -> int:
    """Run one history; return how many changes were told.

    Raises:
        Wrong: A promise was broken; the seed stands in the message.
    """
    history = Watched(seed)
    history.run()
    return sum(follower.told for each in (history.handlers, history.iterators) for all in each.values() for follower, _ in all)


def outcome(seed: int) -> str | None:
    """Run one history; return what was wrong with it."""
    try:
        run(seed)
    except Wrong as wrong:
        return str(wrong)
    return None
