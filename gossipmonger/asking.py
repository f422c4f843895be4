"""Asking: of what it is behind with, a node asks one other at a time.

When much is written at once, everybody hears of it from many, and answers of hundreds of deltas are long in coming. If each who
tells of it were asked, all of them would send the same, and the more there is to send the longer it would take; so a node waits
for what it has asked for before it asks another. It waits for some times as long as answers take, so that one that is lost
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
    """How long answers take.

    Args:
        least: Milliseconds that an answer is waited for at least.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._mean: float | None = None

    def ask(self, now: float, id: str, peers: Iterable[Peer]) -> None:
        """Note that the node with this id is being asked for what these peers wrote after what is known of them."""
        for peer in peers:
            peer.asked = (id, peer.max_version_seen, now)

    def answered(self, now: float, peer: Peer) -> None:
        """Note that something that a peer wrote has come."""
        if peer.asked is not None:
            took = max(0.0, now - peer.asked[2])
            self._mean = took if self._mean is None else self._mean + _WEIGHT * (took - self._mean)
            peer.asked = None

    def unasked(self, now: float, peers: Iterable[Peer]) -> list[Peer]:
        """Return those of whom it `awaits` nothing."""
        return [peer for peer in peers if peer.asked is None or not self.awaits(now, peer)]

    def awaits(self, now: float, peer: Peer, id: str | None = None) -> bool:
        """Whether what was asked for last may still come; and from another than the node with this id, if one is given."""
        if peer.asked is None:
            return False
        of, version, asked = peer.asked
        return (
            of != id and version == peer.max_version_seen and 0 <= now - asked < max(self._least, _TIMES * (self._mean or 0.0))
        )
