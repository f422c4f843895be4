"""Identity: what others say about the node itself, where it is more than the node has ever said.

That may be what a former life of the id said, whose clock was ahead or whose disk is lost; or a forgery; or what another
process says that has the same id. In each case the node takes a floor well above it and issues its keys again, so that its own
word is the latest. A heartbeat is such a claim too: a former life that began at the same reading of the clock may have written
other values under the very same versions.
"""

from __future__ import annotations

from random import Random
from typing import Any

from gossipmonger.errors import DuplicateError
from gossipmonger.protocol.output import Event, Output
from gossipmonger.state import Bound, Peer, Throttle

__all__ = ["Identity"]

#: Gap above a claimed number, to which as much again is added at random. A gap of one would meet other numbers that the former
#: life issued and nobody has told of yet, and two lives that heard of the same number would meet.
_LEAP = 2**20

#: Heartbeats claimed under the node's id, each after it had gone above the one before, until another process must be at work.
_ENCOUNTERS = 3


class Identity:
    """Answers claims about the local peer, above them and within the bound of what others believe."""

    def __init__(self, local: Peer, bound: Bound, random: Random) -> None:
        self._local = local
        self._bound = bound
        self._random = random
        self._encounters = 0
        self._elsewhere: Any = None  # where the other process is, as it was heard last
        self._reports = Throttle()

    def hear(self, now: float, version: int, heartbeat: int, floor: int, output: Output, transport: Any = None) -> bool:
        """Go above what is told about the local peer, if that is more than it has told; return whether it has changed.

        `transport` is the address that others believe it has.
        """
        local = self._local
        lived = heartbeat > local.heartbeat
        if not lived and version <= local.max_version_seen and floor <= local.floor:
            return False
        try:
            local.reissue(self._above(now, max(version, local.max_version_seen)))
        except OverflowError as error:  # no version is left above the claim, so the node's own word stands
            output.append(Event("error", (error,)))
            return False
        if lived:
            local.heartbeat = self._above(now, heartbeat)
            self._encounter(now, transport, output)
        return True

    def _above(self, now: float, number: int) -> int:
        """Return a number well above this one, but one that others believe."""
        return max(number + 1, min(self._bound.limit(now), number + _LEAP + int(self._random.random() * _LEAP)))

    def _encounter(self, now: float, transport: Any, output: Output) -> None:
        self._encounters += 1
        if transport != self._local.transport:
            self._elsewhere = transport or self._elsewhere
        if self._encounters > _ENCOUNTERS and self._reports.passes(now):
            output.append(Event("error", (DuplicateError(self._local.id, self._elsewhere),)))
