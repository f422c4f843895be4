"""Short programs beside three running nodes, over real sockets: what they publish arrives, and none of them stays.

    python -m tests.short_programs [COUNT] [SEED]

runs so many processes, by default 1,000, each of which lives for 0 to 300 ms, sets two keys and ends: by `with`, without a
close at the end of the program, by `sys.exit`, or by an exception. One of eight kills itself by SIGKILL at some moment. Most
have an id of their own. Some follow each other under one id, as the runs of a cron job do, and some share one id at the same
time. At the end,

* what a program published before it closed, or ended without being killed, is at all three nodes; of programs that follow each
  other under one id, what the last one published;
* none is live.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from random import Random
from typing import Any

from gossipmonger import Gossipmonger

#: Processes that run at once, and milliseconds between the rounds of all nodes.
AT_ONCE, INTERVAL = 6, 250

#: Seconds for the last of the killed to be seen dead.
LIMIT = 60


def here() -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": 0}


# In the processes


def program(order: dict[str, Any]) -> None:
    """Do what one program does, and say so on the standard output."""
    if order["killed"] is not None:
        killer = threading.Timer(order["killed"], os.kill, (os.getpid(), signal.SIGKILL))
        killer.daemon = True
        killer.start()
    node = Gossipmonger({"id": order["id"], "transport": here()}, seeds=order["seeds"], gossip_interval=INTERVAL)
    node.on("error", lambda error: None)
    node.transport.listen()
    node.gossip()
    node.update("n", order["n"])
    time.sleep(order["seconds"] / 2)
    node.update("k", order["n"])
    time.sleep(order["seconds"] / 2)
    if order["how"] == "with":
        node.__exit__(None, None, None)
        print("closed", flush=True)
    elif order["how"] == "exit":
        sys.exit(0)
    elif order["how"] == "raise":
        sys.excepthook = lambda *_: None
        raise KeyError("nobody catches this")


def worker() -> None:
    """Run one program after another, each in a fork, which costs less than a new interpreter. A line of input for each."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            program(json.loads(line))
            return  # so that the interpreter ends as it does in any program
        _, status = os.waitpid(pid, 0)
        print("killed" if os.WIFSIGNALED(status) else "ended", flush=True)


# Beside them


class Worker:
    """A process that runs programs."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.short_programs", "worker"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def run(self, order: dict[str, Any]) -> set[str]:
        """Run one; return what was said of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        said: set[str] = set()
        while not said & {"killed", "ended"}:
            line = self.process.stdout.readline()
            assert line, "a worker has ended"
            said.add(line.strip())
        return said

    def close(self) -> None:
        self.process.communicate()


def orders(count: int, chance: Random) -> list[list[dict[str, Any]]]:
    """Programs; those of one list follow each other."""
    made: list[list[dict[str, Any]]] = []
    for n in range(count):
        order = {
            "n": n,
            "id": f"p{n}",
            "seconds": chance.uniform(0, 0.3),
            "killed": chance.uniform(0, 0.35) if chance.random() < 0.125 else None,
            "how": chance.choice(["with", "with", "end", "exit", "raise"]),
        }
        kind = chance.random()
        if kind < 0.15 and made:  # another run of the same job
            order["id"] = made[-1][0]["id"]
            made[-1].append(order)
            continue
        if kind < 0.25 and made:  # at about the same time
            order["id"] = made[-1][0]["id"]
        made.append([order])
    return made


def run(count: int, seed: int) -> list[str]:
    """Run so many programs; return what was wrong at the end."""
    nodes: list[Gossipmonger] = []
    for name in "abc":
        seeds = [{"id": node.local_peer.id, "transport": dict(node.local_peer.transport)} for node in nodes]
        node = Gossipmonger({"id": name, "transport": here()}, seeds=seeds, gossip_interval=INTERVAL)
        node.on("error", lambda error: None)
        node.transport.listen()
        node.gossip()
        nodes.append(node)
    seeds = [{"id": node.local_peer.id, "transport": dict(node.local_peer.transport)} for node in nodes]
    workers = [Worker() for _ in range(min(AT_ONCE, count))]
    free: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)
    published: dict[str, list[tuple[int, bool, float, float]]] = {}  # id -> number, whether it counts, from when to when it ran

    def follow(programs: list[dict[str, Any]]) -> None:
        for order in programs:
            worker = free.get()
            began = time.monotonic()
            said = worker.run({**order, "seeds": seeds})
            runs = published.setdefault(order["id"], [])
            runs.append((order["n"], "closed" in said or "killed" not in said, began, time.monotonic()))
            free.put(worker)

    try:
        for node in nodes:
            node.wait_for_peers(3, timeout=30)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(follow, orders(count, Random(seed))))
        return judge(nodes, published)
    finally:
        for worker in workers:
            worker.close()
        for node in nodes:
            node.close()


def expected(runs: list[tuple[int, bool, float, float]]) -> set[int]:
    """The numbers of which one has to be there: those that no run followed which published, nor one that may have."""
    last = max((began for _, counts, began, _ in runs if counts), default=0.0)
    return {n for n, counts, _, ended in runs if ended > last or not counts}


def judge(nodes: list[Gossipmonger], published: dict[str, list[tuple[int, bool, float, float]]]) -> list[str]:
    sure = {id: expected(runs) for id, runs in published.items() if any(counts for _, counts, *_ in runs)}

    def wrong(node: Gossipmonger) -> list[str]:
        found = []
        peers = node.peers()
        for id, numbers in sure.items():
            data = peers[id].data if id in peers else {}
            if data.get("n") not in numbers or (len(numbers) == 1 and data != dict.fromkeys("nk", *numbers)):
                found.append(f"{node.local_peer.id} has {id} as {data}, not as of {numbers}")
        live = [id for id in published if id in peers and peers[id].state == "live"]
        return found + [f"{node.local_peer.id} has {id} as live" for id in live]

    for node in nodes:
        with suppress(TimeoutError):
            node.wait_for(lambda node=node: not wrong(node), timeout=LIMIT)  # type: ignore[misc]
    killed = sum(not counts for runs in published.values() for _, counts, *_ in runs)
    print(f"{sum(map(len, published.values()))} programs with {len(published)} ids, {killed} killed before they had closed")
    return [each for node in nodes for each in wrong(node)]


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        worker()
    else:
        count, seed = [*map(int, sys.argv[1:]), *([1_000, int(time.time())][len(sys.argv) - 1 :])][:2]
        print(f"seed {seed}")
        wrong = run(count, seed)
        print("\n".join(wrong) or "all that was published is at all three nodes, and nobody is live")
        sys.exit(bool(wrong))
