"""Seeds: addresses that a node tries in order to find its cluster, or a part of it that it has lost.

They are tried in a cycle whose order is drawn: each once before any is tried again, so that one that is alive is found soon
however many are dead. As long as nobody is live, a round tries several. A seed that turns out to be this node itself is left
out.

A seed is *found* if a live peer is at its address, or one that has left. It is *lost* otherwise, as when a partition cuts it
off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from gossipmonger.protocol.partners import address
from gossipmonger.state import Peer, RemotePeer

__all__ = ["Place", "Seeds"]

#: Seeds that a round tries while nobody is live: with nine of ten dead, the living one has its turn by the fourth round.
_SIDE_BY_SIDE = 3

#: Milliseconds for which an address is left out that was found to be this node's own. Addresses move.
_OWN = 600_000.0


class Place:
    """A seed as it was given, and one address of it. Both are the same if the transport knows no other."""

    __slots__ = ("at", "given", "key", "keys", "tried")

    def __init__(self, given: RemotePeer, at: RemotePeer) -> None:
        self.given: RemotePeer = given
        self.at: RemotePeer = at
        self.key: Any = address(at.transport)
        self.keys: set[Any] = {self.key, address(given.transport)}
        self.tried: int = 0


class Seeds:
    """The seeds of one node."""

    def __init__(self, local: Peer, given: Iterable[RemotePeer]) -> None:
        self._local = local
        self._turn = 0
        self._own: dict[Any, float] = {}  # addresses that are this node's own, and since when that is known
        self._places = [Place(seed, seed) for seed in given]

    def place(self, places: Iterable[Place]) -> None:
        """Take the addresses that the seeds have now. One that was there before keeps its place in the cycle."""
        tried = {place.key: place.tried for place in self._places}
        self._places = [*places]
        for place in self._places:
            place.tried = tried.get(place.key, 0)

    def reached_itself(self, now: float, remote: RemotePeer) -> None:
        """Note that an address is this node's own."""
        self._own[address(remote.transport)] = now

    def others(self, now: float) -> list[Place]:
        """Return the seeds without the node itself."""
        self._own = {key: since for key, since in self._own.items() if now - since < _OWN}
        id, here, own = self._local.id, address(self._local.transport), self._own
        return [place for place in self._places if place.at.id != id and here not in place.keys and place.key not in own]

    def found(self, now: float, peers: Sequence[Peer]) -> list[Place]:
        """Return the seeds at which one of these peers is."""
        places = self.others(now)
        ids, keys = {peer.id for peer in peers}, {address(peer.transport) for peer in peers} if places else ()
        return [place for place in places if place.at.id in ids or not place.keys.isdisjoint(keys)]

    def lost(self, now: float, live: Sequence[Peer], dead: Sequence[Peer]) -> list[Place]:
        """Return the seeds that are lost. Contacting them heals a cluster whose halves have forgotten each other."""
        found = self.found(now, [*live, *(peer for peer in dead if peer.left)])
        return [place for place in self.others(now) if place not in found]

    def draw(self, places: Sequence[Place], random: Random, count: int = _SIDE_BY_SIDE) -> list[RemotePeer]:
        """Return whom to try now: those whose turn it is."""
        self._turn += 1
        drawn = sorted(places, key=lambda place: (place.tried, random.random()))[:count]
        for place in drawn:
            place.tried = self._turn
        return [place.at for place in drawn]
