"""What callers see of a peer: copies, at one moment, that nothing changes any more."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from gossipmonger import values
from gossipmonger.peer import Peer

__all__ = ["PeerView", "Snapshot"]


class PeerView(NamedTuple):
    """A peer at one moment.

    Attributes:
        id: The peer's id.
        transport: Where it is reached.
        state: "live", "dead" or "left".
        phi: How suspicious its silence is, 0 for the local peer.
        data: key -> value.
    """

    id: str
    transport: Any
    state: str
    phi: float
    data: Mapping[str, Any]


class Snapshot:
    """What of a peer must be read under the lock; `view` copies the rest after it, since values never change.

    Args:
        peer: The peer.
        phi: Its phi.
        waiting: key -> value, in front of what the peer has; a tombstone for a key that is deleted.
    """

    def __init__(self, peer: Peer, phi: float, waiting: Mapping[str, Any] | None = None) -> None:
        self.id = peer.id
        self._seen = (peer.id, peer.transport, peer.state, phi)
        self._data = {key: value for key, (value, _) in peer.data.items()}
        self._data.update(waiting or {})

    def view(self) -> PeerView:
        """Return the copy."""
        id, transport, state, phi = self._seen
        if isinstance(transport, (dict, list)):
            transport = values.copied(transport, "transport")
        data = {key: values.copied(value) for key, value in self._data.items() if not values.is_tombstone(value)}
        return PeerView(id, transport, state, phi, MappingProxyType(data))
