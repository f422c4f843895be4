"""What a node knows of all peers, itself included unless it is an observer."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from gossipmonger.endpoint.views import PeerView, snapshot
from gossipmonger.state.peer import NOTHING, Peer

if TYPE_CHECKING:
    from gossipmonger.endpoint.engine import Engine

__all__ = ["Known"]


class Known:
    """The peers. Each call requires holding the engine's lock, and copies no value.

    Args:
        engine: Whose peers these are.
        storage: Where they are kept.
        observer: Whether the node is an observer, and its own peer none.
    """

    def __init__(self, engine: Engine, storage: Any, observer: bool = False) -> None:
        self._engine = engine
        self._storage = storage
        self._observer = observer

    def _look(self) -> None:
        assert self._engine.lock.locked()
        self._engine.mend()

    @property
    def _own(self) -> list[Peer]:
        return [] if self._observer else [self._engine.local_peer]

    def find(self, id: str) -> Peer | None:
        """Return the peer with this id."""
        self._look()
        local = self._engine.local_peer
        found: Peer | None = local if id == local.id and not self._observer else self._storage.get(id)
        return found

    def peers(self, live: bool) -> list[Peer]:
        """Return the local peer and the live ones, or with `live` false all."""
        self._look()
        alive, dead = self._engine.protocol.membership.others()
        return [*self._own, *alive] if live else [*self._own, *alive, *dead]

    def value(self, peer: Peer | None, key: str) -> Any:
        """Return the value of a peer's key; `NOTHING` if there is none."""
        self._look()
        if peer is self._engine.local_peer:
            return self._engine.protocol.newest(key, NOTHING)
        return NOTHING if peer is None or key in self.hidden(peer.id) else peer.get(key, NOTHING)

    def hidden(self, id: str) -> Collection[str]:
        """Return the keys of a peer that are not there any more, because their ttl has passed."""
        return self._engine.protocol.membership.expiry.hidden.get(id, ())

    def values(self, key: str, live: bool) -> list[tuple[str, Any]]:
        """Return the id and the value of `key` of each peer, or of the live ones: `NOTHING` or a tombstone for no value."""
        local, newest = self._engine.local_peer, self._engine.protocol.newest
        peers = self.peers(live)
        found = [(each.id, newest(key, NOTHING) if each is local else each.log.get(key, NOTHING)) for each in peers]
        hidden = self._engine.protocol.membership.expiry.hidden
        return [pair for pair in found if key not in hidden.get(pair[0], ())] if hidden else found

    def snapshot(self, peer: Peer, now: float) -> Callable[[], PeerView]:
        """Return a function that makes a view of a peer without the lock."""
        self._look()
        protocol = self._engine.protocol
        if peer is self._engine.local_peer:
            return snapshot(peer, 0.0, now, protocol.waiting)
        return snapshot(peer, protocol.membership.phi(now, peer), now, hidden=self.hidden(peer.id))
