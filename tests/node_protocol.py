"""A node that speaks the Node.js package's protocol and nothing else, on the simulated network.

It mirrors what the package does and shares no code with this library: its digests have no header, its deltas no `after`, and
it knows neither floors nor heartbeats. It never restarts.
"""

from __future__ import annotations

import json
from typing import Any

from gossipmonger.simulation import Simulation


class NodeJsNode:
    """One such node; it gossips once a second from the start."""

    def __init__(self, sim: Simulation, id: str, seeds: list[str], limit: int) -> None:
        self.sim, self.id, self.limit = sim, id, limit
        self.data: dict[str, dict[str, tuple[Any, int]]] = {id: {}}
        self.versions = {id: 0}
        self.seeds = seeds
        sim.network.attach(id, self)
        sim.at(sim.random.random() * 1000, self.round)

    def update(self, key: str, value: Any) -> None:
        self.versions[self.id] += 1
        self.data[self.id][key] = (value, self.versions[self.id])

    def view(self, id: str) -> dict[str, Any]:
        return {key: value for key, (value, _) in self.data.get(id, {}).items()}

    def round(self) -> None:
        others = [id for id in self.versions if id != self.id]
        if others:
            self.digest(self.sim.random.choice(others))
        if len(others) < 1:
            self.digest(self.sim.random.choice(self.seeds))
        self.sim.at(1000, self.round)

    def digest(self, to: str) -> None:
        entries = [
            {"id": id, "maxVersionSeen": version, "transport": {"host": id, "port": 9742}}
            for id, version in self.versions.items()
        ]
        self.send(to, {"digest": entries})

    def send(self, to: str, message: dict[str, Any]) -> None:
        message["sender"] = {"id": self.id, "transport": {"host": self.id, "port": 9742}}
        self.sim.network.send(self.id, to, json.dumps(message).encode() + b"\r\n")

    def meet(self, id: str) -> None:
        self.versions.setdefault(id, 0)
        self.data.setdefault(id, {})

    def receive(self, data: bytes, source: str) -> None:
        message = json.loads(data)
        self.meet(message["sender"]["id"])
        if "digest" in message:  # of a message with both, the package reads one
            self.receive_digest(message["sender"]["id"], message["digest"])
        else:
            self.receive_deltas(message["deltas"])

    def receive_digest(self, sender: str, digest: list[dict[str, Any]]) -> None:
        behind: list[list[list[Any]]] = []
        for entry in digest:
            id, version = entry["id"], entry["maxVersionSeen"]
            if id not in self.versions:
                self.meet(id)
            elif self.versions[id] > version:
                deltas = [[id, key, value, n] for key, (value, n) in self.data[id].items() if n > version]
                behind.append(sorted(deltas, key=lambda delta: delta[3]))
        behind.sort(key=len, reverse=True)
        deltas = [delta for each in behind for delta in each][: self.limit]
        if deltas:
            self.send(sender, {"deltas": deltas})

    def receive_deltas(self, deltas: list[list[Any]]) -> None:
        for id, key, value, version, *_ in deltas:
            if id in self.versions and id != self.id and version > self.versions[id]:
                self.versions[id] = version
                self.data[id][key] = (value, version)
