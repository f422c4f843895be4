"""Rumours: news does not wait for the round.

A node tells a change at once to RUMOR_FANOUT peers, its *successors*, and RUMOR_INTERVAL later to one more that is drawn at
random. Every node that learns the change from a rumour does the same. That is rumour mongering as in Demers et al., "Epidemic
Algorithms for Replicated Database Maintenance" (PODC 1987), section 1.4, a push that is blind and counts, but its first telling
is not random. In the order of ids, node p of n tells places k*p to k*p + k - 1, modulo n, where k is the fan-out. This is the
generalised de Bruijn graph (Imase and Itoh, "Design to Minimize Diameter on Building-Block Network", IEEE Transactions on
Computers, 1981): everybody is told by k others, and is at most log n to the base k hops away. Drawn partners would need more
copies, as some nodes would be drawn by nobody. Nodes that disagree about who is there have successors as good as drawn ones.

A token bucket bounds what this costs. It is full while the cluster is quiet, and refills by RUMOR_RATE messages a second. When
it is empty, news waits for the next two tokens, and one message to two partners carries all of it. Each piece of news counts
its copies: what was told to fewer peers than wanted is told more often later, to the successors in turn.

Nothing rests on rumours. A node that they miss gets the change within a round or two. What came in rounds and conversations is
no news: a node that catches up repeats nothing.

A piece of news is a peer and the version after which the news begins. What is told is what the peer's log has above that
version, so a key that has been written again meanwhile goes once, with its latest value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from random import Random

from gossipmonger.protocol.config import Config
from gossipmonger.protocol.partners import draw
from gossipmonger.state import Delta, Peer

__all__ = ["Rumors", "successors"]

_id, _told, _at = attrgetter("id"), attrgetter("told"), attrgetter("at")

#: Copies of a piece of news beside those of the first telling.
_AGAIN = 1

#: Seconds for which a full bucket has tokens.
_BURST = 1.0

#: Tokens that a node without enough of them waits for, unless something happens before.
_PATIENCE = 1.0

#: Share of RUMOR_INTERVAL that lies between two tellings at least, so what happens at nearly the same time travels together.
_PAUSE = 0.2

#: Bytes, roughly, that the deltas of a rumour may have. A burst of some hundred keys fits. A flood or a large value does not:
#: an entry says that it is there, and whoever lacks it asks for it once.
_ROOM = 16_384

#: Bytes that a delta takes at least.
_LEAST = 42

#: Deltas of a flood that are told even so. The rest has to be asked for, and so few cost little where they are known.
_SOME = 8

#: Tokens are counted in floating point, so some are a little less than a whole number.
_ALMOST = 1e-6

#: Tokens below which nothing is told. A message that goes to two is made once.
_ENOUGH = 2 - _ALMOST


class _Piece:
    """A piece of news: the version after which it begins, how many were told it, and when last."""

    __slots__ = ("after", "at", "told")

    def __init__(self, after: int) -> None:
        self.after = after
        self.told = 0
        self.at = 0.0


class Rumors:
    """What is new, to whom it is told, and when.

    Args:
        local: The node's own peer.
        config: The numbers to go by.
        random: Draws the partners that are not successors.

    Attributes:
        news: A peer's id -> its pieces of news, oldest first; who waits longest stands first. Read only.
    """

    def __init__(self, local: Peer, config: Config, random: Random) -> None:
        self._local = local
        self._fanout = self._width = config.rumor_fanout
        self._interval = config.rumor_interval
        self._rate = config.rumor_rate / 1000
        self._random = random
        self.news: dict[str, list[_Piece]] = {}
        self._capacity = self._tokens = max(_BURST * config.rumor_rate, float(self._fanout + _AGAIN + 1))
        self._counted = 0.0  # when the tokens were counted
        self._told = self._next = 0.0  # the last telling; the next, if there are tokens
        self._turn = 0  # which successor is next when there are not tokens for all

    def note(self, id: str, after: int) -> None:
        """Note that there is news of a peer, beginning after this version."""
        pieces = self.news.setdefault(id, [])
        if not pieces or pieces[-1].told:
            pieces.append(_Piece(after))
            self._next = min(self._next, self._told + _PAUSE * self._interval)

    def mend(self) -> None:
        """Drop what an exception out of a signal handler has cut short; rounds tell it."""
        self.news = {id: pieces for id, pieces in self.news.items() if pieces}

    @property
    def due(self) -> float:
        """When to tell what is new, in milliseconds since the epoch; it may be past."""
        return max(self._next, self._counted + max(0.0, _ENOUGH - self._tokens) / self._rate)

    @property
    def wake(self) -> float:
        """When to tell it at the latest. Where tokens are short, that is later than when it may be told.

        A busy node hears something all the time, and can tell its news at those moments. To wake up for each token would cost
        it more than the message.
        """
        return self.due if self._tokens >= _ENOUGH else self.due + _PATIENCE / self._rate

    def tell(
        self, now: float, others: Sequence[Peer], find: Callable[[str], Peer | None], hurry: bool = False
    ) -> tuple[list[Peer], list[Delta], list[Peer], list[Peer]]:
        """Return whom to tell now, the deltas of the rumour, the peers whose news it is, and those of them that have more.

        It is counted as told. The caller has seen that it is `due`, or is in a `hurry`, and then the bucket is not asked.

        Args:
            now: Milliseconds since the epoch.
            others: The live peers that speak our extensions.
            find: Finds a peer by its id.
            hurry: Whether this is the last opportunity.
        """
        self._tokens = min(self._capacity, self._tokens + max(0.0, now - self._counted) * self._rate)
        self._counted = now
        if len(self.news) == 1 and self._local.id not in self.news:  # its owner knows it, and may have gone
            others = [peer for peer in others if peer.id not in self.news]
        self._width = min(self._fanout, len(others))
        first = self._width - min([piece.told for pieces in self.news.values() for piece in pieces], default=self._width)
        count = max(first, _AGAIN)
        partners = self._choose(others, count if hurry else min(count, int(self._tokens + _ALMOST)), first > 0)
        if not others:
            self.news.clear()
        deltas, told, cut = self._collect(find)
        partners = partners if told else []  # whoever the news was of may be forgotten since
        self._tokens = max(0.0, self._tokens - len(partners))
        self._told = now
        for peer in told:
            self._count(peer.id, len(partners), now)
        self._next = now + _PAUSE * self._interval
        left = [piece for pieces in self.news.values() for piece in pieces]
        if left and min(map(_told, left)) >= self._width:  # only the later copies are owed
            self._next = max(self._next, min(map(_at, left)) + self._interval)
        return partners, deltas, told, cut

    def _count(self, id: str, copies: int, now: float) -> None:
        """Count the news of a peer as told, and let it go to the end of the queue if more copies are owed."""
        left = []
        for piece in self.news.pop(id):
            piece.told += copies
            piece.at = now
            if piece.told < self._width + _AGAIN:
                left.append(piece)
        if left:
            self.news[id] = left

    def _choose(self, others: Sequence[Peer], count: int, first: bool) -> list[Peer]:
        """Return whom to tell: all successors, or some in turn and now and then a drawn peer, or only drawn ones."""
        if not first:
            return draw(others, count, self._random)
        places: list[Peer | None] = [*successors(self._local, others, self._fanout), None]
        start = 0
        if count < self._width:
            start, self._turn = self._turn, self._turn + count
        turns = range(start, start + min(count, len(places)))
        chosen = [peer for turn in turns if (peer := places[turn % len(places)]) is not None]
        if len(chosen) < count:
            chosen += draw([peer for peer in others if peer not in chosen], count - len(chosen), self._random)
        return chosen

    def _collect(self, find: Callable[[str], Peer | None]) -> tuple[list[Delta], list[Peer], list[Peer]]:
        """Return the deltas of a rumour, the peers whose news it is, and those that have more than any rumour has room for.

        The deltas of one peer go in ascending version. Who does not fit in beside the others is the first of the next rumour.
        """
        deltas: list[Delta] = []
        told: list[Peer] = []
        cut: list[Peer] = []
        room = _ROOM
        for id, pieces in [*self.news.items()]:
            after, peer = pieces[0].after, find(id)
            if peer is None or peer.max_version_seen <= after:
                del self.news[id]  # forgotten since
                continue
            news, size = _that_fit(peer.deltas(after, _ROOM // _LEAST), _ROOM)
            is_cut = not news or news[-1].version < peer.max_version_seen
            if is_cut:
                news, size = _that_fit(news[:_SOME], _ROOM)
            if size > room:
                break
            room -= size
            deltas += news
            told.append(peer)
            if is_cut:
                cut.append(peer)
        return deltas, told, cut


def _that_fit(deltas: Iterable[Delta], room: int) -> tuple[list[Delta], int]:
    """Return the first deltas, as many as there is room for, and the bytes that they take."""
    fit, taken = [], 0
    for delta in deltas:
        size = delta.size
        if taken + size > room:
            break
        taken += size
        fit.append(delta)
    return fit, taken


def successors(local: Peer, others: Sequence[Peer], fanout: int) -> list[Peer]:
    """Return whom this node tells first: its successors in the generalised de Bruijn graph, or all others if they are few."""
    if len(others) <= fanout:
        return [*others]
    order = sorted([*others, local], key=_id)
    place = fanout * order.index(local) % len(order)
    found = (order + order[:fanout])[place : place + fanout]
    if local in found:
        found.remove(local)
    return found
