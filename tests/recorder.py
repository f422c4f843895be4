"""Records what a transport emits, as it comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gossipmonger.state import RemotePeer


class Recorder:
    """Records digests, deltas and errors.

    Attributes:
        heard: Each digest and each list of deltas, as kind, sender and payload.
        errors: Each error.
        changed: Notified of each.
    """

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.heard: list[tuple[str, RemotePeer, Any]] = []
        self.errors: list[Exception] = []
        self.changed = threading.Condition()
        for kind in ("digest", "deltas"):
            transport.on(kind, lambda remote, payload, kind=kind: self._add(self.heard, (kind, remote, payload)))
        transport.on("error", lambda error: self._add(self.errors, error))

    def _add(self, to: list[Any], what: Any) -> None:
        with self.changed:
            to.append(what)
            self.changed.notify_all()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what has to become true by what is recorded."""
        with self.changed:
            assert self.changed.wait_for(condition, 10), vars(self)

    @property
    def values(self) -> list[Any]:
        """The values of all deltas."""
        return [delta[2] for kind, _, deltas in self.heard if kind == "deltas" for delta in deltas]
