"""What callers see of a peer: a copy, taken at one moment, that nothing changes afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from gossipmonger.errors import at, shown
from gossipmonger.state import values
from gossipmonger.state.message import State
from gossipmonger.state.peer import Peer

__all__ = ["PeerView", "snapshot"]


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

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (*self._replace(data={**self.data}, versions={**self.versions}),)  # a proxy can't be pickled

    def __repr__(self) -> str:
        keys = ", ".join(map(shown, islice(self.data, 3))) + (", ..." if len(self.data) > 3 else "")
        known = f"{len(self.data)} keys" + (f": {keys}" if keys else "")
        return f"PeerView({shown(self.id)} at {at(self.transport)}, {self.state}, phi {self.phi:.3g}, {known})"


def _made(*parts: Any) -> PeerView:
    view = PeerView(*parts)
    return view._replace(data=MappingProxyType(view.data), versions=MappingProxyType(view.versions))


def snapshot(
    peer: Peer, phi: float, now: float, waiting: Mapping[str, Any] | None = None, hidden: Collection[str] = ()
) -> Callable[[], PeerView]:
    """Read what a view needs from a peer, under the endpoint's lock; return a function that makes the view without the lock.

    That is sound because a stored value never changes: an update replaces it.

    Args:
        peer: The peer.
        phi: Its phi.
        now: Milliseconds since the epoch.
        waiting: key -> value, updates that flow control holds back, of the local peer; None for any other. They take precedence
            over what the peer has; a tombstone stands for a deleted key.
        hidden: Keys that are not there any more.
    """
    id, transport, state, data = peer.id, peer.transport, peer.state, peer.data
    heard = peer.last_time if waiting is None else now
    held = dict(waiting or {})
    for key in hidden:
        data.pop(key, None)

    def view() -> PeerView:
        told = values.copied(transport, "transport") if isinstance(transport, (dict, list)) else transport
        stored = {key: value for key, (value, _) in data.items()}
        there = {key: values.copied(value) for key, value in (stored | held).items() if not values.is_tombstone(value)}
        versions = {key: version for key, (_, version) in data.items() if key not in held}
        age = math.inf if heard is None else max(0.0, now - heard) / 1000
        return PeerView(id, told, state, phi, MappingProxyType(there), age, MappingProxyType(versions), heard)

    return view
