"""What compression costs and saves, two minutes.

The first table is of single digests, with entries as distinct as those of processes that start at different moments. The
second is of whole clusters, simulated, by the threshold above which messages are deflated: while they form, in entries, and at
rest, in compact digests.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from random import Random
from statistics import median
from time import process_time

from benchmarks.report import Section
from gossipmonger import RemotePeer
from gossipmonger.simulation import Simulation
from gossipmonger.state import Digest, Entry, Header, Kind, Message
from gossipmonger.wire import decode, encode
from gossipmonger.wire.compression import deflate, inflate

__all__ = ["run"]

ENTRIES = (10, 25, 50, 100, 250, 1000)
THRESHOLDS = (None, 16_384, 8_192, 4_096, 2_048, 1_024)


def digest(entries: int, random: Random) -> bytes:
    """Return a message with a digest of so many peers, whose lives began at random moments of one day."""
    made: list[Entry] = []
    for number in range(entries):
        begun = 1_700_000_000_000_000 + random.randrange(86_400_000_000)
        address = {"host": f"10.0.{number >> 8}.{number & 255}", "port": 9742}
        version, heartbeat = begun + random.randrange(200), begun + random.randrange(100_000)
        made.append(Entry(f"node-{number}", version, address, heartbeat, begun))
    digest = Digest(Kind.ROUND, Header(), made)
    return encode(Message(RemotePeer("node-0", {"host": "10.0.0.0", "port": 9742}), None, digest))


def microseconds(function: Callable[[], object], times: int = 20) -> float:
    """Return the CPU that one call takes, the median of nine runs."""

    def once() -> float:
        begun = process_time()
        for _ in range(times):
            function()
        return (process_time() - begun) * 1e6 / times

    return median(once() for _ in range(9))


def run(quick: bool) -> list[Section]:
    """Return both tables."""
    return [_digests(quick), _clusters(quick)]


def _digests(quick: bool) -> Section:
    random, rows = Random(1), []
    for entries in ENTRIES[:2] if quick else ENTRIES:
        data = digest(entries, random)
        deflated, best = deflate(data), zlib.compress(data, 6)
        sizes = [entries, len(data), len(deflated), len(best)]
        costs = [
            microseconds(partial(deflate, data)),
            microseconds(partial(zlib.compress, data, 6)),
            microseconds(partial(inflate, deflated, len(data))),
            microseconds(partial(decode, data)),
        ]
        rows.append([f"{figure:,.0f}" for figure in sizes + costs])
    header = ["entries", "bytes", "deflated", "level 6", "deflate, us", "level 6, us", "inflate, us", "decode and check, us"]
    text = (
        "Digests with versions and heartbeats as distinct as those of processes that begin at different moments; CPU, medians."
    )
    return Section("compression_digests", "Deflating a digest", text, header, rows, rows)


def _clusters(quick: bool) -> Section:
    rows = []
    for nodes in (10,) if quick else (50, 300):
        for above in THRESHOLDS:
            figures = [figure for phase in cluster(nodes, above) for figure in phase]
            rows.append([f"{nodes}", f"{above:,}" if above else "never", *(f"{figure:,.0f}" for figure in figures)])
            print(*rows[-1], flush=True)
    header = ["nodes", "deflated above", "forming: bytes a node and s", "us of CPU", "at rest: bytes a node and s", "us of CPU"]
    text = (
        "Clusters simulated in one process, at the default interval, with nothing to tell but who is there: in their first "
        "five rounds, when they speak in entries, and at rest, in compact digests."
    )
    return Section("compression_clusters", "The threshold of compression", text, header, rows, rows)


def cluster(nodes: int, above: int | None) -> list[tuple[float, float]]:
    """Return bytes, and microseconds of CPU, a node and second, of a cluster as it forms and of the same at rest."""
    random = Random(1)
    with Simulation(seed=1) as sim:
        for number in range(nodes):  # clocks apart, or all would have the same versions and heartbeats
            sim.add(f"node-{number}", seeds=["node-0"], ahead=random.random() * 1e6, compress_above=above)
        forming = _spent(sim, nodes, 5)
        sim.run(15_000)
        return [forming, _spent(sim, nodes, 10)]


def _spent(sim: Simulation, nodes: int, seconds: int) -> tuple[float, float]:
    before, begun = sim.bytes, process_time()
    sim.run(seconds * 1000)
    return (sim.bytes - before) / nodes / seconds, (process_time() - begun) * 1e6 / nodes / seconds
