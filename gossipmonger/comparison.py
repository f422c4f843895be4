"""Comparison: what the sender of a digest knows of each peer, held against what is known here.

Digests are long, and most of what they say is known already. So these are the loops that a message's cost is made of: an entry
that tells nothing new costs a handful of comparisons, one that tells a later heartbeat, which is all that most of the others
do, one call more, and only what is left is read with all its consequences.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

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
        get: Finds a peer by its id.
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
        get: Callable[[str], Peer | None],
        membership: Membership,
        read_own: Callable[[Entry], None],
        output: Output,
    ) -> None:
        self._now = now
        self._local = local
        self._get = get
        self._membership = membership
        self._read_own = read_own
        self._output = output
        self.lacking: list[tuple[Peer, int]] = []
        self.missing: list[Peer] = []
        self.later: list[Peer] = []

    def read(self, digest: list[Entry], sender_id: str) -> None:
        """Read all entries."""
        local, get, membership, now = self._local, self._get, self._membership, self._now
        rose, bound = False, membership.bound
        limit = bound.limit(now)
        for entry in digest:
            id, version, heartbeat = entry.id, entry.version, entry.heartbeat
            known = get(id)
            if version > limit or heartbeat > limit or entry.heard > limit:
                entry = bound.within(now, entry, known, self._output)
                version, heartbeat = entry.version, entry.heartbeat
            if known is None:
                known = self._read(entry, sender_id)
            else:
                seen, told, floor = known.max_version_seen, entry.heard or version, entry.floor
                if (
                    (told > seen and told > known.heard)
                    or (floor > known.floor and floor > known.noted)
                    or (known.noted > known.floor and known.noted <= seen)  # it may be settled now
                ):
                    known = self._read(entry, sender_id)
                elif heartbeat > known.heartbeat:
                    if entry.address != known.told_at or entry.left != known.left or id == sender_id or id == local.id:
                        known = self._read(entry, sender_id)
                    else:
                        known.hear(heartbeat, now)
                        if membership.by_reference:
                            rose = True
                        else:
                            membership.put(known)
            if known is None:
                continue
            if heartbeat < known.heartbeat and id != local.id:
                self.later.append(known)
            if version < known.max_version_seen:
                self.lacking.append((known, version))
            elif version > known.max_version_seen:
                self.missing.append(known)
        if rose:
            membership.note_heartbeats()

    def _read(self, entry: Entry, sender_id: str) -> Peer | None:
        """Read an entry that may tell anything; return its peer, None if it is to be ignored."""
        if entry.id == self._local.id:
            self._read_own(entry)
            return self._local
        return self._membership.read(self._now, entry, entry.id == sender_id, self._output)

    def read_roll(self, roll: Roll, told: tuple[array[int], array[int]], digest: list[Entry]) -> None:
        """Read heartbeats and versions of all in the roll, but for those who have an entry of their own in the digest."""
        heartbeats, versions = told
        self._bound(roll, heartbeats, versions)
        for entry in digest:  # which says more, and has been read
            number = roll.number(entry.id)
            if number is not None:
                heartbeats[number], versions[number] = roll.heartbeats[number], roll.versions[number]
        self._read_claim(roll, heartbeats, versions)
        called, floors, now = roll.called, roll.floors, self._now
        known, by_reference = roll.heartbeats, self._membership.by_reference
        if heartbeats != known:
            later = []
            # Not by `enumerate`, which would make a tuple anew for each.
            for number, heartbeat, before in zip(range(len(known)), heartbeats, known, strict=True):
                if heartbeat > before:
                    called[number].hear(heartbeat + floors[number], now)
                    known[number] = heartbeat
                    if not by_reference:
                        self._membership.put(called[number])
                elif heartbeat < before:
                    later.append(called[number])
            self.later += later
        if versions == roll.versions:
            return
        for number, version, before in zip(range(len(versions)), versions, roll.versions[:], strict=True):
            peer = called[number]
            if version < before:
                self.lacking.append((peer, version + floors[number]))
            elif version > before:
                peer.hear_of(version + floors[number], peer.floor, False)
                self._membership.put(peer)
                self.missing.append(peer)

    def _bound(self, roll: Roll, heartbeats: array[int], versions: array[int]) -> None:
        """Take what is known in place of numbers that are beyond the bound."""
        bound, floors = self._membership.bound, roll.floors
        limit = bound.limit(self._now)
        if max(max(heartbeats), max(versions)) + max(floors) <= limit:
            return
        for numbers, known in ((heartbeats, roll.heartbeats), (versions, roll.versions)):
            for number, floor in enumerate(floors):
                if numbers[number] + floor > limit:
                    bound.report(self._now, roll.called[number].id, numbers[number] + floor, self._output)
                    numbers[number] = known[number]

    def _read_claim(self, roll: Roll, heartbeats: array[int], versions: array[int]) -> None:
        """Read what is told of the node itself, and answer what claims more than it has ever said; then that is done with."""
        local = self._local
        number = roll.number(local.id)
        if number is None:
            return
        heartbeat, version, floor = heartbeats[number], versions[number], roll.floors[number]
        if heartbeat > roll.heartbeats[number] or version > roll.versions[number]:
            self._read_own(Entry(local.id, version + floor, local.transport, heartbeat + floor))
            self.lacking.append((local, version + floor))
            versions[number] = roll.versions[number]
        heartbeats[number] = roll.heartbeats[number]
