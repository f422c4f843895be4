"""The guard: marks, calls that are deferred, and that every lock of the package is taken under a mark."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import gossipmonger
from gossipmonger.process import Here, here, marked

PACKAGE = Path(gossipmonger.__file__).parent

#: Where the rule holds. What stands above uses public methods, which are marked, and promises nothing to signal handlers.
ROOMS = ("state", "protocol", "wire", "transport", "storage", "endpoint", "process")


@pytest.fixture
def done() -> list[object]:
    return []


@pytest.fixture
def thread() -> Here:
    return Here()


def note(done: list[object], what: object) -> Callable[[], None]:
    return lambda: done.append(what)


# The rule


def withs() -> Iterator[tuple[str, list[str]]]:
    """Where each `with` statement of the rooms is, and what it enters."""
    for path in [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.With):
                entered = [ast.unparse(item.context_expr) for item in node.items]
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", entered


def test_every_lock_is_taken_under_a_mark() -> None:
    taken = [(place, entered) for place, entered in withs() if any(what.endswith(("lock", "_making")) for what in entered)]
    assert len(taken) > 30
    assert [(place, entered) for place, entered in taken if len(entered) != 2 or entered[0] != "marked()"] == []


def test_nothing_waits_on_what_takes_a_lock_to_be_set() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for room in ROOMS
        for path in (PACKAGE / room).rglob("*.py")
        for name in ("threading.Event", "threading.Condition", "threading.Semaphore", "queue.Queue", "EventEmitter)")
        if name in path.read_text(encoding="utf-8") and room != "process"
    ]
    assert found == []


# Marks


def test_a_thread_is_marked_while_it_may_hold_a_lock_and_no_other_is() -> None:
    others: list[bool] = []
    with marked(), marked():
        assert here().marked
        other = threading.Thread(target=lambda: others.append(here().marked))
        other.start()
        other.join(10)
    assert not here().marked
    assert others == [False]


def test_each_thread_is_known_once() -> None:
    seen: list[Here] = [here(), here()]
    other = threading.Thread(target=lambda: seen.append(here()))
    other.start()
    other.join(10)
    assert seen[0] is seen[1]
    assert seen[2] is not seen[0]


# Deferring


def test_on_a_thread_that_is_not_marked_nothing_is_deferred(thread: Here, done: list[object]) -> None:
    assert thread.defer("a", note(done, 1)) is False
    assert done == []


def test_what_is_deferred_is_done_in_its_order_once_the_mark_is_gone(thread: Here, done: list[object]) -> None:
    with thread.mark:
        for number in range(3):
            assert thread.defer(number, note(done, number))
        thread.settle()
        assert done == []
    thread.settle()
    assert done == [0, 1, 2]
    assert not thread.deferred


def test_a_later_call_does_not_overtake_one_that_waits(thread: Here, done: list[object]) -> None:
    with thread.mark:
        thread.defer("a", note(done, "a"))
    assert thread.defer("b", note(done, "b"))  # between the mark's end and `settle`
    assert done == ["a", "b"]


def test_what_interrupts_a_deferred_call_waits_behind_it(thread: Here, done: list[object]) -> None:
    def first() -> None:
        assert thread.defer("k", note(done, "second"), replace=True)
        done.append("first")

    with thread.mark:
        thread.defer("k", first, replace=True)
    thread.settle()
    assert done == ["first", "second"]


def test_a_later_value_of_a_key_takes_the_place_of_one_that_waits(thread: Here, done: list[object]) -> None:
    with thread.mark:
        for number in range(1000):
            thread.defer("k", note(done, number), replace=True)
        thread.defer("l", note(done, "l"), replace=True)
        assert len(thread.deferred) == 2
    thread.settle()
    assert done == [999, "l"]


def test_nothing_moves_ahead_of_a_change_of_the_nodes_life(thread: Here, done: list[object]) -> None:
    with thread.mark:
        thread.defer("k", note(done, "k"), replace=True)
        thread.defer("leave", note(done, "leave"))
        thread.defer("leave", note(done, "leave again"))
        thread.defer("k", note(done, "k again"), replace=True)
        thread.defer("leave", note(done, "leave once more"))
    thread.settle()
    assert done == ["k", "leave", "k again", "leave once more"]


def test_a_call_that_defers_itself_for_ever_ends_all_the_same(thread: Here, done: list[object]) -> None:
    def again() -> None:
        done.append(1)
        thread.defer("k", again, replace=True)

    with thread.mark:
        thread.defer("k", again, replace=True)
    thread.settle()
    assert 1 < len(done) < 1000
    assert len(thread.deferred) == 1  # which the next call does


def test_a_deferred_call_that_a_signal_handler_cuts_short_is_repeated(thread: Here, done: list[object]) -> None:
    failures = [KeyboardInterrupt("first"), KeyboardInterrupt("second")]

    def cut_short() -> None:
        if failures:
            raise failures.pop(0)
        done.append("done")

    with thread.mark:
        thread.defer("a", cut_short)
        thread.defer("b", note(done, "b"))
    with pytest.raises(KeyboardInterrupt, match="first"):
        thread.settle()
    assert done == ["done", "b"]


def test_a_deferred_call_that_always_fails_keeps_no_other_from_its_turn(thread: Here, done: list[object]) -> None:
    with thread.mark:
        thread.defer("a", lambda: exec("raise SystemExit"))
        thread.defer("b", note(done, "b"))
    with pytest.raises(SystemExit):
        thread.settle()
    assert done == ["b"]
    assert not thread.deferred
