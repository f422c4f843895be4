"""False deaths in clusters that lose messages, whose processes are stopped and killed, and whose addresses refuse the living.

    python -m tests.false_deaths [FIRST LAST] [--count COUNT]

runs the seeds from FIRST to LAST, or new ones, on all cores, each with 50 nodes for two virtual minutes. Among them are Node.js
nodes, and nodes behind NAT, which refuse every dial from the start. In the course of a run,

* processes are stopped for up to twenty seconds;
* listeners close while their nodes live, and come back, as a service in Kubernetes refuses that has no pod which is ready;
* a firewall begins to reject one node's dials to another;
* processes are killed, one or many at once, and started again, some of them within the second.

A node that is paused or down may be seen dead once that has gone on for long. Nobody else may, and a paused node itself must
declare nobody dead. No node that is down may be seen live again once its
refusals have shown that.
"""

from __future__ import annotations

import sys
from random import Random

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

from .node_protocol import NodeJsNode
from .search import search

#: Milliseconds after which a process that is restarted was down for long. A second refusal comes no sooner than after a second.
SHORT = 900

#: Milliseconds of a pause after which phi may be too high, by the fan-out: it is so after 18 digests, and after 14 for whoever
#: has just begun to listen. News take some seconds on top.
PAUSE = {1: 8_000, 3: 3_000}

#: Milliseconds that news of a return take at most.
NEWS = 8_000


class Cluster:
    """One run; `wrong` has its wrong verdicts."""

    def __init__(self, seed: int, nodes: int) -> None:
        self.chance = chance = Random(f"false deaths {seed}")
        self.sim = sim = Simulation(seed, latency=(1, 50), loss=chance.uniform(0, 0.05))
        self.wrong: list[str] = []
        self.excused: dict[str, float] = {}  # until when a verdict on it may be due to its pause or its former life
        self.pauses: dict[str, tuple[float, float]] = {}  # when its last one begins and ends
        self.down: dict[str, float] = {}  # since when
        self.refusing: set[str] = set()
        self.rejected: set[tuple[str, str]] = set()
        refuses = sim.network.refuses
        sim.network.refuses = lambda source, host: (  # type: ignore[method-assign]
            host in self.refusing or (source, host) in self.rejected or refuses(source, host)
        )
        self.ids = [f"n{n}" for n in range(nodes)]
        natted = self.ids[1 : 1 + chance.choice([0, 0, 3])]
        self.refusing.update(natted)
        self.steady = {"n0", *natted}  # n0 is everybody's seed
        self.fanout = fanout = chance.choice([1, 3, 3])
        for id in self.ids:  # to compress would take a fifth of the time and change nothing
            self.watch(sim.add(id, seeds=["n0"], gossip_fanout=fanout, compress_above=None))
        for n in range(chance.choice([0, 0, 2])):
            NodeJsNode(sim, f"plain{n}", ["n0"], 5)

    def watch(self, node: Gossipmonger) -> None:
        me = node.local_peer.id
        refused: dict[str, float] = {}  # when it was seen dead by its refusals; phi alone believes whatever it hears

        def dead(peer: object) -> None:
            id = peer.id  # type: ignore[attr-defined]
            if id.startswith("plain") and id not in node._protocol.membership.refused:
                return  # it sends digests to the dead too, and its phi is too low for that
            if id in node._protocol.membership.refused:
                refused[id] = self.sim.now
            if id not in self.down and self.sim.now > self.excused.get(id, 0):
                self.wrong.append(f"{me} saw {id} dead")

        def live(peer: object) -> None:
            id = peer.id  # type: ignore[attr-defined]
            if id in self.down and refused.get(id, 0) > self.down[id]:
                self.wrong.append(f"{me} saw {id} live")

        node.on("peer dead", dead)
        node.on("peer live", live)

    # What happens

    def pause(self) -> None:
        id = self.chance.choice(self.ids)
        if id in self.down or id in self.refusing:
            return
        now, pause = self.sim.now, self.chance.uniform(100, 20_000)
        self.sim.pause(id, pause)
        begin, end = self.pauses.get(id, (0, 0))
        begin = begin if now <= end else now  # one may begin within another
        end = max(end, now + pause)
        self.pauses[id] = begin, end
        rejected = any(host == id for _, host in self.rejected)  # to whom its address refuses, it looks as if it were killed
        if end - begin > (SHORT if rejected else PAUSE[self.fanout]):  # its silence, and the time that news of its return takes
            self.excused[id] = end + NEWS

    def some(self, count: int) -> list[str]:
        """Nodes that are up and undisturbed."""
        paused = {id for id, (_, end) in self.pauses.items() if end + NEWS > self.sim.now}
        left = [id for id in self.ids if not (id in self.steady or id in self.down or id in self.refusing or id in paused)]
        most = max(0, len(left) - len(self.ids) // 2)  # at least half of the cluster is sound
        return self.chance.sample(left, min(count, most))

    def refuse(self) -> None:
        """A listener closes for a while; links that others keep to it may live on."""
        for id in self.some(self.chance.choice([1, 1, len(self.ids) // 8])):
            self.refusing.add(id)
            if self.chance.random() < 0.5:
                self.sim.network.end_links(id)
            self.sim.at(self.chance.choice([500, 3_000, 40_000]), lambda id=id: self.refusing.discard(id))  # type: ignore[misc]

    def reject(self) -> None:
        chosen = self.some(4)
        for host in chosen[1:]:
            self.rejected.add((chosen[0], host))
            self.sim.network.end_links(host)

    def kill(self) -> None:
        for id in self.some(self.chance.choice([1, 3, len(self.ids) // 3])):
            self.down[id] = self.sim.now
            self.sim.crash(id)
            away = self.chance.choice([self.chance.uniform(50, SHORT), 5_000, 30_000, 10**9])
            self.sim.at(away, lambda id=id, away=away: self.restart(id, away))  # type: ignore[misc]

    def restart(self, id: str, away: float) -> None:
        del self.down[id]
        if away > SHORT:
            self.excused[id] = self.sim.now + NEWS
        self.watch(self.sim.restart(id))

    def run(self, seconds: int) -> None:
        self.sim.run(10_000 if self.chance.random() < 0.2 else 40_000)
        for _ in range(seconds // 10):
            for _ in range(self.chance.randint(0, 3)):
                self.pause()
            for act in (self.refuse, self.reject, self.kill):
                if self.chance.random() < 0.25:
                    act()
            self.sim.run(10_000)


def false_deaths(seed: int, nodes: int = 50, seconds: int = 120) -> list[str]:
    """Return the wrong verdicts that there were."""
    cluster = Cluster(seed, nodes)
    cluster.run(seconds)
    return cluster.wrong


def outcome(seed: int) -> str | None:
    """Return what was wrong with a seed's cluster."""
    wrong = false_deaths(seed)
    return f"seed {seed}: {len(wrong)} wrong verdicts: {', '.join(wrong[:5])}" if wrong else None


if __name__ == "__main__":
    sys.exit(search("clusters", outcome, None, 1_000))
