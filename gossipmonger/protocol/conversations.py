"""Conversations: how long two nodes go on replying to each other, and what flow control learns from that."""

from __future__ import annotations

from gossipmonger.protocol.config import Config
from gossipmonger.state import Flow, Header, Kind

__all__ = ["Conversations"]

#: Replies to and from one node within an interval that nothing comes with. Whoever brings something is always answered.
_IDLE = 64

#: Deltas that one peer can be told in an interval if nothing bounds them. Flow control begins here and learns what is too much.
_MOST = 100_000


class Conversations:
    """The conversations of one node.

    Attributes:
        flow: Flow control; None without.
    """

    def __init__(self, config: Config, now: float) -> None:
        self._config = config
        deltas, exchanges = config.max_deltas_per_gossip, config.max_exchanges_per_gossip
        most = _MOST if deltas is None or exchanges is None else deltas * max(1, exchanges)
        flows = config.flow_control and not config.observer
        self.flow: Flow | None = Flow(config.gossip_interval, most, now) if flows else None
        self._cut: set[str] = set()  # nodes that the last answer could not tell all
        self._replies: dict[str, int] = {}  # to and from each node since _since
        self._since = now

    def may_reply(self, now: float, id: str, kind: Kind, brings: bool) -> bool:
        """Whether the node with this id may be replied to, whose digest is of this kind. If so, count the reply.

        It `brings` something if what it said was new, or what it is told is. Then the conversation must end some time.
        """
        most = self._config.max_exchanges_per_gossip
        if most is None:
            if brings:
                return True
            most = _IDLE
        if not 0 <= now - self._since < self._config.gossip_interval:
            self._since = now
            self._replies.clear()
        replies = self._replies.get(id, 0) + (kind is Kind.REPLY)
        allowed = replies < most
        self._replies[id] = replies + allowed
        return allowed

    def answer(self, id: str, cut: bool) -> None:
        """Note an answer to the node with this id: whether it had to be cut short."""
        if cut:
            self._cut.add(id)
            return
        self._cut.discard(id)
        if self.flow is not None:
            self.flow.gossiped(overflowed=False)

    def begin_round(self) -> None:
        """Begin a round: a conversation that has not come to its end by now has overflowed."""
        for _ in self._cut:
            if self.flow is not None:
                self.flow.gossiped(overflowed=True)
        self._cut.clear()

    def read_flow(self, header: Header) -> float | None:
        """Read a node's rates; return what it is to be granted, None if it asks for nothing or for next to nothing."""
        if self.flow is None or header.flow is None:
            return None
        rho, tau, *grant = header.flow
        self.flow.meet(tau)
        if grant:
            self.flow.take(grant[0])
            return None
        wanted = self.flow.grant_for(rho, tau)
        return wanted if self.flow.worth_telling(wanted, tau) else None
