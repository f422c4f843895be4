"""An agent of serf, driven over its RPC. See `benchmarks.peers` for what it is told and what it says.

The process that is measured is the agent. A key is set by a user event, which tells everybody at once; tags would last, but the
agent holds news of members back for a second, so that it would be that second that is measured.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from typing import Any

import msgpack
from lines import say


class Rpc:
    """A connection to the agent; requests are numbered, and answers and events come in any order."""

    def __init__(self, port: int, agent: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), 5)
                break
            except ConnectionRefusedError:
                if agent.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.02)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, unicode_errors="replace")
        self.sequence = 0

    def call(self, command: str, body: dict[str, Any] | None = None) -> int:
        self.sequence += 1
        data = msgpack.packb({"Command": command, "Seq": self.sequence})
        self.socket.sendall(data + (msgpack.packb(body) if body is not None else b""))
        return self.sequence

    def read(self) -> list[Any]:
        data = self.socket.recv(65536)
        self.unpacker.feed(data)
        return list(self.unpacker) if data else [None]


#: What we call its events.
NAMES = {"member-join": "peer", "member-failed": "dead"}


def tell(own: str, event: dict[str, Any]) -> None:
    if event.get("Event") == "user":
        id, key, value = json.loads(event["Payload"])
        if id != own:
            say("update", id=id, key=key, value=value)
    for member in event.get("Members") or ():
        kind = NAMES.get(event.get("Event", "member-join"))  # an answer is no event, and names those that are there
        if kind and member["Name"] != own:
            say(kind, id=member["Name"])


def main(config: dict[str, Any]) -> None:
    join = [f"-retry-join={seed['host']}:{seed['port']}" for seed in config["seeds"]]
    rpc_port = config["port"] + 1
    began = time.time()
    agent = subprocess.Popen(
        ["serf", "agent", f"-node={config['id']}", f"-bind={config['host']}:{config['port']}",
         f"-rpc-addr=127.0.0.1:{rpc_port}", "-retry-interval=1s", "-log-level=err", *config["options"], *join],
        stdin=subprocess.DEVNULL, stdout=sys.stderr,
    )  # fmt: skip
    try:
        serve(config["id"], agent, rpc_port, began)
    finally:
        agent.kill()
        agent.wait()


def serve(own: str, agent: subprocess.Popen[bytes], port: int, began: float) -> None:
    rpc = Rpc(port, agent)
    rpc.call("handshake", {"Version": 1})
    rpc.call("stream", {"Type": "*"})
    rpc.call("members")  # those that were there before the stream began
    say("ready", began, pid=agent.pid)
    buffer = b""
    while True:
        readable, _, _ = select.select([rpc.socket.fileno(), 0], [], [])
        if rpc.socket.fileno() in readable:
            for item in rpc.read():
                if item is None:  # it was killed
                    rpc.socket.close()
                    while os.read(0, 65536):
                        pass
                    return
                tell(own, item)
        if 0 in readable:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                command = json.loads(line)
                if command["do"] == "quit":
                    return
                if command["do"] == "set":
                    at = time.time()
                    payload = json.dumps([own, command["key"], command["value"]]).encode()
                    rpc.call("event", {"Name": "set", "Payload": payload, "Coalesce": False})
                    say("set", at, key=command["key"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
