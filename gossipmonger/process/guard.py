"""The guard: what becomes of a call that interrupts another one on the same thread.

A signal handler, a finalizer, a weakref callback or a trace function runs between any two steps of what its thread is doing,
perhaps while that holds a lock. To wait for the lock there is to wait for ever. One invariant prevents that:

    a thread is marked whenever it may hold a lock of this package, and at no other time.

So every lock is taken in one way, `with marked(), self._some_lock:`. Both are objects of the interpreter's own, so a signal
handler that raises cannot leave either of them held. No handler runs, no message is sent and nobody waits while a lock is held.
A call that interrupts a thread there finds it unmarked, and does its work like a call of any other thread.

On a marked thread, a public call takes no lock. What changes something is deferred (`Here.defer`), and done by the interrupted
call before it returns. What asks for something raises `ReentrantError`. Deferred calls keep their order: while one waits, later
ones wait behind it, whether the thread is marked or not.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

__all__ = ["Here", "here", "marked"]

#: Deferred calls that one call does for those that interrupted it. A trace function can make new ones for ever.
_MOST = 64

#: How often a deferred call is tried that a signal handler cuts short by an exception.
_TRIES = 3

_threads = threading.local()


@dataclass(eq=False, slots=True)
class _Waiting:
    key: Hashable
    function: Callable[[], object]
    tries: int = 0


class Here:
    """What the package knows of one thread. Only that thread uses it, so it needs no lock; calls that interrupt it may.

    Attributes:
        mark: Held by the thread whenever it may hold a lock.
        deferred: Calls that wait until the thread is not marked any more.
        own: Whether this is a thread of the package's that everything else waits for, so that it must not wait itself.
        held: Locks that it holds while it forks.
    """

    __slots__ = ("_latest", "_settling", "deferred", "held", "mark", "own")

    def __init__(self) -> None:
        self.mark: Any = threading.RLock()
        self.deferred: deque[_Waiting] = deque()
        self.own: bool = False
        self.held: list[Any] = []
        self._latest: dict[Hashable, _Waiting] = {}  # of those that wait and may be replaced
        self._settling = threading.Lock()  # held while deferred calls are made, so it too is let go of whatever happens

    @property
    def marked(self) -> bool:
        """Whether the thread may hold a lock."""
        marked: bool = self.mark._is_owned()
        return marked

    def defer(self, key: Hashable, function: Callable[[], object], *, replace: bool = False) -> bool:
        """Let a call wait if the thread is marked, or if others wait already.

        Args:
            key: What it does. A call that would do the same as the last one that waits is left out.
            function: The call, which should handle what it raises.
            replace: Whether it takes the place of one with the same key, wherever that waits, as an update of a key does.

        Returns:
            Whether it waits, or has waited and is done. If not, the caller makes the call.
        """
        if not self.deferred and not self.mark._is_owned():
            return False
        former = self._latest.get(key)
        if former is not None:
            former.function = function
        elif replace or not self.deferred or self.deferred[-1].key != key:
            waiting = _Waiting(key, function)
            if replace:
                self._latest[key] = waiting
            else:
                self._latest.clear()  # nothing moves ahead of it
            self.deferred.append(waiting)
        self.settle()
        return True

    def settle(self) -> None:
        """Make the deferred calls, in their order, unless the thread is marked, or is at it.

        Whatever calls into the package does this at its end; the package's own threads do it before they block.
        """
        failure: BaseException | None = None
        for _ in range(_MOST):
            if not self.deferred or self.mark._is_owned() or self._settling.locked():
                break
            try:
                with self._settling:
                    self._make_first()
            except BaseException as error:  # out of a signal handler: the call is repeated, for its caller relies on it
                failure = failure or error
        if failure is not None:
            raise failure

    def _make_first(self) -> None:
        """Make the first call that waits. It stays there until it is done, so that later ones wait behind it."""
        if not self.deferred:  # a call that has interrupted this one has made it
            return
        first = self.deferred[0]
        if self._latest.get(first.key) is first:
            del self._latest[first.key]  # from now on it can't be replaced
        first.tries += 1
        if first.tries <= _TRIES:
            first.function()
        self.deferred.popleft()


def here() -> Here:
    """Return what is known of the calling thread."""
    try:
        found: Here = _threads.here
    except AttributeError:
        found = _threads.__dict__.setdefault("here", Here())
    return found


def marked() -> Any:
    """Return the calling thread's mark, which is held around every lock."""
    try:
        return _threads.here.mark
    except AttributeError:
        return here().mark
