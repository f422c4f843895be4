"""The storage interface, and the storage that keeps peers in memory.

The endpoint calls its storage while it holds its lock, so never from two threads at once. A storage needs no lock of its own
for that, must not call back into the endpoint, and should be quick. It keeps the local peer under its id too, so a new endpoint
on an old storage goes on where the former one stopped.

A storage never changes a peer. The protocol changes the peers that it was given and puts each of them again at the end of the
step; whether `get` returns the object that was put or an equal copy is up to the storage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from gossipmonger.process import Emitter
from gossipmonger.state import Peer

__all__ = ["MemoryStorage", "Storage", "StorageLike"]


class StorageLike(Protocol):
    """What a storage has to have, for those who check types. `Storage` says what each method does, and what is optional."""

    def get(self, id: str, /) -> Peer | None:
        """See `Storage.get`."""

    def put(self, id: str, peer: Peer, /) -> object:
        """See `Storage.put`."""

    def live_peers(self) -> list[Peer]:
        """See `Storage.live_peers`."""

    def dead_peers(self) -> list[Peer]:
        """See `Storage.dead_peers`."""


class Storage(Emitter, ABC):
    """What the endpoint expects of a storage; any object with these methods will do, a subclass or not.

    An exception that a method raises becomes an `error` event of the endpoint, or reaches the caller whose call it broke.
    A failure that happens later, on a thread of the storage's own, is emitted as `error` with the exception.
    """

    @abstractmethod
    def get(self, id: str) -> Peer | None:
        """Return the peer with this id, None if there is none."""

    @abstractmethod
    def put(self, id: str, peer: Peer) -> None:
        """Keep `peer` under `id`; its `live` says whether it is now among the live or the dead."""

    @abstractmethod
    def live_peers(self) -> list[Peer]:
        """Return the peers whose `live` was true when they were put, in a list of the caller's own."""

    @abstractmethod
    def dead_peers(self) -> list[Peer]:
        """Return the other peers, in a list of the caller's own."""

    def remove(self, id: str) -> None:
        """Forget the peer with this id, if there is one. Optional: without it, dead peers stay."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of files and connections. Called once, last of all. Optional."""


class MemoryStorage(Storage):
    """Peers in dicts, in the order in which they were first put; gone with the process."""

    def __init__(self) -> None:
        super().__init__()
        self._peers: dict[str, Peer] = {}
        self._live: dict[str, Peer] = {}
        self._dead: dict[str, Peer] = {}

    def __repr__(self) -> str:
        return f"MemoryStorage({len(self._live)} live, {len(self._dead)} others)"

    def get(self, id: str) -> Peer | None:
        """Return the very object that was put."""
        return self._peers.get(id)

    def put(self, id: str, peer: Peer) -> None:
        """Keep `peer`, by reference."""
        here, there = (self._live, self._dead) if peer.live else (self._dead, self._live)
        if here.get(id) is not peer:  # most often it has been put before, and is as alive as then
            self._peers[id] = here[id] = peer
            there.pop(id, None)

    def live_peers(self) -> list[Peer]:
        """Return the live ones, in the order in which they came to life."""
        return list(self._live.values())

    def dead_peers(self) -> list[Peer]:
        """Return the dead ones, in the order in which they died."""
        return list(self._dead.values())

    def remove(self, id: str) -> None:
        """Forget the peer; nothing happens if it is not there."""
        for peers in (self._peers, self._live, self._dead):
            peers.pop(id, None)
