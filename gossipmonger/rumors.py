"""Rumours: what is new does not wait for the round.

A local change, or one that came in a rumour, is told at once to a few peers drawn at random, and twice more, an interval
apart. That is rumour mongering as in Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (PODC 1987),
section 1.4: a push that is blind and counts to three. Whom a rumour misses the next round reaches; so the numbers are chosen
for speed, and nothing rests on them.

News of one interval go together, so that however much changes, a node sends at most RUMOR_FANOUT rumours an interval. What came
in rounds and conversations is no news: a node that catches up repeats nothing.

Each piece of news is a peer and the version after which it begins. What is told is then what the peer's log has above it, so
that a key that has been written again meanwhile goes once, with its latest value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from gossipmonger import values
from gossipmonger.peer import Peer

__all__ = ["Rumors", "choose_news"]

#: How often a piece of news is told.
_TELLINGS = 3

#: Bytes, about, that the deltas of a rumour may have. A burst of some hundred keys fits; a large value does not: of that the
#: digest tells, so that a peer asks for it once, and does not get it nine times.
_ROOM = 16_384

#: Deltas that are told where there is no room for all: the rest has to be asked for, and so few are no loss to who knows them.
_SOME = 8

#: Bytes of a delta beside its id, key and value.
_FRAME = 42


class Rumors:
    """What is new, and how often it is still to be told.

    Args:
        interval: RUMOR_INTERVAL, in milliseconds.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._fresh: dict[str, int] = {}  # id -> the version after which its news begin
        self._told: deque[dict[str, int]] = deque(maxlen=_TELLINGS)  # news of the last intervals, the latest first
        self._again = 0  # tellings that are still to come, if nothing new happens
        self._next = 0.0

    def note(self, id: str, after: int) -> None:
        """Note that there are news of a peer, beginning after this version."""
        self._fresh.setdefault(id, after)

    @property
    def due(self) -> float | None:
        """When there is something to be told next, in milliseconds since the epoch; it may be past. None for nothing."""
        return self._next if self._fresh or self._again else None

    def take(self, now: float) -> Mapping[str, int]:
        """Return what is to be told now, id -> the version after which its news begin, and count that as told once."""
        due = self.due
        if due is None or now < due:
            return {}
        self._again = _TELLINGS - 1 if self._fresh else self._again - 1
        self._told.appendleft(self._fresh)
        self._fresh = {}
        self._next = now + self._interval
        news: dict[str, int] = {}
        for batch in self._told:
            for id, after in batch.items():
                news[id] = min(after, news.get(id, after))
        return news


def choose_news(news: Mapping[str, int], get: Callable[[str], Peer | None]) -> tuple[list[list[Any]], list[Peer]]:
    """Return a rumour's deltas, as `Peer.tell` makes them, as far as there is room, and the peers they are of.

    Those of one peer go in ascending version. A peer whose deltas do not fit, or not all, is among the peers even so: the
    digest tells that there is more. Of a flood, which does not fit, only the first few are told, so that whoever hears of it
    passes the word on, and asks.

    Args:
        news: As `Rumors.take` returns them.
        get: Finds a peer by its id.
    """
    deltas: list[list[Any]] = []
    peers = []
    room, fits = _ROOM, True
    for id, after in news.items():
        peer = get(id)
        if peer is None or peer.max_version_seen <= after:
            continue  # forgotten since
        peers.append(peer)
        for delta in peer.tell(after, room // _FRAME):
            size = _FRAME + len(id) + len(delta[1]) + values.size(delta[2])
            if size > room:
                break
            room -= size
            deltas.append(delta)
            after = delta[3]
        fits = fits and after == peer.max_version_seen
    return deltas if fits else deltas[:_SOME], peers
