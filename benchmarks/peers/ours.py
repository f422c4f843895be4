"""A node of this library. See `benchmarks.peers` for what it is told and what it says."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from lines import Updates, commands, fill, say

HOST = "127.0.0.1"


def main(config: dict[str, Any]) -> None:
    for name in config.get("without", ()):
        sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed
    import gossipmonger

    options = dict(config["options"])
    address = {"host": HOST, "port": config["port"]}
    if "transport" in config:
        options["transport"] = getattr(gossipmonger, config["transport"])(address)
    seeds = [{"id": seed["id"], "transport": {"host": HOST, "port": seed["port"]}} for seed in config["seeds"]]
    node = gossipmonger.Gossipmonger({"id": config["id"], "transport": address}, options, seeds=seeds)
    node.on("new peer", lambda peer: say("peer", id=peer.id))
    node.on("peer live", lambda peer: say("peer", id=peer.id))
    node.on("peer dead", lambda peer: say("dead", id=peer.id))
    node.on("update", Updates())
    node.on("error", lambda error: None)  # those that are not up yet, and those that were killed
    node.transport.listen()
    node.gossip()
    say("ready", pid=os.getpid())
    for command in commands():
        if command["do"] == "set":
            at = time.time()
            node.update(command["key"], command["value"])
            say("set", at, key=command["key"])
        elif command["do"] == "fill":
            fill(command, node.update)
        else:
            say("state", keys={peer.id: len(peer.data) for peer in node.peers().values()})
    os._exit(0)  # without a good-bye, which nobody is there to hear


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
