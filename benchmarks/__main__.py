"""Runs the comparisons and writes their pages: `make bench`, or `python -m benchmarks [--quick] [NAME ...]`.

A benchmark is a module with `run(quick: bool)`, which returns a `Section` or a list of them. It says how it gets on by
`print`. What it returns replaces its own files in `docs/benchmarks` and nobody else's, so each can be run again alone.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
from pathlib import Path

from benchmarks.report import Section, write

#: The modules, in the order in which they run and stand on the page.
NAMES: tuple[str, ...] = (
    "updates", "deaths", "costs", "flood", "intake", "digests", "idle", "memory", "growth", "steps", "compression"
)  # fmt: skip

PAGES = Path(__file__).parent.parent / "docs" / "benchmarks"
SMOKE = Path(__file__).parent / "build" / "quick"


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmarks that are named, all by default."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="see whether it works: little of each, nothing written to docs")
    chosen = parser.parse_args(arguments)
    for name in chosen.names:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is running is ended, as it is by Ctrl-C
    for name in chosen.names or NAMES:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        returned = importlib.import_module(f"benchmarks.{name}").run(chosen.quick)
        for section in [returned] if isinstance(returned, Section) else returned:
            write(section, SMOKE if chosen.quick else PAGES)
            print(f"\n{section.title}\n\n{section.table()}", flush=True)
        print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
