"""The transport interface.

A transport carries three kinds of messages and knows nothing of what they mean. It sends without blocking its caller: a
round of gossip must not wait for a peer that does not answer. What it receives it emits, on any thread, as

* `digest` (remote_peer, digest) and `deltas` (remote_peer, deltas), where `remote_peer` is a `RemotePeer` or any object
  with `id` and `transport`;
* `exchange` (remote_peer, deltas, digest), optional, in place of the two for a message that has both;
* `error` (error), for whatever failed, whenever it failed;
* `listening` (), once it can be reached.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from pyee.base import EventEmitter

from gossipmonger.entry import Entry
from gossipmonger.peer import RemotePeer

__all__ = ["Transport"]


class Transport(EventEmitter, ABC):
    """What the endpoint expects of a transport; any object with `deltas`, `digest` and `on` will do.

    Attributes:
        validates: Whether the transport makes and reads messages with `gossipmonger.transport.messages`: all that it emits
            went through `messages.decode` or `checks.validate`, and digests that it is to send hold `Entry` objects, which
            `messages.encode` takes. If not, the endpoint validates what comes, and hands out digests of dicts.
        max_message_size: Bytes that a message may have, None for no limit. `update` refuses a value that can't fit.
    """

    validates: bool = False
    max_message_size: int | None = None

    @abstractmethod
    def digest(self, remote_peer: RemotePeer, local_peer: RemotePeer, digest_to_send: list[dict[str, Any]]) -> None:
        """Send a digest. Returns at once; what goes wrong is an `error` event.

        Args:
            remote_peer: Whom to send it to; only `transport` is needed.
            local_peer: The sender, whose `id` and `transport` the other side is told unaltered.
            digest_to_send: Entries, as `gossipmonger.transport.messages` describes them. They are not to be changed.
        """

    @abstractmethod
    def deltas(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas_to_send: list[list[Any]]) -> None:
        """Send deltas, as `digest` sends a digest. They may be split over messages, in their order."""

    def exchange(
        self,
        remote_peer: RemotePeer,
        local_peer: RemotePeer,
        deltas_to_send: list[list[Any]],
        digest_to_send: list[dict[str, Any]],
    ) -> None:
        """Send deltas, then a digest, to a peer that reads both out of one message. Optional: by default they go in two."""
        self.deltas(remote_peer, local_peer, deltas_to_send)
        self.digest(remote_peer, local_peer, digest_to_send)

    def hand_out(
        self, sender: RemotePeer, deltas: list[list[Any]] | None, digest: list[Entry] | list[dict[str, Any]] | None
    ) -> None:
        """Emit a message that came in: as `exchange` if it has both and someone listens for that, otherwise deltas first."""
        if deltas is not None and digest is not None and self.listeners("exchange"):
            self.emit("exchange", sender, deltas, digest)
            return
        if deltas is not None:
            self.emit("deltas", sender, deltas)
        if digest is not None:
            self.emit("digest", sender, digest)

    @property
    def address(self) -> Mapping[str, Any] | None:
        """What peers need to reach this transport, once that is known; it completes what `peer_info` left open."""
        return None

    def listen(
        self,
        options: Mapping[str, Any] | Callable[[], None] | None = None,
        callback: Callable[[], None] | None = None,
    ) -> None:
        """Start to receive; `callback` is called once that is so.

        Raises:
            OSError: It can't, for example since the port is taken.
        """
        raise NotImplementedError

    def close(self, callback: Callable[[], None] | None = None) -> None:
        """Stop, release threads and sockets, then call `callback`. May be called again, and from a handler."""
        raise NotImplementedError
