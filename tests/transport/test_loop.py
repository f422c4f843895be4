"""The loop: what runs on its thread and when, what cannot end it, and what is left after `stop` and after a fork."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from gossipmonger.errors import Reporter
from gossipmonger.transport import loop as loop_module
from gossipmonger.transport.loop import READ, WRITE, Loop
from tests.guarded import guarded
from tests.transport.tcp.net import descriptors, until


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop("the loop")
    yield loop
    loop.stop()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.settimeout(10)
        yield one, other


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> queue.Queue[BaseException]:
    seen: queue.Queue[BaseException] = queue.Queue()
    monkeypatch.setattr(Reporter, "report", lambda _, error: seen.put(error))
    return seen


def run(loop: Loop, function: Callable[[], Any]) -> Any:
    """Call a function on the loop's thread; return what it returns."""
    answers: queue.Queue[Any] = queue.Queue()
    loop.call(lambda: answers.put(function()))
    return answers.get(timeout=10)


# Its end


def test_what_is_done_at_the_end_comes_after_the_last_call_though_stop_did_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_STOP_TIMEOUT", 0.0)
    begun, gate, done = threading.Event(), threading.Event(), queue.Queue[str]()

    def last() -> None:
        begun.set()
        gate.wait(10)
        done.put("last call")

    loop = Loop("the loop", lambda: done.put("end"))
    loop.call(last)
    assert begun.wait(10)
    loop.stop()
    assert done.empty()
    gate.set()
    assert [done.get(timeout=10) for _ in range(2)] == ["last call", "end"]


# Calls


def test_calls_run_in_their_order_on_one_daemon_thread_that_is_started_once_and_stays(loop: Loop) -> None:
    threads = [run(loop, threading.current_thread) for _ in range(3)]
    loop.start()
    assert {(thread.name, thread.daemon) for thread in threads} == {("the loop", True)}
    assert len({*threads, run(loop, threading.current_thread)}) == 1
    seen: list[int] = []
    for number in range(100):
        loop.call(lambda number=number: seen.append(number))  # type: ignore[misc]
    run(loop, lambda: None)
    assert seen == [*range(100)]


def test_only_the_loops_thread_is_current(loop: Loop) -> None:
    assert not loop.current
    assert run(loop, lambda: loop.current)
    assert not loop.current


def test_a_call_from_the_thread_itself_comes_after_what_it_is_doing(loop: Loop) -> None:
    order: queue.Queue[int] = queue.Queue()

    def first() -> None:
        loop.call(lambda: order.put(2))
        order.put(1)

    loop.call(first)
    assert [order.get(timeout=10), order.get(timeout=10)] == [1, 2]


def test_calls_of_several_threads_all_run(loop: Loop) -> None:
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: [loop.call(lambda: seen.append(1)) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    run(loop, lambda: None)
    assert len(seen) == 800


def test_a_call_that_comes_while_the_thread_wakes_up_leaves_the_next_one_heard(loop: Loop) -> None:
    loop.start()
    real, seen = loop._wakeup, list[str]()
    assert real is not None

    class Meanwhile:
        def recv(self, size: int) -> bytes:
            caller = threading.Thread(target=loop.call, args=(lambda: seen.append("meanwhile"),))
            caller.start()
            caller.join(10)
            assert real is not None
            return real.recv(size)

    loop._wakeup = Meanwhile()  # type: ignore[assignment]
    run(loop, lambda: None)
    run(loop, lambda: None)
    loop._wakeup = real
    assert run(loop, lambda: "heard") == "heard"
    assert seen == ["meanwhile"] * 2


# Time


def test_what_is_due_first_is_called_first_even_if_it_was_started_last(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(loop_module, "monotonic", lambda: now[0])
    order: queue.Queue[str] = queue.Queue()
    for seconds, name in ((3.0, "third"), (1.0, "first"), (2.0, "second"), (2.0, "second too")):
        loop.after(seconds, lambda name=name: order.put(name)).start()  # type: ignore[misc]
    run(loop, lambda: None)
    assert order.empty()
    for time, names in ((1.0, ["first"]), (2.5, ["second", "second too"]), (9.0, ["third"])):
        now[0] = time
        run(loop, lambda: None)
        run(loop, lambda: None)
        assert [order.get_nowait() for _ in names] == names
        assert order.empty()


def test_what_is_due_sooner_wakes_the_thread(loop: Loop) -> None:
    late, soon = threading.Event(), threading.Event()
    loop.after(3_600, late.set).start()
    run(loop, lambda: None)
    loop.after(0.001, soon.set).start()
    assert soon.wait(10)
    assert not late.is_set()


def test_what_is_cancelled_is_not_called_nor_waited_for(loop: Loop) -> None:
    called, after = threading.Event(), threading.Event()
    due = loop.after(0.001, called.set)
    due.cancel()
    due.start()
    loop.after(0.002, after.set).start()
    assert after.wait(10)
    assert not called.is_set()
    due.run()
    assert due.cancelled
    assert not called.is_set()


def test_what_is_cancelled_holds_nothing_until_it_is_due(loop: Loop) -> None:
    held = threading.Event()
    gone = weakref.ref(held)
    due = loop.after(3_600, held.set)
    due.start()
    due.cancel()
    del held
    assert gone() is None


def test_what_is_not_started_is_not_called_and_needs_no_thread(loop: Loop) -> None:
    loop.after(0, lambda: pytest.fail("called"))
    assert loop._thread is None


# Sockets


def test_a_socket_is_watched_until_it_is_not(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    read: queue.Queue[bytes] = queue.Queue()
    run(loop, lambda: loop.watch(one, READ, lambda: read.put(one.recv(100))))
    other.send(b"a")
    assert read.get(timeout=10) == b"a"
    other.send(b"b")
    assert read.get(timeout=10) == b"b"
    run(loop, lambda: loop.unwatch(one))
    other.send(b"c")
    run(loop, lambda: None)
    assert read.empty()
    run(loop, lambda: loop.unwatch(one))  # again, which is harmless


def test_watching_again_replaces_what_was_asked_before(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    writable, readable = threading.Event(), threading.Event()

    def once() -> None:
        loop.watch(one, READ, readable.set)
        writable.set()

    run(loop, lambda: loop.watch(one, READ, lambda: pytest.fail("replaced")))
    run(loop, lambda: loop.watch(one, WRITE, once))
    assert writable.wait(10)
    assert not readable.is_set()
    other.send(b"x")
    assert readable.wait(10)
    run(loop, lambda: loop.unwatch(one))


def test_a_socket_that_is_closed_already_is_no_error_to_unwatch(loop: Loop) -> None:
    with socket.socket() as closed:
        pass
    loop.unwatch(closed)  # not started
    run(loop, lambda: loop.unwatch(closed))


# What cannot end it


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(1), KeyboardInterrupt()])
def test_what_a_function_raises_is_reported_and_the_loop_goes_on(
    loop: Loop,
    pair: tuple[socket.socket, socket.socket],
    reported: queue.Queue[BaseException],
    error: BaseException,
) -> None:
    one, other = pair

    def fail() -> None:
        loop.unwatch(one)
        raise error

    other.send(b"x")
    loop.call(lambda: loop.watch(one, READ, fail))
    assert reported.get(timeout=10) is error
    loop.after(0, fail).start()
    assert reported.get(timeout=10) is error
    loop.call(fail)
    assert reported.get(timeout=10) is error
    assert run(loop, lambda: "it goes on") == "it goes on"
    assert reported.empty()


@pytest.mark.parametrize("begin", [Loop.start, lambda loop: loop.call(print), lambda loop: loop.after(0, print).start()])
def test_a_thread_that_cannot_be_started_raises_leaves_nothing_and_is_tried_again(
    loop: Loop, begin: Callable[[Loop], None]
) -> None:
    before = descriptors()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        with pytest.raises(RuntimeError, match="no thread"):
            begin(loop)
    assert descriptors() == before
    assert run(loop, lambda: 5) == 5


def test_without_a_descriptor_it_raises_and_leaves_nothing(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socketpair", mock.Mock(side_effect=OSError("no descriptor")))
        with pytest.raises(OSError, match="no descriptor"):
            loop.start()
    assert descriptors() == before
    loop.start()


# Its end


def test_stop_ends_the_thread_and_leaves_no_descriptor(loop: Loop) -> None:
    before = descriptors()
    thread = run(loop, threading.current_thread)
    assert descriptors() > before
    loop.stop()
    loop.stop()
    assert not thread.is_alive()
    assert descriptors() == before
    loop.call(lambda: pytest.fail("called"))
    loop.after(0, lambda: pytest.fail("called")).start()
    loop.start()
    assert descriptors() == before
    assert loop._thread is thread


def test_stop_drops_what_waits(loop: Loop) -> None:
    begun, go_on = threading.Event(), threading.Event()
    called: list[str] = []

    def hold() -> None:
        begun.set()
        go_on.wait(10)

    loop.call(hold)
    loop.call(lambda: called.append("call"))
    loop.after(0, lambda: called.append("timer")).start()
    assert begun.wait(10)
    stopping = threading.Thread(target=loop.stop)
    stopping.start()
    until(lambda: loop.stopped)
    go_on.set()
    stopping.join(10)
    assert called == []


def test_stop_from_its_own_thread_does_not_wait_for_it(loop: Loop) -> None:
    thread = run(loop, threading.current_thread)
    loop.call(loop.stop)
    thread.join(10)
    assert not thread.is_alive()


def test_a_socket_that_is_ready_at_the_same_time_is_not_handled_after_stop(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    handled: list[int] = []

    def handle(number: int) -> None:
        handled.append(number)
        loop.stop()

    def both() -> threading.Thread:
        for number, (one, other) in enumerate(pairs):
            other.send(b"x")
            loop.watch(one, READ, lambda number=number: handle(number))  # type: ignore[misc]
        return threading.current_thread()

    run(loop, both).join(10)
    for one, other in pairs:
        one.close()
        other.close()
    assert len(handled) == 1


def test_stop_waits_only_so_long_for_a_function_that_does_not_return(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_STOP_TIMEOUT", 0.01)
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(10)

    thread = run(loop, threading.current_thread)
    loop.call(hold)
    assert begun.wait(10)
    loop.stop()
    assert thread.is_alive()
    go_on.set()
    thread.join(10)
    assert not thread.is_alive()


def test_stop_before_it_has_begun_is_nothing(loop: Loop) -> None:
    loop.stop()
    assert loop._thread is None


def test_the_helpers_require_the_lock(loop: Loop) -> None:
    for call in (loop._start, loop._wake):
        with pytest.raises(AssertionError):
            call()


def test_attributes_are_only_set_under_the_lock() -> None:
    class Watched(Loop):
        _awake: bool

    loop: Loop = guarded(Watched, "_loop_lock")("the loop")
    run(loop, lambda: None)
    loop.after(0, lambda: None).start()
    run(loop, lambda: None)
    loop.stop()
    assert loop.stopped


def test_a_system_that_cannot_watch_for_a_while_does_not_end_the_loop(
    loop: Loop, reported: queue.Queue[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "_PAUSE", 0.001)
    run(loop, lambda: None)
    assert loop._selector is not None
    select, errors = loop._selector.select, [MemoryError("none left"), OSError("no more")]
    pending = [*errors]

    def fails_twice(patience: float | None = None) -> Any:
        if pending:
            raise pending.pop(0)
        return select(patience)

    monkeypatch.setattr(loop._selector, "select", fails_twice)
    assert run(loop, lambda: "goes on") == "goes on"
    assert [reported.get(timeout=10) for _ in errors] == errors


# A fork


def test_a_childs_copy_does_nothing_more(loop: Loop) -> None:
    with mock.patch.object(threading.Thread, "start"):  # as in a child, which has no copy of the thread
        loop.start()
    selector = loop._selector
    assert selector is not None
    loop.after_fork()
    assert loop.forked
    loop._thread = None
    loop.call(lambda: pytest.fail("called"))
    assert loop._thread is None
    one, other = socket.socketpair()
    loop.watch(one, READ, lambda: None)
    loop.unwatch(one)
    assert len(selector.get_map()) == 1  # it is the parent's too
    for each in (one, other, selector, loop._waker, loop._wakeup):
        assert each is not None
        each.close()


def test_a_loop_that_has_not_begun_can_begin_in_a_child() -> None:
    loop = Loop("the loop")
    loop._loop_lock.acquire()  # by a thread that is not there
    loop.after_fork()
    assert run(loop, lambda: "begun") == "begun"
    loop.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_the_parent_goes_on_after_a_fork_and_the_childs_copy_is_closed() -> None:
    program = """if True:
        import os, queue, socket, sys
        from gossipmonger.process import own
        from gossipmonger.transport.loop import READ, Loop
        loop, answers = Loop("the loop"), queue.Queue()
        one, other = own(socket.socketpair)
        loop.call(lambda: loop.watch(one, READ, lambda: answers.put(one.recv(1))))
        loop.call(lambda: answers.put(len(os.listdir("/proc/self/fd"))))
        answers.get(timeout=10)
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            loop.call(lambda: None)
            loop.stop()
            os.write(tell, b"1" if one.fileno() == -1 and loop.forked else b"0")
            os._exit(0)
        assert os.read(told, 1) == b"1"
        os.waitpid(child, 0)
        other.send(b"x")
        assert answers.get(timeout=10) == b"x"
        loop.stop()
        print("well")
    """
    done = subprocess.run([sys.executable, "-c", program], timeout=30, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("well\n", "")
