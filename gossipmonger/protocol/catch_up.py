"""Catch-up: how a node fetches what one message can't bring.

It asks in replies, and each answer brings some and says of which peers there is more. Two rules keep that cheap:

* *One node at a time.* When a peer writes much at once, everybody hears of it from many others. If each of them were asked, all
  would send the same. So once a message said that it was cut, this node asks its sender alone for the rest. (What fits into one
  message anybody may bring.) It waits for the answer for a multiple of the time that answers usually take, so a lost answer
  costs little where answers are fast, and a slow one is not taken for lost under load. (TCP's retransmission timer works like
  this: Jacobson, "Congestion Avoidance and Control", SIGCOMM 1988, section 2.)
* *Some peers at a time.* A reply asks for about as much as one answer brings, and for the other peers later. To name a thousand
  peers in each reply would cost more than what comes of it.

A conversation ends by itself: an answer that brought nothing is not followed by the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import NamedTuple

from gossipmonger.state import Peer

__all__ = ["CatchUp"]

#: How many times the usual time an answer is waited for.
_TIMES = 4

#: Weight of the latest answer in the mean of these times.
_WEIGHT = 0.125

#: A reply asks for peers until they lack so many versions together, which is about what fits into an answer. But most of these
#: versions may have been written again, so it asks for some peers at least; and the answer may have to name all of them again.
_VERSIONS, _FEWEST, _MOST = 1_000, 32, 100


class _Ask(NamedTuple):
    """What one node was asked: when, for which peers after which version, and for which later; whether it has answered."""

    since: float
    after: dict[str, int]
    later: list[str]
    answered: bool = False


class CatchUp:
    """Whom this node has asked for what, and how long answers take.

    Args:
        least: Milliseconds that an answer is waited for at least.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._mean: float | None = None
        self._alone: dict[str, tuple[str, int]] = {}  # peer -> who alone is asked for it, after which version
        self._asks: dict[str, _Ask] = {}  # by who was asked

    def choose(
        self, now: float, id: str, lacking: Iterable[Peer], find: Callable[[str], Peer | None], reply: bool, news: bool
    ) -> tuple[list[Peer], list[str]]:
        """Return the peers for which to ask the node with this id now, and the ids of those for which to ask it later.

        It has told that it knows more of those that are `lacking`. It may have been asked for them before if it told so in a
        `reply`. If that brought no `news`, nobody is asked for after the same version again.
        """
        last = self._asks.get(id) if reply else None
        before = last.after if last is not None and not news else {}
        first, then = iter(lacking), iter(last.later if last is not None else ())
        asked: dict[str, Peer] = {}
        versions = 0
        for peer in chain(first, map(find, then)):
            if peer is None or not peer.behind or peer.id in asked or self._awaits(now, peer):
                continue
            if before.get(peer.id) == peer.max_version_seen:
                continue
            asked[peer.id] = peer
            versions += peer.heard - max(peer.max_version_seen, peer.noted)
            if (versions >= _VERSIONS and len(asked) >= _FEWEST) or len(asked) == _MOST:
                break
        return [*asked.values()], [*dict.fromkeys([*(peer.id for peer in first), *then])]

    def ask(self, now: float, id: str, asked: list[Peer], later: list[str], partly: Iterable[str] = ()) -> None:
        """Note that the node with this id is being asked, and nobody else for peers of which it has told only a part."""
        self._end(id)
        after = {peer.id: peer.max_version_seen for peer in asked}
        self._asks[id] = _Ask(now, after, later)
        self._alone.update({peer: (id, after[peer]) for peer in partly if peer in after})

    def answered(self, now: float, id: str) -> None:
        """Note that this node has answered. What it could not tell has to be asked for again, and anybody may be asked."""
        ask = self._asks.get(id)
        if ask is not None and not ask.answered:
            self._end(id)
            self._asks[id] = ask._replace(answered=True)
            took = max(0.0, now - ask.since)
            self._mean = took if self._mean is None else self._mean + _WEIGHT * (took - self._mean)

    def unasked(self, now: float, peers: list[Peer]) -> list[Peer]:
        """Return those of these peers for which no node is being asked alone."""
        return [peer for peer in peers if not self._awaits(now, peer)] if self._alone else peers

    def tidy(self, now: float, interval: float) -> None:
        """Forget the conversations that ended more than an interval ago."""
        for id, ask in [*self._asks.items()]:
            if not self._waits(now, ask) and not 0 <= now - ask.since < interval:
                self._end(id)

    def _awaits(self, now: float, peer: Peer) -> bool:
        if peer.id not in self._alone:
            return False
        id, version = self._alone[peer.id]
        if self._waits(now, self._asks[id]):
            return version == peer.max_version_seen
        self._end(id)
        return False

    def _waits(self, now: float, ask: _Ask) -> bool:
        return not ask.answered and 0 <= now - ask.since < max(self._least, _TIMES * (self._mean or 0.0))

    def _end(self, id: str) -> None:
        ask = self._asks.pop(id, None)
        for peer in ask.after if ask is not None else ():
            if peer in self._alone and self._alone[peer][0] == id:
                del self._alone[peer]
