"""Delivery: handlers run one at a time, in the order things happened, off every lock.

Events wait in a queue. A slow handler therefore delays later events and nothing else. What bounds the queue:

* a waiting `update` or `delete` of a key gives its place to a later one of the same key, so there is at most one for each key.
  If something else has happened to that peer since, the later one waits behind that instead;
* of the rest, which nothing collapses, at most `MAX_WAITING` wait. Beyond it they are dropped, and one `OverflowedError` says
  how many.

The thread is no daemon, so that a handler is not cut off in the middle when the program ends. It only lives while there is
something to do, and a moment longer. Once the main thread has ended, a daemon takes over after the handler that runs: other
threads may go on with the program, or nothing but gossip does, and a program that never calls `close()` still ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from gossipmonger.errors import OverflowedError, report
from gossipmonger.output import Event

__all__ = ["MAX_WAITING", "Delivery"]

#: Events other than `update` and `delete` that may wait.
MAX_WAITING = 10_000

#: Seconds that the thread waits for another event before it ends.
_LINGER = 0.1


class _Waiting:
    __slots__ = ("event", "update_of")

    def __init__(self, event: Event, update_of: tuple[str, str] | None) -> None:
        self.event = event
        self.update_of = update_of


class Delivery:
    """The queue between what happens and who is told.

    Args:
        emit: Called with each event, on the delivering thread; what it raises goes to `threading.excepthook`.
        executor: Its `submit(function)` runs the deliveries, one after the other; None for a thread of its own.
    """

    def __init__(self, emit: Callable[[Event], None], executor: Any = None) -> None:
        self._emit = emit
        self._executor = executor
        self._queue: deque[_Waiting] = deque()
        self._updates: dict[str, dict[str, _Waiting]] = {}
        self._others = 0
        self._dropped = 0
        self._active = False
        self._closed = False
        self._runner: threading.Thread | None = None  # runs a handler
        self._thread: threading.Thread | None = None  # our own, the latest
        self._queue_lock = threading.Lock()  # guards all of the above but `_emit` and `_executor`, which never change
        self._changed = threading.Condition(self._queue_lock)

    @property
    def delivering(self) -> bool:
        """Whether the calling thread is the one that runs a handler right now."""
        return self._runner is threading.current_thread()

    def post(self, event: Event) -> None:
        """Queue an event; nothing runs yet. May be called under any lock."""
        with self._queue_lock:
            if self._closed:
                return
            if event.name in ("update", "delete"):
                self._post_change(event)
                return
            if self._others >= MAX_WAITING:
                self._dropped += 1
                return
            if event.name in ("new peer", "peer dead", "peer live", "peer left", "peer forgotten"):
                self._updates.pop(event.args[0].id, None)  # later values of this peer's keys go behind this event
            self._others += 1
            self._queue.append(_Waiting(event, None))

    def _post_change(self, event: Event) -> None:
        """Queue an `update` or `delete`. This requires holding `_queue_lock`."""
        assert self._queue_lock.locked()
        id, key = event.args[:2]
        updates = self._updates.setdefault(id, {})
        waiting = updates.get(key)
        if waiting is None:
            waiting = updates[key] = _Waiting(event, (id, key))
            self._queue.append(waiting)
        else:
            waiting.event = event

    def kick(self) -> None:
        """See to it that what is queued is delivered. Not to be called under a lock: an executor may run it right here."""
        with self._queue_lock:
            if self._active:
                self._changed.notify_all()
                return
            if not self._queue:
                return
            self._active = True
            thread = None
            if self._executor is None:
                thread = threading.Thread(target=self._run, name="gossipmonger-events", daemon=_main_ended())
            self._thread = thread
        try:
            if thread is None:
                self._executor.submit(self._run)
            else:
                thread.start()
        except BaseException:
            with self._queue_lock:
                self._active = False
                self._thread = None
                self._changed.notify_all()  # `close` may be waiting for a thread that never ran
            raise

    def _run(self) -> None:
        thread = threading.current_thread()
        own = self._executor is None
        while True:
            with self._queue_lock:
                self._runner = thread
                deadline = monotonic() + (_LINGER if own else 0)
                while not (self._queue or self._dropped or self._closed):
                    patience = deadline - monotonic()
                    if patience <= 0 or not self._changed.wait(patience):
                        break
                outlived = own and not thread.daemon and _main_ended()
                if outlived or not (self._queue or self._dropped):
                    self._active = False
                    self._runner = None
                    self._changed.notify_all()
                    break
                event = self._next()
            try:
                self._emit(event)
            except BaseException as error:  # nothing ends a thread, not even SystemExit out of a handler
                report(error)
        if outlived:
            self.kick()

    def _next(self) -> Event:
        """Take the next event off the queue. This requires holding `_queue_lock`."""
        assert self._queue_lock.locked()
        if self._dropped and self._others < MAX_WAITING:
            dropped, self._dropped = self._dropped, 0
            return Event("error", (OverflowedError(dropped),))
        waiting = self._queue.popleft()
        if waiting.update_of is None:
            self._others -= 1
        else:
            id, key = waiting.update_of
            updates = self._updates.get(id, {})
            if updates.get(key) is waiting:
                del updates[key]
                if not updates:
                    del self._updates[id]
        return waiting.event

    def close(self, timeout: float) -> bool:
        """Drop what waits, let the handler that runs finish, at most `timeout` milliseconds; return whether it did.

        From a handler it returns at once: that one is the last to run.
        """
        with self._queue_lock:
            self._closed = True
            self._queue.clear()
            self._updates.clear()
            self._dropped = 0
            self._changed.notify_all()
            if self.delivering:
                return True
            finished = self._changed.wait_for(lambda: not self._active, timeout / 1000)
            thread = self._thread
        if finished and thread is not None:
            thread.join()
        return finished


def _main_ended() -> bool:
    """Whether the interpreter ends as soon as the threads that are no daemons have."""
    return not threading.main_thread().is_alive()
