"""Transports under test, and what they emit, to be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gossipmonger.state import Message, RemotePeer
from gossipmonger.state.arguments import check_number
from gossipmonger.testing.parts import made

__all__ = ["Node", "Nodes"]


class Node:
    """A transport and what it emits.

    Args:
        id: The node's id.
        transport: The transport.
        address_of: Returns the address that peers are told.
        patience: Seconds to wait for what has to happen.
        messages: Whether to listen for `message` too, which keeps a `Transport` from emitting `deltas` and `digest`.

    Attributes:
        transport: The transport.
        heard: What came as `deltas` or `digest`, each as kind, sender and payload, in the order of arrival.
        messages: What came as `message`, in the order of arrival.
        errors: Each error.
    """

    def __init__(
        self, id: str, transport: Any, address_of: Callable[[Any], Any], patience: float, messages: bool = False
    ) -> None:
        self.transport = transport
        self.heard: list[tuple[str, RemotePeer, list[Any]]] = []
        self.messages: list[Message] = []
        self.errors: list[Any] = []
        self._id = id
        self._address_of = address_of
        self._patience = patience
        self._changed = threading.Condition()  # guards `heard`, `messages` and `errors`
        transport.on("error", lambda error: self._add(self.errors, error))
        if not messages:
            transport.on("digest", lambda remote, digest: self._hear("digest", remote, digest))
            transport.on("deltas", lambda remote, deltas: self._hear("deltas", remote, deltas))
        else:
            transport.on("message", lambda message: self._add(self.messages, message))

    @property
    def peer(self) -> RemotePeer:
        """What others know of the node, and what it says of itself."""
        return RemotePeer(self._id, self._address_of(self.transport))

    @property
    def deltas(self) -> list[list[Any]]:
        """The deltas of everything heard."""
        return [delta for kind, _, deltas in self.heard if kind == "deltas" for delta in deltas]

    def send_deltas(self, other: Node, deltas: list[list[Any]]) -> None:
        """Send deltas to another node, in one call."""
        self.transport.deltas(other.peer, self.peer, deltas)

    def wait_for(self, count: int) -> None:
        """Wait until so many payloads have been heard."""
        self._wait(lambda: len(self.heard) >= count, f"{count} payloads", lambda: self.heard)

    def wait_for_deltas(self, count: int) -> None:
        """Wait until so many deltas have been heard, in however many messages."""
        self._wait(lambda: len(self.deltas) >= count, f"{count} deltas", lambda: self.deltas)

    def wait_for_messages(self, count: int) -> None:
        """Wait until so many messages have come."""
        self._wait(lambda: len(self.messages) >= count, f"{count} messages", lambda: self.messages)

    def wait_for_errors(self, count: int) -> None:
        """Wait until so many errors have come."""
        self._wait(lambda: len(self.errors) >= count, f"{count} errors", lambda: self.errors)

    def _wait(self, condition: Callable[[], bool], what: str, seen: Callable[[], list[Any]]) -> None:
        with self._changed:
            came = self._changed.wait_for(condition, self._patience)
            assert came, f"{what} should have come to {self._id!r}, but {len(seen())} came; its errors: {self.errors!r}"

    def _hear(self, kind: str, remote: Any, payload: list[Any]) -> None:
        self._add(self.heard, (kind, RemotePeer(remote.id, remote.transport), payload))

    def _add(self, to: list[Any], what: Any) -> None:
        with self._changed:
            to.append(what)
            self._changed.notify_all()


class Nodes:
    """Makes the nodes of a test and closes them: see `TransportContract`."""

    patience: float = 10.0
    big_message: int = 100_000
    reports_unreachable: bool = True

    _nodes: tuple[Node, ...] = ()

    def make_transport(self) -> Any:
        """Return a new transport that does not listen yet. A test calls it once for each node that it needs."""
        raise NotImplementedError(f"{type(self).__name__} must override make_transport()")

    def address_of(self, transport: Any) -> Any:
        """Return where peers reach a transport that listens: its `address`.

        Override it for a transport that leaves `address` at None, because whoever makes it knows where peers reach it.
        """
        return transport.address

    def teardown_method(self) -> None:
        """Close the test's transports; pytest calls it. Whoever overrides it calls it too."""
        nodes, self._nodes = self._nodes, ()
        for node in nodes:
            node.transport.close()

    def _node(self, id: str = "a", listen: bool = True, messages: bool = False) -> Node:
        """A new node: a transport of its own, and all that it emits."""
        check_number("patience", self.patience, float, 0, unit="seconds")
        node = Node(id, made(self.make_transport(), "make_transport", "listen"), self.address_of, self.patience, messages)
        self._nodes += (node,)
        if listen:
            ready = threading.Event()
            node.transport.listen(None, ready.set)
            assert ready.wait(self.patience), "the callback of listen was not called"
        return node

    def _gone(self) -> RemotePeer:
        """A peer that has listened and no longer does."""
        node = self._node("gone")
        peer = node.peer
        node.transport.close()
        return peer
