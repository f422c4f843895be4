"""Reconciliation: what a digest's sender knows of each peer, held against what is known here, and the deltas that follow.

Digests are long, and most of what they say is known already. The loops here are what a message costs, so an entry that tells
nothing new costs a handful of comparisons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from operator import attrgetter
from random import Random
from typing import Any

from gossipmonger.protocol.identity import Identity
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.output import Output
from gossipmonger.protocol.partners import draw
from gossipmonger.state import CompactDigest, Delta, Entry, Peer

__all__ = ["ID", "Reconciliation", "choose_deltas"]

#: The id of an entry, or of a peer.
ID = attrgetter("id")

#: Bytes, roughly, of the deltas in one message. With the digest that goes along, a message stays within some 64 KB: long
#: enough for its fixed cost not to matter, and short enough not to keep others waiting.
_ROOM = 57_344

#: Deltas of one peer that are made at once: few are made in vain, and the log is bisected rarely.
_AT_ONCE = 64


class Reconciliation:
    """Reads one digest.

    The membership finds the peers and takes what is told about them, the identity what is told about the local one.

    Attributes:
        limit: The highest number that is believed.
        they_lack: Peers of which the sender knows less, each with the version that it knows.
        we_lack: Peers of which less is known here.
        fresher_heartbeats: Peers of which a later heartbeat is known here.
        told: The version of the local peer that the sender knows; None if it has not told.
        compact: Whom the digest is about if it is a compact one; None if not.
    """

    def __init__(self, now: float, local: Peer, membership: Membership, identity: Identity, output: Output) -> None:
        self._now = now
        self._local = local
        self._membership = membership
        self._identity = identity
        self._output = output
        self.limit: int = membership.bound.limit(now)
        self.they_lack: list[tuple[Peer, int]] = []
        self.we_lack: list[Peer] = []
        self.fresher_heartbeats: list[Peer] = []
        self.told: int | None = None
        self.compact: CompactDigest | None = None

    def meet(self, entries: Iterable[Entry]) -> None:
        """Meet those of whom a rumour is the first word, if their floor says from where on there is anything to know."""
        for entry in entries:
            known = entry.floor == 0 or self._membership.found.get(entry.id) is not None
            if known or max(entry.version, entry.heartbeat, entry.heard) > self.limit:
                continue
            peer = self._membership.hear_of(self._now, entry, None, False, self._output)
            if peer is not None:
                peer.max_version_seen = max(peer.max_version_seen, entry.floor)

    def read(self, entries: Iterable[Entry], sender_id: str) -> None:
        """Read a digest's entries."""
        find, limit, now = self._membership.found.get, self.limit, self._now
        risen: list[Peer] = []
        aged: list[Entry] = []
        for entry in entries:
            id, version, heartbeat = entry.id, entry.version, entry.heartbeat
            peer = find(id)
            if version > limit or heartbeat > limit or entry.heard > limit:
                self._membership.report_beyond(now, id, max(version, heartbeat, entry.heard), self._output)
                entry = self._membership.bound.within(now, entry, 0 if peer is None else peer.max_version_seen)
                version, heartbeat = entry.version, entry.heartbeat
            if peer is self._local:
                self._hear_of_self(entry.heard or version, heartbeat, entry.floor, entry.transport)
                self.told = version
            elif (
                peer is None
                or (version > peer.max_version_seen and (version > peer.heard or version == entry.floor))
                or entry.heard > peer.heard
                or (entry.floor > peer.floor and entry.floor > peer.noted)
                or peer.floor < peer.noted <= peer.max_version_seen  # it may be settled now
                or (
                    heartbeat > peer.heartbeat
                    and (
                        id == sender_id
                        or entry.left != peer.left
                        or entry.transport != peer.transport
                        or entry.interval != peer.interval
                    )
                )
            ):
                peer = self._membership.hear_of(now, entry, peer, id == sender_id, self._output)
                if peer is None:
                    continue
            elif peer.hear(heartbeat, now):  # as most: nothing but a later heartbeat
                risen.append(peer)
            if entry.age and peer is not self._local:
                aged.append(entry)
            if heartbeat < peer.heartbeat and peer is not self._local:
                self.fresher_heartbeats.append(peer)
            if version != peer.max_version_seen:
                self._compare(peer, version)
        if risen or aged:
            self._membership.hear_risen(now, risen, aged)

    def read_compact(self, told: Iterable[tuple[Peer, int, int]], named: set[str]) -> None:
        """Read what a compact digest tells, except about peers that have an entry of their own, which says more."""
        limit, now, membership = self.limit, self._now, self._membership
        risen: list[Peer] = []
        for peer, heartbeat, version in told:
            if peer is self._local:
                self.told = version
            if (heartbeat == peer.heartbeat and version == peer.max_version_seen) or peer.id in named:
                continue
            if heartbeat > limit or version > limit:
                membership.report_beyond(now, peer.id, max(heartbeat, version), self._output)
                heartbeat = heartbeat if heartbeat <= limit else peer.heartbeat
                version = version if version <= limit else peer.max_version_seen
            if peer is self._local:
                self._hear_of_self(version, heartbeat, 0)
            elif heartbeat < peer.heartbeat:
                self.fresher_heartbeats.append(peer)
            elif peer.hear(heartbeat, now):
                risen.append(peer)
            if version > peer.heard and peer is not self._local:
                peer.hear_of(version, peer.floor, False)
                membership.change(peer)
            if version != peer.max_version_seen:
                self._compare(peer, version)
        if risen:
            membership.hear_risen(now, risen)

    def _compare(self, peer: Peer, version: int) -> None:
        if version < peer.max_version_seen:
            self.they_lack.append((peer, version))
        else:
            self.we_lack.append(peer)

    def _hear_of_self(self, version: int, heartbeat: int, floor: int, transport: Any = None) -> None:
        if self._identity.hear(self._now, version, heartbeat, floor, self._output, transport):
            self._membership.change(self._local)


def choose_deltas(
    they_lack: Sequence[tuple[Peer, int]], limit: int | None, order: str, random: Random
) -> tuple[list[Delta], list[Peer]]:
    """Return the deltas of one message, and the peers that have more to tell, those whose turn is next first.

    There are at most `limit` deltas; None stands for as many as fit into `_ROOM` bytes, and for one that is larger by itself.

    Those of one peer go in ascending version, whatever the order; otherwise a digest's one number would not do. The orders of
    van Renesse et al., section 3.1: scuttle-depth tells the peer with most deltas first, as long as there is room;
    scuttle-breadth tells the first delta of every peer, then the second of every peer, and so on, in an order of peers that is
    drawn for each message. "random" tells as depth does, in such an order.
    """
    counts = {peer.id: peer.count_after_version(version) for peer, version in they_lack}
    if order == "depth":  # equals stay in the digest's order, from a place that is drawn: all digests may have the same order
        start = int(random.random() * len(they_lack))
        turns = [*they_lack[start:], *they_lack[:start]]
        turns.sort(key=lambda turn: counts[turn[0].id], reverse=True)
    else:
        turns = draw(they_lack, len(they_lack), random)
    deltas: list[Delta] = []
    room = _ROOM if limit is None else limit
    at_once = min(_AT_ONCE, room) if order != "breadth" else 1 + _AT_ONCE // (1 + len(turns))
    writes = [_deltas_of(peer, version, at_once) for peer, version in turns]
    in_turn = chain.from_iterable(writes if order != "breadth" else zip_longest(*writes))
    for delta in in_turn:
        if delta is None:
            continue  # this peer has told all, others have not
        room -= 1 if limit is not None else delta.size
        if room < 0 and deltas:
            break
        deltas.append(delta)
    told = Counter([delta.peer_id for delta in deltas])
    return deltas, [peer for peer, _ in turns if told[peer.id] < counts[peer.id]]


def _deltas_of(peer: Peer, version: int, at_once: int) -> Iterator[Delta]:
    """Yield the deltas of a peer above this version. So many are made at once; only some may be wanted."""
    while deltas := peer.deltas(version, at_once):
        yield from deltas
        version = deltas[-1].version
