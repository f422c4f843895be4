"""What recipes have in common: a place among a node's keys, turns, and an end."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from gossipmonger import MAX_TTL, MIN_TTL, Change, ClosedError, ForkedError, Gossipmonger, ReentrantError, Watch

__all__ = ["Recipe", "Turns", "check_function", "check_string", "seconds"]

#: Names in use, and the last life that each of them had: node -> prefix -> life. A life below 0 is over.
_claims: WeakKeyDictionary[Gossipmonger, dict[str, int]] = WeakKeyDictionary()

Self = TypeVar("Self", bound="Recipe")


def check_function(what: str, given: Any) -> None:
    """Raise a TypeError unless this is an ordinary function, or something else that is called like one."""
    if not callable(given):
        raise TypeError(f"{what} must be callable, got {given!r}")
    function = given
    while isinstance(function, partial):
        function = function.func
    for each in (function, getattr(type(function), "__call__", None)):  # noqa: B004  # the method is wanted
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(f"{what} must be an ordinary function, got the async function {given!r}, which nobody would await")


def check_string(what: str, given: Any) -> None:
    """Raise a TypeError unless this is a string."""
    if not isinstance(given, str):
        raise TypeError(f"{what} must be a string, got {given!r}")


class Recipe:
    """Something that is built on a node and has keys of its own there. It is a context manager, which closes it.

    Args:
        node: The node, started or not.
        kind: What its keys begin with, which tells it from other kinds.
        name: Which one it is. A node has one of each kind and name at a time.
        **lasting: A time in seconds, or a `timedelta`, which is checked and kept as `_lasting`.

    Raises:
        ClosedError: The node has been closed.
        TypeError, ValueError: An argument is of the wrong type; the name is empty, contains a slash, or is in use.
    """

    def __init__(self, node: Gossipmonger, kind: str, name: str, **lasting: float | timedelta) -> None:
        if not isinstance(node, Gossipmonger):
            raise TypeError(f"node must be a Gossipmonger, got {node!r}")
        check_string("name", name)
        if not name or "/" in name:
            raise ValueError(f"name must be a string without slashes, and not empty, got {name!r}")
        for argument, value in lasting.items():
            self._lasting = seconds(argument, value)
        if node.closed:
            raise ClosedError(f"{type(self).__name__}: this endpoint has been closed")
        self.node: Gossipmonger = node
        self.name: str = name
        self._id: str = node.local_peer.id
        self._prefix = f"{kind}:{name}/"
        self._closed = False
        self._watches: list[Watch] = []
        claims = _claims.setdefault(node, {})
        former = claims.get(self._prefix, 0)
        if former > 0:
            raise ValueError(
                f"name must be new: this node has {type(self).__name__}({name!r}) already, which you may share, or close"
            )
        self._life = max(1 - former, int(node.options.clock() * 1000))  # no two of this node, nor of two of its lives
        claims[self._prefix] = self._life

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r} of {self._id!r}{', closed' if self._closed else ''})"

    def __enter__(self: Self) -> Self:
        """Return the recipe itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    def close(self) -> None:
        """End it, and let go of what it has registered at the node. May be called again, and after the node's own end."""
        if self._closed:
            return
        self._closed = True
        self._let_go()
        for watch in self._watches:
            watch.cancel()
        _claims[self.node][self._prefix] = -self._life

    def _let_go(self) -> None:
        """Let go of whatever is not a watch."""

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise ClosedError(f"{what}: this {type(self).__name__} has been closed")

    def _handle(self, call: str, handler: Any, begin: Callable[[Any], Any]) -> Any:
        """Register a handler, or return a decorator that does.

        Args:
            call: The public method, for errors.
            handler: The handler; None to return a decorator.
            begin: Registers it; its result is returned in the handler's place.
        """
        self._check_open(call)

        def decorate(handler: Any) -> Any:
            check_function("handler", handler)
            return begin(handler)

        return decorate if handler is None else decorate(handler)

    def _follow(self, prefix: str, handler: Callable[[Change], object], peer: str | None = None, replay: bool = True) -> Watch:
        """Return a watch that ends with the recipe."""
        watch = self.node.watch(prefix, handler, peer=peer, replay=replay)
        self._watches = [each for each in self._watches if each.active] + [watch]
        return watch

    def _off(self, event: str, handler: Callable[..., object]) -> None:
        """Let a handler be called no more at an event of the node."""
        if handler in self.node.listeners(event):
            self.node.remove_listener(event, handler)

    def _put(self, key: str, value: Any, ttl: float) -> None:
        """Set an own key for so many seconds."""
        self.node.update(key, value, ttl=ttl)

    def _withdraw(self, key: str) -> None:
        """Delete an own key, unless the node is closed, or is a forked child's copy."""
        with suppress(ClosedError, ForkedError):
            self.node.delete(key)


class Turns:
    """Makes calls one at a time. A call that interrupts another on the same thread is made after it.

    A call writes keys of the node while it holds this lock, and may have to wait there for a lock of the node. A signal handler
    or finalizer that interrupts a call of the node may run on the thread that holds the node's lock, so it must never wait for
    this one: it queues its call for the thread that holds this lock, and any exception is raised there. All other callers wait,
    and get the exceptions of their own calls.

    Args:
        node: The node whose keys the calls write.
    """

    def __init__(self, node: Gossipmonger) -> None:
        self._node = node
        self._lock = threading.RLock()
        self._busy = False
        self._waiting: deque[Callable[[], object]] = deque()

    def take(self, call: Callable[[], object]) -> None:
        """Make a call, and then those that have interrupted it. May be called from anywhere."""
        try:
            if self._may_wait():
                with self._lock:
                    self._waiting.append(call)
                    self._go_on()
            else:
                self._waiting.append(call)
        finally:  # calls that were queued just as the last holder of the lock finished
            while self._waiting and not self._busy and self._lock.acquire(blocking=False):
                try:
                    self._go_on()
                finally:
                    self._lock.release()

    def _may_wait(self) -> bool:
        try:
            self._node.wait(0)  # it takes no lock, and raises if this interrupts another call
        except ReentrantError:
            return False
        return True

    def _go_on(self) -> None:
        if self._waiting and not self._busy:
            self._busy = True
            try:
                self._waiting.popleft()()
            finally:
                self._busy = False
                self._go_on()


def seconds(name: str, value: float | timedelta) -> float:
    """Return a time in seconds.

    Raises:
        TypeError, ValueError: It is neither a number nor a `timedelta`, or out of range.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or a timedelta, got {value!r}")
    if not MIN_TTL <= number <= MAX_TTL:
        raise ValueError(f"{name} must be from {MIN_TTL} to {MAX_TTL} seconds, got {value!r}")
    return float(number)
