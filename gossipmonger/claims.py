"""Claims: what others say of the node itself, where it is more than the node has ever said.

That is what a former life of the id said, whose clock was ahead or whose disk is lost; or a forgery; or what another process
says that has the same id. The node goes on far above it, so that its own word is the latest again. A heartbeat is such a claim
too: a former life that began at the same reading of the clock may have written other values under the very same versions.
"""

from __future__ import annotations

from random import Random

from gossipmonger.entry import Entry
from gossipmonger.errors import DuplicateError
from gossipmonger.membership import Membership
from gossipmonger.output import Event, Output
from gossipmonger.peer import Peer

__all__ = ["Claims"]

#: Gap above versions and heartbeats of our id that we never issued, to which as much again is added at random: a gap of one
#: would meet others that the former life issued and we have not heard of, and two lives that heard of the same would meet.
_LEAP = 2**20

#: Heartbeats met under our id, each after we had gone above the one before it, until that is another process at work.
_ENCOUNTERS = 3

#: Milliseconds between two errors that say so.
_REPORT_EVERY = 60_000


class Claims:
    """Answers claims.

    Args:
        local: The node's own peer.
        membership: Puts it where it is kept.
        random: Draws how far above a claim to go on.
    """

    def __init__(self, local: Peer, membership: Membership, random: Random) -> None:
        self._local = local
        self._membership = membership
        self._random = random
        self._encounters = 0
        self._reported: float | None = None

    def read(self, now: float, entry: Entry, output: Output) -> None:
        """Go above an entry of the local peer that tells more than that peer's own."""
        local = self._local
        limit, version = self._membership.bound.limit(now), entry.heard or entry.version
        lived = entry.heartbeat > local.heartbeat
        try:
            if lived:
                local.heartbeat = self._above(entry.heartbeat, limit)
                self._encounter(now, output)
            if lived or version > local.max_version_seen or entry.floor > local.floor:
                local.reissue(self._above(max(version, local.max_version_seen), limit))
        except OverflowError as error:
            output.append(Event("error", (error,)))
        self._membership.put(local)

    def _above(self, number: int, limit: int) -> int:
        """Return a number well above this one, but not beyond the bound: others would not believe it."""
        return max(number + 1, min(limit, number + _LEAP + int(self._random.random() * _LEAP)))

    def _encounter(self, now: float, output: Output) -> None:
        self._encounters += 1
        if self._encounters > _ENCOUNTERS and (self._reported is None or now - self._reported >= _REPORT_EVERY):
            self._reported = now
            output.append(Event("error", (DuplicateError(self._local.id),)))
