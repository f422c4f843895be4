"""A cluster of ours in one process, over TCP on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.programs.lines import CONFIG, serve
from gossipmonger import Gossipmonger

_interval = CONFIG["options"].get("GOSSIP_INTERVAL", 1000) / 1000
_rounds: list[None] = []  # appended to by several threads, which takes no lock


def timer(seconds: float, function: Callable[[], None]) -> threading.Timer:
    """Make a timer; each round ends with one for the next."""
    if seconds == _interval:
        _rounds.append(None)
    return threading.Timer(seconds, function)


def address(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port}


nodes = [
    Gossipmonger(
        {"id": f"node-{n}", "transport": address(port)},
        CONFIG["options"],
        seeds=[{"id": "node-0", "transport": address(CONFIG["ports"][0])}],
        timer=timer,
    )
    for n, port in enumerate(CONFIG["ports"])
]


def until(condition: Callable[[], bool], begun: float) -> float:
    """Call `condition` until it is true; return the seconds since `begun`."""
    while not condition():
        time.sleep(0.01)
    return time.perf_counter() - begun


def known() -> float:
    """Return the seconds until each node knows all others."""
    return until(lambda: all(len(node.peers()) >= len(nodes) for node in nodes), time.perf_counter())


def spread(keys: int) -> float:
    """Return the seconds until all have the keys that are set at node 0 now."""
    first, *others = nodes
    begun = time.perf_counter()
    for key in range(keys):
        first.update(f"key-{key}", f"value-{key}")
    version = first.local_peer.max_version_seen
    return until(lambda: all(node.storage.get("node-0").max_version_seen >= version for node in others), begun)


def state() -> dict[str, Any]:
    """Return milliseconds of CPU, rounds of all nodes."""
    return {"cpu": time.process_time() * 1000, "rounds": len(_rounds)}


for node in nodes:
    node.transport.listen()
for node in nodes:
    node.gossip()
serve(known=known, spread=spread, state=state)
