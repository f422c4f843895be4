"""The dispatcher: calls handlers one at a time, in the order in which things happened, with no lock held.

Events wait in a queue, so a slow handler delays later events and nothing else. Two rules bound the queue:

* A waiting `update` or `delete` of a key is replaced by a later one of the same key, so at most one waits for each key. If
  something else has happened to that peer in between, the later one waits behind that instead.
* At most `MAX_WAITING` other events wait. Beyond that they are dropped, and one `OverflowedError` says how many.

A `Worker` calls them. Its thread is started with the node, and stays until `close`.

What a handler raises becomes an `error` event. An error without a handler is logged, or raised to the caller if the caller's
own call failed. Lines of the log about what happens wait in the same queue.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from pyee.base import EventEmitter

from gossipmonger.endpoint.events import refuse_coroutine
from gossipmonger.endpoint.log import LOG, Log
from gossipmonger.endpoint.worker import Worker
from gossipmonger.errors import OverflowedError, release, report
from gossipmonger.process import Times, fresh, here, marked
from gossipmonger.protocol import Dial, Event, Send
from gossipmonger.state import values
from gossipmonger.wire import as_dicts, as_lists

__all__ = ["MAX_WAITING", "Dispatcher"]

#: Events other than `update` and `delete` that may wait.
MAX_WAITING = 10_000

#: Events after which a later value of one of the peer's keys must not take an earlier one's place in the queue.
_PEER_EVENTS = dict.fromkeys(("new peer", "peer live", "peer dead", "peer left", "peer forgotten"), 0)

#: Events that show what was sent and received, and what turns that into the lists and dicts that handlers are given. Those are
#: made only if there is a handler.
_SHOWN: Mapping[str, Callable[[Any], list[Any]]] = {
    "digest receive": as_dicts,
    "digest send": as_dicts,
    "deltas receive": as_lists,
    "deltas send": as_lists,
}


@dataclass(eq=False, slots=True)
class _Queued:
    event: Event
    change_of: tuple[str, str] | None  # the peer's id and the key of an `update` or `delete`


class Dispatcher:
    """The queue between what happens and the handlers of it.

    * In: `post` and `kick`, or `tell`; `fail` and `fail_or_raise` for an error
    * Out: `run`, through which the emitter calls each handler, and `delivering`
    * Life: `start`, `close`, `after_fork`

    Args:
        emitter: Knows the handlers. Its `_emit_run` has to call `run`.
        executor: Its `submit(function)` calls handlers, one after the other; None for the thread `gossipmonger-events`.
        id: The node's id, for the log.

    Attributes:
        log: Makes the lines to be logged.
        transitions: How often each event of a peer's life has happened.
        handled: How long each call of a handler took.
    """

    def __init__(self, emitter: EventEmitter, executor: Any = None, id: str = "") -> None:
        self._emitter = emitter
        self.transitions: dict[str, int] = dict(_PEER_EVENTS)  # changes under the engine's lock
        self.handled: Times = Times()
        self.log: Log = Log(id, lambda: bool(emitter.listeners("error")))
        self._queue: deque[_Queued] = deque()
        self._changes: dict[str, dict[str, _Queued]] = {}  # peer id -> key -> the one that a later change replaces
        self._others = 0
        self._dropped = 0
        self._current = ""  # the name of the event that is being delivered
        self._queue_lock = threading.Lock()  # guards the five above: they are written only while it is held
        self._worker = Worker("gossipmonger-events", executor, self._is_pending, self._work)

    # In

    def post(self, output: Sequence[Dial | Event | Send]) -> None:
        """Queue the events of an output that have handlers or are logged. Nothing runs before `kick`; any lock may be held."""
        heard: Collection[str] | None = None
        events: list[Event] = []
        transitions = self.transitions
        for item in output:
            if type(item) is Event:
                heard = self._emitter.event_names() if heard is None else heard
                name = item.name
                if name in transitions:
                    transitions[name] += 1
                    wanted = self.log.wants(item)
                else:
                    wanted = name in ("error", LOG)
                if wanted or name in heard:
                    events.append(item)
        if events:
            with marked(), self._queue_lock:
                for event in events if not self._worker.ended else ():
                    self._enqueue(event)

    def _enqueue(self, event: Event) -> None:
        """Queue one event. This requires holding `_queue_lock`."""
        assert self._queue_lock.locked()
        name, args = event
        if name in ("update", "delete"):
            id, key = args[:2]
            changes = self._changes.setdefault(id, {})
            waiting = changes.get(key)
            if waiting is not None:
                waiting.event = event
                return
            changes[key] = queued = _Queued(event, (id, key))
            self._queue.append(queued)
            return
        if self._others >= MAX_WAITING:
            self._dropped += 1
            return
        if name in _PEER_EVENTS:
            self._changes.pop(args[0].id, None)  # later changes of this peer's keys go behind this event
        self._others += 1
        self._queue.append(_Queued(event, None))

    def kick(self) -> None:
        """Have queued events delivered: see `Worker.wake`."""
        if self._queue:
            self._worker.wake()

    def start(self) -> None:
        """Start the thread that calls handlers: see `Worker.start`."""
        self._worker.start()

    def fail(self, error: Exception) -> None:
        """Deliver an error to `error` handlers, or else to the log. It holds no data any more."""
        self.tell([Event("error", (release(error),)), *self.log.fails(error)])

    def tell(self, events: Sequence[Event]) -> None:
        """Deliver events that do not come from the protocol. The caller holds no lock, or interrupts a call that does."""
        thread = here()
        if events and not (thread.marked and thread.defer(object(), partial(self.tell, events))):
            self.post(events)
            self.kick()

    def fail_or_raise(self, error: Exception) -> None:
        """Deliver an error to `error` handlers; raise it if there are none."""
        if not self._emitter.listeners("error"):
            raise error
        self.fail(error)

    # Out

    def _is_pending(self) -> bool:
        return bool(self._queue or self._dropped)

    def _work(self) -> bool:
        """Deliver the next event."""
        with marked(), self._queue_lock:
            if not self._is_pending():
                return True  # closed meanwhile
            event = self._next()
            self._current = event.name
        self._deliver(event)
        return True

    def _next(self) -> Event:
        """Take the next event off the queue. This requires holding `_queue_lock`."""
        assert self._queue_lock.locked()
        if self._dropped and self._others < MAX_WAITING:
            dropped, self._dropped = self._dropped, 0
            return Event("error", (OverflowedError(dropped),))
        queued = self._queue.popleft()
        if queued.change_of is None:
            self._others -= 1
        else:
            id, key = queued.change_of
            changes = self._changes.get(id, {})
            if changes.get(key) is queued:
                del changes[key]
                if not changes:
                    del self._changes[id]
        return queued.event

    def _deliver(self, event: Event) -> None:
        name, args = event
        self.log.event(event)
        if name == LOG:
            return
        if name == "error" and not self._emitter.listeners("error"):
            self.log.report(args[0])
        elif name == "update":
            id, key, value = args
            self._emitter.emit(name, id, key, values.copied(value))
        elif name in _SHOWN:
            remote_peer, carried = args
            self._emitter.emit(name, remote_peer, values.copied(_SHOWN[name](carried)))
        else:
            self._emitter.emit(name, *args)

    @property
    def waiting(self) -> int:
        """How many events wait for handlers."""
        return len(self._queue)

    @property
    def delivering(self) -> bool:
        """Whether the calling thread is the one that calls handlers right now."""
        return self._worker.current

    def run(self, handler: Callable[..., Any], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Call one handler. While events are delivered, what it raises becomes an `error` event, so other handlers still run.

        A handler that a caller's own `emit` reaches raises to that caller.
        """
        if not self.delivering:
            refuse_coroutine("an event", handler(*args, **keywords))
            return
        began = perf_counter()
        try:
            returned = handler(*args, **keywords)
            if returned is not None:
                refuse_coroutine(self._current, returned)
        except BaseException as error:  # not even SystemExit keeps the next handler from its event
            if self._current == "error" or not isinstance(error, Exception):
                report(error)
            else:
                self.tell([Event("error", (error,))])  # with its traceback and all that it holds, which is the program's own
        finally:
            self.handled.add(perf_counter() - began)

    # Life

    def close(self, timeout: float) -> bool:
        """Drop what waits, and let the current handler finish.

        Args:
            timeout: Seconds to wait for that handler. From a handler this returns at once: that handler is the last to run.

        Returns:
            Whether the handler finished.
        """
        self._worker.end()
        with marked(), self._queue_lock:
            self._queue.clear()
            self._changes.clear()
            self._dropped = 0
        return self._worker.wait(timeout)

    def after_fork(self, started: bool) -> None:
        """In the child of a fork: deliver nothing any more, or begin afresh if the node has not been started."""
        self._queue_lock = fresh(self._queue_lock)
        self._worker.after_fork(started)
