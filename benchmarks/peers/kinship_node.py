"""A node of kinship, which carries one small map per node. See `benchmarks.peers` for what it is told and what it says."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import kinship
from kinship.blocking import Cluster
from lines import commands, say


def watch(name: str, events: Any) -> None:
    for event in events:
        member = getattr(event, "member", None)
        if member is None or member.name == name:
            continue
        if isinstance(event, (kinship.MemberJoined, kinship.MemberUpdated)):
            if isinstance(event, kinship.MemberJoined):
                say("peer", id=member.name)
            for key, value in member.meta.items():
                say("update", id=member.name, key=key, value=value)
        elif isinstance(event, kinship.MemberDead):
            say("dead", id=member.name)


def main(config: dict[str, Any]) -> None:
    seeds = [f"{seed['host']}:{seed['port']}" for seed in config["seeds"]]
    # Nobody else in the comparison encrypts.
    settings = kinship.Config.lan(
        name=config["id"], bind=f"{config['host']}:{config['port']}", seeds=seeds, insecure_plaintext=True, **config["options"]
    )
    began = time.time()
    cluster = Cluster(settings).start()
    events = cluster.events()
    for member in cluster.members():  # those that were there before the events began
        if member.name != config["id"]:
            say("peer", id=member.name)
    threading.Thread(target=watch, args=(config["id"], events), daemon=True).start()
    say("ready", began, pid=os.getpid())
    for command in commands():
        if command["do"] == "set":
            at = time.time()
            cluster.set_meta({command["key"]: command["value"]})
            say("set", at, key=command["key"])
        else:
            say("state", keys={member.name: len(member.meta) for member in cluster.members()})
    os._exit(0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
