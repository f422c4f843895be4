"""What callers see of a peer: a copy, taken at one moment, that nothing changes afterwards."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
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
        age: Seconds since it was last heard of, by whomever; 0.0 for the local peer, infinite if it never was.
        versions: key -> version, read-only. A key whose latest update flow control holds back has none yet.
        last_heard: When it was last heard of, in milliseconds since the epoch; now for the local peer, None if it never was.
    """

    id: str
    transport: Any
    state: State
    phi: float
    data: Mapping[str, Any]
    age: float = math.inf
    versions: Mapping[str, int] = MappingProxyType({})
    last_heard: float | None = None

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
        now: Milliseconds since the epoch.
        waiting: key -> value, updates that flow control holds back, of the local peer; None for any other. They take precedence
            over what the peer has; a tombstone stands for a deleted key.
        hidden: Keys that are not there any more.
    """

    __slots__ = ("_data", "_last_heard", "_now", "_phi", "_state", "_transport", "_waiting", "id")

    def __init__(
        self, peer: Peer, phi: float, now: float, waiting: Mapping[str, Any] | None = None, hidden: Collection[str] = ()
    ) -> None:
        self.id: str = peer.id
        self._transport = peer.transport
        self._state = peer.state
        self._phi = phi
        self._now = now
        self._last_heard = peer.last_time if waiting is None else now
        self._data = peer.data
        for key in hidden:
            self._data.pop(key, None)
        self._waiting = dict(waiting or {})

    def view(self) -> PeerView:
        """Return the view, with copies of all values. Needs no lock."""
        transport, waiting, heard = self._transport, self._waiting, self._last_heard
        if isinstance(transport, (dict, list)):
            transport = values.copied(transport, "transport")
        stored = {key: value for key, (value, _) in self._data.items()}
        data = {key: values.copied(value) for key, value in (stored | waiting).items() if not values.is_tombstone(value)}
        versions = {key: version for key, (_, version) in self._data.items() if key not in waiting}
        age = math.inf if heard is None else max(0.0, self._now - heard) / 1000
        shown = MappingProxyType(data), age, MappingProxyType(versions)
        return PeerView(self.id, transport, self._state, self._phi, *shown, heard)
