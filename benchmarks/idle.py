"""The CPU time that an idle node costs in a round: ours beside the original.

50 nodes in one process, over TCP on loopback, a round every 100 ms. Nothing changes but heartbeats. The clusters run one after
the other, each bound to one core: the threads of 50 nodes that pass one interpreter to and fro between two cores take twice the
time for the same work, and nobody runs 50 nodes in a process to use two.
"""

from __future__ import annotations

import time
from statistics import median
from typing import NamedTuple

from benchmarks.programs import NAMES, ORIGINAL, columns, cores, free_ports, kinds, start, without
from benchmarks.report import Section, times

__all__ = ["Idle", "measure", "run"]

NODES = 50
INTERVAL = 100


class Idle(NamedTuple):
    """What one cluster did.

    Attributes:
        kind: Of its nodes.
        cpu: Milliseconds of CPU for a node and round, both sides of what is sent included.
        rounds: How many each node had in a second.
    """

    kind: str
    cpu: float
    rounds: float


def one(kind: str, seconds: float, warm_up: float) -> Idle:
    """Run one cluster."""
    options = {"GOSSIP_INTERVAL": INTERVAL}
    with start(kind, "cluster", cores()[0], ports=free_ports(NODES), options=options) as cluster:
        cluster.ask(do="known")
        time.sleep(warm_up)
        before, begun = cluster.ask(do="state"), time.monotonic()
        time.sleep(seconds)
        after, took = cluster.ask(do="state"), time.monotonic() - begun
    rounds = after["rounds"] - before["rounds"]
    return Idle(kind, (after["cpu"] - before["cpu"]) / rounds, rounds / NODES / took)


def measure(quick: bool) -> list[Idle]:
    """Run all; four minutes, quick half of one."""
    turns, seconds, warm_up = (1, 4, 2) if quick else (3, 10, 5)
    results = []
    for _ in range(turns):
        for kind in kinds():
            results.append(one(kind, seconds, warm_up))
            print(f"{NAMES[kind]}: {results[-1].cpu:.3f} ms, {results[-1].rounds:.1f} rounds a second", flush=True)
    return results


def run(quick: bool) -> Section:
    """Measure, and make a table of it."""
    results = measure(quick)
    cpu = {kind: [result.cpu for result in results if result.kind == kind] for kind in NAMES}
    rounds = {kind: [result.rounds for result in results if result.kind == kind] for kind in NAMES}
    row = []
    for kind, found in cpu.items():
        row.append(f"{median(found):.2f} ms at {median(rounds[kind]):.1f} rounds a second" if found else "")
        if kind != ORIGINAL:
            row.append(times(found, cpu[ORIGINAL]) if found and cpu[ORIGINAL] else "")
    return Section(
        name="idle",
        title="CPU of an idle node",
        text=f"""
{NODES} nodes in one process, bound to one core, over TCP on loopback, told to do a round every {INTERVAL} ms, with nothing to
tell but that they live. The CPU time of the process for each node and round, all that comes of the round included, and what it
is of the original's. The original answers no digest that is in sync; ours tells of later heartbeats.
{without()}""",
        header=[cell for kind in NAMES for cell in columns(kind)],
        rows=[row],
        raw=[result._asdict() for result in results],
    )
