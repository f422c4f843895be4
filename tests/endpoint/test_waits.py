"""Waits: callers that block until something is so."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gossipmonger import ClosedError, Gossipmonger, Peer, RemotePeer
from gossipmonger.endpoint import waits
from gossipmonger.simulation import Simulation
from gossipmonger.state.message import Delta, Message

from ..inline_executor import InlineExecutor

Make = Callable[..., Gossipmonger]


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever waits wake only when something happens."""
    monkeypatch.setattr(waits, "_SLICE", 10.0)


class Later:
    """Does something on another thread, a little later; says how long it was until then."""

    def __init__(self, function: Callable[..., object], *args: Any) -> None:
        self._timer = threading.Timer(0.05, function, args)
        self._began = time.monotonic()
        self._timer.start()

    def took(self) -> float:
        took = time.monotonic() - self._began
        self._timer.join()
        return took


def meet(node: Gossipmonger, id: str, key: str = "k", value: Any = 1) -> None:
    """Let a node hear of a peer that has a key."""
    sender = RemotePeer(id, {"host": "127.0.0.1", "port": 1})
    node.transport.emit("message", Message(sender, [Delta(id, key, value, 5)], None))


def test_wait_for_returns_what_the_predicate_does_and_wakes_when_something_happens(make: Make) -> None:
    node = make()
    assert node.wait_for(lambda: [1]) == [1]
    for write in (lambda: node.update("k", 2), lambda: node.delete("k")):
        before = node.get("a", "k")
        later = Later(write)
        assert node.wait_for(lambda before=before: node.get("a", "k") != before, 30) is True  # type: ignore[misc]
        assert later.took() < 5
    assert not node._engine.watches.followers


def test_wait_for_wakes_after_a_handler_has_run(make: Make) -> None:
    node = make()
    seen: list[object] = []
    node.on("error", seen.append)
    node.watch("", seen.append)
    for act in (lambda: node._dispatcher.fail(OSError()), lambda: node.update("k", 1)):
        later = Later(act)
        assert node.wait_for(seen.copy, timedelta(seconds=30)) == seen
        assert later.took() < 5
        seen.clear()


def test_wait_for_key_returns_a_copy_of_the_value(make: Make) -> None:
    node = make()
    later = Later(node.update, "k", [1])
    node.wait_for_key("k", timeout=30).append(2)
    assert later.took() < 5
    assert node.wait_for_key("k", "a", [1.0], 0) == [1]
    node.update("none", None)
    assert node.wait_for_key("none", value=None, timeout=0) is None
    assert node.wait_for_key("none", "a", timeout=0) is None


def test_wait_for_key_can_want_a_peer_and_a_value(make: Make) -> None:
    node = make()
    node.update("k", 1)
    later = Later(meet, node, "b", "k", 2)
    assert node.wait_for_key("k", "b", timeout=30) == 2
    assert node.wait_for_key("k", value=2, timeout=0) == 2
    assert later.took() < 5


def test_wait_for_key_reads_a_dead_peer_only_if_it_is_named(make: Make) -> None:
    node = make()
    node.storage.put("b", Peer("b", data={"k": [1, 5]}, live=False))
    assert node.wait_for_key("k", "b", timeout=0) == 1
    with pytest.raises(TimeoutError):
        node.wait_for_key("k", timeout=0)


def test_wait_for_peers_counts_the_node_itself_and_returns_who_is_live(make: Make) -> None:
    node = make()
    assert node.wait_for_peers(1) == ["a"]
    later = Later(meet, node, "b")
    assert node.wait_for_peers(2, 30) == ["a", "b"]
    assert later.took() < 5


WHO = "2 live: 'a', 'b'; 1 dead or gone: 'c'"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda node: node.wait_for(_nothing, 0), f"wait_for: not within 0 s: _nothing returned []; {WHO}"),
        (lambda node: node.wait_for_peers(3, 0.01), f"wait_for_peers: not within 0.01 s: 3 peers wanted; {WHO}"),
        (lambda node: node.wait_for_key("n", timeout=0), f"wait_for_key: not within 0 s: no 'n'; {WHO}"),
        (lambda node: node.wait_for_key("k", value=2, timeout=0), "wait_for_key: not within 0 s: no 'k' as 2; 'b' has 1"),
        (lambda node: node.wait_for_key("k", "b", 2, 0), "no 'k' of 'b' as 2; 'b' is live and has 1"),
        (lambda node: node.wait_for_key("n", "c", timeout=0), "no 'n' of 'c'; 'c' is dead and has 'k'"),
        (lambda node: node.wait_for_key("n", "a", timeout=0), "no 'n' of 'a'; 'a' is live and has no keys"),
        (lambda node: node.wait_for_key("n", "d", timeout=0), f"no 'n' of 'd'; 'd' is not known; {WHO}"),
    ],
)
def test_a_timeout_error_says_what_was_there_instead(make: Make, call: Callable[[Gossipmonger], object], words: str) -> None:
    node = make()
    meet(node, "b")
    node.storage.put("c", Peer("c", data={"k": [1, 5]}, live=False))
    with pytest.raises(TimeoutError) as raised:
        call(node)
    assert str(raised.value).endswith(words)


def _nothing() -> list[int]:
    return []


def test_a_timeout_error_says_that_nobody_is_live() -> None:
    with Gossipmonger(observer=True, seeds=["127.0.0.1:9"]) as node:
        node.on("error", lambda error: None)
        with pytest.raises(TimeoutError, match=r"no 'k'; 0 live: nobody$"):
            node.wait_for_key("k", timeout=0)


def test_a_timeout_error_names_only_some(make: Make) -> None:
    node = make()
    for n in range(1_000):
        node.storage.put(f"n{n}", Peer(f"n{n}", data={"k": [n, 5]}))
    for call in (lambda: node.wait_for_peers(2_000, 0), lambda: node.wait_for_key("k", value="v" * 10**6, timeout=0)):
        with pytest.raises(TimeoutError, match=r"\.\.\.") as raised:
            call()
        assert len(str(raised.value)) < 1_000


def test_a_node_that_is_closed_meanwhile_wakes_who_waits(make: Make) -> None:
    node = make()
    later = Later(node.close)
    with pytest.raises(ClosedError, match=r"^wait_for_peers: "):
        node.wait_for_peers(2)
    assert later.took() < 5
    with pytest.raises(ClosedError, match=r"^wait_for: "):
        node.wait_for(lambda: True)


@pytest.mark.parametrize("executor", [None, InlineExecutor()])
def test_a_handler_that_would_wait_is_told_so_at_once(make: Make, executor: Any) -> None:
    node, other = make(executor=executor), make()
    raised: queue.Queue[str] = queue.Queue()

    def waits(*_: object) -> None:
        assert other.wait_for_peers(1) == ["a"]
        for wait in (
            lambda: node.wait_for_peers(1),
            lambda: node.wait_for_key("k", timeout=1),
            lambda: node.watch("z").next(1),
        ):
            try:
                wait()
            except RuntimeError as error:
                raised.put(str(error))
        assert node.watch("k").next(0) is not None

    node.on("update", waits)
    node.watch("", waits, peer="b")
    meet(node, "b")
    told = [raised.get(timeout=10) for _ in range(6)]
    assert sorted({words.split(":")[0] for words in told}) == ["wait_for_key", "wait_for_peers", "watch"]
    assert all("a handler must not wait" in words for words in told)


def test_in_a_simulation_what_is_so_is_returned_and_waiting_is_an_error() -> None:
    sim = Simulation(seed=1)
    node = sim.add("a")
    assert node.wait_for_peers(1, timeout=10) == ["a"]
    with pytest.raises(TimeoutError):
        node.wait_for_peers(2, timeout=0)
    before = time.monotonic()
    with pytest.raises(RuntimeError, match=r"let it pass by sim\.run_until"):
        node.wait_for_peers(2, timeout=10)
    assert time.monotonic() - before < 5


def test_a_signal_handler_gets_its_turn_while_the_main_thread_waits(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_SLICE", 0.05)
    node = make()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupted)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            node.wait_for_peers(2)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not node._engine.watches.followers


async def later() -> bool:
    return False


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda node: node.wait_for(1), "predicate must be callable, got 1"),
        (lambda node: node.wait_for(later), "predicate must be an ordinary function, got the async function"),
        (lambda node: node.wait_for(print, -1), "timeout must be at least 0 seconds"),
        (lambda node: node.wait_for_key(1), "key must be a string, got 1"),
        (lambda node: node.wait_for_key("k", 1), "peer must be a string, got 1"),
        (lambda node: node.wait_for_key("k", value={1}), "value"),
        (lambda node: node.wait_for_peers(0), "n must be at least 1 peers"),
        (lambda node: node.wait_for_peers(1.5), "n must be an integer"),
    ],
)
def test_bad_arguments_are_named(make: Make, call: Callable[[Gossipmonger], object], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        call(make())
