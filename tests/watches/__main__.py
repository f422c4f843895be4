"""Search for watches that tell something wrong: see the package."""

from __future__ import annotations

import sys

from tests.search import search

from . import simulated, sockets

if __name__ == "__main__":
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    if kind == "simulated":
        sys.exit(search("watched histories", simulated.outcome, sys.argv[2:], 5_000))
    if kind == "sockets":
        sys.exit(sockets.main(sys.argv[2:]))
    sys.exit("python -m tests.watches simulated [FIRST LAST] [--count COUNT] | sockets [--seconds SECONDS]")
