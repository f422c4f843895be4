"""What callers see of a peer: a copy, taken at one moment, that nothing changes afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from gossipmonger.errors import at, shown
from gossipmonger.state import values
from gossipmonger.state.message import State
from gossipmonger.state.peer import Peer

__all__ = ["PeerView", "Snapshot"]


class PeerView(NamedTuple):
    """A peer at one moment.

    Attributes:
        id: The peer's id.
        transport: The address at which it is reached.
        state: "live", "dead" or "left".
        phi: How suspicious its silence is; 0 for the local peer.
        data: key -> value, read-only; the values are copies.
    """

    id: str
    transport: Any
    state: State
    phi: float
    data: Mapping[str, Any]

    def __repr__(self) -> str:
        keys = ", ".join(map(shown, islice(self.data, 3))) + (", ..." if len(self.data) > 3 else "")
        known = f"{len(self.data)} keys" + (f": {keys}" if keys else "")
        return f"PeerView({shown(self.id)} at {at(self.transport)}, {self.state}, phi {self.phi:.3g}, {known})"


class Snapshot:
    """What has to be read from a peer under the endpoint's lock; `view` does the rest of the work after the lock is released.

    That is sound because a stored value never changes: an update replaces it.

    Args:
        peer: The peer.
        phi: Its phi.
        waiting: key -> value, updates that flow control holds back. They take precedence over what the peer has; a tombstone
            stands for a deleted key.
    """

    __slots__ = ("_data", "_phi", "_state", "_transport", "id")

    def __init__(self, peer: Peer, phi: float, waiting: Mapping[str, Any] | None = None) -> None:
        self.id: str = peer.id
        self._transport = peer.transport
        self._state = peer.state
        self._phi = phi
        self._data = {key: value for key, (value, _) in peer.data.items()}
        self._data.update(waiting or {})

    def view(self) -> PeerView:
        """Return the view, with copies of all values. Needs no lock."""
        transport = self._transport
        if isinstance(transport, (dict, list)):
            transport = values.copied(transport, "transport")
        data = {key: values.copied(value) for key, value in self._data.items() if not values.is_tombstone(value)}
        return PeerView(self.id, transport, self._state, self._phi, MappingProxyType(data))
