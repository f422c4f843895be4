"""Choices: whom to gossip with, and which deltas to tell when there is no room for all.

Each is a function of what it is given, chance included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from math import inf
from random import Random
from typing import Any, TypeVar

from gossipmonger.peer import Peer, RemotePeer

__all__ = ["choose_deltas", "choose_partners", "draw"]

T = TypeVar("T")


def draw(items: Sequence[T], count: int, random: Random) -> list[T]:
    """Return `count` of the items, or all if there are fewer, each as likely as any, in an order drawn too."""
    left = list(items)
    drawn = []
    for _ in range(min(count, len(left))):
        index = int(random.random() * len(left))
        left[index], left[-1] = left[-1], left[index]
        drawn.append(left.pop())
    return drawn


def choose_partners(
    live: Sequence[Peer | RemotePeer],
    dead: Sequence[Peer | RemotePeer],
    seeds: Sequence[RemotePeer],
    fanout: int,
    minimum_live_peers: int,
    random: Random,
) -> list[RemotePeer]:
    """Return whom to send a digest to in this round, each drawn evenly.

    `fanout` live peers; one of the dead with probability dead / (live + 1), or surely if none is live, so that a partition
    heals; one seed if fewer than `minimum_live_peers` are live.

    Args:
        live: The live peers.
        dead: The dead peers, and the seeds that have not been met.
        seeds: The seeds, without the node itself.
        fanout: GOSSIP_FANOUT.
        minimum_live_peers: MINIMUM_LIVE_PEERS.
        random: Draws.
    """
    partners: list[Peer | RemotePeer] = [*draw(live, fanout, random)]
    if dead and (not live or random.random() < len(dead) / (len(live) + 1)):
        partners += draw(dead, 1, random)
    if len(live) < minimum_live_peers:
        partners += draw(seeds, 1, random)
    return [partner.remote if isinstance(partner, Peer) else partner for partner in partners]


def choose_deltas(
    lacking: Sequence[tuple[Peer, int]], limit: int, order: str, random: Random, horizon: float = inf
) -> tuple[list[list[Any]], list[Peer]]:
    """Return at most `limit` deltas, as `Peer.tell` makes them, and peers that have more to tell.

    Those of one peer go in ascending version, whatever the order; without that a digest's one number would not do. The
    orders of van Renesse et al., section 3.1: scuttle-depth tells the peer with most deltas first, as long as there is room;
    scuttle-breadth tells the first delta of every peer, then the second of every peer, and so on, in an order of peers that
    is drawn for each message. "drawn" tells as depth does, in such an order.

    Args:
        lacking: Peers, each with the version above which the other side lacks its deltas; that is the first one's `after`.
        limit: MAX_DELTAS_PER_GOSSIP.
        order: "depth", "breadth" or "drawn".
        random: Draws the order, unless it is depth.
        horizon: Of those that have more, as many are returned as have so many deltas together, those whose turn is next first,
            and beside them at most `limit` others, drawn; for 0, one. Who asks is told of them in each message, and it is no
            use to speak of more than can be told in all the messages to come.
    """
    counts = _Counts(lacking)
    if len(lacking) <= horizon:
        counts.count_all()
    if order == "depth":
        # Equals stay in the digest's order, from a place that is drawn: everybody's digest may have the same one.
        start = int(random.random() * len(lacking))
        turns = _deepest_first(lacking, [*range(start, len(lacking)), *range(start)], counts, limit)
    else:
        turns = draw(range(len(lacking)), len(lacking), random)
    quotas = _breadth([counts[turn] for turn in turns], limit) if order == "breadth" else _depth(counts, turns, limit)
    told = [lacking[turn][0].tell(lacking[turn][1], quota) for turn, quota in zip(turns, quotas, strict=False)]
    if order == "breadth":
        deltas = [delta for row in zip_longest(*told) for delta in row if delta is not None]
    else:
        deltas = [delta for each in told for delta in each]
    if len(deltas) < limit:
        return deltas, []
    while not quotas[-1]:
        quotas.pop()
    left = [turn for turn, quota in zip(turns, quotas, strict=False) if quota < counts[turn]]  # that is always said
    together = sum([counts[turn] for turn in turns[: len(quotas)]]) - limit
    others = turns[len(quotas) :]
    for number, turn in enumerate(others):
        if left and together >= horizon:
            if horizon:
                left += [other for other in draw(others[number:], limit, random) if counts[other]]
            break
        if counts[turn]:
            left.append(turn)
            together += counts[turn]
    return deltas, [lacking[turn][0] for turn in left]


class _Counts(dict[int, int]):
    """How many deltas there are of each peer, by its place; counted when that is asked, since it may be of few."""

    def __init__(self, lacking: Sequence[tuple[Peer, int]]) -> None:
        self._lacking = lacking

    def count_all(self) -> None:
        """Count those of all, which takes half the time of asking for each."""
        self.update(enumerate([peer.log.count_after(version) for peer, version in self._lacking]))

    def __missing__(self, place: int) -> int:
        peer, version = self._lacking[place]
        count = self[place] = peer.log.count_after(version)
        return count


def _deepest_first(lacking: Sequence[tuple[Peer, int]], turns: list[int], counts: _Counts, limit: int) -> list[int]:
    """Return the turns in the order of counts, the highest first, as far as it matters to who may tell any."""
    if len(counts) < len(turns) > limit:
        # No two deltas have the same version, and none lies below the floor. That bounds how many there are, and costs less
        # than to count them.
        bounds = [peer.max_version_seen - (version if version > peer.floor else peer.floor) for peer, version in lacking]
        bounded = sorted(turns, key=bounds.__getitem__, reverse=True)
        first = sorted(bounded[:limit], key=counts.__getitem__, reverse=True)
        quotas = _depth(counts, first, limit)
        if sum(quotas) == limit and counts[first[len(quotas) - 1]] >= bounds[bounded[limit]]:
            return first + bounded[limit:]
    return sorted(turns, key=counts.__getitem__, reverse=True)


def _depth(counts: Mapping[int, int], turns: list[int], limit: int) -> list[int]:
    """Return how many deltas each may tell, in the order of turns, of those that may tell any."""
    quotas = []
    for turn in turns:
        count = counts[turn]
        if count >= limit:
            quotas.append(limit)
            break
        quotas.append(count)
        limit -= count
    return quotas


def _breadth(counts: list[int], limit: int) -> list[int]:
    quotas = [0] * len(counts)
    open_ = [index for index, count in enumerate(counts) if count]
    while limit and open_:
        for index in open_[:limit]:
            quotas[index] += 1
        limit -= min(limit, len(open_))
        open_ = [index for index in open_ if quotas[index] < counts[index]]
    return quotas
