"""What recipes have in common: they use public names, take turns, and have one place each among a node's keys."""

from __future__ import annotations

import ast
import gc
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import gossipmonger
from gossipmonger import Gossipmonger, recipes
from gossipmonger.process import marked
from gossipmonger.recipes import Event, Events, Questions, Registry, SharedMap
from gossipmonger.recipes._recipe import Recipe, Turns, seconds
from gossipmonger.simulation import Simulation

FOLDER = Path(recipes.__file__).parent


def imports(path: Path) -> set[tuple[str, str]]:
    """The modules and names that a file imports of this package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {(node.module or "", name.name) for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {(name.name, "") for name in node.names}
    return {(module, name) for module, name in found if module.split(".")[0] not in sys.stdlib_module_names}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_recipe_uses_public_names_only(path: Path) -> None:
    outside = {(module, name) for module, name in imports(path) if not module.startswith("gossipmonger.recipes")}
    assert {module for module, _ in outside} <= {"gossipmonger"}
    assert {name for _, name in outside} <= set(gossipmonger.__all__)
    attributes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)]
    assert not [
        node.attr
        for node in attributes
        if node.attr.startswith("_") and isinstance(node.value, (ast.Name, ast.Attribute))
        and "node" in (getattr(node.value, "id", ""), getattr(node.value, "attr", ""))
    ]  # fmt: skip


def test_calls_that_interrupt_others_are_made_after_them_and_none_is_lost() -> None:
    turns, made = Turns(Simulation().add("a")), []

    def call(number: int) -> None:
        if number < 3:
            turns.take(lambda: call(number + 1))
        made.append(number)
        if number == 1:
            raise LookupError("one")

    with pytest.raises(LookupError, match="one"):
        turns.take(lambda: call(0))
    assert made == [0, 1, 2, 3]
    turns.take(lambda: call(3))
    assert made == [0, 1, 2, 3, 3]


def test_a_call_that_interrupts_one_of_the_node_waits_for_nobody() -> None:
    """The thread that makes calls may wait for a lock that the interrupted call holds."""
    turns, made, makes, goes_on = Turns(Simulation().add("a")), list[int](), threading.Event(), threading.Event()

    def wait() -> None:
        makes.set()
        assert goes_on.wait(30)
        made.append(1)

    other = threading.Thread(target=turns.take, args=[wait], daemon=True)
    other.start()
    assert makes.wait(30)
    with marked():
        turns.take(lambda: made.append(2))
    assert made == []
    goes_on.set()
    other.join(30)
    assert made == [1, 2]
    with marked():
        turns.take(lambda: made.append(3))  # nobody else makes calls
    assert made == [1, 2, 3]


def test_threads_handlers_and_signal_handlers_that_write_wait_for_nobody() -> None:
    """A signal interrupts every writer on the main thread again and again, while others write, and none waits for ever."""
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}) as node:
        shared, events, numbers = SharedMap(node), Events(node), count()
        written: list[int] = []
        told: list[int] = []

        def write() -> None:
            number = next(numbers)
            shared[f"k{number % 3}"] = number
            events.emit("wrote", number)
            written.append(number)

        def interrupt(*_: object) -> None:
            write()
            signal.setitimer(signal.ITIMER_REAL, 0.001)

        @events.on("wrote")
        def wrote(event: Event) -> None:
            told.append(event.payload)
            if len(told) < 100:
                write()

        former = signal.signal(signal.SIGALRM, interrupt)
        threads = [threading.Thread(target=lambda: [write() for _ in range(100)], daemon=True) for _ in range(2)]
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            for thread in threads:
                thread.start()
            for _ in range(100):
                write()
            for thread in threads:
                thread.join(30)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
        assert not any(thread.is_alive() for thread in threads)
        node.wait_for(lambda: len(told) == len(written), 30)
        for key, value in shared.items():
            assert node.get("a", f"map:shared/{key}")[2] == value
        assert sorted(told) == sorted(written)


@pytest.mark.parametrize(("value", "found"), [(1, 1.0), (0.001, 0.001), (timedelta(minutes=1), 60.0)])
def test_times_are_in_seconds(value: Any, found: float) -> None:
    assert seconds("ttl", value) == found


@pytest.mark.parametrize(("value", "error"), [
    (0, ValueError), (-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), (10**9, ValueError),
    (timedelta(0), ValueError), ("1", TypeError), (True, TypeError), (None, TypeError),
])  # fmt: skip
def test_other_times_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^ttl must be "):
        seconds("ttl", value)


def test_no_two_recipes_of_one_place_have_the_same_life() -> None:
    node = Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}, clock=lambda: 1_000.0)
    lives = []
    for _ in range(3):
        with Recipe(node, "kind", "name") as recipe:
            lives.append(recipe._life)
            with pytest.raises(ValueError, match=r"this node has Recipe\('name'\) already"):
                Recipe(node, "kind", "name")
            Recipe(node, "other", "name").close()
    assert lives == [1_000_000, 1_000_001, 1_000_002]
    assert repr(recipe) == "Recipe('name' of 'a', closed)"
    node.close()


def test_a_node_that_is_used_no_more_is_kept_by_none() -> None:
    node = Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}})
    shared = recipes.SharedMap(node)
    shared["x"] = 1
    node.close()
    reference = weakref.ref(node)
    del node, shared
    gc.collect()
    assert reference() is None


async def later(*_: object) -> bool:
    return False


class Later:
    async def __call__(self, *_: object) -> bool:
        return False


@pytest.mark.parametrize("given", [later, partial(later, 1), Later()])
def test_what_nobody_would_await_is_refused(given: Any) -> None:
    with Simulation() as sim:
        node = sim.add("a")
        calls: list[Callable[[], object]] = [
            lambda: SharedMap(node, "m").watch(given),
            lambda: Events(node, "e").on("x", given),
            lambda: Questions(node, "q").on("x", given),
            lambda: Registry(node, "r").watch("x", given),
            lambda: Registry(node, "s").register("x", "h", check=given),
        ]
        for call in calls:
            with pytest.raises(TypeError, match="must be an ordinary function, got the async function"):
                call()
