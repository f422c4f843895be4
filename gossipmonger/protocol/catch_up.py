"""Catch-up: what one message can't bring, a node asks one other node for at a time.

When a peer writes much at once, everybody hears of it from many others, and answers of hundreds of deltas take their time. If
each node that tells of it were asked, all of them would send the same, and the more there is to send the longer it would take.
So a node waits for what it has asked for before it asks another. (What fits into one message anybody may bring: of many peers
that are a little behind, different nodes tell different ones.) It waits for a multiple of the time that answers usually take,
so a lost answer costs little where answers are fast, and a slow one is not taken for lost under load. (TCP's retransmission
timer works like this: Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988, section 2.)
"""

from __future__ import annotations

from collections.abc import Iterable

from gossipmonger.state import Peer

__all__ = ["CatchUp"]

#: How many times the usual time an answer is waited for.
_TIMES = 4

#: Weight of the latest answer in the mean of these times.
_WEIGHT = 0.125


class CatchUp:
    """Whom this node has asked for what, and how long answers take.

    Args:
        least: Milliseconds that an answer is waited for at least.
        limit: Deltas that one message brings.
    """

    def __init__(self, least: float, limit: int) -> None:
        self._least = least
        self._limit = limit
        self._mean: float | None = None
        self._asked: dict[str, tuple[str, int]] = {}  # peer -> who was asked for its writes, after which version
        self._asks: dict[str, tuple[float, list[str]]] = {}  # who was asked -> when, for which peers

    def ask(self, now: float, id: str, peers: Iterable[Peer]) -> None:
        """Note that the node with this id is being asked for what these peers wrote after what is known of them."""
        self._end(id)
        asked = {peer.id: (id, peer.max_version_seen) for peer in peers if peer.heard - peer.max_version_seen > self._limit}
        if asked:
            self._asked.update(asked)
            self._asks[id] = now, list(asked)

    def answered(self, now: float, id: str) -> None:
        """Note that this node has answered. If it could not tell everything, the rest has to be asked for again."""
        asked = self._end(id)
        if asked is not None:
            took = max(0.0, now - asked)
            self._mean = took if self._mean is None else self._mean + _WEIGHT * (took - self._mean)

    def _end(self, id: str) -> float | None:
        asked, peers = self._asks.pop(id, (None, ()))
        for peer in peers:
            if peer in self._asked and self._asked[peer][0] == id:
                del self._asked[peer]
        return asked

    def awaits(self, now: float, peer: Peer) -> bool:
        """Whether the answer that was asked for last may still come."""
        if peer.id not in self._asked:
            return False
        id, version = self._asked[peer.id]
        asked, _ = self._asks[id]
        if 0 <= now - asked < max(self._least, _TIMES * (self._mean or 0.0)):
            return version == peer.max_version_seen
        self._end(id)
        return False

    def unasked(self, now: float, peers: list[Peer]) -> list[Peer]:
        """Return those of these peers about which nobody is being asked."""
        return [peer for peer in peers if not self.awaits(now, peer)] if self._asked else peers
