"""Comparison: what the sender of a digest knows of each peer, held against what is known here.

Digests are long, and most of what they say is known already. So these are the loops that a message's cost is made of: an entry
that tells nothing new costs a handful of comparisons, one that tells a later heartbeat, which is all that most of the others
do, one call more, and only what is left is read with all its consequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gossipmonger.entry import Entry
from gossipmonger.membership import Membership
from gossipmonger.output import Output
from gossipmonger.peer import Peer
from gossipmonger.roll import Roll

__all__ = ["Comparison"]


class Comparison:
    """Reads a digest.

    Args:
        now: Milliseconds since the epoch.
        local: The node's own peer.
        storage: Where all peers are kept.
        membership: Reads entries of others.
        read_own: Called with an entry of the local peer's id that tells more than the local peer knows of itself.
        output: Takes what happened.

    Attributes:
        lacking: Peers of which the sender knows less, with the version that it knows.
        missing: Peers of which less is known here.
        later: Peers of which a later heartbeat is known here.
    """

    def __init__(
        self,
        now: float,
        local: Peer,
        storage: Any,
        membership: Membership,
        read_own: Callable[[Entry], None],
        output: Output,
    ) -> None:
        self._now = now
        self._local = local
        self._storage = storage
        self._by_reference = getattr(storage, "by_reference", False)
        self._membership = membership
        self._read_own = read_own
        self._output = output
        self.lacking: list[tuple[Peer, int]] = []
        self.missing: list[Peer] = []
        self.later: list[Peer] = []

    def read(self, digest: list[Entry], sender_id: str) -> None:
        """Read all entries."""
        local, get = self._local, self._storage.get
        for entry in digest:
            id, version, heartbeat = entry.id, entry.version, entry.heartbeat
            known: Peer | None = get(id)
            if (
                known is None
                or version > known.max_version_seen
                or entry.floor > known.floor
                or entry.heard
                or known.noted > known.floor
            ):
                known = self._read(entry, sender_id)
            elif heartbeat > known.heartbeat:
                if entry.address != known.told_at or entry.left != known.left or id == sender_id or id == local.id:
                    known = self._read(entry, sender_id)
                else:
                    known.hear(heartbeat, self._now)
                    if not self._by_reference:
                        self._storage.put(id, known)
            if known is None:
                continue
            if heartbeat < known.heartbeat and id != local.id:
                self.later.append(known)
            if version < known.max_version_seen:
                self.lacking.append((known, version))
            elif version > known.max_version_seen:
                self.missing.append(known)

    def _read(self, entry: Entry, sender_id: str) -> Peer | None:
        """Read an entry that may tell anything; return its peer, None if it is to be ignored."""
        if entry.id == self._local.id:
            self._read_own(entry)
            return self._local
        return self._membership.read(self._now, entry, entry.id == sender_id, self._output)

    def read_roll(self, roll: Roll, told: tuple[list[int], list[int]], digest: list[Entry]) -> None:
        """Read heartbeats and versions of all in the roll, but for those who have an entry of their own in the digest."""
        local, named, now = self._local, {entry.id for entry in digest}, self._now
        heartbeats, versions = told
        for peer, heartbeat, before in zip(roll.called, heartbeats, roll.heartbeats(), strict=True):
            if heartbeat == before or peer.id in named:
                continue
            if peer.id == local.id:
                if heartbeat > before:
                    self._read_own(Entry(local.id, 0, local.transport, heartbeat))
            elif heartbeat < before:
                self.later.append(peer)
            else:
                peer.hear(heartbeat, now)
                if not self._by_reference:
                    self._storage.put(peer.id, peer)
        known = roll.versions()
        if known == versions:
            return
        for peer, version, before in zip(roll.called, versions, known, strict=True):
            if version == before or peer.id in named:
                continue
            if version < before:
                self.lacking.append((peer, version))
            elif peer.id == local.id:
                self._read_own(Entry(local.id, version, local.transport))
                self.lacking.append((local, version))
            else:
                peer.hear_of(version, peer.floor, False)
                self._storage.put(peer.id, peer)
                self.missing.append(peer)
