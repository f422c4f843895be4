"""One node of ours that learns many keys of many peers, by messages, as if they came from its transport."""

from __future__ import annotations

import gc
import json
from typing import Any

from benchmarks.programs.digests import EPOCH, SENDER, InMemory
from benchmarks.programs.lines import fatal, serve
from benchmarks.programs.memory import rss
from gossipmonger import Gossipmonger

#: In a message.
DELTAS = 500

node = Gossipmonger({"id": "node", "transport": {"host": "10.1.0.0", "port": 9742}}, transport=InMemory(), clock=lambda: EPOCH)
node.on("error", fatal)
sender = {"id": SENDER.id, "transport": SENDER.transport}


def receive(**message: Any) -> None:
    node.transport.receive(json.dumps({**message, "sender": sender}, separators=(",", ":")).encode())


def collected() -> int:
    gc.collect()
    return rss()


def fill(peers: int, keys: int) -> dict[str, int]:
    """Return the bytes of memory before and after."""
    ids = [f"peer-{n}" for n in range(peers)]
    start = int(EPOCH * 1000) - 3_600_000_000  # our versions begin at the clock's microseconds
    address = {"host": "10.0.0.2", "port": 9742}
    receive(digest=[{"id": id, "maxVersionSeen": start + keys, "transport": address} for id in ids])
    before = collected()
    for n, id in enumerate(ids):
        for first in range(0, keys, DELTAS):
            part = range(first, min(keys, first + DELTAS))
            receive(deltas=[[id, f"key-{key}", f"value-{n}-{key}", start + key + 1, start + key if key else 0] for key in part])
    known = sum(node.storage.get(id).count_after_version(0) for id in ids)
    return {"before": before, "after": collected(), "known": known}


serve(fill=fill)
