"""Watches: handlers, iterators, and their ends."""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gossipmonger import Change, ClosedError, Gossipmonger, MemoryStorage, Peer
from gossipmonger.endpoint.watches import Watches
from gossipmonger.endpoint.worker import _wait_at_exit
from gossipmonger.simulation import Simulation

from ..inline_executor import InlineExecutor

Make = Callable[..., Gossipmonger]


class Heard:
    """A handler that keeps what it hears, and can be made to wait."""

    def __init__(self) -> None:
        self.changes: queue.Queue[Change] = queue.Queue()
        self.threads: set[str] = set()
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, change: Change) -> None:
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.go_on.wait(10)
        self.changes.put(change)

    def next(self) -> tuple[str, Any, str]:
        """The key, the value and the kind of the next change."""
        return self.changes.get(timeout=10)[1:]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "gossipmonger-watch"]


# Handlers


def test_a_handler_hears_what_there_is_and_then_what_happens(make: Make) -> None:
    node, heard = make(), Heard()
    node.update("k", [1])
    watch = node.watch("", heard)
    assert heard.next() == ("k", [1], "set")
    node.update("k", 2)
    assert heard.next() == ("k", 2, "set")
    node.delete("k")
    assert heard.next() == ("k", None, "delete")
    assert heard.threads == {"gossipmonger-watch"}
    assert watch.active


def test_a_watch_decorates_a_function_with_or_without_arguments(make: Make) -> None:
    node = make(executor=InlineExecutor())
    node.update("load", 1)
    seen: list[Any] = []

    @node.watch("lo", replay=False)
    def some(change: Change) -> None:
        seen.append(("some", change.key))

    @node.watch
    def all(change: Change) -> None:
        seen.append(("all", change.key))

    node.update("other", 1)
    node.update("lone", 1)
    assert seen == [("all", "load"), ("all", "other"), ("some", "lone"), ("all", "lone")]
    some(Change("b", "called", 1, "set"))
    assert seen[-1] == ("some", "called")
    some.cancel()
    node.update("long", 1)
    assert seen[-1] == ("all", "long")
    assert (some.active, repr(all).startswith("Watch(handler test_a_watch_decorates")) == (False, True)


def test_two_watches_may_share_a_handler(make: Make) -> None:
    node = make(executor=InlineExecutor())
    seen: list[str] = []

    @node.watch("a")
    @node.watch("b")
    def heard(change: Change) -> None:
        seen.append(change.key)

    for key in ("b1", "a1", "c1"):
        node.update(key, 1)
    assert seen == ["b1", "a1"]


def test_a_handler_ends_its_watch_by_returning_false(make: Make) -> None:
    node = make(executor=InlineExecutor())
    seen: list[Any] = []

    def heard(change: Change) -> bool | None:
        seen.append(change.value)
        return False if change.value == 2 else None

    watch = node.watch("", heard)
    for value in (0, 1, 2, 3):
        node.update("k", value)
    assert seen == [0, 1, 2]
    assert not watch.active


def test_a_slow_handler_delays_only_itself_and_hears_the_last_value_of_each_key(make: Make) -> None:
    node, slow, fast = make(), Heard(), Heard()
    slow.go_on.clear()
    node.watch("", slow)
    node.watch("", fast)
    node.update("first", 0)
    assert slow.entered.wait(10)
    assert fast.next() == ("first", 0, "set")
    for n in range(100):
        node.update("k", n)
        node.update(f"gone{n}", n)
        node.delete(f"gone{n}")
    node.update("last", 1)
    while fast.next()[0] != "last":
        pass
    slow.go_on.set()
    assert [slow.next() for _ in range(3)] == [("first", 0, "set"), ("k", 99, "set"), ("last", 1, "set")]
    node.update("end", 1)
    assert slow.next()[0] == "end"


def test_what_a_handler_raises_is_an_error_and_it_is_called_again(make: Make) -> None:
    node, errors = make(), queue.Queue[Exception]()
    node.on("error", errors.put)

    @node.watch
    def raises(change: Change) -> None:
        raise (SystemExit if change.value == "exit" else ValueError)(change.value)

    for value in ("one", "exit", "two"):
        node.update("k", value)
        if value != "exit":
            assert str(errors.get(timeout=10)) == value


def test_a_handler_may_call_its_node_and_is_told_of_what_it_writes(make: Make) -> None:
    for executor in (None, InlineExecutor()):
        node, heard = make(executor=executor), Heard()

        @node.watch
        def echo(change: Change, node: Gossipmonger = node, heard: Heard = heard) -> None:
            heard(change)
            if len(change.key) < 4:
                node.update(change.key + "'", change.value)

        node.update("k", 1)
        assert [heard.next()[0] for _ in range(4)] == ["k", "k'", "k''", "k'''"]
        node.close()


def test_values_are_copies(make: Make) -> None:
    node = make(executor=InlineExecutor())
    node.watch("", lambda change: change.value.append("mine"))
    node.update("k", ["theirs"])
    assert node.get("a", "k") == ["theirs"]


def test_an_executor_is_given_one_watch_once_at_a_time(make: Make) -> None:
    given: list[Callable[[], None]] = []

    class Later:
        refuses = False

        def submit(self, function: Callable[[], None]) -> None:
            if self.refuses:
                raise RuntimeError("no more")
            given.append(function)

    executor = Later()
    node = make(executor=executor)
    seen: list[Any] = []
    watch = node.watch("", lambda change: seen.append(change.value))
    for n in range(3):
        node.update("k", n)
    assert len(given) == 1
    given.pop()()
    assert seen == [2]
    executor.refuses = True
    node.update("k", 3)
    executor.refuses = False
    node.update("l", 4)
    given.pop()()
    assert seen == [2, 3, 4]
    node.update("l", 5)
    watch.cancel()
    given.pop()()
    assert seen == [2, 3, 4]
    assert given == []


def test_a_storage_that_fails_is_an_error_and_what_there_is_to_tell_waits(make: Make) -> None:
    class Broken(MemoryStorage):
        error: Exception | None = None

        def get(self, id: str) -> Peer | None:
            if self.error is not None:
                raise self.error
            return super().get(id)

    storage = Broken()
    node = make(executor=InlineExecutor(), storage=storage)
    errors: list[Exception] = []
    seen: list[Any] = []
    node.on("error", errors.append)
    node.watch("", lambda change: seen.append(change.value))
    storage.put("b", Peer("b", data={"k": [1, 5]}))
    storage.error = error = OSError("the disk is full")
    node._engine._receive(lambda _: storage.get("b"))  # type: ignore[arg-type,return-value]  # a step that fails
    node.update("own", 2)
    assert seen == [2]
    assert set(errors) == {error}
    storage.error = None
    node.update("own", 3)
    assert seen == [2, 1, 3]


# Iterators


def test_an_iterator_fetches_what_there_is_and_waits_for_what_happens(make: Make) -> None:
    node = make()
    watch = node.watch("k", timeout=timedelta(seconds=10))
    timer = threading.Timer(0.05, node.update, ("k2", 2))
    node.update("k1", 1)
    timer.start()
    assert [next(watch).key, next(watch).key] == ["k1", "k2"]
    assert watch.next(0) is None
    timer.join()
    assert threads() == []


def test_an_iteration_is_over_when_nothing_comes_in_time_and_can_go_on(make: Make) -> None:
    node = make()
    watch = node.watch(timeout=0.01)
    node.update("k", 1)
    assert [change.value for change in watch] == [1]
    node.update("k", 2)
    assert [change.value for change in watch] == [2]
    assert iter(watch) is watch
    assert repr(watch) == "Watch(iterator)"


def test_several_threads_may_share_an_iterator(make: Make) -> None:
    node = make()
    watch = node.watch()
    fetched: queue.Queue[int] = queue.Queue()
    fetchers = [threading.Thread(target=lambda: [fetched.put(change.value) for change in watch]) for _ in range(4)]
    for thread in fetchers:
        thread.start()
    for n in range(100):
        node.update(f"k{n}", n)
    assert sorted(fetched.get(timeout=10) for _ in range(100)) == list(range(100))
    watch.cancel()
    for thread in fetchers:
        thread.join(10)
    assert not any(thread.is_alive() for thread in fetchers)


def test_an_iterator_that_is_dropped_is_gone(make: Make) -> None:
    node = make()
    node.update("k", 1)
    for _ in node.watch():
        break
    gc.collect()
    assert not node._engine.watches._watches()


def test_a_watch_with_a_handler_is_no_iterator(make: Make) -> None:
    watch = make().watch("", lambda change: None)
    with pytest.raises(RuntimeError, match="has a handler"):
        next(watch)


# The end


@pytest.mark.parametrize("end", [lambda node, watch: watch.cancel(), lambda node, watch: node.close()])
def test_an_end_ends_an_iterator_that_waits(make: Make, end: Callable[[Gossipmonger, Any], None]) -> None:
    node = make()
    watch = node.watch()
    timer = threading.Timer(0.05, end, (node, watch))
    timer.start()
    before = time.monotonic()
    assert list(watch) == []
    assert time.monotonic() - before < 10
    assert watch.next() is None
    timer.join()


def test_cancel_lets_the_call_under_way_be_the_last_and_ends_the_thread(make: Make) -> None:
    node, heard = make(), Heard()
    heard.go_on.clear()
    watch = node.watch("", heard)
    node.update("k", 1)
    assert heard.entered.wait(10)
    node.update("l", 2)
    watch.cancel()
    watch.cancel()
    heard.go_on.set()
    assert heard.next() == ("k", 1, "set")
    assert watch._worker is not None
    assert watch._worker.wait(10)
    assert threads() == []
    assert heard.changes.empty()


def test_a_watch_that_was_cancelled_takes_no_handler(make: Make) -> None:
    watch = make().watch()
    watch.cancel()
    with pytest.raises(RuntimeError, match="cancelled"):
        watch(Heard())


def test_close_waits_for_the_handler_and_leaves_no_thread(make: Make) -> None:
    node, heard = make(), Heard()
    heard.go_on.clear()
    node.watch("", heard)
    node.update("k", 1)
    assert heard.entered.wait(10)
    timer = threading.Timer(0.05, heard.go_on.set)
    timer.start()
    node.close()
    assert threads() == []
    assert heard.next() == ("k", 1, "set")
    with pytest.raises(ClosedError, match=r"^watch: "):
        node.watch()
    timer.join()


def test_close_says_so_if_a_handler_does_not_return(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipmonger.endpoint.gossipmonger._CLOSE_TIMEOUT", 0.01)
    node, heard = make(), Heard()
    heard.go_on.clear()
    node.watch("", heard)
    node.update("k", 1)
    assert heard.entered.wait(10)
    with pytest.raises(Exception, match=r"the handler of a watch did not return within 0\.01 s"):
        node.close()
    heard.go_on.set()


def test_a_handler_may_close_the_node(make: Make) -> None:
    node, seen = make(), queue.Queue[bool]()

    def close(change: Change) -> None:
        node.close()
        seen.put(node.closed)

    node.watch("", close)
    node.update("k", 1)
    assert seen.get(timeout=10)


def test_a_program_that_ends_waits_for_a_handler(make: Make) -> None:
    node, heard = make(), Heard()
    heard.go_on.clear()
    node.watch("", heard)
    node.update("k", 1)
    assert heard.entered.wait(10)
    timer = threading.Timer(0.05, heard.go_on.set)
    timer.start()
    _wait_at_exit()
    assert heard.next() == ("k", 1, "set")
    timer.join()


def test_a_watch_that_another_thread_ends_while_it_begins_leaves_no_thread(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node, keep = make(), Watches.keep
    with monkeypatch.context() as patch:
        patch.setattr(Watches, "keep", lambda watches, watch: (watch.cancel(), keep(watches, watch)))
        with pytest.raises(RuntimeError, match="cancelled"):
            node.watch("", print)
    assert not node._engine.watches._kept
    assert not threads()


def test_a_thread_that_can_not_be_started_is_an_error_of_the_caller(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make()

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            node.watch("", print)
    assert not node._engine.watches._watches()


# Arguments


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prefix": 1}, "prefix must be a string, got 1"),
        ({"peer": 1}, "peer must be a string, got 1"),
        ({"handler": 1}, "must be callable, got 1"),
        ({"timeout": -1}, "timeout must be at least 0 seconds"),
        ({"timeout": "1"}, "timeout must be a number"),
    ],
)
def test_bad_arguments_are_named(make: Make, arguments: dict[str, Any], words: str) -> None:
    node = make()
    with pytest.raises((TypeError, ValueError), match=words):
        node.watch(**arguments)
    gc.collect()
    assert not node._engine.watches._watches()


def test_an_async_handler_is_refused(make: Make) -> None:
    async def handler(change: Change) -> None: ...

    with pytest.raises(TypeError, match="async"):
        make().watch("", handler)


# Clusters on the virtual clock


def test_handlers_run_in_virtual_time_and_an_iterator_never_waits_there() -> None:
    sim = Simulation(seed=1)
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    seen: list[tuple[float, Change]] = []
    start = sim.now
    a.watch("", lambda change: seen.append((sim.now - start, change)), peer="b")
    watch = a.watch()
    sim.run(10_000)
    b.update("k", 1)
    sim.run(10_000)
    sim.crash("b")
    sim.run(20_000)
    kinds = [change.kind for _, change in seen]
    assert kinds == ["set", "gone"]
    assert 10_000 < seen[0][0] < 10_500
    assert 20_000 < seen[1][0] < 24_000
    assert list(a.watch(timeout=0)) == []
    with pytest.raises(RuntimeError, match="virtual time stands still"):
        next(watch)


def test_a_watch_that_an_executor_has_refused_is_told_in_the_next_round(make: Make) -> None:
    class Picky(InlineExecutor):
        refuses = False

        def submit(self, function: Callable[[], None]) -> None:
            if self.refuses:
                raise RuntimeError("no more")
            super().submit(function)

    executor = Picky()
    node = make(executor=executor)
    seen: list[Any] = []
    node.watch("", lambda change: seen.append(change.value))
    executor.refuses = True
    node.update("k", 1)
    executor.refuses = False
    node.gossip()
    assert seen == [1]
