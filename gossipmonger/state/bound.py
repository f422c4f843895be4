"""The ten-year bound: a number further ahead of the clock than that was never issued, and counts as not told.

Ten years are the default of MAX_YEARS_AHEAD.

Versions and heartbeats begin at the microseconds of a clock and rise far more slowly than it does, so a number that lies years
ahead is forged, or comes from a node whose clock is wrong. If it were believed, its owner could never again say anything newer.

Only the number is disregarded. If the whole message were refused, an entry just under the bound would cut off every node whose
clock is a minute behind: the nodes that believe it pass it on in each of their digests.
"""

from __future__ import annotations

from gossipmonger.errors import MessageError, shown
from gossipmonger.state.message import Entry
from gossipmonger.state.throttle import Throttle

__all__ = ["MAX_VERSION", "Bound"]

#: The greatest version. Beyond it a Node.js node, which reads numbers as doubles, could not tell two of them apart.
MAX_VERSION = 2**53 - 1

#: Microseconds in a year.
_YEAR = 365 * 86_400 * 1_000_000

#: Milliseconds since the epoch, in September 2020. A clock that reads less was never set, and its node goes by the latest
#: clock that it has heard of.
_NEVER_SET = 1_600_000_000_000


class Bound:
    """Tells which numbers are beyond the bound, and reports them once a minute at most.

    Args:
        years: How far a number may be ahead of the clock.
    """

    def __init__(self, years: float = 10) -> None:
        self._ahead = int(years * _YEAR)
        self._years = "ten years" if years == 10 else f"{years:g} years"
        self._latest = float(_NEVER_SET)  # the latest clock heard of, in milliseconds
        self._reports = Throttle()

    def limit(self, now: float) -> int:
        """Return the highest number that is believed at `now`."""
        return min(MAX_VERSION, int((now if now >= _NEVER_SET else self._latest) * 1000) + self._ahead)

    def hear(self, now: float, heartbeat: int) -> None:
        """Note a heartbeat that is believed; a node whose clock was never set takes the latest for its clock."""
        if now < _NEVER_SET:
            self._latest = max(self._latest, heartbeat / 1000)

    def within(self, now: float, entry: Entry, known_version: int) -> Entry:
        """Return an entry without the numbers that are beyond the bound.

        Args:
            now: Milliseconds since the epoch.
            entry: What was told.
            known_version: What is known of the peer; it stands for a version that counts as not told.
        """
        limit = self.limit(now)
        version = entry.version if entry.version <= limit else known_version
        heartbeat = entry.heartbeat if entry.heartbeat <= limit else -1
        floor = entry.floor if entry.floor <= min(limit, version) else 0
        heard = entry.heard if version <= entry.heard <= limit else 0
        return Entry(entry.id, version, entry.transport, heartbeat, floor, heard, entry.left, entry.age, entry.interval)

    def report(self, now: float, id: str, number: int) -> list[MessageError]:
        """Return the error for a number beyond the bound that was told of a peer, none if there was one a short while ago."""
        if not self._reports.passes(now):
            return []
        told = f"{number} was told of the peer {shown(id)}"
        return [MessageError(f"{told}, more than {self._years} ahead of this clock: disregarded")]
