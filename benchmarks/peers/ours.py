"""A node of this library. See `benchmarks.peers` for what it is told and what it says.

`age` makes it as old as that many digests: it continues a life that a storage kept, as after a restart. Heartbeats are told as
their distance from where a life began, and those of a cluster that has run for a day take more bytes. With `count`, its state
also says how many messages it has received. With `certificates`, a folder, it has TLS; with `keyring`, a shared key, it seals.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from lines import Updates, commands, fill, say

import gossipmonger


def main(config: dict[str, Any]) -> None:
    options = dict(config["options"])
    address = {"host": config["host"], "port": config["port"]}
    if "transport" in config:
        options["transport"] = getattr(gossipmonger, config["transport"])(address)
    if "certificates" in config:
        sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tls"))
        from node import contexts

        options.update(contexts(Path(config["certificates"]), "node"))
    if "keyring" in config:
        options["keyring"] = gossipmonger.Keyring(config["keyring"])
    if "age" in config:
        start = int(time.time() * 1e6)
        former = gossipmonger.Peer(
            config["id"], transport=address, floor=start, max_version_seen=start, heartbeat=start + config["age"]
        )
        options["storage"] = gossipmonger.MemoryStorage()
        options["storage"].put(former.id, former)
    seeds = [{"id": seed["id"], "transport": {"host": seed["host"], "port": seed["port"]}} for seed in config["seeds"]]
    node = gossipmonger.Gossipmonger({"id": config["id"], "transport": address}, options, seeds=seeds)
    node.on("new peer", lambda peer: say("peer", id=peer.id))
    node.on("peer live", lambda peer: say("peer", id=peer.id))
    node.on("peer dead", lambda peer: say("dead", id=peer.id))
    node.on("update", Updates())
    node.on("error", lambda error: None)  # those that are not up yet, and those that were killed
    received: Counter[str] = Counter()
    if config.get("count"):
        node.transport.on("message", lambda message: received.update(messages=1))
    began = time.time()
    node.transport.listen()
    node.gossip()
    say("ready", began, pid=os.getpid())
    for command in commands():
        if command["do"] == "set":
            at = time.time()
            node.update(command["key"], command["value"])
            say("set", at, key=command["key"])
        elif command["do"] == "fill":
            fill(command, node.update)
        else:
            own = node.local_peer
            keys = {peer.id: len(peer.data) for peer in node.peers().values()}
            say("state", keys=keys, age=own.heartbeat - own.floor, **received)
    os._exit(0)  # without a good-bye, which nobody is there to hear


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
