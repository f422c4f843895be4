"""The two experiments of van Renesse et al. (LADIS 2008), run on this library's protocol: `make paper`.

128 participants with 64 keys each, one gossip a second, 100 deltas a message, each updating a random key a second. Virtual
time, real endpoints, every message encoded and decoded. It writes its figures and plots to `docs/experiments/`.

*Staleness* of a mapping at a participant: how long ago its owner last updated it, while the participant's value is out of
date. Since a replica at version v has all that is current up to v, the mappings that are out of date are the owner's writes
above v, and the first of them is the one that has been so for longest.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

FOLDER = Path(__file__).parent.parent / "docs" / "experiments"

PARTICIPANTS = 128
KEYS = 64
UNLIMITED = 10**6

#: What is run: name -> options.
OVERLOADS: dict[str, dict[str, Any]] = {
    "depth": {"delta_order": "depth", "max_exchanges_per_gossip": 1},
    "breadth": {"delta_order": "breadth", "max_exchanges_per_gossip": 1},
    "conversations": {"delta_order": "depth", "max_exchanges_per_gossip": 64},
}
FLOWS: dict[str, dict[str, Any]] = {
    "flow, depth": {"delta_order": "depth", "max_exchanges_per_gossip": 1, "flow_control": True},
    "flow, breadth": {"delta_order": "breadth", "max_exchanges_per_gossip": 1, "flow_control": True},
}


class Experiment:
    """One run; `samples` has a row for each second."""

    def __init__(self, seed: int, options: dict[str, Any], participants: int = PARTICIPANTS) -> None:
        self.sim = Simulation(seed)
        self.nodes = [
            self.sim.add(f"n{n}", seeds=["n0"], max_deltas_per_gossip=UNLIMITED, gossip_fanout=1, rumor_fanout=0, **options)
            for n in range(participants)
        ]
        self.written: list[dict[int, float]] = [{} for _ in self.nodes]  # of each: version -> when it was written
        self.samples: list[dict[str, float]] = []
        for node in self.nodes:
            for key in range(KEYS):
                node._protocol._issue(self.sim.now, f"k{key}", 0)  # what was there before it all began is no update
        self.sim.run_until(self.fresh, limit=100_000, every=1_000)
        self.begin = self.sim.now
        self.interval = 1_000.0  # milliseconds from one update of a participant to its next, infinite for none
        self.count = 0
        self.sim.network.messages = self.sim.network.bytes = 0
        for number in range(participants):
            self.sim.at(self.sim.random.random() * 1_000, partial(self.write, number))

    def peers(self, owner: Gossipmonger) -> Any:
        id = owner.local_peer.id
        return (node.storage.get(id) for node in self.nodes if node is not owner)

    def fresh(self) -> bool:
        return all(
            peer is not None and peer.max_version_seen == owner.local_peer.max_version_seen
            for owner in self.nodes
            for peer in self.peers(owner)
        )

    def limit(self, deltas: int) -> None:
        for node in self.nodes:  # what a protocol is told does not change while a node runs; this experiment's does
            object.__setattr__(node._protocol._config, "max_deltas_per_gossip", deltas)
            flow = node._protocol._flow
            if flow is not None:
                flow._most = deltas

    def write(self, number: int) -> None:
        if self.interval == float("inf"):
            return
        self.count += 1
        self.nodes[number].update(f"k{self.sim.random.randrange(KEYS)}", self.count)
        self.sim.at(self.interval, lambda: self.write(number))

    def run(self, seconds: int, at: dict[int, Any]) -> list[dict[str, float]]:
        for second in range(seconds):
            if second in at:
                at[second]()
            self.sim.run(1_000)
            self.samples.append(self.sample())
        return self.samples

    def sample(self) -> dict[str, float]:
        now = self.sim.now
        stale, oldest, writes, rates, waiting = 0, 0.0, 0, 0.0, 0
        for number, owner in enumerate(self.nodes):
            local, written = owner.local_peer, self.written[number]
            known = max(written, default=local.max_version_seen - 1)
            for _, _, version in islice(local.log.after(known), None):
                written[version] = now - 500  # in the middle of the second that has passed
                writes += 1
            for peer in self.peers(owner):
                count = local.count_after_version(peer.max_version_seen)
                if count:
                    stale += count
                    first = local.deltas_after_version(peer.max_version_seen, 1)[0][2]
                    oldest = max(oldest, now - written.get(first, now))
            flow = owner._protocol._flow
            if flow is not None:
                rates += min(flow.tau, flow.rho)
                waiting += len(flow.waiting)
        count = len(self.nodes)
        return {
            "t": round((now - self.begin) / 1_000),
            "staleness": oldest / 1_000,
            "stale": stale / count,
            "updates": writes / count,
            "rate": rates / count,
            "waiting": waiting / count,
        }


def overload(name: str, seed: int = 1) -> list[dict[str, float]]:
    """Twice the load from t = 25 to 75, none from 120; no limit before 15."""
    experiment = Experiment(seed, OVERLOADS[name])

    def load(interval: float) -> Any:
        return lambda: setattr(experiment, "interval", interval)

    return experiment.run(140, {15: lambda: experiment.limit(100), 25: load(500), 75: load(1_000), 120: load(float("inf"))})


def flow(name: str, seed: int = 1) -> list[dict[str, float]]:
    """More updates than can be carried throughout; the limit is cut to 50 deltas at t = 90."""
    experiment = Experiment(seed, FLOWS[name])
    experiment.interval = 500
    experiment.limit(100)
    return experiment.run(150, {90: lambda: experiment.limit(50)})


def one(name: str) -> tuple[str, list[dict[str, float]]]:
    """Run one by its name."""
    return name, overload(name) if name in OVERLOADS else flow(name)


def main() -> None:
    """Run all, two at a time, and write what came of it."""
    from benchmarks import paper_page

    names = sys.argv[1:] or [*OVERLOADS, *FLOWS]
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "paper.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    with ProcessPoolExecutor(2) as pool:
        for name, samples in pool.map(one, names):
            results[name] = samples
            path.write_text(json.dumps(results, indent=None, separators=(",", ":")).replace("},{", "},\n{") + "\n")
            print(name, "done", flush=True)
    paper_page.write(results, FOLDER)


if __name__ == "__main__":
    main()
