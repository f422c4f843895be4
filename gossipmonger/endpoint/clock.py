"""The default clock: milliseconds since the epoch that never go backwards."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["monotonic_clock"]


def monotonic_clock() -> Callable[[], float]:
    """Return a function that returns the time in milliseconds since the epoch.

    It reads the wall clock once, here, and then follows the system's monotonic clock. Setting the wall clock later, by hand or
    by NTP, therefore never looks like silence of peers.
    """
    anchor = time.time() - time.monotonic()
    return lambda: (anchor + time.monotonic()) * 1000
