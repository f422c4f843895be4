"""The dispatcher: the order of events, what is collapsed and dropped, its thread, and what handlers get."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyee.base import EventEmitter

from gossipmonger import OverflowedError, RemotePeer
from gossipmonger.endpoint.dispatcher import Dispatcher
from gossipmonger.endpoint.worker import _wait_at_exit
from gossipmonger.errors import Reporter
from gossipmonger.protocol import Event
from gossipmonger.state.message import Delta, Digest, Entry, Kind

from ..guarded import guarded
from ..inline_executor import InlineExecutor

LONG = 10  # seconds, which nothing here takes
PEER_EVENTS = ["new peer", "peer dead", "peer live", "peer left", "peer forgotten"]


def update(id: str, key: str, value: Any) -> Event:
    return Event("update", (id, key, value))


def delete(id: str, key: str) -> Event:
    return Event("delete", (id, key))


def happened(name: str, id: str) -> Event:
    return Event(name, (RemotePeer(id, "there"),))


def other(number: int) -> Event:
    return Event("unknown peer", (f"peer {number}",))


class All(EventEmitter):
    """An emitter that has one handler of all events, which takes the event itself."""

    def __init__(self, handle: Callable[[Event], None]) -> None:
        super().__init__()
        self.handle = handle

    def event_names(self) -> set[str]:
        return {"update", "delete", "unknown peer", "gate", "last", *PEER_EVENTS}

    def listeners(self, event: str) -> list[Any]:
        return [self.handle]

    def emit(self, event: str, *args: Any, **keywords: Any) -> bool:
        self.handle(Event(event, args))
        return True


class Later:
    """An executor that runs what it was given when the test says so."""

    def __init__(self) -> None:
        self.given: list[Callable[[], None]] = []

    def submit(self, function: Callable[[], None]) -> None:
        self.given.append(function)

    def run(self) -> None:
        while self.given:
            self.given.pop(0)()


def delivered(*events: Event) -> list[Event]:
    """Post these while nothing is delivered; return what then is."""
    seen: list[Event] = []
    later = Later()
    dispatcher = Dispatcher(All(seen.append), later)
    for event in events:
        dispatcher.post([event])
    assert seen == []
    dispatcher.kick()
    later.run()
    return seen


Make = Callable[..., Dispatcher]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Dispatcher] = []

    def make(emit: Callable[[Event], None], executor: Any = None) -> Dispatcher:
        made.append(Dispatcher(All(emit), executor))
        return made[-1]

    yield make
    for dispatcher in made:
        assert dispatcher.close(LONG)


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What was reported."""
    seen: list[BaseException] = []
    monkeypatch.setattr(Reporter, "report", lambda _, error: seen.append(error))
    return seen


class Handler:
    """Keeps what it is called with, and waits in an event named "gate" until it is let through."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.threads: list[threading.Thread] = []
        self.begun, self.open, self.last = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, event: Event) -> None:
        self.seen.append(event)
        self.threads.append(threading.current_thread())
        if event.name == "gate":
            self.begun.set()
            assert self.open.wait(10)
        elif event.name == "last":
            self.last.set()


def until(condition: Callable[[], bool]) -> None:
    """For what no event tells of."""
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


GATE, LAST = Event("gate", ()), Event("last", ())


def post(dispatcher: Dispatcher, *events: Event) -> None:
    dispatcher.post([*events])
    dispatcher.kick()


def test_events_are_delivered_in_the_order_they_happened() -> None:
    events = [other(1), update("b", "k", 1), happened("peer dead", "b"), other(2), update("c", "k", 1), update("c", "l", 1)]
    assert delivered(*events) == events


def test_what_several_threads_post_is_delivered_in_the_order_of_posting(make: Make) -> None:
    handler = Handler()
    dispatcher = make(handler)
    posted: list[Event] = []
    lock = threading.Lock()

    def work(first: int) -> None:
        for number in range(first, first + 100):
            with lock:
                posted.append(other(number))
                dispatcher.post([posted[-1]])
            dispatcher.kick()

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(work, range(0, 400, 100)))
    post(dispatcher, LAST)
    assert handler.last.wait(10)
    assert handler.seen == [*posted, LAST]
    assert len(posted) == 400


def test_a_waiting_update_takes_over_the_latest_value_in_its_place() -> None:
    events = [update("b", "k", 1), other(1), update("b", "k", 2), other(2), update("b", "k", 3)]
    assert delivered(*events) == [update("b", "k", 3), other(1), other(2)]


def test_an_update_and_a_delete_of_one_key_are_collapsed_into_the_later() -> None:
    assert delivered(update("b", "k", 1), other(1), delete("b", "k")) == [delete("b", "k"), other(1)]
    assert delivered(delete("b", "k"), other(1), update("b", "k", 1)) == [update("b", "k", 1), other(1)]


def test_an_update_after_a_delivered_one_is_delivered_too() -> None:
    seen: list[Event] = []
    dispatcher = Dispatcher(All(seen.append), InlineExecutor())
    for value in (1, 2, 2):
        post(dispatcher, update("b", "k", value))
    assert seen == [update("b", "k", 1), update("b", "k", 2), update("b", "k", 2)]


@pytest.mark.parametrize("name", PEER_EVENTS)
def test_an_update_stays_behind_an_event_of_its_peer_and_does_not_mind_those_of_others(name: str) -> None:
    own, others = happened(name, "b"), happened(name, "c")
    first, second, third = (update("b", "k", value) for value in (1, 2, 3))
    assert delivered(first, own, second, third) == [first, own, third]
    assert delivered(first, others, second) == [second, others]


def test_delivering_the_update_before_a_peer_event_leaves_the_one_behind_it_open_for_collapsing() -> None:
    seen: list[Event] = []
    later = Later()

    def emit(event: Event) -> None:
        seen.append(event)
        if event == update("b", "k", 1):
            dispatcher.post([update("b", "k", 3)])

    dispatcher = Dispatcher(All(emit), later)
    post(dispatcher, update("b", "k", 1), happened("peer dead", "b"), update("b", "k", 2))
    later.run()
    assert seen == [update("b", "k", 1), happened("peer dead", "b"), update("b", "k", 3)]


@given(
    st.lists(
        st.one_of(
            st.builds(update, st.sampled_from("bc"), st.sampled_from("kl"), st.integers(0, 9)),
            st.builds(delete, st.sampled_from("bc"), st.sampled_from("kl")),
            st.builds(happened, st.sampled_from(PEER_EVENTS), st.sampled_from("bc")),
        ),
        max_size=30,
    )
)
def test_of_each_peer_the_latest_values_come_in_order_between_its_events(events: list[Event]) -> None:
    seen = delivered(*events)
    for id in "bc":
        expected: list[Event] = []
        since: dict[str, Event] = {}
        for event in events:
            if event.args[0] == id:
                since[event.args[1]] = event  # a key that is there already keeps its place
            elif event.args[0] == RemotePeer(id, "there"):
                expected += [*since.values(), event]
                since = {}
        expected += since.values()
        assert [event for event in seen if event.args[0] in (id, RemotePeer(id, "there"))] == expected


@pytest.mark.parametrize("limit", [1, 3])
def test_beyond_the_limit_events_are_dropped_and_one_error_says_how_many(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipmonger.endpoint.dispatcher.MAX_WAITING", limit)
    seen = delivered(*(other(number) for number in range(limit + 4)))
    errors = [event.args[0] for event in seen if event.name == "error"]
    assert [event for event in seen if event.name != "error"] == [other(number) for number in range(limit)]
    assert [(type(error), error.dropped) for error in errors] == [(OverflowedError, 4)]


def test_an_event_that_is_dropped_parts_no_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipmonger.endpoint.dispatcher.MAX_WAITING", 1)
    dead = happened("peer dead", "b")
    seen = delivered(dead, update("b", "k", 1), dead, update("b", "k", 2))
    assert [event for event in seen if event.name == "update"] == [update("b", "k", 2)]


def test_updates_are_never_dropped_and_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipmonger.endpoint.dispatcher.MAX_WAITING", 3)
    updates = [update("b", f"k{number}", number) for number in range(10)]
    others = [other(number) for number in range(3)]
    assert delivered(*updates, *others) == [*updates, *others]
    assert [event for event in delivered(*others, other(3), *updates) if event.name == "update"] == updates


def test_after_an_overflow_events_are_taken_and_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipmonger.endpoint.dispatcher.MAX_WAITING", 2)
    seen: list[Event] = []
    later = Later()
    dispatcher = Dispatcher(All(seen.append), later)
    for dropped in (3, 1):
        post(dispatcher, *(other(number) for number in range(2 + dropped)))
        later.run()
    assert [event.args[0].dropped for event in seen if event.name == "error"] == [3, 1]
    assert [event for event in seen if event.name != "error"] == [other(0), other(1)] * 2


@pytest.mark.parametrize("error", [ValueError("v"), SystemExit(1), KeyboardInterrupt()])
def test_what_a_handler_raises_is_reported_and_the_thread_goes_on(make: Make, error: BaseException) -> None:
    handler = Handler()

    def emit(event: Event) -> None:
        handler(event)
        raise error

    reported: list[Any] = []
    with mock.patch.object(Reporter, "report", lambda _, error: reported.append((error, threading.current_thread()))):
        post(make(emit), update("b", "k", 1), LAST)
        assert handler.last.wait(10)
        until(lambda: len(reported) == 2)
    assert reported == [(error, handler.threads[0])] * 2
    assert handler.threads[0] is handler.threads[1]


def test_close_waits_for_the_running_handler_and_drops_what_waits(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipmonger.endpoint.dispatcher.MAX_WAITING", 2)
    handler = Handler()
    post(dispatcher := make(handler), GATE, other(1), other(2), update("b", "k", 1))  # one too many, which is not told either
    assert handler.begun.wait(10)
    assert dispatcher.delivering is False  # another thread is
    assert dispatcher.close(0) is False  # it has not returned
    post(dispatcher, other(2), update("b", "l", 1))  # closed, so nobody is told
    threading.Timer(0.05, handler.open.set).start()
    assert dispatcher.close(LONG) is True
    assert handler.seen == [GATE]
    assert not handler.threads[0].is_alive()


def test_close_from_a_handler_returns_at_once_and_that_one_is_the_last(make: Make) -> None:
    handler = Handler()
    answers: list[bool] = []

    def emit(event: Event) -> None:
        answers.extend((dispatcher.delivering, dispatcher.close(3_600), dispatcher.close(3_600)))
        handler(event)

    dispatcher = make(emit)
    post(dispatcher, LAST, other(1))
    assert handler.last.wait(10)
    handler.threads[0].join(10)
    assert not handler.threads[0].is_alive()
    assert answers == [True, True, True]
    assert handler.seen == [LAST]


def test_the_thread_is_started_once_and_stays_until_close(make: Make) -> None:
    handler = Handler()
    dispatcher = make(handler)
    assert dispatcher._worker._thread is None
    for _ in range(3):
        handler.last.clear()
        post(dispatcher, LAST)
        assert handler.last.wait(10)
        until(lambda: dispatcher._worker._runner is None)
    assert len(set(handler.threads)) == 1
    assert (handler.threads[0].name, handler.threads[0].daemon) == ("gossipmonger-events", True)
    assert handler.threads[0].is_alive()
    assert dispatcher.close(LONG) is True
    assert not handler.threads[0].is_alive()


def test_at_exit_the_handler_that_runs_is_waited_for_and_no_other_is_called(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Handler()
    post(dispatcher := make(handler), GATE, LAST)
    assert handler.begun.wait(10)
    with monkeypatch.context() as patch:
        patch.setattr("gossipmonger.endpoint.worker._EXIT_TIMEOUT", 0.01)
        _wait_at_exit()  # which takes no longer than that
    exiting = threading.Thread(target=_wait_at_exit)
    exiting.start()
    assert exiting.is_alive()
    handler.open.set()
    exiting.join(10)
    assert not exiting.is_alive()
    assert dispatcher.close(LONG)
    assert handler.seen == [GATE]


def test_a_handler_that_ends_the_program_is_not_waited_for(make: Make) -> None:
    handler = Handler()

    def emit(event: Event) -> None:
        _wait_at_exit()
        handler(event)

    post(make(emit), LAST)
    assert handler.last.wait(10)


def test_a_program_that_ends_waits_for_the_handler_that_runs() -> None:
    program = """if True:
        import threading
        from pyee.base import EventEmitter
        from gossipmonger.endpoint.dispatcher import Dispatcher
        from gossipmonger.protocol import Event
        begun = threading.Event()

        def handle(id):
            begun.set()
            threading.main_thread().join()
            print("to its end", flush=True)

        emitter = EventEmitter()
        emitter.on("unknown peer", handle)
        dispatcher = Dispatcher(emitter)
        dispatcher.post([Event("unknown peer", ("b",))])
        dispatcher.kick()
        begun.wait(10)
    """
    done = subprocess.run([sys.executable, "-c", program], timeout=30, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "to its end\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_ends_at_once_though_a_handler_runs_in_its_parent() -> None:
    program = """if True:
        import os, sys, threading
        from pyee.base import EventEmitter
        from gossipmonger.endpoint import worker
        from gossipmonger.endpoint.dispatcher import Dispatcher
        from gossipmonger.protocol import Event
        worker._EXIT_TIMEOUT = 600
        begun, go_on = threading.Event(), threading.Event()
        emitter = EventEmitter()
        emitter.on("unknown peer", lambda id: (begun.set(), go_on.wait(60)))
        dispatcher = Dispatcher(emitter)
        dispatcher.post([Event("unknown peer", ("b",))])
        dispatcher.kick()
        begun.wait(10)
        child = os.fork()
        if not child:
            sys.exit(7)
        status = os.waitpid(child, 0)[1]
        go_on.set()
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 7


def test_a_program_ends_though_events_keep_coming() -> None:
    program = """if True:
        from pyee.base import EventEmitter
        from gossipmonger.endpoint.dispatcher import Dispatcher
        from gossipmonger.protocol import Event
        emitter = EventEmitter()
        emitter.on("unknown peer", lambda id: dispatcher.post([Event("unknown peer", (id,))]))
        dispatcher = Dispatcher(emitter)
        dispatcher.post([Event("unknown peer", ("b",))])
        dispatcher.kick()
    """
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0


def test_a_thread_that_can_not_be_started_is_reported_and_is_tried_again(make: Make, unheard: list[BaseException]) -> None:
    handler = Handler()
    dispatcher = make(handler)
    error = RuntimeError("can't start")
    with mock.patch.object(threading.Thread, "start", side_effect=error):
        post(dispatcher, other(1))
    assert unheard == [error]
    assert handler.seen == []
    post(dispatcher, LAST)
    assert handler.last.wait(10)
    assert handler.seen == [other(1), LAST]
    assert unheard == [error]


@pytest.mark.parametrize("own_thread", [True, False])
def test_attributes_are_only_set_under_the_lock(own_thread: bool) -> None:
    handler = Handler()
    dispatcher = guarded(Dispatcher, "_queue_lock")(All(handler), None if own_thread else InlineExecutor())
    post(dispatcher, other(1), update("b", "k", 1), LAST)
    assert handler.last.wait(10)
    assert dispatcher.close(LONG)
    assert handler.seen == [other(1), update("b", "k", 1), LAST]


def test_the_helpers_of_the_queue_require_the_lock() -> None:
    dispatcher = Dispatcher(All(Handler()))
    for call in (lambda: dispatcher._enqueue(update("b", "k", 1)), dispatcher._next):
        with pytest.raises(AssertionError):
            call()


def test_close_does_not_wait_for_a_thread_that_could_not_be_started(unheard: list[BaseException]) -> None:
    dispatcher = guarded(Dispatcher, "_queue_lock")(All(Handler()))
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start")):
        post(dispatcher, other(1))
    assert dispatcher.close(0)
    assert len(unheard) == 1


def test_an_executor_is_asked_once_for_all_that_waits_and_not_for_nothing(make: Make) -> None:
    handler, later = Handler(), Later()
    dispatcher = make(handler, later)
    dispatcher.kick()
    assert later.given == []
    post(dispatcher, other(1))
    post(dispatcher, other(2))
    assert len(later.given) == 1
    later.run()
    assert handler.seen == [other(1), other(2)]
    assert dispatcher.close(LONG)
    post(dispatcher, other(3))
    assert later.given == []


def test_an_executor_of_many_threads_runs_one_handler_at_a_time(make: Make) -> None:
    handler, within, overlaps = Handler(), threading.Lock(), []

    def emit(event: Event) -> None:
        overlaps.append(not within.acquire(blocking=False))
        handler(event)
        within.release()

    with ThreadPoolExecutor(4) as executor:
        dispatcher = make(emit, executor)
        events = [other(number) for number in range(300)]
        for event in events:
            post(dispatcher, event)
        post(dispatcher, LAST)
        assert handler.last.wait(10)
        assert dispatcher.close(LONG)
    assert handler.seen == [*events, LAST]
    assert not any(overlaps)


def test_an_event_that_happens_in_an_inline_handler_comes_after_it(make: Make) -> None:
    order: list[str] = []

    def emit(event: Event) -> None:
        if event == other(1):
            post(dispatcher, LAST)
        order.append(event.name)

    post(dispatcher := make(emit, InlineExecutor()), other(1))
    assert order == ["unknown peer", "last"]


def test_an_executor_that_refuses_is_reported_and_is_asked_again(make: Make, unheard: list[BaseException]) -> None:
    handler, executor = Handler(), mock.Mock()
    executor.submit.side_effect = RuntimeError("full")
    post(dispatcher := make(handler, executor), other(1))
    assert unheard == [executor.submit.side_effect]
    executor.submit = InlineExecutor().submit
    dispatcher.kick()
    assert handler.seen == [other(1)]


def test_what_a_signal_handler_raises_while_an_executor_is_asked_goes_to_the_program(make: Make) -> None:
    handler, executor = Handler(), mock.Mock()
    executor.submit.side_effect = SystemExit(1)
    with pytest.raises(SystemExit):
        post(dispatcher := make(handler, executor), other(1))
    executor.submit = InlineExecutor().submit
    dispatcher.kick()
    assert handler.seen == [other(1)]


def test_an_executor_that_drops_what_it_has_accepted_is_asked_again(make: Make) -> None:
    handler, executor, future = Handler(), mock.Mock(), Future[None]()
    executor.submit.return_value = future
    post(dispatcher := make(handler, executor), other(1))
    dispatcher.kick()
    assert executor.submit.call_count == 1
    future.cancel()  # as by `shutdown(cancel_futures=True)`
    executor.submit = InlineExecutor().submit
    dispatcher.kick()
    assert handler.seen == [other(1)]


def test_close_while_an_executor_refuses_waits_for_nothing(make: Make, unheard: list[BaseException]) -> None:
    handler, executor = Handler(), mock.Mock()
    dispatcher = make(handler, executor)
    closed: list[bool] = []

    def refuse(_: object) -> None:
        closed.append(dispatcher.close(LONG))
        raise RuntimeError("full")

    executor.submit.side_effect = refuse
    post(dispatcher, other(1))
    assert closed == [True]
    assert [str(error) for error in unheard] == ["full"]
    assert handler.seen == []


# What handlers get


class Emitter(EventEmitter):
    """The least that an emitter of a dispatcher does; it keeps what the handler of `update` got."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher = Dispatcher(self, InlineExecutor())
        self.got: list[Any] = []
        self.on("update", lambda *args: self.got.append(args))

    def _emit_run(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.dispatcher.run(f, args, kwargs)


def test_nothing_runs_before_the_kick_and_only_events_with_handlers_wait() -> None:
    emitter = Emitter()
    emitter.dispatcher.post([update("b", "k", 1), happened("peer dead", "b"), update("b", "k", 2), update("b", "l", 2)])
    assert emitter.got == []
    emitter.dispatcher.kick()
    assert emitter.got == [("b", "k", 2), ("b", "l", 2)]  # nobody listens for the death, which therefore parts nothing


def test_each_handler_gets_copies() -> None:
    emitter = Emitter()
    value, entry = [1], Entry("b", 3, ["there"])
    deltas = [Delta("b", "k", value, 4, after=3)]
    for name in ("digest receive", "deltas send"):
        emitter.on(name, lambda *args: emitter.got.append(args))
    shown = [Event("digest receive", ("who", Digest(Kind.ROUND, None, [entry]))), Event("deltas send", ("who", deltas))]
    post(emitter.dispatcher, update("b", "k", value), *shown)
    assert emitter.got == [
        ("b", "k", [1]),
        ("who", [{"id": "b", "maxVersionSeen": 3, "transport": ["there"]}]),
        ("who", [["b", "k", [1], 4, 3]]),
    ]
    emitter.got[0][2].append(2)
    emitter.got[1][1][0]["transport"].append("moved")
    emitter.got[2][1][0][2].append(2)
    assert (value, entry.transport) == ([1], ["there"])


def test_what_nobody_listens_for_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    emitter = Emitter()
    digest = mock.Mock()
    post(emitter.dispatcher, Event("digest send", ("who", digest)))
    assert digest.mock_calls == []


def test_what_a_handler_raises_is_an_error_and_keeps_no_other_from_its_event() -> None:
    emitter = Emitter()
    failures: list[Exception] = []

    def fail(*_: Any) -> None:
        raise ValueError("no")

    emitter.remove_all_listeners()
    emitter.on("update", fail)
    emitter.on("update", lambda *args: emitter.got.append(args))
    emitter.on("error", failures.append)
    post(emitter.dispatcher, update("b", "k", 1))
    assert emitter.got == [("b", "k", 1)]
    assert [str(error) for error in failures] == ["no"]


def test_what_an_error_handler_raises_is_reported(unheard: list[BaseException]) -> None:
    emitter = Emitter()
    emitter.on("error", lambda error: 1 / 0)
    emitter.dispatcher.fail(ValueError("first"))
    assert [type(error) for error in unheard] == [ZeroDivisionError]


def test_what_a_handler_raises_reaches_a_callers_own_emit() -> None:
    emitter = Emitter()
    emitter.on("mine", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        emitter.emit("mine")


def test_an_error_that_nobody_listens_for_is_reported_or_raised_to_the_caller(unheard: list[BaseException]) -> None:
    emitter = Emitter()
    error = ValueError("unheard")
    emitter.dispatcher.fail(error)
    assert unheard == [error]
    with pytest.raises(ValueError, match="unheard"):
        emitter.dispatcher.fail_or_raise(error)
    emitter.on("error", unheard.append)
    emitter.dispatcher.fail_or_raise(error)
    assert unheard == [error, error]


def test_to_fail_raises_nothing_though_the_executor_refuses(unheard: list[BaseException]) -> None:
    emitter, executor = Emitter(), mock.Mock()
    dispatcher = Dispatcher(emitter, executor)
    error, full = ValueError("failed"), RuntimeError("full")
    executor.submit.side_effect = full
    dispatcher.fail(error)
    assert unheard == [full]
    executor.submit = InlineExecutor().submit
    dispatcher.kick()
    assert unheard == [full, error]
