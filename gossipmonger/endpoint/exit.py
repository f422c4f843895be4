"""The exit: nodes that gossip when the program ends hand on what is new and leave.

That holds for the end of the main thread, `sys.exit` and an exception that nobody catches, once all threads that are no daemons
have ended. The package's own are daemons and still run then. It does not hold for `os._exit`, nor for a signal whose default
action kills, as SIGTERM's does, nor in a forked child, whose copies of the parent's nodes are not its own.

What a program registers with `atexit` after it has imported this package runs before that.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

__all__ = ["PATIENCE", "Leaver", "doomed", "ending", "leave_at_exit", "stay_at_exit"]

#: Seconds that a node takes at most to hand on what is new and to leave; at exit, all nodes together.
PATIENCE = 1.0


class Leaver(Protocol):
    """A node that leaves in two steps, so that several can do it side by side."""

    def begin_to_hand_on(self) -> Any:
        """Begin to hand on what is new, and return what `quit` takes."""

    def quit(self, begun: Any, deadline: float) -> None:
        """Wait for that, leave, and hang up, by this time of the monotonic clock."""


_nodes: weakref.WeakKeyDictionary[Leaver, int] = weakref.WeakKeyDictionary()  # each with the process that it gossips in


def ending() -> bool:
    """Whether the program is ending: no thread can start, executors refuse work, and daemon threads are about to be stopped."""
    return bool(getattr(threading, "_SHUTTING_DOWN", False))


def doomed() -> bool:
    """Whether the calling thread is about to be stopped, so that an error raised to it would only be printed."""
    return ending() and threading.current_thread().daemon


def leave_at_exit(node: Leaver) -> None:
    """Have a node leave when the program ends."""
    _nodes[node] = os.getpid()


def stay_at_exit(node: Leaver) -> None:
    """Have it leave no more: it has left."""
    _nodes.pop(node, None)


def _leave_all() -> None:
    deadline = monotonic() + PATIENCE
    begun = []
    for node in [node for node, pid in [*_nodes.items()] if pid == os.getpid()]:
        with suppress(Exception):  # nobody is left who could be told
            begun.append((node, node.begin_to_hand_on()))
    for node, waiting in begun:
        with suppress(Exception):
            node.quit(waiting, deadline)


atexit.register(_leave_all)
