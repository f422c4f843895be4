"""Opening and closing over real sockets, again and again and from everywhere: nothing is left behind."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from gossipmonger import ClosedError, Gossipmonger, MemoryStorage, RemotePeer, SendError, TcpTransport
from gossipmonger.state.message import Delta, Digest, Entry, Header, Kind, Message

from ..inline_executor import InlineExecutor

CYCLES = 100
C = RemotePeer("c", {"host": "127.0.0.1", "port": 1})
ENTRY_C = Entry("c", 0, C.transport)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def until(condition: Callable[[], bool]) -> None:
    """For what no event tells of."""
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = (threading.active_count(), descriptors())
    yield
    # Who closed from a handler did not wait for the thread that it ran on.
    until(lambda: (threading.active_count(), descriptors()) == before)


Make = Callable[..., Gossipmonger]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make endpoints of loopback, and close them; a seed is another one that listens, or a port."""
    made: list[Gossipmonger] = []

    def make(id: str, *seeds: Gossipmonger | int, **options: Any) -> Gossipmonger:
        ports = [seed if isinstance(seed, int) else seed.local_peer.transport["port"] for seed in seeds]
        made.append(
            Gossipmonger(
                {"id": id, "transport": {"host": "127.0.0.1", "port": 0}},
                seeds=[{"id": f"seed {port}", "transport": {"host": "127.0.0.1", "port": port}} for port in ports],
                **{"gossip_interval": 20, **options},
            )
        )
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture
def node(make: Make) -> Iterator[Gossipmonger]:
    node, errors = make("a"), list[Exception]()
    node.on("error", errors.append)
    yield node
    node.close()
    assert [error for error in errors if not isinstance(error, SendError)] == []  # a peer may be gone when it is called


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that refuses, and that nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def stuck() -> Iterator[int]:
    """A port that does not answer: its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# Again and again


def test_a_hundred_pairs_that_open_gossip_and_close_leave_no_thread_and_no_descriptor(make: Make) -> None:
    counts = set()
    for cycle in range(CYCLES):
        with make("a") as a:
            heard = threading.Event()
            errors: list[Exception] = []
            a.on("error", errors.append)
            a.on("update", lambda *args, heard=heard: heard.set())
            with make("b", a) as b:
                b.on("error", errors.append)
                b.update("cycle", cycle)
                assert heard.wait(10)
                assert a.get("b", "cycle") == cycle
        assert [error for error in errors if not isinstance(error, SendError)] == []  # b may be gone when a calls it
        counts.add((threading.active_count(), descriptors()))
    assert len(counts) == 1


def test_a_closed_nodes_port_is_free_for_the_next_at_once(make: Make) -> None:
    with make("a") as first:
        port = first.local_peer.transport["port"]
    for _ in range(10):
        with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": port}}) as again:
            assert again.transport.bound == ("127.0.0.1", port)


# From a handler


class Quick(threading.Timer):
    """A timer whose seconds pass at once, on a clock of its own."""

    now = 1_700_000_000_000.0

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        super().__init__(0.001, self._pass, (seconds, function))

    def _pass(self, seconds: float, function: Callable[[], None]) -> None:
        Quick.now += seconds * 1000
        function()


NAMES = [
    *("update", "delete", "new peer", "peer dead", "peer live", "peer left", "peer forgotten", "unknown peer", "error"),
    *("digest receive", "digest send", "deltas receive", "deltas send"),
]


def receive(node: Gossipmonger, told: Digest | list[Delta]) -> None:
    """Let a node's transport hand it a message of C."""
    digest, deltas = (told, None) if isinstance(told, Digest) else (None, told)
    node.transport.emit("message", Message(C, deltas, digest))


@pytest.mark.parametrize("name", NAMES)
def test_close_from_a_handler_of_each_event_ends_all_and_is_the_last_call(make: Make, refusing: int, name: str) -> None:
    forget = {"forget_dead_peers_after": 1_000} if name == "peer forgotten" else {}
    a = make("a", refusing, minimum_live_peers=5, timer=Quick, clock=lambda: Quick.now, **forget)
    calls: list[str] = []
    dead = threading.Event()

    def handle(*_: Any) -> None:
        a.close()
        a.close()
        calls.append(threading.current_thread().name)

    a.on(name, handle)  # type: ignore[call-overload]
    if name != "error":
        a.on("error", lambda _: None)  # that the seed refuses is what happens throughout
    if name != "peer dead":
        a.on("peer dead", lambda _: dead.set())
    a.update("k", "of a")
    a.transport.listen()
    a.gossip()
    receive(a, Digest(Kind.ROUND, None, [ENTRY_C._replace(id="a"), ENTRY_C]))
    receive(a, [Delta("c", "k", 1, 1), Delta("nobody", "k", 1, 1)])
    receive(a, [Delta("c", "k", {"gossipmonger:deleted": True}, 2)])
    if name == "peer live":
        assert dead.wait(10)
        receive(a, Digest(Kind.ROUND, None, [ENTRY_C]))
    elif name == "peer left":
        receive(a, Digest(Kind.FAREWELL, Header(), [ENTRY_C._replace(heartbeat=1_000, left=True)]))
    assert a.wait(10)
    until(lambda: calls == ["gossipmonger-events"])


@pytest.mark.parametrize(
    ("name", "thread"),
    [
        ("listening", "MainThread"),
        ("message", "gossipmonger-tcp"),
        ("error", "gossipmonger-tcp"),
        ("link", "gossipmonger-tcp"),
    ],
)
def test_close_from_a_handler_of_the_transport_ends_all(make: Make, refusing: int, name: str, thread: str) -> None:
    a = make("a")
    a.on("error", lambda _: None)
    called: list[str] = []

    def handle(*_: Any) -> None:
        a.close()
        called.append(threading.current_thread().name)

    a.transport.on(name, handle)
    a.transport.listen()
    if name in ("error", "link"):
        nothing = Message(a.local_peer.remote, None, Digest(Kind.ROUND, None, []))
        a.transport.send(RemotePeer("b", {"host": "127.0.0.1", "port": refusing}), nothing)
    elif name != "listening":
        with make("b") as b:
            b.on("error", lambda _: None)
            b.transport.send(a.local_peer.remote, Message(b.local_peer.remote, None, Digest(Kind.ROUND, None, [])))
            assert a.wait(10)
    assert a.wait(10)
    until(lambda: called == [thread])


def test_close_from_a_handler_that_runs_on_the_timer_ends_the_rounds(make: Make, node: Gossipmonger) -> None:
    node.transport.listen()
    b = make("b", node, executor=InlineExecutor())
    threads: list[str] = []

    @b.on("digest send")
    def sent(*_: Any) -> None:
        threads.append(threading.current_thread().name)
        if len(threads) == 3:
            b.close()
            threads.append("closed")

    b.transport.listen()
    b.gossip()
    assert b.wait(10)
    until(lambda: threads == ["MainThread", "gossipmonger-timer", "gossipmonger-timer", "closed"])


# At once, too early, in the middle, twice


def together(*calls: Callable[[], object]) -> list[BaseException]:
    """Do all of these at the same moment, each on a thread of its own; return what they raised."""
    raised: list[BaseException] = []
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        barrier.wait(10)
        try:
            call()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return raised


@pytest.mark.parametrize("attempt", range(10))
def test_close_from_several_threads_at_once_closes_once(make: Make, attempt: int, node: Gossipmonger) -> None:
    closed: list[MemoryStorage] = []

    class Counting(MemoryStorage):
        def close(self) -> None:
            closed.append(self)

    node.transport.listen()
    other = make("b", node, storage=Counting())
    other.on("error", lambda _: None)
    other.transport.listen()
    other.gossip()
    node.gossip()
    assert together(*[other.close] * 8) == []
    assert other.wait(0)
    assert len(closed) == 1


@pytest.mark.parametrize("attempt", range(10))
def test_calls_of_other_threads_while_it_closes_work_or_are_refused_as_closed(
    make: Make, attempt: int, node: Gossipmonger
) -> None:
    node.transport.listen()
    other = make("b", node)
    other.transport.listen()

    def until_closed(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            while True:
                call()

        return run

    def listen() -> None:
        try:
            other.transport.listen()
        except RuntimeError:
            pass  # it listens already

    def update() -> None:
        other.update("k", monotonic())

    raised = together(until_closed(other.gossip), until_closed(update), until_closed(listen), other.close)
    assert [type(error) for error in raised] == [ClosedError] * 3


def test_close_cuts_short_a_connect_that_is_stuck(make: Make, stuck: int, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    connect = socket.socket.connect_ex

    def announced(self: socket.socket, address: Any) -> int:
        begun.set()
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect_ex", announced)
    # Far beyond the time in which a thread may be left at the end of a test.
    transport = TcpTransport(host="127.0.0.1", port=0, connect_timeout=3_600)
    node = make("a", stuck, transport=transport)
    transport.listen()
    node.gossip()
    assert begun.wait(10)
    node.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("gossipmonger")] == []


def test_close_ends_the_silent_connections_of_others(node: Gossipmonger) -> None:
    node.transport.listen()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(node.transport.bound, 10)) for _ in range(5)]
        clients[0].sendall(b"half a mess")
        node.close()
        for client in clients:
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass  # it was not accepted yet, or not read


@pytest.mark.parametrize("gossips", [False, True])
def test_close_before_listen_ends_all(make: Make, refusing: int, gossips: bool) -> None:
    node = make("a", refusing)
    failed = threading.Event()
    node.on("error", lambda _: failed.set())
    if gossips:
        node.gossip()
        assert failed.wait(10)
    node.close()
    assert node.wait(0)
    assert node.transport.bound is None
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("gossipmonger")] == []


def test_close_twice_and_in_a_with_statement_is_one_close(make: Make) -> None:
    with make("a") as node:
        node.close()
        node.close()
        node.stop()
    assert node.wait(0)


@pytest.mark.parametrize("listened", [False, True])
@pytest.mark.parametrize(
    "call",
    [
        Gossipmonger.gossip,
        Gossipmonger.leave,
        Gossipmonger.__enter__,
        lambda node: node.update("k", 1),
        lambda node: node.delete("k"),
        lambda node: node.transport.listen(),
    ],
)
def test_what_is_closed_refuses_to_begin_anew(
    node: Gossipmonger, call: Callable[[Gossipmonger], object], listened: bool
) -> None:
    if listened:
        node.transport.listen()
    node.update("k", 0)
    node.close()
    with pytest.raises(ClosedError, match="closed"):
        call(node)
    assert node.get("a", "k") == 0


def test_gossip_after_stop_goes_on_where_it_was(make: Make, node: Gossipmonger) -> None:
    rounds, heard = threading.Semaphore(0), threading.Semaphore(0)
    node.transport.listen()
    node.gossip()
    with make("b", node) as b:
        until(lambda: "a" in b.peers())
        node.stop()  # from here on, the one timer is b's
        node.on("digest receive", lambda *_: rounds.release())
        b.on("update", lambda *_: heard.release())
        for life in range(3):
            b.stop()
            assert "gossipmonger-timer" not in [thread.name for thread in threading.enumerate()]
            node.update("life", life)
            while rounds.acquire(blocking=False):
                pass
            b.gossip()
            for _ in range(4):  # one of before may still have been on its way, one comes now, and the rest by the timer
                assert rounds.acquire(timeout=10)
            assert heard.acquire(timeout=10)
            assert b.get("a", "life") == life
