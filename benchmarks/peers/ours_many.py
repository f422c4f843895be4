"""Many nodes of this library in one process, part of a cluster that is complete and holds many keys when it begins.

It is told `all`, the nodes of the cluster (`{"id", "host", "port"}`), `mine`, the ids of those that live here, and `keys`, how
many each node of the cluster has. Each node is given a storage, as after a restart, in which everybody is alive and has all its
keys. A hundred nodes with a million keys would not fit in memory if each had learned them by itself, so those here share what
they know of each peer's keys, which nobody changes. It says `ready`, and does `{"do": "listen"}` and `{"do": "gossip"}`.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from typing import Any

from lines import commands, say

from gossipmonger import Gossipmonger, MemoryStorage, Peer, PhiAccrual


def address(node: dict[str, Any]) -> dict[str, Any]:
    return {"host": node["host"], "port": node["port"]}


def peer(node: dict[str, Any], name: str, keys: int, start: int) -> Peer:
    """Return what all know of a peer."""
    data = {f"{name}/{keys}/{number}": ("v", start + number + 1) for number in range(keys)}
    return Peer(node["id"], data=data, floor=start, heartbeat=start + keys, transport=address(node))


def copied(shared: Peer, now: float) -> Peer:
    """Return a peer with the same keys, but arrivals of its own."""
    one = copy.copy(shared)
    one.arrivals = PhiAccrual([1000.0], now)
    return one


def main(config: dict[str, Any]) -> None:
    everybody = [peer(node, config["name"], config["keys"], config["start"]) for node in config["all"]]
    say("ready", pid=os.getpid())
    nodes: list[Gossipmonger] = []
    for command in commands():
        if command["do"] == "listen":
            for info in config["all"]:
                if info["id"] not in config["mine"]:
                    continue
                storage = MemoryStorage()
                for shared in everybody:
                    storage.put(shared.id, copied(shared, time.time() * 1000))
                node = Gossipmonger({"id": info["id"], "transport": address(info)}, storage=storage)
                node.on("peer dead", lambda dead: say("dead", id=dead.id))
                node.on("error", lambda error: None)
                node.transport.listen()
                nodes.append(node)
        else:
            for node in nodes:
                node.gossip()
        say("set", key=command["do"])
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
