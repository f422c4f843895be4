"""Events: their names, which handlers are refused, and that a node can't be copied."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from pyee.base import EventEmitter

from gossipmonger import Gossipmonger
from gossipmonger.endpoint.events import EVENTS
from gossipmonger.simulation import Simulation


@pytest.fixture
def node() -> Iterator[Gossipmonger]:
    with Simulation() as sim:
        yield sim.add("a", gossip=False)


#: The ways to register a handler, as pyee has them.
WAYS: list[Callable[[Any, Any, Any], Any]] = [
    lambda node, event, f: node.on(event, f),
    lambda node, event, f: node.on(event)(f),
    lambda node, event, f: node.once(event, f),
    lambda node, event, f: node.once(event)(f),
    lambda node, event, f: node.add_listener(event, f),
    lambda node, event, f: node.listens_to(event)(f),
    lambda node, event, f: EventEmitter.on(node, event, f),
]
ways = pytest.mark.parametrize("register", WAYS, ids=range(len(WAYS)))


@ways
@pytest.mark.parametrize("event", EVENTS)
def test_each_event_has_handlers_however_they_are_registered(node: Gossipmonger, register: Any, event: str) -> None:
    def handler(*_: object) -> None:
        pass

    assert register(node, event, handler) is handler
    assert node.listeners(event) == [handler]


@ways
@pytest.mark.parametrize(
    ("event", "nearest"),
    [
        ("updat", "update"),
        ("Update", "update"),
        ("UPDATES", "update"),
        ("new_peer", "new peer"),
        ("newPeer", "new peer"),
        ("peer-dead", "peer dead"),
        ("peer lives", "peer live"),
        ("errors", "error"),
        ("digest received", "digest receive"),
    ],
)
def test_a_misspelt_event_is_refused_with_the_nearest_known_name(
    node: Gossipmonger, register: Any, event: str, nearest: str
) -> None:
    with pytest.raises(ValueError, match=f"^unknown event '{event}'; did you mean '{nearest}'\\?$"):
        register(node, event, print)
    assert event not in node.event_names()


def test_a_decorator_is_refused_where_it_is_made(node: Gossipmonger) -> None:
    for make in (node.on, node.once, node.listens_to):
        with pytest.raises(ValueError, match="did you mean"):
            make("updat")  # type: ignore[call-overload]


def test_an_event_that_is_near_to_none_is_refused_with_all_names(node: Gossipmonger) -> None:
    with pytest.raises(ValueError, match=r"^unknown event 'zzzz'; there are 'update', .*'new_listener'$"):
        node.on("zzzz", print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"^event must be a name, got 5$"):
        node.on(5, print)  # type: ignore[call-overload]


async def coroutine(*_: object) -> None:
    pass


async def generator(*_: object) -> Any:
    yield 1


class Calls:
    async def __call__(self, *_: object) -> None:
        pass

    async def method(self, *_: object) -> None:
        pass


ASYNC: list[Any] = [
    coroutine, generator, Calls(), Calls().method, functools.partial(coroutine, 1), functools.partial(Calls(), 1),
    functools.partial(functools.partial(Calls().method)),
]  # fmt: skip


@ways
@pytest.mark.parametrize("handler", ASYNC, ids=range(len(ASYNC)))
def test_an_async_handler_is_refused_with_advice(node: Gossipmonger, register: Any, handler: Any) -> None:
    with pytest.raises(TypeError, match=r"'update' must be an ordinary function.*call_soon_threadsafe"):
        register(node, "update", handler)
    assert node.listeners("update") == []


@ways
def test_what_can_not_be_called_is_refused(node: Gossipmonger, register: Any) -> None:
    with pytest.raises(TypeError, match=r"^a handler of 'update' must be callable, got 5$"):
        register(node, "update", 5)


def test_ordinary_callables_are_taken(node: Gossipmonger) -> None:
    seen: list[Any] = []

    @functools.wraps(coroutine)
    def wrapper(*args: Any) -> None:  # as one that hands a coroutine to a loop
        seen.append(args)

    handlers: list[Any] = [wrapper, seen.append, functools.partial(seen.append), str]
    for handler in handlers:
        node.on("unknown peer", handler)
    node.emit("unknown peer", "b")
    assert seen == [("b",), "b", "b"]


@pytest.mark.parametrize("returned", [coroutine, generator])
def test_a_handler_that_returns_what_is_to_be_awaited_is_an_error(returned: Callable[..., Coroutine[Any, Any, None]]) -> None:
    with Simulation() as sim:
        one, other = sim.add("a"), sim.add("b", seeds=["a"])
        errors: list[Exception] = []
        other.on("error", errors.append)
        other.on("update", lambda *args: returned(*args))
        one.update("k", 1)
        sim.run_until(lambda: errors, limit=5_000)
    assert "'update' must be an ordinary function, but it has returned" in str(errors[0])


def test_the_users_own_emit_tells_of_a_coroutine(node: Gossipmonger) -> None:
    node.on("unknown peer", lambda id: coroutine(id))
    with pytest.raises(TypeError, match="returned a coroutine"):
        node.emit("unknown peer", "b")


def test_new_listener_is_pyees(node: Gossipmonger) -> None:
    told: list[Any] = []
    node.on("new_listener", lambda event, f: told.append((event, f)))
    node.on("update", print)
    assert told == [("update", print)]


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps, lambda node: pickle.dumps({"node": [node]}, 2)])
def test_a_node_is_not_copied_or_pickled_and_says_what_to_do(node: Gossipmonger, take: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"^a Gossipmonger can't be copied, pickled .*create one in each process"):
        take(node)
