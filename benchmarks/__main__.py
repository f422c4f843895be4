"""Runs the comparisons and writes their page: `make bench`, or `python -m benchmarks [--quick] [NAME ...]`.

Each name is a row of the table on docs/benchmarks.md, or `intake`. Its figures go to docs/benchmarks, and the page is written
again with them and with those that earlier runs left of other rows.
"""

from __future__ import annotations

import argparse
import functools
import signal
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import intake
from benchmarks.page import keep, page
from benchmarks.peers import Variant, available
from benchmarks.rows import FULL, QUICK, ROWS, SLOW, VARIANTS, measure

__all__ = ["DOCS", "NAMES", "SECTIONS", "main"]

DOCS = Path(__file__).parent.parent / "docs"
SMOKE = Path(__file__).parent / "build" / "quick"

#: Parts of the page below the table.
SECTIONS = (("intake", intake.section),)

NAMES = (*ROWS, *(name for name, _ in SECTIONS))


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmarks that are named; by default all but the slow ones."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    listed = f"which to run: {', '.join(NAMES)}; all but {', '.join(SLOW)} by default"
    parser.add_argument("names", nargs="*", metavar="NAME", help=listed)
    parser.add_argument("--quick", action="store_true", help="see whether it works: little of each, nothing written to docs")
    chosen = parser.parse_args(arguments)
    for name in chosen.names:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is running is ended, as it is by Ctrl-C
    docs = SMOKE if chosen.quick else DOCS
    for name in chosen.names or [name for name in NAMES if name not in SLOW]:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        keep(docs / "benchmarks", name, run(name, chosen.quick))
        (docs / "benchmarks.md").write_text(page(docs / "benchmarks", SECTIONS))
        print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
    print(docs / "benchmarks.md")


@functools.cache
def built() -> tuple[list[Variant], dict[str, str]]:
    """Return the variants that can be had here, and of the others why not."""
    return available(list(VARIANTS))


def run(name: str, quick: bool) -> Any:
    """Return the figures of one."""
    if name not in ROWS:
        return intake.run(quick)
    there, reasons = built()
    absent = {variant: {"absent": reason} for variant, reason in reasons.items()}
    return {**absent, **measure(ROWS[name], there, QUICK if quick else FULL)}


if __name__ == "__main__":
    main()
