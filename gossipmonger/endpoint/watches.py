"""The watches of an endpoint: what happens is noted in them, and then they are woken.

Whatever changes a peer notes that in the mirror of every watch, with the engine's lock held, and wakes the watches after it has
released the lock. What a watch does then is its own affair: see `Watch`.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from gossipmonger.endpoint.dispatcher import Dispatcher
from gossipmonger.endpoint.mirror import Change, Mirror, notes
from gossipmonger.endpoint.waits import Waits
from gossipmonger.endpoint.watch import Watch
from gossipmonger.errors import ClosedError
from gossipmonger.process import marked
from gossipmonger.protocol import Output
from gossipmonger.state import values

if TYPE_CHECKING:
    from gossipmonger.endpoint.engine import Engine

__all__ = ["Watches"]


class Watches:
    """The watches of one endpoint.

    * In, with the engine's lock held: `note`, `note_own`, `note_keys`, `note_failure`; and then, without it: `wake`
    * Out: `take`, `in_handler`
    * Life: `add`, `keep`, `forget`, `end`, `wait_for_handlers`

    Args:
        engine: Knows the peers.
        dispatcher: Delivers errors.
        executor: Its `submit(function)` calls handlers; None for a thread for each.

    Attributes:
        dispatcher, executor: As above.
        waits: The callers that wait; they are woken by whatever happens.
        followers: Whoever is to be told of what happens: returns the watch, or None for a caller that waits. Read only.
        news: Whether something has happened since the last `wake`. Read only.
    """

    def __init__(self, engine: Engine, dispatcher: Dispatcher, executor: Any) -> None:
        self._engine = engine
        self.dispatcher = dispatcher
        self.executor = executor
        self.followers: dict[object, Callable[[], Watch | None]] = {}  # weak: an iterator that its caller drops is gone
        self.news: bool = False
        self._numbers = itertools.count()
        self._kept: dict[int, Watch] = {}  # those with handlers, which nobody has to keep
        self._ended: list[Watch] = []
        self._closed = False
        self._thread = threading.local()
        self.waits: Waits = Waits(engine)

    # Life

    def add(self, prefix: str, peer_id: str | None, replay: bool, timeout: float) -> Watch:
        """Return a new watch; what happens from now on is noted in it.

        Raises:
            ClosedError: The endpoint has been closed.
        """
        number = next(self._numbers)
        with marked(), self._engine.lock:
            if self._closed or self._engine.closed:
                raise ClosedError("watch: this endpoint has been closed")
            watch = Watch(self, self._engine, number, Mirror(self._engine, prefix, peer_id, replay), timeout)
            self.followers[number] = weakref.ref(watch)
        return watch

    def keep(self, watch: Watch) -> None:
        """Let a watch live until it ends, as one with a handler does."""
        self._kept[watch._number] = watch

    def forget(self, watch: Watch) -> None:
        """Note nothing in a watch any more, which has ended."""
        self.followers.pop(watch._number, None)
        self._kept.pop(watch._number, None)

    def end(self) -> None:
        """End all watches, and let all that wait look again."""
        with marked(), self._engine.lock:
            self._closed = True
        self._ended = self._watches()
        for watch in self._ended:
            watch.cancel()
        self.waits.ring()

    def wait_for_handlers(self, timeout: float) -> bool:
        """Wait for the handlers of watches that `end` has ended; return whether all returned within so many seconds."""
        deadline = monotonic() + timeout
        return not [watch for watch in self._ended if not watch._wait_for_handler(max(0.0, deadline - monotonic()))]

    def _watches(self) -> list[Watch]:
        found = [(key, find, find()) for key, find in [*self.followers.items()]]
        for key, find, watch in found:
            if watch is None and isinstance(find, weakref.ref):
                self.followers.pop(key, None)  # a callback of the reference would run wherever the watch goes
        return [watch for _, _, watch in found if watch is not None]

    def after_fork(self, started: bool) -> None:
        """In the child of a fork: start handlers' threads anew if the node has not been started; otherwise end them."""
        for watch in self._watches():
            watch._after_fork(started)

    # In

    def note(self, output: Output) -> None:
        """Note what has happened. This requires holding the engine's lock."""
        noted = notes(output)
        if noted:
            self._note(lambda mirror: mirror.note(noted))

    def note_own(self, key: str) -> None:
        """Note that the local peer's key has been written. This requires holding the engine's lock."""
        self._note(lambda mirror: mirror.note_own(key))

    def note_keys(self, keys: Collection[tuple[str, str]]) -> None:
        """Note that these keys, each with its peer's id, are hidden or shown. This requires holding the engine's lock."""
        if keys:
            self._note(lambda mirror: mirror.note_keys(keys))

    def note_failure(self) -> None:
        """Note that anything may have happened, since a step has failed. This requires holding the engine's lock."""
        self._note(Mirror.note_all)

    def _note(self, note: Callable[[Mirror], None]) -> None:
        """Note something in every watch. This requires holding the engine's lock."""
        self.news = True
        for watch in self._watches():
            note(watch._mirror)

    def wake(self) -> None:
        """Get told what has happened. No lock may be held: an executor may call handlers right here."""
        self.news = False  # first: what happens from now on is told to those that are woken now, or sets this again
        for watch in self._watches():
            if watch._mirror.pending:
                watch._wake()
        self.waits.ring()

    # Out

    def take(self, watch: Watch) -> list[Change]:
        """Return some of what a watch has to tell, with copies of the values; nothing if that is all."""
        if not watch._mirror.pending:
            return []
        with marked(), self._engine.lock:
            self._engine.mend()
            changes = watch._mirror.take()
        return [Change(id, key, values.copied(value), kind) for id, key, value, kind in changes]

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Mark the calling thread as one that runs a handler, meanwhile."""
        depth = getattr(self._thread, "depth", 0)
        self._thread.depth = depth + 1
        try:
            yield
        finally:
            self._thread.depth = depth

    @property
    def in_handler(self) -> bool:
        """Whether the calling thread runs a handler of this endpoint."""
        return self.dispatcher.delivering or getattr(self._thread, "depth", 0) > 0
