"""What encryption costs: `python -m benchmarks.pairs [--rounds 5] [--quick] [NAME ...]`.

Two runs of the same cluster differ by a tenth or more, as machines do. So plain and encrypted nodes take turns, window by
window, and each pair of windows gives one ratio. The figures are the medians of the ratios, and their range.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.cluster import Cluster
from benchmarks.peers import Variant
from benchmarks.rows import FULL, QUICK, ROWS, VARIANTS, Scale

__all__ = ["PAIRS", "compare", "main"]

#: What is compared, plain first.
PAIRS: Mapping[str, tuple[str, str]] = {
    "sealed": ("ours", "ours, sealed"),
    "sealed-udp": ("ours, UDP", "ours, UDP, sealed"),
    "tls": ("ours", "ours, TLS"),
}


def compare(pair: Sequence[Variant], row: str, scale: Scale, rounds: int) -> dict[str, list[float]]:
    """Return the ratios of the second variant to the first, pair by pair, and what they are ratios of.

    Args:
        pair: The two variants.
        row: `idle` or `load`.
        scale: How much of everything.
        rounds: How many pairs.
    """
    scale = scale._replace(windows=1)
    found: dict[str, list[float]] = {"cpu ratio": [], "bytes ratio": [], "cpu": [], "bytes": []}
    for number in range(rounds):
        samples = []
        for variant in pair if number % 2 == 0 else pair[::-1]:
            with Cluster(variant, scale.size) as cluster:
                samples.append(ROWS[row].measure(cluster, scale))
        plain, other = samples if number % 2 == 0 else samples[::-1]
        for what in ("cpu", "bytes"):
            if plain[what] and other[what]:
                found[f"{what} ratio"].append(other[what][0] / plain[what][0])
                found[what].append(plain[what][0])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparisons that are named, by default all that can be had here."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pairs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(PAIRS)}; sealed by default")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each")
    parser.add_argument("--rows", nargs="+", default=["idle", "load"], choices=["idle", "load"], help="at rest, under load")
    parser.add_argument("--quick", action="store_true", help="see whether it works: little of each")
    chosen = parser.parse_args(arguments)
    for name in chosen.names:
        if name not in PAIRS:
            parser.error(f"there is no pair {name!r}; there are {', '.join(PAIRS)}")
    by_name = {variant.name: variant for variant in VARIANTS}
    for name in chosen.names or ["sealed"]:
        pair = [by_name[each] for each in PAIRS[name]]
        for row in chosen.rows:
            found = compare(pair, row, QUICK if chosen.quick else FULL, chosen.rounds)
            for what in ("cpu", "bytes"):
                ratios = found[f"{what} ratio"]
                if ratios:
                    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                    print(f"{name}, {row}: {what} {median(found[what]):.4g}, times {median(ratios):.3f} ({spread})", flush=True)


if __name__ == "__main__":
    main()
