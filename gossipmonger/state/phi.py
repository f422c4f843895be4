"""The phi accrual failure detector's arrival window.

Hayashibara, Defago, Yared and Katayama, "The phi Accrual Failure Detector" (SRDS 2004): instead of a verdict, a number
that grows with the silence, on a scale in which each step of 1 makes a wrong suspicion ten times less likely. The paper
takes a normal distribution's tail; this one, as in Cassandra and in the Node package, takes the exponential one, since
the intervals of gossip are skewed:

    phi(now) = -log10(P(an interval longer than now - last)) = (now - last) / mean * log10(e)

So phi passes 8 after 18.4 mean intervals of silence. Time is an argument throughout; nothing here knows a clock.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable

__all__ = ["ANOTHER_LIFE", "FIRST_INTERVAL", "FIRST_SHARE", "PhiAccrual"]

#: Rise of a heartbeat beyond one per millisecond from which on it is another life, and the window begins afresh. Rounds of one
#: life that arrive together rise less.
ANOTHER_LIFE = 1000

#: Share of a gossip interval that counts as a peer's first sample, before anything was measured: the Node package's 750 ms of
#: 1,000.
FIRST_SHARE = 0.75

#: Milliseconds: the one sample that a window starts with, 3/4 of the default gossip interval, as in the Node package.
FIRST_INTERVAL = 750.0

#: How often it counts. What is heard first about a peer, or about a new life of it, may be old, and fresh news come soon after
#: it, as if the peer were many times as fast as it is; a few such samples must not make a verdict.
_FIRST_SAMPLES = 5

_LOG10_E = math.log10(math.e)


class PhiAccrual:
    """The last intervals between signs of life, and what the present silence means against them.

    Args:
        intervals: Milliseconds; the window's first samples, by default one of `FIRST_INTERVAL`.
        last_time: Milliseconds since the epoch of the last sign of life, None before the first.
        max_intervals: How many samples the window holds; an older one makes room.

    Attributes:
        last_time: As above.

    Raises:
        ValueError: `max_intervals` is below 1.
    """

    # A ring, of plain doubles: a node has a window for each peer, and a hundred objects in each would be most of its memory.
    __slots__ = ("_most", "_oldest", "_samples", "_sum", "last_time")

    def __init__(
        self, intervals: Iterable[float] | None = None, last_time: float | None = None, max_intervals: int = 100
    ) -> None:
        if max_intervals < 1:
            raise ValueError(f"max_intervals: {max_intervals!r} is no room for an interval")
        self._samples = array("d", (FIRST_INTERVAL,) if intervals is None else intervals)
        del self._samples[:-max_intervals]
        self._oldest = 0
        self._most = max_intervals
        self._sum = math.fsum(self._samples)
        self.last_time = last_time

    @property
    def intervals(self) -> list[float]:
        """A copy of the window, oldest sample first, in milliseconds."""
        return [*self._samples[self._oldest :], *self._samples[: self._oldest]]

    @property
    def max_intervals(self) -> int:
        """How many samples the window holds."""
        return self._most

    @property
    def sum(self) -> float:
        """All samples together, in milliseconds."""
        return self._sum

    @property
    def mean(self) -> float:
        """The mean sample in milliseconds, 0 where there is none."""
        return self._sum / (len(self._samples) or 1)

    def add(self, interval: float, times: int = 1) -> None:
        """Add a sample of `interval` milliseconds, so many times."""
        samples, most, oldest = self._samples, self._most, self._oldest
        if times > most:
            times = most
        while times:  # mostly once or twice, so that a `for` would cost more to set up than to run
            times -= 1
            if len(samples) < most:
                samples.append(interval)
                self._sum += interval
            else:
                self._sum += interval - samples[oldest]
                samples[oldest] = interval
                oldest = oldest + 1 if oldest + 1 < most else 0
        self._oldest = oldest

    def restart(self, interval: float) -> None:
        """Begin the window afresh, for a peer whose rounds are so many milliseconds apart."""
        samples = [FIRST_SHARE * interval] * min(_FIRST_SAMPLES, self._most)
        self._samples, self._oldest, self._sum = array("d", samples), 0, math.fsum(samples)

    def contact(self, now: float) -> None:
        """Note a sign of life at `now`; the time since the one before it (750 ms for the first) is a sample."""
        self.add(FIRST_INTERVAL if self.last_time is None else now - self.last_time)
        self.last_time = now

    def phi(self, now: float, least: float = 0.0) -> float:
        """Return phi at `now`, never negative. Before the first sign of life the silence counts as 750 ms.

        Args:
            now: Milliseconds since the epoch.
            least: Milliseconds; a mean below counts as this much.
        """
        silence = FIRST_INTERVAL if self.last_time is None else now - self.last_time
        if silence <= 0:
            return 0.0
        mean = max(self.mean, least)
        return silence / mean * _LOG10_E if mean > 0 else math.inf
