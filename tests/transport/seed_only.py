"""A transport with the Node.js package's methods and events, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyee.base import EventEmitter

from gossipmonger.transport import TcpTransport


class SeedOnly(EventEmitter):
    """Carries digests and deltas over TCP. Senders are plain objects, as anybody's transport may make them.

    Attributes:
        calls: The name of each method that was called to send.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self._tcp = TcpTransport(host="127.0.0.1", port=0)
        for event in ("digest", "deltas", "error", "listening"):
            self._tcp.on(event, lambda *args, event=event: self.emit(event, *args))

    def digest(self, remote_peer: Any, local_peer: Any, digest_to_send: list[dict[str, Any]]) -> None:
        """Send a digest."""
        self.calls.append("digest")
        self._tcp.digest(remote_peer, local_peer, digest_to_send)

    def deltas(self, remote_peer: Any, local_peer: Any, deltas_to_send: list[list[Any]]) -> None:
        """Send deltas."""
        self.calls.append("deltas")
        self._tcp.deltas(remote_peer, local_peer, deltas_to_send)

    @property
    def address(self) -> Mapping[str, Any] | None:
        """Where peers reach it."""
        return self._tcp.address

    def listen(self, options: Any = None, callback: Callable[[], None] | None = None) -> None:
        """Start to receive."""
        self._tcp.listen(options, callback)

    def close(self, callback: Callable[[], None] | None = None) -> None:
        """Stop."""
        self._tcp.close(callback)


class WithExchange(SeedOnly):
    """The same, with the optional third method, and with a limit."""

    max_message_size = 1_000

    def exchange(self, remote_peer: Any, local_peer: Any, deltas_to_send: Any, digest_to_send: Any) -> None:
        """Send both."""
        self.calls.append("exchange")
        self._tcp.exchange(remote_peer, local_peer, deltas_to_send, digest_to_send)
