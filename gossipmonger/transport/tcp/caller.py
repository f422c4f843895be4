"""Who is at the other end of a connection: the way back to it, and its address as errors show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gossipmonger.state.message import ExtendedPeer, RemotePeer

if TYPE_CHECKING:
    from gossipmonger.transport.tcp.link import Link

__all__ = ["Caller", "source_of"]


class Caller(ExtendedPeer):
    """The sender of a message that came on a link. What is sent to this very object goes back on the same link."""

    link: Link

    @classmethod
    def on(cls, link: Link, peer: RemotePeer) -> Caller:
        """Return a peer, with the link to it."""
        caller = cls(peer.id, peer.transport)
        caller.link, caller.vouched = link, link.cluster
        return caller

    def __reduce__(self) -> tuple[Any, ...]:
        return ExtendedPeer, (*self,)  # a copy has no link


def source_of(address: Any) -> str:
    """Return an address as errors show it. An IPv4 address is shown as one, even on a socket for both versions of IP."""
    host, port = address[0].removeprefix("::ffff:"), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
