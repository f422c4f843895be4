"""Orders: an operator has all nodes forget a peer. See `gossipmonger.protocol.forgetting` for how an order spreads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gossipmonger.protocol.config import Node
from gossipmonger.protocol.identity import Identity
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.output import Output, send
from gossipmonger.protocol.partners import draw
from gossipmonger.state import Kind

__all__ = ["Orders"]


class Orders:
    """Gives orders, and takes those of others; the identity answers one about the node itself."""

    def __init__(self, node: Node, membership: Membership, identity: Identity) -> None:
        self._local, self._storage, self._config, self._random = node
        self._membership = membership
        self._identity = identity

    def give(self, now: float, id: str, output: Output) -> bool:
        """Drop a peer, everywhere; return whether it was known.

        Raises:
            ValueError: The peer is live, or is this node itself.
            NotImplementedError: The storage cannot remove a peer.
        """
        if id == self._local.id:
            raise ValueError(f"forget: {id!r} is this node itself; leave() or close() it")
        peer = self._storage.get(id)
        if peer is None:
            return False
        if peer.live:
            raise ValueError(f"forget: peer {id!r} is live; only a peer that is dead or has left can be forgotten")
        self._membership.forgetting.give(now, peer, output)
        self._tell(output)
        return True

    def take(self, now: float, orders: Sequence[Sequence[Any]], output: Output) -> None:
        """Take the orders that a digest's header carries."""
        membership, limit = self._membership, self._membership.bound.limit(now)
        for id, heartbeat in orders:
            if heartbeat > limit:
                membership.report_beyond(now, id, heartbeat, output)
            elif id == self._local.id and self._identity.hear(now, 0, heartbeat, 0, output):
                membership.put(self._local)
        others = [order for order in orders if order[0] != self._local.id and order[1] <= limit]
        if membership.forgetting.obey(now, others, output):
            self._tell(output)

    def _tell(self, output: Output) -> None:
        """Tell a few peers at once what all headers tell for a while."""
        partners = draw(self._membership.speakers(), self._config.rumor_fanout, self._random)
        send([partner.remote for partner in partners], self._membership.message(Kind.RUMOR), output)
