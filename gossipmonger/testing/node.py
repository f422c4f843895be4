"""A transport under test, and what it emits, to be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gossipmonger.entry import EntryFields
from gossipmonger.peer import RemotePeer
from gossipmonger.transport.base import Transport

__all__ = ["Node"]


class Node:
    """A transport and what it emits.

    Attributes:
        transport: The transport.
        heard: Each message as kind, sender and payload, in the order of arrival.
        errors: Each error.
    """

    def __init__(self, id: str, transport: Transport, address_of: Callable[[Transport], Any], patience: float) -> None:
        self.transport = transport
        self.heard: list[tuple[str, RemotePeer, list[Any]]] = []
        self.errors: list[Any] = []
        self._id = id
        self._address_of = address_of
        self._patience = patience
        self._changed = threading.Condition()  # guards `heard` and `errors`
        transport.on("digest", lambda remote, digest: self._hear("digest", remote, digest))
        transport.on("deltas", lambda remote, deltas: self._hear("deltas", remote, deltas))
        transport.on("error", self._fail)

    @property
    def peer(self) -> RemotePeer:
        """What others know of the node, and what it says of itself."""
        return RemotePeer(self._id, self._address_of(self.transport))

    @property
    def deltas(self) -> list[list[Any]]:
        """The deltas of all messages."""
        return [delta for kind, _, deltas in self.heard if kind == "deltas" for delta in deltas]

    def send_deltas(self, other: Node, deltas: list[list[Any]]) -> None:
        """Send deltas to another node, as one call."""
        self.transport.deltas(other.peer, self.peer, deltas)

    def wait_for(self, count: int) -> None:
        """Wait until so many messages have come."""
        self._wait(lambda: len(self.heard) >= count, f"{count} messages", lambda: self.heard)

    def wait_for_deltas(self, count: int) -> None:
        """Wait until so many deltas have come, in however many messages."""
        self._wait(lambda: len(self.deltas) >= count, f"{count} deltas", lambda: self.deltas)

    def wait_for_errors(self, count: int) -> None:
        """Wait until so many errors have come."""
        self._wait(lambda: len(self.errors) >= count, f"{count} errors", lambda: self.errors)

    def _wait(self, condition: Callable[[], bool], what: str, seen: Callable[[], list[Any]]) -> None:
        with self._changed:
            came = self._changed.wait_for(condition, self._patience)
            assert came, f"{what} should have come to {self._id!r}, and there came {len(seen())}; its errors: {self.errors!r}"

    def _hear(self, kind: str, remote: Any, payload: list[Any]) -> None:
        with self._changed:
            plain = [item.as_dict() if isinstance(item, EntryFields) else item for item in payload]
            self.heard.append((kind, RemotePeer(remote.id, remote.transport), plain))
            self._changed.notify_all()

    def _fail(self, error: Any) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()
