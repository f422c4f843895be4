"""Observers: what an endpoint is told about one, and the local peer that it has in place of a peer.

Others never know an observer, so its id tells it from nobody. What is told on the wire has something random in it: whatever
a program calls its observer, it is not taken for a node that has this id. Over TCP, an observer binds no port and has no
address, since what it asks for comes back on the links that it has dialled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gossipmonger.endpoint.options import Options
from gossipmonger.endpoint.peer_info import PeerInfo
from gossipmonger.errors import shown
from gossipmonger.transport import DEFAULT_PORT, TcpTransport

__all__ = ["check_transport", "observer_info"]

#: The address that an observer tells over TCP. Messages have to name one; the domain is reserved for those that nobody has.
_NOWHERE = {"host": "observer.invalid", "port": DEFAULT_PORT}

#: What an observer is called whose program does not say.
_NAME = "observer"

#: One more than the greatest number that tells observers of one name apart.
_NUMBERS = 2**48


def observer_info(given: Mapping[str, Any] | None, options: Options) -> PeerInfo:
    """Return what an observer is, from its `peer_info`, which may leave out the id.

    Raises:
        TypeError, ValueError: Something is unknown, of the wrong type or out of range; or says that it owns something.
    """
    info = PeerInfo.parse({} if given is None else given, _NAME)
    if not options.seeds and options.storage is None:
        raise ValueError("seeds must name a node for an observer, which no node finds by itself")
    if info.data or info.max_version_seen is not None:
        name = "data" if info.data else "maxVersionSeen"
        raise ValueError(f"peer_info.{name} must be left out, as an observer owns no keys")
    over_tcp = isinstance(options.transport, (TcpTransport, type(None)))
    number = int(options.random.random() * _NUMBERS)
    transport = dict(_NOWHERE) if over_tcp else info.transport
    return replace(info, id=f"{info.id}-{number:012x}", transport=transport, observer=True)


def check_transport(transport: Any) -> None:
    """Check that a transport sends nothing to an address before that has shown that it is not a Node.js node's.

    Raises:
        ValueError: It cannot tell.
    """
    if not getattr(transport, "greets", False):
        wanted = "TcpTransport, a UdpTransport, or one whose `greets` is true"
        reason = "a Node.js node would take the observer for a peer"
        raise ValueError(f"transport must be a {wanted}, because {reason}; got {shown(transport)}")
