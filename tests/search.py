"""Runs a search over many seeds on all cores, and prints the seeds that fail."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from random import SystemRandom


def search(name: str, outcome: Callable[[int], str | None], arguments: Sequence[str] | None, count: int) -> int:
    """Run seeds that the command line names, or new ones; return the program's status, 1 if any failed.

    Args:
        name: What a seed stands for, in the plural.
        outcome: Runs a seed and returns what was wrong with it; a function of a module, so that other processes find it.
        arguments: The command line: `[FIRST LAST] [--count COUNT]`; None for the program's.
        count: How many new seeds there are to be, unless the command line says so.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("seeds", nargs="*", type=int, metavar="FIRST LAST", help="the seeds to run; new ones without")
    parser.add_argument("--count", type=int, default=count, help=f"how many new seeds, by default {count}")
    given = parser.parse_args(arguments)
    if len(given.seeds) not in (0, 2):
        parser.error("give the first and the last seed, or neither")
    first = SystemRandom().randrange(10**9)
    first, last = given.seeds or (first, first + given.count - 1)
    print(f'{name}: seeds {first} to {last}; SEEDS="{first} {last}" repeats them', flush=True)
    failed = 0
    with ProcessPoolExecutor() as pool:
        for wrong in pool.map(outcome, range(first, last + 1), chunksize=10):
            if wrong is not None:
                failed += 1
                print(wrong, flush=True)
    print(f"{last - first + 1} {name}, {failed} failed")
    return int(failed > 0)
