"""A place: an address that messages go to, and what is known of who is there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from gossipmonger.errors import at, shown
from gossipmonger.state import Message, RemotePeer
from gossipmonger.transport.tcp.links import Link

__all__ = ["Place"]


class Place:
    """An address, and what is known of it.

    Args:
        host: Its host.
        port: Its port.
        peer: Whom the first message is for.

    Attributes:
        host, port: As above.
        peer: Whom the last message was for, for errors.
        node_js: Whether a Node.js node counts as being there.
        silent: Whether it has been reported that it answers no `HELLO`, which an observer must have.
        asked: When it was sent a `HELLO` last.
        dialling: Whether it is being dialled.
        link: The link to it.
        waiting: Messages that wait, each with whom it is for.
        parts: The rest of the message that is on its way to a Node.js node.
    """

    __slots__ = ("asked", "dialling", "host", "link", "node_js", "parts", "peer", "port", "silent", "waiting")

    def __init__(self, host: str, port: int, peer: RemotePeer) -> None:
        self.host: str = host
        self.port: int = port
        self.peer: RemotePeer = peer
        self.node_js: bool = False
        self.silent: bool = False
        self.asked: float = 0.0
        self.dialling: bool = False
        self.link: Link | None = None
        self.waiting: deque[tuple[RemotePeer, Message]] = deque()
        self.parts: Iterator[tuple[Message, bytes]] = iter(())

    @property
    def busy(self) -> bool:
        """Whether anything waits to be sent there, or is on its way."""
        return self.dialling or bool(self.waiting)

    def __str__(self) -> str:
        return f"peer {shown(self.peer.id)} at {at({'host': self.host, 'port': self.port})}"
