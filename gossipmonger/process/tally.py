"""Tallies: counts to which any thread adds, without waiting for a lock.

`counts[key] += 1` on two threads may lose one of the two. To append to a deque is one step of the interpreter's own, so that is
all that whoever counts does. What is in the deque is added up when somebody reads the tally, and now and then in between.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Hashable
from itertools import accumulate

from gossipmonger.process.fork import renew
from gossipmonger.process.guard import here, marked

__all__ = ["BOUNDS", "Tally", "Times"]

#: What may wait to be added up. It takes some 100 microseconds then, and 50 KB until then.
_MOST = 500

#: Upper bounds of the buckets in which times are counted, in seconds. A round and a handler usually take about a millisecond.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Tally:
    """Counts by keys. May be used from anywhere, also by what interrupts it."""

    def __init__(self) -> None:
        self._new: deque[tuple[Hashable, float]] = deque()
        self._sums: dict[Hashable, tuple[int, float]] = {}
        self._tally_lock = threading.Lock()  # guards _sums, and that the new ones are taken by one thread at a time
        renew(self, "_tally_lock")

    def add(self, key: Hashable, amount: float = 0.0) -> None:
        """Count a key once, with an amount."""
        self._new.append((key, amount))
        if len(self._new) > _MOST and not here().marked:  # or this interrupts whoever holds the lock
            self.read()

    def read(self) -> dict[Hashable, tuple[int, float]]:
        """Return how often each key was added so far, and with what amount altogether. Must not interrupt another call."""
        with marked(), self._tally_lock:
            new, sums = self._new, self._sums
            for _ in range(len(new)):
                key, amount = new.popleft()
                number, total = sums.get(key, (0, 0.0))
                sums[key] = number + 1, total + amount
            return dict(sums)


class Times:
    """Counts how long something took, by buckets."""

    def __init__(self) -> None:
        self._tally = Tally()

    def add(self, seconds: float) -> None:
        """Count a time. One below 0, as of a clock that was set back, counts as 0."""
        seconds = max(0.0, seconds)
        self._tally.add(bisect_left(BOUNDS, seconds), seconds)

    def read(self) -> tuple[list[int], float]:
        """Return how many there were up to each of `BOUNDS`, and up to infinity; and the sum of all."""
        counted = self._tally.read()
        numbers = accumulate(counted.get(bucket, (0, 0.0))[0] for bucket in range(len(BOUNDS) + 1))
        return [*numbers], sum((seconds for _, seconds in counted.values()), 0.0)
