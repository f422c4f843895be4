"""Search for histories that break a promise: see the package."""

from __future__ import annotations

import sys

from tests.search import search

from . import dense, simulated

KINDS = {"simulated": simulated.outcome, "dense": dense.outcome}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit("python -m tests.histories simulated|dense [FIRST LAST] [--count COUNT]")
    kind = sys.argv[1]
    sys.exit(search(f"{kind} histories", KINDS[kind], sys.argv[2:], 20_000))
