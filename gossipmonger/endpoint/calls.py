"""The ways into an endpoint: what each public method has to ask before it takes a lock.

| the call | while it interrupts another one on its thread | in a forked child's copy of a started node |
|---|---|---|
| `asks`: it returns something, or waits | raises `ReentrantError` | raises `ForkedError` |
| `acts`: it changes the node's life | is deferred, and returns at once | raises `ForkedError` |
| `acts(inert=True)`: it ends it | is deferred, and returns at once | does nothing |

Writes of keys are a third kind, with arguments to check and a result: see `Engine.write`. What is deferred is done by the
interrupted call before that returns (see `gossipmonger.process.guard`). A deferred call has no caller that could catch what it
raises, so that becomes an `error` event.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from gossipmonger.endpoint.exit import doomed
from gossipmonger.errors import ClosedError, ForkedError, ReentrantError
from gossipmonger.process import here

__all__ = ["acts", "asks", "later"]

P = ParamSpec("P")
R = TypeVar("R")
Node = TypeVar("Node")


def asks(method: Callable[Concatenate[Node, P], R]) -> Callable[Concatenate[Node, P], R]:
    """Make a method of an endpoint one that returns something that its locks guard, or that waits."""
    name = method.__name__

    @wraps(method)
    def call(self: Node, /, *args: P.args, **keywords: P.kwargs) -> R:
        if self._engine.forked:  # type: ignore[attr-defined]
            raise ForkedError(name, repr(self))
        thread = here()
        if thread.deferred:
            thread.settle()
        if thread.mark._is_owned():
            raise ReentrantError(name)
        try:
            if self._engine.lapses < math.inf:  # type: ignore[attr-defined]
                self._engine.lapse()  # type: ignore[attr-defined]
            return method(self, *args, **keywords)
        finally:
            if thread.deferred:
                thread.settle()

    return call


def acts(*, inert: bool = False) -> Callable[[Callable[[Node], None]], Callable[[Node], None]]:
    """Make a method of an endpoint one that changes its life, or with `inert`, that ends it."""

    def make(method: Callable[[Node], None]) -> Callable[[Node], None]:
        name = method.__name__

        @wraps(method)
        def call(self: Any) -> None:
            engine = self._engine
            if engine.forked:
                if inert:
                    return
                raise ForkedError(name, repr(self))
            if engine.closed and not inert and not doomed():
                raise ClosedError(f"{name}: this endpoint has been closed")
            thread = here()
            if (thread.deferred or thread.marked) and thread.defer((id(self), name), partial(later, engine, method, self)):
                return
            try:
                method(self)
            finally:
                if thread.deferred:
                    thread.settle()

        return call

    return make


def later(engine: Any, call: Callable[..., object], *args: Any) -> None:
    """Make a call that was deferred; what it raises is an `error` event."""
    try:
        if not engine.forked:
            call(*args)
    except Exception as error:
        engine.fail(error)
