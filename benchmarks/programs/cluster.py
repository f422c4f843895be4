"""A cluster of ours in one process, over TCP on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.programs.lines import CONFIG, serve
from gossipmonger import Gossipmonger


def address(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port}


nodes = [
    Gossipmonger(
        {"id": f"node-{n}", "transport": address(port)},
        CONFIG["options"],
        seeds=[{"id": "node-0", "transport": address(CONFIG["ports"][0])}],
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
    # Each round sends one digest, and heartbeats count these.
    rounds = sum(node.local_peer.heartbeat - begun for node, begun in zip(nodes, _begun, strict=True))
    return {"cpu": time.process_time() * 1000, "rounds": rounds}


_begun = [node.local_peer.heartbeat for node in nodes]
for node in nodes:
    node.transport.listen()
for node in nodes:
    node.gossip()
serve(known=known, spread=spread, state=state)
