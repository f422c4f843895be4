"""Forks: what becomes of the copies that a child process has of everything here.

The child has the parent's objects and descriptors, but only the thread that forked. So sockets that the package made are closed
at once: with them, the child would keep a port or a connection open that the parent closes. Locks may be held by threads that
are not there; whatever has not been started yet, and may be used in the child, gets new ones. What has been started is inert
in the child from then on.

A socket is made and noted under one lock, `own`, that a fork waits for, so no fork comes between the two.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from gossipmonger.process.guard import here, marked

__all__ = ["after_fork", "fresh", "own", "renew"]

#: Seconds that a fork waits for a lock. Nobody holds one for so long, except for a storage that blocks.
_PATIENCE = 1.0

Made = TypeVar("Made")


class _Weak:
    """Objects, as long as they live. A `WeakSet` would run code whenever one of them goes, in which a Ctrl-C can be lost."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []
        self._room = 64

    def add(self, thing: Any) -> None:
        self._references.append(weakref.ref(thing))
        if len(self._references) > self._room:
            living = [reference for reference in self._references if reference() is not None]
            self._references, self._room = living, max(64, 2 * len(living))

    def living(self) -> list[Any]:
        return [thing for reference in list(self._references) if (thing := reference()) is not None]


_making = threading.Lock()  # guards the three below; held from before a socket is made until it is registered
_sockets, _things = _Weak(), _Weak()
_locked: dict[str, _Weak] = {}  # the name of a lock's attribute -> the objects that have it


def after_fork(thing: Any) -> None:
    """Have a method `after_fork` called in the child of every fork, as long as this object lives.

    If it has a method `fork_lock` too, then that says which lock, if any, a fork has to wait for.
    """
    with marked(), _making:
        _things.add(thing)


def renew(thing: Any, lock: str) -> None:
    """Replace the lock in this attribute of an object in the child of every fork, as long as the object lives."""
    with marked(), _making:
        _locked.setdefault(lock, _Weak()).add(thing)


def own(make: Callable[[], Made]) -> Made:
    """Make a socket, or a tuple of two, that is closed in the child of every fork, as long as it lives.

    Raises:
        Exception: What making it raised.
    """
    with marked(), _making:
        made = make()
        for each in made if isinstance(made, tuple) else (made,):
            _sockets.add(each)
    return made


def fresh(lock: Any) -> Any:
    """Return a lock to take the place of one that a thread of the parent may hold; the same if this thread may."""
    if here().marked:
        return lock
    return threading.RLock() if isinstance(lock, type(threading.RLock())) else threading.Lock()


def _before() -> None:
    thread = here()
    if thread.marked:  # the fork interrupts a call, which may hold these locks
        return
    thread.mark.acquire()
    thread.held.append(thread.mark)
    locks = [_making, *(thing.fork_lock() for thing in _things.living() if hasattr(thing, "fork_lock"))]
    for lock in locks:
        if lock is not None and lock.acquire(timeout=_PATIENCE):
            thread.held.append(lock)


def _release() -> None:
    held = here().held
    while held:
        held.pop().release()


def _in_parent() -> None:
    _release()
    here().settle()


def _in_child() -> None:
    global _making
    _release()
    _making = fresh(_making)
    for made in _sockets.living():
        with suppress(Exception):
            made.close()
    for name, things in _locked.items():
        for thing in things.living():
            setattr(thing, name, fresh(getattr(thing, name)))
    for thing in _things.living():
        with suppress(Exception):
            thing.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
