"""Throttle: what any message may cause happens only once in a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Throttle"]


class Throttle:
    """Lets each of several causes through once in so many milliseconds, and anything after the clock was set back.

    Args:
        every: Milliseconds from one time to the next: by default a minute, as between two errors of one cause.
        most: Causes that are remembered; of more, the one that was let through first is forgotten.
    """

    def __init__(self, every: float = 60_000.0, most: int = 1_000) -> None:
        self._every = every
        self._most = most
        self._passed: OrderedDict[Hashable, float] = OrderedDict()  # when, oldest first

    def passes(self, now: float, cause: Hashable = None) -> bool:
        """Return whether it is time for this cause again, which then counts as let through."""
        if 0 <= now - self._passed.get(cause, -self._every) < self._every:
            return False
        self._passed[cause] = now
        self._passed.move_to_end(cause)
        if len(self._passed) > self._most:
            self._passed.popitem(last=False)
        return True
