"""What most programs do with the state of all nodes: look at a key of all, follow what happens, wait until something is so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from gossipmonger.endpoint.calls import asks
from gossipmonger.endpoint.events import is_async
from gossipmonger.endpoint.mirror import Change
from gossipmonger.endpoint.watch import Watch
from gossipmonger.errors import shown
from gossipmonger.process import marked
from gossipmonger.state import values
from gossipmonger.state.arguments import check_number, seconds
from gossipmonger.state.peer import NOTHING

if TYPE_CHECKING:
    from gossipmonger.endpoint.engine import Engine

__all__ = ["Following"]

#: Ids and keys that the message of a TimeoutError names.
_NAMED = 10

#: Types of which what is stored needs no copy.
_SCALARS = frozenset({str, int, float, bool, type(None)})

T = TypeVar("T")


class Following:
    """The part of `Gossipmonger` that is neither the node's life nor its own state."""

    _engine: Engine

    # Looking

    @asks
    def live(self) -> list[str]:
        """Return the ids of the live peers, the local one first unless it is an observer. Copies no state."""
        with marked(), self._engine.lock:
            return [peer.id for peer in self._engine.known.peers(live=True)]

    @asks
    def values(self, key: str, live: bool = True) -> dict[str, Any]:
        """Return the value of `key` at each peer that has it, the local one included, as id -> a copy of the value.

        Args:
            key: The key.
            live: Whether only live peers count; otherwise the dead and those that left do too, as far as they are still known.
        """
        with marked(), self._engine.lock:
            found = self._engine.known.values(key, live)
        there = {}
        for id, value in found:  # two comparisons for most: this is called often, for many peers
            if type(value) in _SCALARS:
                there[id] = value
            elif value is not NOTHING and not values.is_tombstone(value):
                there[id] = values.copied(value)
        return there

    # Following

    @overload
    def watch(self, prefix: Callable[[Change], object]) -> Watch: ...
    @overload
    def watch(
        self,
        prefix: str = "",
        handler: Callable[[Change], object] | None = None,
        *,
        peer: str | None = None,
        replay: bool = True,
        timeout: float | timedelta | None = None,
    ) -> Watch: ...

    @asks  # type: ignore[misc]  # it leaves the signature as it is
    def watch(
        self,
        prefix: Any = "",
        handler: Callable[[Change], object] | None = None,
        *,
        peer: str | None = None,
        replay: bool = True,
        timeout: float | timedelta | None = None,
    ) -> Watch:
        """Follow the keys of all live peers, the local one included: what is told adds up to what `peers` shows.

        A handler is passed, or decorated with `@node.watch("load/")`. Without one, iterate:
        `for change in node.watch("load/", timeout=60)`.

        What there is comes first, as changes of kind "set"; then what happens. Nothing is missed and nothing is told twice. The
        changes of one peer come in the order in which it made them; if a key has changed again before a change of it was told,
        only the last value is told. When a peer dies, leaves or is forgotten, each of its keys is "gone". When it is live
        again, each is "set" again.

        A handler is called for one change at a time, on a thread of its own or by the option `executor`. A slow one delays only
        itself. An exception in it is an `error` event. It ends the watch by returning False. If it writes keys that it watches,
        it is told of these too.

        Args:
            prefix: What the keys begin with.
            handler: Called with each `Change`. Without one, decorate a function with the watch, or iterate over it.
            peer: The only peer to follow, by its id; None for all.
            replay: Whether to begin with what there is.
            timeout: Ends an iteration when no change has come for so long: seconds, or a `timedelta`; None for no limit. To
                iterate over the watch again goes on from there.

        Returns:
            The watch. Its `cancel` ends it, and so does `close` of the endpoint. An iterator also ends when it is not used any
            more, as other objects do.

        Raises:
            ClosedError: The endpoint has been closed.
            RuntimeError: The system cannot start a thread.
            TypeError, ValueError: An argument is of the wrong type or out of range.
        """
        if callable(prefix):
            prefix, handler = "", prefix
        for name, value in (("prefix", prefix), ("peer", "" if peer is None else peer)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a string, got {shown(value)}")
        limit = math.inf if timeout is None else seconds("timeout", timeout)
        watch = self._engine.watches.add(prefix, peer, replay, limit)
        return watch if handler is None else watch(handler)

    # Waiting

    @asks
    def wait_for(self, predicate: Callable[[], T], timeout: float | timedelta | None = None) -> T:
        """Block until `predicate()` is true, and return what it returned.

        It is called on the caller's thread, at first and whenever something has happened: a key has changed, a peer has come or
        gone, a handler has returned; and every half a second besides. It may call any method of the node that does not wait.

        Args:
            predicate: Takes no arguments.
            timeout: Seconds, or a `timedelta`; None for no limit.

        Raises:
            ClosedError: The endpoint is closed, or was closed meanwhile.
            RuntimeError: A handler of this endpoint called this; it must not wait. Or this would have to wait in a simulation,
                where time stands still meanwhile.
            TimeoutError: It was not true in time; the error says what it returned, and who is live.
            TypeError, ValueError: An argument is of the wrong type or out of range.
        """
        if not callable(predicate):
            raise TypeError(f"predicate must be callable, got {shown(predicate)}")
        if is_async(predicate):
            raise TypeError(f"predicate must be an ordinary function, got the async function {shown(predicate)}")
        name = getattr(predicate, "__qualname__", None) or shown(predicate)
        return self._engine.watches.waits.wait(
            "wait_for", predicate, timeout, lambda found: f"{name} returned {shown(found)}; {self._who()}"
        )

    @asks
    def wait_for_key(
        self, key: str, peer: str | None = None, value: Any = ..., timeout: float | timedelta | None = None
    ) -> Any:
        """Block until a key is there, and return a copy of its value.

        Args:
            key: The key.
            peer: The id of the peer that is to have it, whether live or not, as for `get`; None for any live peer, the local
                one included, as for `values`.
            value: The JSON value that it is to have; by default any.
            timeout: Seconds, or a `timedelta`; None for no limit.

        Raises:
            ClosedError, RuntimeError: As for `wait_for`.
            TimeoutError: It was not there in time; the error says what was there instead.
            TypeError, ValueError: An argument is of the wrong type or out of range.
        """
        for name, given in (("key", key), ("peer", "" if peer is None else peer)):
            if not isinstance(given, str):
                raise TypeError(f"{name} must be a string, got {shown(given)}")
        wanted = NOTHING if value is ... else values.copied(value)
        engine = self._engine

        def look() -> tuple[Any] | None:
            with marked(), engine.lock:
                found = (
                    engine.known.values(key, live=True)
                    if peer is None
                    else [(peer, engine.known.value(engine.known.find(peer), key))]
                )
            there = [each for _, each in found if each is not NOTHING and not values.is_tombstone(each)]
            return next(((each,) for each in there if wanted is NOTHING or values.same(each, wanted)), None)

        what = (
            f"{shown(key)}{'' if peer is None else f' of {shown(peer)}'}{'' if wanted is NOTHING else f' as {shown(wanted)}'}"
        )
        there = engine.watches.waits.wait("wait_for_key", look, timeout, lambda _: f"no {what}; {self._what(key, peer)}")
        return None if there is None else values.copied(there[0])

    @asks
    def wait_for_peers(self, n: int, timeout: float | timedelta | None = None) -> list[str]:
        """Block until there are at least `n` live peers, and return their ids: those that `live` returns.

        Args:
            n: How many.
            timeout: Seconds, or a `timedelta`; None for no limit.

        Raises:
            ClosedError, RuntimeError: As for `wait_for`.
            TimeoutError: There were not so many in time; the error says who there was.
            TypeError, ValueError: An argument is of the wrong type or out of range.
        """
        check_number("n", n, int, 1, unit="peers")

        def look() -> list[str]:
            live = self.live()
            return live if len(live) >= n else []

        return self._engine.watches.waits.wait("wait_for_peers", look, timeout, lambda _: f"{n} peers wanted; {self._who()}")

    # What there is instead

    def _who(self) -> str:
        """Say who there is."""
        with marked(), self._engine.lock:
            live, known = ([peer.id for peer in self._engine.known.peers(live)] for live in (True, False))
        others = [id for id in known if id not in set(live)]
        return f"{len(live)} live: {_named(live)}" + (f"; {len(others)} dead or gone: {_named(others)}" if others else "")

    def _what(self, key: str, peer_id: str | None) -> str:
        """Say who has a key, or what a peer has."""
        if peer_id is None:
            found = self.values(key)
            have = [f"{shown(id)} has {shown(value)}" for id, value in found.items()]
            return ", ".join(have[:_NAMED] + ["..."] * (len(have) > _NAMED)) if have else self._who()
        with marked(), self._engine.lock:
            peer = self._engine.known.find(peer_id)
            value = self._engine.known.value(peer, key)
            state = "" if peer is None else peer.state
            keys = [] if peer is None else [each for each in peer.data if each not in self._engine.known.hidden(peer_id)]
        if not state:
            return f"{shown(peer_id)} is not known; {self._who()}"
        has = f"has {shown(value)}" if value is not NOTHING else f"has {_named(keys)}" if keys else "has no keys"
        return f"{shown(peer_id)} is {state} and {has}"


def _named(names: Iterable[str]) -> str:
    """Return some names as a text, "nobody" if there are none."""
    listed = [shown(name) for name in names]
    return ", ".join(listed[:_NAMED] + ["..."] * (len(listed) > _NAMED)) or "nobody"
