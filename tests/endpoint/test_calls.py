"""Calls that interrupt another call of the same node on the same thread, at each of its steps."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from gossipmonger import ClosedError, Gossipmonger, MemoryStorage, Peer, ReentrantError, TcpTransport, UdpTransport
from gossipmonger.process import here
from gossipmonger.simulation import Simulation

from ..interruption import in_time, interrupted
from ..signals import Program

LOCAL = {"host": "127.0.0.1", "port": 0}

pytestmark = pytest.mark.untraced


def make(id: str, *seeds: Gossipmonger, kind: type[Any] = TcpTransport, **options: Any) -> Gossipmonger:
    told = [{"id": seed.local_peer.id, "transport": seed.local_peer.transport} for seed in seeds]
    node = Gossipmonger({"id": id}, transport=kind(LOCAL), seeds=told, gossip_interval=50, **options)
    node.on("error", lambda error: None)
    return node


def start(id: str, *seeds: Gossipmonger, **options: Any) -> Gossipmonger:
    node = make(id, *seeds, **options)
    node.transport.listen()
    node.gossip()
    return node


def met(*nodes: Gossipmonger) -> None:
    idle, deadline = threading.Event(), time.monotonic() + 10
    while any(len(node.peers()) < len(nodes) for node in nodes):
        assert time.monotonic() < deadline
        idle.wait(0.005)


@pytest.fixture(params=[TcpTransport, UdpTransport])
def node(request: pytest.FixtureRequest) -> Iterator[Gossipmonger]:
    """One that has a peer, so that news is sent."""
    with closing(start("b", kind=request.param)) as other:
        node = start("a", other, kind=request.param)
        met(node, other)
        yield node
        node.close()


class Inside(MemoryStorage):
    """Calls something while its node holds the lock."""

    action: Callable[[], object] | None = None

    def put(self, id: str, peer: Peer) -> None:
        super().put(id, peer)
        action, self.action = self.action, None
        if action is not None:
            action()


@pytest.fixture
def inside() -> Iterator[Callable[[Callable[[Gossipmonger], object]], Gossipmonger]]:
    """A node that has been updated while this interrupted it, with the lock held."""
    nodes: list[Gossipmonger] = []

    def inside(action: Callable[[Gossipmonger], object]) -> Gossipmonger:
        storage = Inside()
        node = Simulation(seed=1).add("a", storage=storage, gossip=False)
        nodes.append(node)
        node.gossip()
        storage.action = lambda: action(node)
        assert node.update("interrupted", 1) is True
        assert not storage.__dict__["action"]
        return node

    yield inside
    for node in nodes:
        node.close()


# What each call does while the lock is held


def test_an_update_returns_true_and_is_done_when_the_interrupted_call_returns(inside: Any) -> None:
    answers: list[bool] = []
    node = inside(lambda node: answers.extend([node.update("k", 1), node.update("k", 2), node.delete("interrupted")]))
    assert answers == [True] * 3
    assert dict(node.peer("a").data) == {"k": 2}


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda node: node.update("k", object()), TypeError),
        (lambda node: node.update(5, 5), TypeError),
        (lambda node: node.delete("__proto__"), ValueError),
    ],
)
def test_a_deferred_write_checks_its_arguments_at_once(inside: Any, call: Callable[[Any], object], error: Any) -> None:
    def refused(node: Gossipmonger) -> None:
        with pytest.raises(error):
            call(node)

    assert dict(inside(refused).peer("a").data) == {"interrupted": 1}


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("get", ("a", "k")), ("peer", ("a",)), ("peers", ()), ("digest", ()), ("wait", (1,)), ("live", ()), ("values", ("k",)),
        ("metrics", ()), ("watch", ()), ("wait_for", (bool,)), ("wait_for_key", ("k",)), ("wait_for_peers", (1,)),
    ],
)  # fmt: skip
def test_what_asks_is_told_why_it_gets_no_answer(inside: Any, name: str, args: tuple[Any, ...]) -> None:
    def refused(node: Gossipmonger) -> None:
        with pytest.raises(ReentrantError, match=f"^{name}: can't answer here, in a signal handler"):
            getattr(node, name)(*args)

    node = inside(refused)
    assert node.get("a", "interrupted") == 1


def test_close_is_done_when_the_interrupted_call_returns(inside: Any) -> None:
    states: list[bool] = []
    node = inside(lambda node: (node.close(), node.close(), states.append(node.closed)))
    assert states == [False]
    assert node.closed
    for call in (lambda: node.update("k", 1), node.gossip, node.leave):
        with pytest.raises(ClosedError):
            call()
    assert node.wait(0)


def test_deferred_calls_keep_their_order(inside: Any) -> None:
    node = inside(lambda node: (node.stop(), node.gossip(), node.update("k", 1), node.leave(), node.update("k", 2)))
    assert node.get("a", "k") == 2
    assert node.local_peer.left


def test_what_a_deferred_call_raises_is_an_error_event(inside: Any) -> None:
    errors: list[Exception] = []
    node = inside(lambda node: (node.on("error", errors.append), node.close(), node.update("k", 1)))
    assert node.closed
    assert node.get("a", "k") is None
    unheard = [error for error in errors if not isinstance(error, ClosedError)]
    assert unheard == []


def test_the_repr_and_what_is_read_without_a_lock_need_no_answer(inside: Any) -> None:
    seen: list[Any] = []
    inside(lambda node: seen.extend([repr(node), node.closed, node.local_peer.id, node.seeds]))
    assert seen[1:] == [False, "a", ()]


def test_handlers_that_are_called_inline_may_call_everything() -> None:
    sim = Simulation(seed=2)
    node, other = sim.add("a"), sim.add("b", seeds=["a"])
    seen: list[Any] = []
    node.on("update", lambda id, key, value: seen.append((node.get(id, key), node.update("echo", value), len(node.peers()))))
    sim.run(1_000)
    other.update("k", 5)
    sim.run(1_000)
    assert seen == [(5, True, 2)]
    assert other.get("a", "echo") == 5
    sim.close()


def test_a_message_that_a_storage_brings_in_is_taken_when_the_lock_is_free() -> None:
    sim = Simulation(seed=3)
    storage = Inside()
    node = sim.add("a", storage=storage)
    sim.run(1_000)
    error = OSError("later")
    errors: list[Exception] = []
    node.on("error", errors.append)
    storage.action = lambda: storage.emit("error", error)
    node.update("k", 1)
    assert errors == [error]
    sim.close()


# At each step


INNER: dict[str, Callable[[Gossipmonger, Any], object]] = {
    "update": lambda node, value: node.update("inner", value),
    "get": lambda node, _: node.get("a", "outer"),
    "on": lambda node, _: node.remove_listener("unknown peer", node.on("unknown peer", print)),
    "watch": lambda node, _: node.watch(timeout=0).next(0),
    "gossip": lambda node, _: node.gossip(),
    "send": lambda node, _: node.transport.dial(node.local_peer.remote),
}

OUTER: dict[str, Callable[[Gossipmonger, Any], object]] = {
    "update": lambda node, value: node.update("outer", value),
    "delete": lambda node, value: (node.update("outer", value), node.delete("outer")),
    "get": lambda node, _: node.get("b", "k"),
    "peers": lambda node, _: node.peers(),
    "watch": lambda node, _: [*node.watch(timeout=0)],
    "wait": lambda node, _: node.wait_for_peers(2, 10),
    "gossip": lambda node, _: node.gossip(),
}


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("outer", OUTER)
def test_a_call_may_interrupt_another_at_each_of_its_steps(node: Gossipmonger, outer: str, inner: str) -> None:
    refused = 0

    def everywhere() -> None:
        nonlocal refused
        for step in range(1, 5000):
            answers: list[object] = []

            def interrupt(step: int = step, answers: list[object] = answers) -> None:
                nonlocal refused
                try:
                    answers.append(INNER[inner](node, step))
                except ReentrantError:
                    refused += 1

            more = interrupted(lambda step=step: OUTER[outer](node, step), step, interrupt)  # type: ignore[misc]
            assert not here().marked
            assert not here().deferred
            if inner == "update" and more:
                assert answers == [True]
                assert node.get("a", "inner") == step
            if outer == "update":
                assert node.get("a", "outer") == step
            if not more:
                return
        pytest.fail("it never ends")

    in_time(everywhere)
    assert (refused > 0) == (inner in ("get", "watch"))


def test_an_update_may_interrupt_another_at_each_of_its_instructions(node: Gossipmonger) -> None:
    def everywhere() -> None:
        for step in range(1, 50_000):
            outer, inner = partial(node.update, "outer", step), partial(node.update, "inner", step)
            more = interrupted(outer, step, inner, opcodes=True)
            assert node.get("a", "outer") == step
            if not more:
                return
            assert node.get("a", "inner") == step
        pytest.fail("it never ends")

    in_time(everywhere)


@pytest.mark.parametrize("kind", [TcpTransport, UdpTransport])
@pytest.mark.parametrize("outer", ["update", "gossip", "close", "listen", "on"])
def test_close_may_interrupt_a_call_at_any_of_its_steps(outer: str, kind: type[Any]) -> None:
    calls: dict[str, Callable[[Gossipmonger], object]] = {
        "update": lambda node: node.update("k", 1),
        "gossip": lambda node: node.gossip(),
        "close": lambda node: node.close(),
        "listen": lambda node: node.transport.listen(),
        "on": lambda node: node.on("update", print),
    }

    def here_and_there() -> None:
        for step in range(1, 5000, 7):
            node = make("a", kind=kind)
            if outer != "listen":
                node.transport.listen()
                node.gossip()

            def call(node: Gossipmonger = node) -> None:
                try:
                    calls[outer](node)
                except ClosedError:
                    pass

            more = interrupted(call, step, node.close)
            assert not here().marked
            node.close()
            assert node.wait(0)
            if not more:
                return

    in_time(here_and_there, 110)


def test_a_trace_function_that_writes_at_each_step_ends_and_loses_nothing(node: Gossipmonger) -> None:
    written = 0

    def each(frame: Any, event: str, _: Any) -> Any:
        nonlocal written
        if event == "line" and "gossipmonger" in frame.f_code.co_filename:
            written += 1
            assert node.update("lines", written) is True
        return each

    def trace() -> None:
        former = sys.gettrace()
        sys.settrace(each)
        try:
            node.update("k", "v")
        finally:
            sys.settrace(former)
        assert (node.get("a", "k"), node.get("a", "lines")) == ("v", written)

    in_time(trace)
    assert written > 50


# The package's own threads


@pytest.mark.parametrize("name", ["gossipmonger-timer", "gossipmonger-tcp"])
def test_on_the_packages_own_threads_close_is_handed_to_another(name: str) -> None:
    closed, called = threading.Event(), list[str]()
    node: Gossipmonger

    class Closing(MemoryStorage):
        def put(self, id: str, peer: Peer) -> None:
            super().put(id, peer)
            if threading.current_thread().name == name and not called:
                called.append("put")
                node.close()

        def close(self) -> None:
            called.append(threading.current_thread().name)
            closed.set()

    with closing(start("b")) as other:
        node = start("a", other, storage=Closing())
        other.update("k", 1)
        assert closed.wait(10)
        assert node.wait(10)
    assert called == ["put", "gossipmonger-close"]


def test_where_no_thread_can_be_started_for_it_close_does_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    node = start("a")
    monkeypatch.setattr(here(), "own", True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: exec("raise RuntimeError"))
        node.close()
    assert node.wait(0)


# Finalizers and weak references


def test_finalizers_and_weak_references_write_and_close(node: Gossipmonger) -> None:
    class Finalized:
        def __del__(self) -> None:
            node.update("finalized", 1)

    class Referred:
        def __init__(self, cycle: list[Any]) -> None:
            self.cycle = cycle

    def collected(_: object) -> None:
        node.update("collected", 1)

    def collect() -> None:
        for _ in range(50):
            cycle: list[Any] = [Finalized()]
            cycle.append(cycle)
        del cycle
        referred: list[Any] = []
        referred.append(Referred(referred))
        reference = weakref.ref(referred[0], collected)
        del referred
        threshold = gc.get_threshold()
        gc.set_threshold(1, 1, 1)  # collected at nearly every allocation, within calls too
        try:
            for number in range(50):
                node.update("k", [number])
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        assert reference() is None
        assert [node.get("a", key) for key in ("k", "finalized", "collected")] == [[49], 1, 1]

    in_time(collect)


# Signals


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no such timers")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # cut off before its name is bound, and closed at once
def test_signals_at_random_moments() -> None:
    report = Program(seed=1).run(300)
    assert report.signals >= 300
    assert report.closed > 0
    assert report.lost == report.false == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no such timers")
def test_a_signal_handler_ends_wait_by_close() -> None:
    node = start("a")
    former = signal.signal(signal.SIGALRM, lambda *_: node.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert node.wait(10) is True
    finally:
        signal.signal(signal.SIGALRM, former)
    assert node.closed
