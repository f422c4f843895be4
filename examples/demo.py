"""Five real nodes on loopback, each in a process of its own: they meet, gossip, one is killed, and comes back.

    python examples/demo.py

This program starts itself once more for each node. Parent and children talk in JSON lines over pipes: commands down, events
up. Only the children gossip; the parent watches, and measures when what one node did has reached the others.
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
IDS = "abcde"
VICTIM = "d"
INTERVAL = 100  # milliseconds from one round of gossip to the next; the default of 1000 would make a long demo
UPDATES = 20

# Seconds that each part may take. A part that takes longer has failed, and the demo with it.
LIMITS = {"start": 10, "meet": 10, "update": 5, "updates": 15, "death": 20, "return": 8}


# A node: what any program does to take part


def run_node(config: dict[str, Any]) -> None:
    """Be one node: print events, obey commands, and end when the parent closes our stdin, or ends itself."""
    sys.path.insert(0, str(Path(__file__).parent.parent))  # a clone will do; nothing needs to be installed but pyee
    from gossipmonger import Gossipmonger, SendError

    node = Gossipmonger(
        {"id": config["id"], "transport": {"host": HOST, "port": config["port"]}},
        seeds=config["seeds"],
        gossip_interval=INTERVAL,
    )
    sent = {"digest send": 0, "deltas send": 0}

    def count(name: str) -> None:
        sent[name] += 1
        if name == "digest send":  # once in every round
            peers = node.peers()
            say(
                "status",
                {
                    "keys": sum(len(peer.data) for peer in peers.values()),
                    "digests": sent["digest send"],
                    "deltas": sent["deltas send"],
                    "peers": {peer.id: [peer.state, peer.phi] for peer in peers.values()},
                },
            )

    def failed(error: Exception) -> None:
        if not isinstance(error, SendError):  # that a killed node can't be reached is no news
            say("error", repr(error))

    node.on("new peer", lambda peer: say("knows", peer.id))
    node.on("peer dead", lambda peer: say("dead", peer.id))
    node.on("peer live", lambda peer: say("live", peer.id))
    node.on("update", lambda id, key, value: say("update", id, key, value))
    node.on("digest send", lambda *_: count("digest send"))
    node.on("deltas send", lambda *_: count("deltas send"))
    node.on("error", failed)
    with node:  # listens and gossips from here, until the end of the block
        say("listening")
        for line in sys.stdin:
            node.update(*json.loads(line))


def say(*event: Any) -> None:
    try:
        os.write(1, (json.dumps(event) + "\n").encode())  # one short write, so events of two threads do not mix
    except OSError:
        pass  # the parent is gone; the end of stdin will tell us


# The parent: what it knows of its children


class NotReachedError(Exception):
    """A part of the demo did not happen within its limit."""


class Child:
    """A node's process. `facts` holds when it first said what."""

    def __init__(self, id: str, port: int, seeds: list[dict[str, Any]], changed: threading.Condition) -> None:
        self.id = id
        self.port = port
        self.changed = changed
        self.facts: dict[tuple[Any, ...], float] = {}
        self.status: dict[str, Any] = {"keys": 0, "digests": 0, "deltas": 0, "peers": {}}
        self.killed = False
        self.process = subprocess.Popen(
            [sys.executable, __file__, "node", json.dumps({"id": id, "port": port, "seeds": seeds})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its children
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith("\n"):
                break  # it was killed in the middle of a word
            event = json.loads(line)
            with self.changed:
                if event[0] == "status":
                    self.status = event[1]
                elif event[0] == "error":
                    print(f"node {self.id}: {event[1]}", file=sys.stderr)
                else:
                    self.facts.setdefault(tuple(event), time.monotonic())
                self.changed.notify_all()

    def update(self, key: str, value: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([key, value]) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.killed = True
        self.process.kill()
        self.end()

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
        except OSError:
            pass  # it ended before it read what we had to say
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()


def free_port() -> int:
    """Return a free port, below those that systems give to outgoing connections: it must still be free for the restart."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


# The play


class Demo:
    """The five children, and the picture of them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()  # guards what the children have said
        self.children: dict[str, Child] = {}
        self.begin = time.monotonic()
        self.live_picture = sys.stdout.isatty()
        self.lines_drawn = 0
        self.story: list[str] = []

    def start(self, id: str, port: int) -> Child:
        first = self.children.get(IDS[0])  # all find each other through the first
        seeds = [{"id": first.id, "transport": {"host": HOST, "port": first.port}}] if first else []
        self.children[id] = Child(id, port, seeds, self.changed)
        return self.children[id]

    def others(self, id: str) -> list[Child]:
        return [child for child in self.children.values() if child.id != id]

    def wait(self, facts: Iterable[tuple[Child, tuple[Any, ...]]], limit: float, what: str) -> list[float]:
        """Wait until each child has said its fact; return when they did, the first one first."""
        facts = list(facts)
        deadline = time.monotonic() + limit
        with self.changed:
            while True:
                missing = [child for child, fact in facts if fact not in child.facts]
                if not missing:
                    return sorted(child.facts[fact] for child, fact in facts)
                patience = deadline - time.monotonic()
                if patience <= 0:
                    names = ", ".join(sorted({child.id for child in missing}))
                    raise NotReachedError(f"not reached within {limit:g} s: {what} (still missing at: {names})")
                for child in missing:
                    if child.process.poll() is not None:
                        raise NotReachedError(f"node {child.id} ended by itself, with status {child.process.returncode}")
                self.draw()
                self.changed.wait(min(patience, 0.1))

    def tell(self, line: str) -> None:
        self.story.append(f"{time.monotonic() - self.begin:6.2f} s  {line}")
        if self.live_picture:
            self.draw()
        else:
            print(self.story[-1], flush=True)

    def draw(self) -> None:
        """Draw the table and what happened so far, over the last picture."""
        if not self.live_picture:
            return
        lines = [f"\x1b[1mnode   pid       seen by the others as   keys   digests   deltas   its phi of {VICTIM}\x1b[0m"]
        for child in self.children.values():
            states = [
                other.status["peers"].get(child.id, ["unknown"])[0] for other in self.others(child.id) if not other.killed
            ]
            seen = ", ".join(f"{states.count(state)} {state}" for state in ("live", "dead", "unknown") if state in states)
            pid = "killed" if child.killed else str(child.process.pid)
            phi = "" if child.id == VICTIM else f"{child.status['peers'].get(VICTIM, ['', 0])[1]:.1f}"
            colour = "\x1b[31m" if child.killed else "\x1b[32m"
            status = child.status
            lines.append(
                f"{colour}{child.id:<5}\x1b[0m  {pid:<8}  {seen:<22}  {status['keys']:<5}  {status['digests']:<8}"
                f"  {status['deltas']:<7}  {phi}"
            )
        lines += ["", *self.story]
        up = f"\x1b[{self.lines_drawn}A" if self.lines_drawn else ""
        print(up + "".join(f"\x1b[2K{line}\n" for line in lines), end="", flush=True)
        self.lines_drawn = len(lines)

    def play(self) -> list[str]:
        """Run it all; return what was measured, a line each."""
        for id in IDS:
            child = self.start(id, free_port())
            self.wait([(child, ("listening",))], LIMITS["start"], f"node {id} listens")
        everyone = list(self.children.values())
        start = max(child.facts["listening",] for child in everyone)
        self.tell(f"{len(IDS)} nodes are up; each knows at most one seed")
        pairs = [(child, ("knows", other.id)) for child in everyone for other in self.others(child.id)]
        met = max(0.0, self.wait(pairs, LIMITS["meet"], "all nodes know all others")[-1] - start)
        self.tell("all know all")

        delays: list[float] = []
        last_update = time.monotonic() + LIMITS["updates"]
        for n in range(UPDATES):
            writer = everyone[n % len(everyone)]
            sent = time.monotonic()
            writer.update("count", n)
            told = [(other, ("update", writer.id, "count", n)) for other in self.others(writer.id)]
            limit = min(LIMITS["update"], last_update - sent)
            delays.append(self.wait(told, limit, f"update {n + 1} of {UPDATES} is everywhere")[-1] - sent)
        self.tell(f"{UPDATES} updates have reached all nodes, each by way of whom chance chose")

        victim = self.children[VICTIM]
        observers = self.others(VICTIM)
        self.forget(observers)
        killed = time.monotonic()
        victim.kill()
        self.tell(f"node {VICTIM} is killed; the others wait until its silence is out of the ordinary")
        deaths = self.wait([(child, ("dead", VICTIM)) for child in observers], LIMITS["death"], f"all see {VICTIM} dead")
        self.tell(f"all see that {VICTIM} is dead")

        self.forget(observers)
        victim = self.start(VICTIM, victim.port)
        back = self.wait([(victim, ("listening",))], LIMITS["start"], f"node {VICTIM} listens again")[0]
        victim.update("greeting", "back again")
        lives = self.wait([(child, ("live", VICTIM)) for child in observers], LIMITS["return"], f"all see {VICTIM} live")
        returned = [(child, ("update", VICTIM, "greeting", "back again")) for child in observers]
        heard = self.wait(returned, LIMITS["return"], f"the new value of {VICTIM} is everywhere")
        self.tell(f"{VICTIM} is live again, and its new value everywhere")

        seconds = time.monotonic() - start
        messages = sum(child.status["digests"] + child.status["deltas"] for child in observers)
        median, first, last = statistics.median(delays), deaths[0] - killed, deaths[-1] - killed
        return [
            f"all know all              {met:.2f} s after the last of {len(IDS)} nodes was up",
            f"an update everywhere      {median:.2f} s in the median, {max(delays):.2f} s at most, of {UPDATES}",
            f"the killed one seen dead  {first:.2f} s after the kill by the first, {last:.2f} s by the last",
            f"seen live again           {max(0.0, lives[-1] - back):.2f} s after its return by all",
            f"its new value everywhere  {heard[-1] - back:.2f} s after its return",
            f"messages                  {messages / len(observers) / seconds:.1f} per node and second",
        ]

    def forget(self, children: list[Child]) -> None:
        """Forget who was thought dead or live before, so that the next word on it counts."""
        with self.changed:
            for child in children:
                child.facts = {fact: at for fact, at in child.facts.items() if fact[0] not in ("dead", "live")}


def main() -> int:
    demo = Demo()
    try:
        measured = demo.play()
    except NotReachedError as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        for child in demo.children.values():
            if not child.killed:
                child.end()
    print(f"\nMeasured, with a round of gossip every {INTERVAL} ms:")
    print("".join(f"  {line}\n" for line in measured), end="")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["node"]:
        run_node(json.loads(sys.argv[2]))
    else:
        sys.exit(main())
