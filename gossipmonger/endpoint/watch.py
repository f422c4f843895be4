"""One watch: tells one handler, or one caller that iterates, what has changed, at a pace of its own.

It takes some changes from its mirror, with the engine's lock held, and tells them with no lock held. It takes more only when it
has told all of these. So a slow handler delays nobody else, and what waits for it is never more than the state.

A handler is called by a `Worker` of its own, which begins and ends with the watch. An iterator needs none, since its caller
fetches what there is.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, overload

from gossipmonger.endpoint.calls import asks
from gossipmonger.endpoint.events import check_handler, refuse_coroutine
from gossipmonger.endpoint.mirror import Change, Mirror
from gossipmonger.endpoint.worker import Worker
from gossipmonger.errors import ClosedError, ReentrantError, report
from gossipmonger.process import Bell, fresh, here, marked
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
        self._worker: Worker | None = None  # calls the handler
        self._batch: deque[Change] = deque()  # what was taken and not told yet
        self._turn_lock = threading.Lock()  # guards the batch of an iterator
        self._bell = Bell()  # wakes an iterator
        self._ended = False

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
        check_handler("watch", given)
        if here().marked:
            raise ReentrantError("watch")
        if self._engine.closed:
            raise ClosedError("watch: this endpoint has been closed")
        self._watches.keep(self)
        try:
            self._worker = Worker("gossipmonger-watch", self._watches.executor, self._is_pending, partial(self._tell, given))
            if not self.active:  # from now on, whoever ends the watch ends its worker too
                raise RuntimeError("watch: this watch has been cancelled")
            self._handler = given
            self._worker.start()
            self._wake()
        except BaseException:
            self.cancel()
            raise
        return self

    def _wake(self) -> None:
        """Have pending changes told. No lock may be held: an executor may call the handler right here."""
        if self._worker is None:
            self._bell.ring()
        else:
            self._worker.wake()

    def _is_pending(self) -> bool:
        return bool(self._batch) or self._mirror.pending

    def _tell(self, handler: _Handler) -> bool:
        """Tell the handler the next change; return False if the storage has failed, so that the changes have to wait."""
        try:
            if not self._batch:
                self._batch.extend(self._watches.take(self))
        except Exception as error:
            self._engine.fail(error)
            return False
        except BaseException as error:
            report(error)
            return False
        if self._batch:
            self._call(handler, self._batch.popleft())
        return True

    def _call(self, handler: _Handler, change: Change) -> None:
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
        if returned is False:
            self.cancel()
        self._watches.waits.ring()  # who waits may go by what the handler has done

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
        if self._worker is not None:
            self._worker.end()

    def _wait_for_handler(self, timeout: float) -> bool:
        """Wait until the handler of a watch that has ended has returned, and the thread has ended; return whether it has."""
        return self._worker is None or self._worker.wait(timeout)

    def _after_fork(self, started: bool) -> None:
        """Begin afresh, in the child of a fork, if the node has not been started."""
        self._turn_lock = fresh(self._turn_lock)
        if self._worker is not None:
            self._worker.after_fork(started)
