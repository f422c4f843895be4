"""How much memory this process has."""

from __future__ import annotations

import os
import resource
import sys

__all__ = ["rss"]


def rss() -> int:
    """Return the bytes of memory that are resident now; where the system does not say, the most there ever were."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
