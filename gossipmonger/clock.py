"""Time: milliseconds since the epoch that never go backwards."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["monotonic_clock"]


def monotonic_clock() -> Callable[[], float]:
    """Return a clock: the monotonic one of the system, anchored to the epoch now, once, in milliseconds."""
    anchor = time.time() - time.monotonic()
    return lambda: (anchor + time.monotonic()) * 1000
