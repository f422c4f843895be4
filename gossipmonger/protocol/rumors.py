"""Rumours: news do not wait for the round.

A local change, or one that came in a rumour, is told at once to a few peers drawn at random, and twice more, an interval apart.
That is rumour mongering as in Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (PODC 1987), section
1.4: a push that is blind and counts to three. A node that the rumour misses gets the change within a round or two, so the
numbers are chosen for speed and nothing rests on them.

News of one interval go together, so that however much changes, a node sends at most RUMOR_FANOUT rumours an interval. What came
in rounds and conversations is not news: a node that catches up repeats nothing.

A piece of news is a peer and the version after which the news begin. What is told is then what the peer's log has above that
version, so a key that has been written again meanwhile goes once, with its latest value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from gossipmonger.state import Delta, Peer, values

__all__ = ["Rumors", "choose_news"]

#: How often a piece of news is told.
_TELLINGS = 3

#: Bytes, roughly, that the deltas of a rumour may have. A burst of some hundred keys fits; a large value does not. The digest
#: tells of it, so a peer asks for it once, and does not get it nine times.
_ROOM = 16_384

#: Deltas that are told where there is no room for all. The rest has to be asked for, and so few cost little where they are
#: known.
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
        self._again = 0  # tellings that are still to come if nothing new happens
        self._next = 0.0

    def note(self, id: str, after: int) -> None:
        """Note that there are news of a peer, beginning after this version."""
        self._fresh.setdefault(id, after)

    @property
    def due(self) -> float | None:
        """When there is something to tell, in milliseconds since the epoch; it may be past. None if there is nothing."""
        return self._next if self._fresh or self._again else None

    def take(self, now: float) -> Mapping[str, int]:
        """Return what is to be told now, id -> the version after which its news begin, and count it as told once."""
        if not (self._fresh or self._again) or now < self._next:
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


def choose_news(news: Mapping[str, int], find: Callable[[str], Peer | None]) -> tuple[list[Delta], list[Peer]]:
    """Return the deltas of a rumour, as far as there is room, and the peers that they are of.

    The deltas of one peer go in ascending version. A peer whose deltas do not all fit is among the peers even so: its entry
    tells that there is more. Of a flood that does not fit, only the first few deltas are told, so that everybody hears of it,
    passes the word on, and asks.

    Args:
        news: As `Rumors.take` returns them.
        find: Finds a peer by its id.
    """
    deltas: list[Delta] = []
    peers = []
    room, fits = _ROOM, True
    for id, after in news.items():
        peer = find(id)
        if peer is None or peer.max_version_seen <= after:
            continue  # forgotten since
        peers.append(peer)
        for delta in peer.deltas(after, room // _FRAME):
            size = _FRAME + len(id) + len(delta.key) + values.size(delta.value)
            if size > room:
                break
            room -= size
            deltas.append(delta)
            after = delta.version
        fits = fits and after == peer.max_version_seen
    return deltas if fits else deltas[:_SOME], peers
