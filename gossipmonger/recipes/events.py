"""Events: what one node emits, handlers at all nodes are told, once each and in order.

    events = Events(node)

    @events.on("deployed")
    def deployed(event):
        print(event.peer_id, "deployed", event.payload)

    events.emit("deployed", {"version": 7})

Each event is a key of its emitter for a while, `event:NAME/LIFE/NUMBER`, which holds `[name, payload]`. Keys of one node
arrive in the order of their writes, and numbers rise, so a handler needs to know only the last number of each life that it was
told of.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar, overload

from gossipmonger import Change, Gossipmonger, RemotePeer, Watch
from gossipmonger.recipes._recipe import Recipe, Turns, check_string

__all__ = ["Event", "Events"]

_log = logging.getLogger("gossipmonger")


class Event(NamedTuple):
    """What was emitted.

    Attributes:
        name: Its name.
        payload: What came with it; a copy.
        peer_id: The node that emitted it.
        id: Names this event, and no other, at all nodes.
    """

    name: str
    payload: Any
    peer_id: str
    id: str


_Handler = Callable[[Event], object]
_H = TypeVar("_H", bound=_Handler)


class Events(Recipe):
    """Emits events to all nodes, and tells handlers of those of all nodes, this one included.

    An event reaches every node that is there, or that comes or returns within the ttl; and it outlives its emitter for that
    long, also if that leaves at once. A handler is told of each event once, and of those of one emitter in the order in which
    it emitted them. Events of different emitters have no order.

    Limits:

    * "Once" is for the life of a program: one that restarts within the ttl is told again of what its former life has heard.
      `Event.id` is the same then, for a program that keeps the ids of those it has done with.
    * When an emitter restarts, what its former life emitted within the last moments, and has not reached a node yet, is lost.
      So is what it emitted right before it was killed.
    * A node without a handler keeps the events all the same. All events of the last `ttl` seconds are in every node's memory,
      so this suits some events a second. For a stream of data, use a queue.

    Args:
        node: The node, started or not.
        name: Which events; nodes share them if they call them the same. A node has one of each name.
        ttl: Seconds, or a `timedelta`, for which events are kept for those that are away.

    Raises:
        ClosedError: The node has been closed.
        TypeError, ValueError: An argument is of the wrong type or out of range, or the name is in use at this node.
    """

    def __init__(self, node: Gossipmonger, name: str = "events", *, ttl: float | timedelta = 60.0) -> None:
        super().__init__(node, "event", name, ttl=ttl)
        self._turns = Turns(node)
        self._number = 0
        self._subscriptions: list[_Subscription] = []

    def emit(self, name: str, payload: Any = None) -> None:
        """Emit an event. May be called from any thread and from any handler.

        Args:
            name: Its name.
            payload: A JSON value; it is copied.

        Raises:
            ClosedError: This or the node has been closed.
            TypeError, ValueError: The name is not a string, JSON has no form for the payload, or no message has room for it.
        """
        self._check_open("emit")
        check_string("name", name)
        self._turns.take(partial(self._emit, name, payload))

    def _emit(self, name: str, payload: Any) -> None:
        self._put(f"{self._prefix}{self._life}/{self._number + 1}", [name, payload], self._lasting)
        self._number += 1

    @overload
    def on(self, name: str | None = None) -> Callable[[_H], _H]: ...
    @overload
    def on(self, name: str | None, handler: _H) -> _H: ...

    def on(self, name: str | None = None, handler: Any = None) -> Any:
        """Call a handler at each event of a name, or decorate a function with this. It is told first of what there is.

        It is called for one event at a time: on the node's thread for events; on a thread of its own for what this node emits;
        and before `on` returns, on the caller's thread, for what other nodes have emitted within the ttl before. A slow
        handler therefore delays all other events of the node. An exception in it is an `error` event. It is called no more
        once it has returned False, or after `close`.

        Args:
            name: The name; None for all events.
            handler: Called with each `Event`.

        Returns:
            The handler, or the decorator.

        Raises:
            ClosedError: This or the node has been closed.
            RuntimeError: The system cannot start a thread.
            TypeError: The name is not a string, or the handler cannot be called.
        """
        if name is not None:
            check_string("name", name)
        return self._handle("on", handler, partial(self._subscribe, name))

    def _subscribe(self, name: str | None, handler: Any) -> Any:
        subscription = _Subscription(self, name, handler)
        self._subscriptions.append(subscription)
        subscription.begin()
        return handler

    def _let_go(self) -> None:
        for subscription in [*self._subscriptions]:
            subscription.end()


class _Subscription:
    """One handler, and what it was told of."""

    def __init__(self, events: Events, name: str | None, handler: _Handler) -> None:
        self._events = events
        self._name = name
        self._handler = handler
        self._ended = False
        self._watch: Watch | None = None
        self._told: dict[str, dict[int, tuple[int, float]]] = {}  # peer id -> life -> the last number, and when it was told
        self._queue: deque[tuple[str, int, int, Event]] = deque()
        self._turn = threading.Lock()  # held by whoever calls the handler; nobody waits for it

    def begin(self) -> None:
        """Tell of what there is, and from then on of what comes. What comes meanwhile waits, and is told once."""
        events, node = self._events, self._events.node
        with self._turn:
            node.on("update", self._updated)
            node.on("peer forgotten", self._forgotten)
            self._watch = events._follow(events._prefix, self._changed, events._id, replay=False)
            keys = [(peer.id, *item) for peer in node.peers().values() if peer.id != events._id for item in peer.data.items()]
            there = [self._read(*each) for each in keys]
            found = sorted((each for each in there if each is not None), key=lambda each: each[:3])
            self._queue.extendleft(reversed(found))
        self._tell()

    def end(self) -> None:
        """Call the handler no more."""
        self._ended = True
        events = self._events
        events._off("update", self._updated)
        events._off("peer forgotten", self._forgotten)
        if self._watch is not None:
            self._watch.cancel()
        if self in events._subscriptions:
            events._subscriptions.remove(self)

    def _updated(self, peer_id: str, key: str, value: Any) -> None:
        found = self._read(peer_id, key, value)
        if found is not None and not self._ended:
            self._queue.append(found)
            self._tell()

    def _changed(self, change: Change) -> None:
        if change.kind == "set":
            self._updated(*change[:3])

    def _read(self, peer_id: str, key: str, value: Any) -> tuple[str, int, int, Event] | None:
        """Return the emitter, its life, the number and the event that a key holds; None if it is something else."""
        prefix = self._events._prefix
        if not key.startswith(prefix) or type(value) is not list or len(value) != 2 or type(value[0]) is not str:
            return None
        life, _, number = key[len(prefix) :].partition("/")
        if self._name not in (None, value[0]) or not (_is_number(life) and _is_number(number)):
            return None
        return peer_id, int(life), int(number), Event(value[0], value[1], peer_id, f"{peer_id}/{life}/{number}")

    def _tell(self) -> None:
        """Tell the handler what is queued, unless another thread does that, or this one, further up."""
        failure: Exception | None = None
        while self._queue and self._turn.acquire(blocking=False):
            try:
                while self._queue and not self._ended:
                    self._call(*self._queue.popleft())
                if self._ended:
                    self._queue.clear()
            except Exception as error:
                if failure is not None:
                    _log.error("another handler of %r failed", self._events, exc_info=failure)
                failure = error
            finally:
                self._turn.release()
        if failure is not None:
            raise failure

    def _call(self, peer_id: str, life: int, number: int, event: Event) -> None:
        now = self._events.node.options.clock()
        lives = self._told.setdefault(peer_id, {})
        if life not in lives:  # former lives are over, as soon as the last of their events are
            for former in [former for former, (_, when) in lives.items() if now - when > 2000 * self._events._lasting]:
                del lives[former]
        elif number <= lives[life][0]:
            return
        lives[life] = number, now
        if self._handler(event) is False:
            self.end()

    def _forgotten(self, peer: RemotePeer) -> None:
        """Forget a peer, unless it may come back with events that were told already."""
        lives, now = self._told.get(peer.id, {}), self._events.node.options.clock()
        if all(now - when > 2000 * self._events._lasting for _, when in [*lives.values()]):
            self._told.pop(peer.id, None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 16
