"""Many keys at once: seconds until the last node has 10,000 that one node sets, ours beside the original.

25 nodes in one process, over TCP on loopback, a round a second, 500 deltas in a message. The clusters run one after the other.
"""

from __future__ import annotations

from benchmarks.programs import NAMES, ORIGINAL, columns, free_ports, kinds, start, without
from benchmarks.report import Section, spread, times

__all__ = ["measure", "run"]

NODES = 25
KEYS = 10_000
OPTIONS = {"GOSSIP_INTERVAL": 1000, "MAX_DELTAS_PER_GOSSIP": 500}


def measure(turns: int, keys: int) -> dict[str, list[float]]:
    """Return the seconds of each run."""
    took: dict[str, list[float]] = {kind: [] for kind in kinds()}
    for _ in range(turns):
        for kind, runs in took.items():
            with start(kind, "cluster", ports=free_ports(NODES), options=OPTIONS) as cluster:
                cluster.ask(do="known")
                runs.append(cluster.ask(do="spread", keys=keys))
            print(f"{NAMES[kind]}: {runs[-1]:.2f} s", flush=True)
    return took


def run(quick: bool) -> Section:
    """Measure, and make a table of it; five minutes, quick one."""
    keys = KEYS // 5 if quick else KEYS
    took = measure(1, keys)
    row = []
    for kind in NAMES:
        row.append(spread(took[kind], 2) if kind in took else "")
        if kind != ORIGINAL:
            row.append(times(took[ORIGINAL], took[kind]) if kind in took and ORIGINAL in took else "")
    return Section(
        name="flood",
        title=f"{keys:,} keys at once",
        text=f"""
{NODES} nodes in one process, over TCP on loopback, a round a second, 500 deltas in a message. One node sets {keys:,} keys at
once. The seconds until the last node has them all, and how many times sooner than with the original that is.
{without()}""",
        header=[cell for kind in NAMES for cell in columns(kind)],
        rows=[row],
        raw=took,
    )
