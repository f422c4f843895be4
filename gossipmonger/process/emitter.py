"""The emitter: pyee's, with a lock of another kind."""

from __future__ import annotations

import threading
from typing import Any

from pyee.base import EventEmitter

from gossipmonger.process.fork import after_fork

__all__ = ["Emitter"]


class Emitter(EventEmitter):
    """An `EventEmitter` whose `on` and `emit` may interrupt each other on one thread, and which is usable after a fork."""

    def __init__(self) -> None:
        super().__init__()
        self._lock: Any = threading.RLock()  # pyee's own attribute, so it has to have this name
        after_fork(self)

    def after_fork(self) -> None:
        """Get a new lock, in a child that was forked while another thread held this one."""
        self._lock = threading.RLock()
