"""Forks: what a child's copy of a node does, that its parent is unharmed, and that a life begins where a node is started."""

from __future__ import annotations

import multiprocessing
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from gossipmonger import ForkedError, Gossipmonger, MemoryStorage, UdpTransport

from ..forks import LOCAL, Program, in_child, make, start, use

pytestmark = [
    pytest.mark.untraced,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


def run(program: str, **options: Any) -> str:
    """What a program prints; it must end well and complain of nothing."""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


@pytest.fixture(params=[False, True], ids=["tcp", "udp"])
def node(request: pytest.FixtureRequest) -> Iterator[Gossipmonger]:
    with closing(start(make("a", udp=request.param))) as node:
        yield node


# A copy


def test_a_copy_says_why_it_does_nothing_and_lets_itself_be_closed(node: Gossipmonger) -> None:
    assert in_child(lambda: use(node)) == "None"
    assert node.update("k", 1) is True


def test_the_error_says_what_to_do(node: Gossipmonger) -> None:
    def ask() -> str:
        try:
            node.update("k", 1)
        except ForkedError as error:
            return str(error)
        return ""

    assert in_child(ask) == (
        "update: the node 'a' was started before this process was forked, and runs in the parent alone; "
        "create it, or at least start it, after the fork"
    )


def test_a_copy_has_no_socket_and_the_parent_goes_on(node: Gossipmonger) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with closing(start(make("b", node))) as other:
        met = threading.Event()
        node.on("update", lambda *_: met.set())
        other.update("k", 1)
        assert met.wait(10)
        here = descriptors()
        assert int(in_child(descriptors)) <= here - 6
        met.clear()
        other.update("k", 2)
        assert met.wait(10)


def test_the_parents_threads_are_idle_after_a_copy_was_closed(node: Gossipmonger) -> None:
    in_child(node.close)
    idle, before = threading.Event(), sum(os.times()[:2])
    idle.wait(0.5)
    assert sum(os.times()[:2]) - before < 0.3


def test_a_copy_does_not_close_the_storage() -> None:
    class Closing(MemoryStorage):
        closed = False

        def close(self) -> None:
            self.closed = True

    storage = Closing()
    node = Gossipmonger({"id": "a", "transport": LOCAL}, storage=storage)
    node.on("error", lambda error: None)
    with closing(start(node)):
        assert in_child(lambda: (node.close(), storage.closed)[1]) == "False"
    assert storage.closed


def test_the_port_is_free_for_the_next_process_while_a_child_lives(node: Gossipmonger) -> None:
    read, write = os.pipe()
    runs, says_so = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.write(says_so, b"!")
        os.read(read, 1)  # until the parent closes its end
        os._exit(0)
    os.read(runs, 1)  # a child that has not run yet has closed nothing
    port = node.transport.port
    node.close()
    with closing(UdpTransport(host="127.0.0.1", port=port)) as again:
        again.listen()
        assert again.bound == ("127.0.0.1", port)
    for descriptor in (write, read, runs, says_so):
        os.close(descriptor)
    os.waitpid(pid, 0)


def test_a_child_that_ends_as_programs_do_says_no_farewell() -> None:
    program = """if True:
        import os, sys
        from tests.forks import make, start
        b = start(make("b"))
        a = start(make("a", b))
        left = []
        b.on("peer left", lambda peer: left.append(peer.id))
        while len(b.peers()) < 2: a.wait(0.01)
        for ends in (lambda: sys.exit(0), lambda: a.__exit__(None, None, None), lambda: exec("raise SystemExit(0)")):
            pid = os.fork()
            if pid == 0:
                ends()
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        a.wait(0.5)
        print(left, b.peer("a").state)
        a.close(); b.close()
    """
    assert run(program) == "[] live\n"


@pytest.mark.parametrize("thread", ["gossipmonger-events", "gossipmonger-timer", "gossipmonger-tcp"])
def test_a_child_that_one_of_the_nodes_own_threads_forked_ends_with_it(thread: str) -> None:
    program = f"""if True:
        import os, threading
        from gossipmonger import Gossipmonger, MemoryStorage
        pids = []
        def fork():
            if threading.current_thread().name == {thread!r} and not pids:
                pids.append(os.fork())
        class Forking(MemoryStorage):
            def put(self, id, peer):
                super().put(id, peer)
                fork()
        local = {{"host": "127.0.0.1", "port": 0}}
        a = Gossipmonger({{"id": "a", "transport": local}}, storage=Forking(), gossip_interval=50)
        a.on("update", lambda *_: fork())
        a.on("error", lambda error: None)
        a.transport.listen(); a.gossip()
        seeds = [{{"id": "a", "transport": a.local_peer.transport}}]
        b = Gossipmonger({{"id": "b", "transport": local}}, seeds=seeds, gossip_interval=50)
        b.on("error", lambda error: None)
        b.transport.listen(); b.gossip(); b.update("k", 1)
        while not pids or a.get("b", "k") != 1: a.wait(0.01)
        os.waitpid(pids[0], 0)  # it ends, since no thread goes on in it
        b.update("k", 2)
        while a.get("b", "k") != 2: a.wait(0.01)
        print("well")
        a.close(); b.close()
    """
    assert run(program) == "well\n"


def test_forks_at_random_moments() -> None:
    report = Program(seed=1).run(50)
    assert report.forks == 50
    assert report.failed == report.lost == report.false == report.leaked == 0


# A node that has not been started


def test_a_node_that_was_made_before_the_fork_lives_in_the_child_and_here() -> None:
    with closing(start(make("seed"))) as seed, closing(make("a", seed)) as node:
        node.update("made", 1)

        def live() -> tuple[Any, ...]:
            met = threading.Event()
            node.on("new peer", lambda peer: met.set())
            start(node)
            node.update("started", 2)
            answer = met.wait(10), dict(node.peer("a").data), node.local_peer.max_version_seen  # type: ignore[union-attr]
            node.close()
            return answer

        first, second = eval(in_child(live)), live()
        for met, data, _ in (first, second):
            assert met
            assert data == {"made": 1, "started": 2}
        assert second[2] > first[2]  # the later life has the later versions


def test_a_watch_that_was_made_before_the_fork_goes_on_in_the_child_and_here() -> None:
    with closing(make("a")) as node:
        node.update("made", 1)
        told: queue.Queue[Any] = queue.Queue()
        node.watch("", lambda change: told.put(change.value))
        watch = node.watch()
        assert (told.get(timeout=10), watch.next(0).value) == (1, 1)  # type: ignore[union-attr]

        def live() -> list[Any]:
            node.update("k", 2)
            answer = [told.get(timeout=10), watch.next(10).value, node.wait_for_key("k", timeout=10)]  # type: ignore[union-attr]
            node.close()
            return answer

        assert eval(in_child(live)) == live() == [2, 2, 2]


def test_a_watch_of_a_copy_says_why_it_does_nothing(node: Gossipmonger) -> None:
    node.update("k", 1)
    watch = node.watch()

    def ask() -> list[str]:
        said = []
        for call in (watch.next, node.watch, lambda: node.wait_for_peers(2), node.live, node.metrics):
            try:
                call()
            except ForkedError as error:
                said.append(str(error).split(":")[0])
        watch.cancel()
        return said

    assert eval(in_child(ask)) == ["next", "watch", "wait_for_peers", "live", "metrics"]


@pytest.mark.parametrize("given", [False, True])
def test_children_do_not_share_randomness(given: bool) -> None:
    options: dict[str, Any] = {"random": random.Random(5)} if given else {}
    node = Gossipmonger({"id": "a", "transport": LOCAL}, **options)
    drawn = [in_child(node.options.random.random) for _ in range(3)]
    assert len({*drawn, str(node.options.random.random())}) == 4
    node.close()


def test_versions_and_heartbeat_begin_with_the_life() -> None:
    now = 1_700_000_000_000.0
    node = Gossipmonger({"id": "a", "transport": LOCAL}, clock=lambda: now)
    node.on("error", lambda error: None)
    node.update("made", 1)
    made = node.local_peer.max_version_seen
    now += 60_000
    start(node)
    local = node.local_peer
    assert local.floor == now * 1000
    assert local.data == {"made": (1, local.floor + 1)}
    assert local.max_version_seen > made
    assert local.heartbeat >= now * 1000
    now += 60_000
    node.gossip()
    assert node.local_peer.floor == local.floor  # it begins once
    node.close()


def test_a_life_that_is_continued_keeps_its_versions() -> None:
    storage = MemoryStorage()
    for now in (1_700_000_000_000.0, 1_700_000_060_000.0):
        node = Gossipmonger({"id": "a", "transport": LOCAL}, storage=storage, clock=partial(float, now))
        node.on("error", lambda error: None)
        start(node)
        node.update("k", 1)
        node.close()
    assert storage.get("a").data == {"k": (1, 1_700_000_000_000_001)}  # type: ignore[union-attr]


def test_a_fork_in_the_midst_of_updates_leaves_a_node_that_can_be_started() -> None:
    node, over = make("a"), threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            node.update(f"k{number % 5}", number)

    def live() -> bool:
        node.local_peer._check()
        start(node)
        return node.update("k", "child") and node.get("a", "k") == "child"

    writer = threading.Thread(target=write)
    writer.start()
    assert [in_child(live) for _ in range(20)] == ["True"] * 20
    over.set()
    writer.join()
    node.close()


def test_a_daemon_of_a_double_fork_starts_what_was_made_before() -> None:
    with closing(start(make("seed"))) as seed, closing(make("a", seed)) as node:
        told = threading.Event()
        seed.on("update", lambda *args: told.set() if args == ("a", "pid", "daemon") else None)

        def daemon() -> None:
            node.update("pid", "daemon")
            start(node)
            assert seed.transport.loop.forked
            threading.Event().wait(1)

        assert in_child(lambda: in_child(daemon)) == "None"
        assert told.wait(10)


def work(connection: Any, seed: Any) -> None:
    """What a process of `multiprocessing` does, in a node of its own."""
    node = Gossipmonger({"id": f"p{os.getpid()}", "transport": LOCAL}, seeds=[seed], gossip_interval=100)
    node.on("error", lambda error: None)
    met = threading.Event()
    node.on("new peer", lambda peer: met.set())
    with node:
        connection.send((met.wait(20), node.local_peer.id))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_have_nodes_of_their_own(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with closing(start(make("parent"))) as parent:
        seed = {"id": "parent", "transport": dict(parent.local_peer.transport)}
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, seed))
        process.start()
        assert ours.poll(60)
        met, id = ours.recv()
        process.join(30)
        assert (met, process.exitcode) == (True, 0)
        assert parent.peer(id) is not None
        assert {peer.state for peer in parent.peers().values()} == {"live", "left"}
    for end in (ours, theirs):
        end.close()
