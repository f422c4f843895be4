"""A busy node whose process forks at random moments; the children use their copies, and some start a node of their own.

`python -m tests.forks [COUNT] [SEED]` forks so many times, by default 1,000, and fails if a child hangs or can do what it
should not, a node that is there is seen to leave or die, or an update of the parent does not arrive.
"""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gossipmonger import ForkedError, Gossipmonger, UdpTransport

LOCAL = {"host": "127.0.0.1", "port": 0}

#: Seconds that a child is given; then a signal kills it.
LIMIT = 20

#: Children of which one starts a node.
STARTS = 10


@dataclass
class Report:
    """What came of it.

    Attributes:
        forks: How many children there were.
        failed: Those that did not end as they should.
        lost: Updates of the parent that did not arrive.
        false: Farewells and deaths of nodes that were there all the time.
        leaked: Descriptors that the parent has more than at the beginning.
    """

    forks: int = 0
    failed: int = 0
    lost: int = 0
    false: int = 0
    leaked: int = 0


def make(id: str, *seeds: Gossipmonger, udp: bool = False) -> Gossipmonger:
    told = [{"id": seed.local_peer.id, "transport": seed.local_peer.transport} for seed in seeds]
    transport = {"transport": UdpTransport(LOCAL)} if udp else {}
    node = Gossipmonger({"id": id, "transport": LOCAL}, seeds=told, gossip_interval=100, **transport)  # type: ignore[arg-type]
    node.on("error", lambda error: None)
    node.on("update", lambda *_: None)
    return node


def start(node: Gossipmonger) -> Gossipmonger:
    node.transport.listen()
    node.gossip()
    return node


def in_child(function: Callable[[], object]) -> str:
    """What a function returns in a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LIMIT)
        try:
            os.write(write, str(function()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def use(node: Gossipmonger) -> None:
    """Use a copy in a child as programs might."""
    calls: list[Any] = [
        lambda: node.update("k", "child"), lambda: node.delete("k"), lambda: node.get("b", "k"), node.peers, node.digest,
        lambda: node.peer("b"), node.gossip, node.leave, lambda: node.wait(0), node.__enter__, node.transport.listen,
    ]  # fmt: skip
    for call in calls:
        try:
            call()
        except ForkedError:
            continue
        raise AssertionError("no ForkedError")
    node.stop()
    node.close()
    node.__exit__(None, None, None)
    node.on("update", print)
    node.transport.close()
    assert repr(node)
    assert node.local_peer.id in ("a", "b")


def begin(node: Gossipmonger, number: int, seed: Any) -> None:
    """Start a node in a child that the parent has made, and wait until it has met another."""
    node.update("child", number)
    met = threading.Event()
    node.on("new peer", lambda peer: met.set())
    start(node)
    assert met.wait(10)
    assert node.get(node.local_peer.id, "made") == "before the fork"
    node.close()


class Program:
    """Two busy nodes, `a` over UDP and `b` over TCP, and threads that use them.

    Args:
        seed: Where randomness comes from.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.report = Report()
        self.a = start(make("a", udp=True))
        self.b = start(make("b", self.a))
        self.over = threading.Event()
        self.last = 0
        for node in (self.a, self.b):
            for event in ("peer left", "peer dead"):
                node.on(event, lambda peer: self.judge(peer.id))

    def judge(self, id: str) -> None:
        if id in "ab":
            self.report.false += 1

    def work(self, number: int) -> None:
        value = 0
        while not self.over.wait(0.002):
            value += 1
            self.a.update(f"k{number}", value)
            self.b.update("k", value)
            self.a.get("b", "k")
            self.b.peers()

    def run(self, count: int) -> Report:
        """Fork so many times."""
        faulthandler.dump_traceback_later(100 + count, exit=True)
        for node in (self.a, self.b):
            node.wait_for_peers(2, timeout=20)
        threads = [threading.Thread(target=self.work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        before = descriptors()
        for number in range(count):
            time.sleep(self.random.uniform(0, 0.01))
            if self.random.random() < 0.1:
                self.fork_in_handler(number)
            else:
                self.fork(number)
        self.over.set()
        for thread in threads:
            thread.join()
        self.report.leaked = max(0, descriptors() - before - 4)  # links come and go
        self.end()
        return self.report

    def fork_in_handler(self, number: int) -> None:
        done = threading.Event()

        def update(id: str, key: str, value: Any) -> None:
            if (id, key, value) == ("b", "fork", number):
                self.fork(number)
                done.set()

        self.a.on("update", update)
        self.b.update("fork", number)
        assert done.wait(60)
        self.a.remove_listener("update", update)

    def fork(self, number: int) -> None:
        self.report.forks += 1
        starts = number % STARTS == 0
        if starts:
            made = make(f"child {number % 5}", self.b, udp=number % (2 * STARTS) == 0)
            made.update("made", "before the fork")
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(LIMIT)
                use(self.a)
                use(self.b)
                if starts:
                    begin(made, number, self.b)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        if os.waitpid(pid, 0)[1]:
            self.report.failed += 1
        if starts:
            made.close()

    def end(self) -> None:
        self.b.update("last", "b")
        self.a.update("last", "a")
        with suppress(TimeoutError):  # versions come in their order, so the last one brings all before
            self.a.wait_for_key("last", "b", value="b", timeout=20)
            self.b.wait_for_key("last", "a", value="a", timeout=20)
        self.report.lost = int(not self.agree())
        for node in (self.a, self.b):
            for event in ("peer left", "peer dead"):
                node.remove_all_listeners(event)
        self.a.close()
        self.b.close()
        faulthandler.cancel_dump_traceback_later()

    def agree(self) -> bool:
        views = [[(peer := node.peer(id)) and dict(peer.data) for id in "ab"] for node in (self.a, self.b)]
        return views[0] == views[1] and None not in views[0]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**9)
    print(f"seed {seed}", flush=True)
    begun = time.monotonic()
    report = Program(seed).run(count)
    print(f"{report} in {time.monotonic() - begun:.0f} s")
    return int(bool(report.failed or report.lost or report.false))


if __name__ == "__main__":
    sys.exit(main())
