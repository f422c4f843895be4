"""Asking: for what one message can't bring, a node asks one other at a time.

When a peer writes much at once, everybody hears of it from many, and answers of hundreds of deltas are long in coming. If each
who tells of it were asked, all of them would send the same, and the more there is to send the longer it would take; so a node
waits for what it has asked for before it asks another. (What a message can bring anyone may bring: of many peers that are a
little behind, different nodes tell different ones.) It waits for some times as long as answers take, so that one that is lost
costs little where they are fast, and is not taken for lost where they are slow, as under load. (TCP's retransmission timer
is of this kind: Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988, section 2.)
"""

from __future__ import annotations

from collections.abc import Iterable

from gossipmonger.peer import Peer

__all__ = ["Asking"]

#: How many times as long as answers take on the average one is waited for.
_TIMES = 4

#: Weight of the latest answer in that average.
_WEIGHT = 0.125


class Asking:
    """Who was asked for what, and how long answers take.

    Args:
        least: Milliseconds that an answer is waited for at least.
        limit: Deltas that a message brings.
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
        """Note that this node has answered; if it could not tell all, what is left has to be asked for again."""
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
        """Whether what was asked for last may still come."""
        if peer.id not in self._asked:
            return False
        of, version = self._asked[peer.id]
        asked, _ = self._asks[of]
        if 0 <= now - asked < max(self._least, _TIMES * (self._mean or 0.0)):
            return version == peer.max_version_seen
        self._end(of)
        return False

    def unasked(self, now: float, peers: list[Peer]) -> list[Peer]:
        """Return those of whom it `awaits` nothing."""
        return [peer for peer in peers if not self.awaits(now, peer)] if self._asked else peers
