"""One watch: tells one handler, or one caller that iterates, what has changed, at a pace of its own.

It takes some changes from its mirror, with the engine's lock held, and tells them with no lock held. It takes more only when it
has told all of these. So a slow handler delays nobody else, and what waits for it is never more than the state.

A handler has a thread of its own, which is started with the watch and ends with it. The option `executor` takes that thread's
place: it is given a function to call whenever there is something to tell, one at a time for each watch. An iterator needs
neither, since its caller fetches what there is.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, overload

from gossipmonger.endpoint.calls import asks
from gossipmonger.endpoint.dispatcher import submit
from gossipmonger.endpoint.events import refuse_coroutine
from gossipmonger.endpoint.mirror import Change, Mirror
from gossipmonger.errors import report
from gossipmonger.process import Bell, Latch, fresh, here, join, marked
from gossipmonger.state.arguments import seconds

if TYPE_CHECKING:
    from gossipmonger.endpoint.engine import Engine
    from gossipmonger.endpoint.watches import Watches

__all__ = ["Watch"]

_Handler = Callable[[Change], object]


class Watch(Iterator[Change]):
    """What `Gossipmonger.watch` returns: it tells a handler of changes, or whoever iterates over it.

    * With a handler, or as the decorator of one: calling the watch then calls the handler
    * Without: iterate over it, or call `next`; one change goes to one of its iterators
    * The end: `cancel`, `active`
    """

    def __init__(self, watches: Watches, engine: Engine, number: int, mirror: Mirror, timeout: float) -> None:
        self._watches = watches
        self._engine = engine
        self._number = number
        self._mirror = mirror
        self._timeout = timeout
        self._handler: _Handler | None = None
        self._batch: deque[Change] = deque()  # what an iterator has taken and not returned yet
        self._turn_lock = threading.Lock()  # guards the batch
        self._bell = Bell()  # wakes our own thread, or an iterator
        self._ended = False
        self._finished = Latch()  # set when the handler does not run any more after the end
        self._thread: threading.Thread | None = None  # our own
        self._task: object = None  # by which the executor has been asked to tell; None if it need not, or has
        self._runner: threading.Thread | None = None  # calls the handler now
        self._watch_lock = threading.Lock()  # guards the three above: they are written only while it is held

    def __repr__(self) -> str:
        how = "iterator" if self._handler is None else f"handler {getattr(self._handler, '__qualname__', self._handler)}"
        return f"Watch({how}{'' if self.active else ', ended'})"

    # Handlers

    @overload
    def __call__(self, given: _Handler) -> Watch: ...
    @overload
    def __call__(self, given: Change) -> object: ...

    def __call__(self, given: Any) -> Any:
        """Begin to call this handler, and return the watch, which takes the handler's place; or call the handler with a change.

        Raises:
            ClosedError: The endpoint has been closed.
            RuntimeError: The watch has ended, or the system cannot start a thread.
            TypeError: The handler cannot be called, or is an `async def`.
        """
        if self._handler is not None:
            return self._handler(given)
        self._watches.begin(self, given)
        return self

    def _begin(self, handler: _Handler) -> None:
        """Let a handler be called from now on. Raises RuntimeError if the system cannot start a thread."""
        self._handler = handler
        if self._watches.executor is None:
            self._start()
        self._wake()

    def _start(self) -> None:
        with marked(), self._watch_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="gossipmonger-watch", daemon=True)  # as for events
                self._thread.start()

    def _wake(self) -> None:
        """Get told what there is to tell. No lock may be held: an executor may call the handler right here."""
        try:
            if self._handler is not None and self._watches.executor is not None:
                submit(self, self._watches.executor, self._watch_lock, lambda: not self._ended)
                return
            if self._handler is not None and self._thread is None:  # this is the child of a fork
                self._start()
            self._bell.ring()
        except Exception as error:  # what there is to tell waits for the next time
            report(error)

    def _serve(self) -> None:
        """Tell the handler whatever there is to tell, until this ends: the thread's work."""
        while not self._ended:
            self._bell.wait()
            self._tell()

    def _work(self) -> None:
        """Tell the handler what there is to tell: the executor's work."""
        goes_on = True
        while goes_on:
            goes_on = self._tell()
            with marked(), self._watch_lock:
                goes_on = goes_on and self._mirror.pending and not self._ended
                if not goes_on:
                    self._task = None

    def _tell(self) -> bool:
        """Tell the handler what there is to tell; return whether nothing has failed."""
        try:
            while self._handler is not None and (changes := self._watches.take(self)):
                for change in changes:
                    if not self._call(self._handler, change):
                        return True
            here().settle()
        except Exception as error:  # the storage's; what there is to tell waits for the next time
            self._engine.fail(error)
            return False
        except BaseException as error:  # nothing ends this thread
            report(error)
            return False
        return True

    def _call(self, handler: _Handler, change: Change) -> bool:
        """Call the handler, unless the watch has ended; return whether it goes on."""
        with marked(), self._watch_lock:
            if self._ended:
                return False
            self._runner = threading.current_thread()
        returned: object = None
        began = perf_counter()
        try:
            with self._watches.handling():
                returned = handler(change)
                refuse_coroutine("watch", returned)
        except Exception as error:
            self._engine.fail(error)
        except BaseException as error:  # not even SystemExit keeps it from the next change
            report(error)
        finally:
            self._watches.dispatcher.handled.add(perf_counter() - began)
            with marked(), self._watch_lock:
                self._runner = None
            if not self.active:
                self._finished.set()
        if returned is False:
            self.cancel()
        self._watches.waits.ring()  # who waits may go by what the handler has done
        return self.active

    # Iterators

    def __iter__(self) -> Watch:
        """Return the watch itself."""
        return self

    def __next__(self) -> Change:
        """Return the next change; the iteration is over when none comes within the watch's timeout, or the watch has ended."""
        change = self.next(self._timeout)
        if change is None:
            raise StopIteration
        return change

    @asks
    def next(self, timeout: float | timedelta | None = None) -> Change | None:
        """Return the next change, or None: if none comes in time, or the watch has ended.

        Args:
            timeout: Seconds, or a `timedelta`; None for no limit; 0 to take only what is there.

        Raises:
            RuntimeError: The watch has a handler. Or it would have to wait in a handler, or in a simulation.
            TypeError, ValueError: The timeout is neither, or negative.
        """
        deadline = monotonic() + (math.inf if timeout is None else seconds("timeout", timeout))
        if self._handler is not None:
            raise RuntimeError("this watch has a handler, which is told of each change; one without a handler is an iterator")
        while not self._ended:
            with marked(), self._turn_lock:
                if not self._batch:
                    self._batch.extend(self._watches.take(self))
                if self._batch:
                    change = self._batch.popleft()
                    if self._batch:
                        self._bell.ring()  # for another thread that waits for the same watch
                    return change
            left = deadline - monotonic()
            if left <= 0:
                return None
            self._watches.waits.refuse_handler("watch")
            self._watches.waits.pause("watch", self._bell, left)
        self._bell.ring()  # so does this
        return None

    # The end

    @property
    def active(self) -> bool:
        """Whether there may be more to come."""
        return not self._ended

    def cancel(self) -> None:
        """End the watch. A call of the handler that is under way goes on, and is the last one. May be called from anywhere."""
        self._ended = True
        self._watches.forget(self)
        self._bell.ring()

    def _wait_for_handler(self, deadline: float) -> bool:
        """Wait until the handler of a watch that has ended has returned, and the thread has ended; return whether it has."""
        with marked(), self._watch_lock:
            runner, thread = self._runner, self._thread
        if runner is threading.current_thread():
            return True  # it is the handler that asks
        returned = runner is None or self._finished.wait(max(0.0, deadline - monotonic()))
        if returned:
            join(thread, max(0.0, deadline - monotonic()))
        return returned

    def _after_fork(self) -> None:
        """Begin afresh, in the child of a fork: there are no threads in it."""
        self._turn_lock, self._watch_lock = fresh(self._turn_lock), fresh(self._watch_lock)
        self._thread = self._task = self._runner = None
