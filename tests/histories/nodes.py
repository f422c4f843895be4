"""Nodes without sockets, threads or a clock, which are spoken to in bytes.

This is the one module of the histories that calls the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, NamedTuple

from gossipmonger import MemoryStorage, Options, Peer
from gossipmonger.protocol import Event, Output, Protocol, Send
from gossipmonger.state import Digest, ExtendedPeer, Header, Kind, Message
from gossipmonger.wire import decode, encode

NOW = 1_700_000_000_000.0


class Sent(NamedTuple):
    """A message on its way: who sent it, to whom, and its bytes."""

    sender: str
    to: str
    data: bytes


class Node:
    """One life of a node; its address is its id.

    Args:
        id: Its id.
        now: When this life begins, in milliseconds.
        storage: What a former life left; None for nothing.
        version: The version after which a node without a former life begins; None for the clock's microseconds.
        seeds: Ids of its seeds.
        seed: The protocol's randomness is drawn from it.
        **options: The endpoint's.

    Attributes:
        storage: Where its peers are kept.
        events: Name and arguments of all that happened and was not taken out yet.
    """

    def __init__(
        self,
        id: str,
        now: float,
        *,
        storage: MemoryStorage | None = None,
        version: int | None = None,
        seeds: Sequence[str] = (),
        seed: float = 0,
        **options: Any,
    ) -> None:
        self.id = id
        self.storage = MemoryStorage() if storage is None else storage
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        self._checked: dict[str, object] = {}
        start = int(now * 1000) if version is None else version
        local = self.storage.get(id) or Peer(id, transport=_address(id), floor=start, max_version_seen=start)
        local.left = False
        local.mark_live()
        self.storage.put(id, local)
        self.local = local
        remote = [{"id": other, "transport": _address(other)} for other in seeds if other != id]
        parsed = Options.parse(None, {"random": Random(seed), "seeds": remote, **options})
        self._protocol = Protocol(local, self.storage, parsed.config(), parsed.random, now)

    # What it does

    def update(self, now: float, key: str, value: Any, ttl: float | None = None) -> None:
        """Set a key."""
        self._protocol.update(now, key, value, ttl or 0.0)

    def delete(self, now: float, *keys: str) -> None:
        """Delete keys, which have to be there."""
        for key in keys:
            assert self._protocol.delete(now, key), f"{self.id} had no {key} to delete"

    def round(self, now: float) -> list[Sent]:
        """Do a round."""
        return self._take(self._protocol.round(now))

    def spread(self, now: float) -> list[Sent]:
        """Tell rumours, if there are any to be told at this time."""
        return self._take(self._protocol.spread(now))

    def leave(self, now: float) -> list[Sent]:
        """Say goodbye."""
        return self._take(self._protocol.leave(now))

    def receive(self, now: float, data: bytes) -> list[Sent]:
        """Take a message."""
        sender, deltas, digest = decode(data)
        return self._take(self._protocol.step(now, Message(ExtendedPeer(*sender), deltas, digest)))

    def _take(self, output: Output) -> list[Sent]:
        sent = []
        for item in output:
            if isinstance(item, Event):
                self.events.append((item.name, item.args))
            elif isinstance(item, Send):
                sent.append(Sent(self.id, item.to.id, encode(item.message)))
        return sent

    def digest(self) -> bytes:
        """Return a digest with an entry for every live peer, as a round sends it while not all are at rest."""
        self.heartbeat += 1
        others = [peer for peer in self.storage.live_peers() if peer.id != self.id]
        digest = Digest(Kind.ROUND, Header(), self._protocol.membership.digest(others))
        return encode(Message(self.local.remote, None, digest))

    # What it knows

    @property
    def data(self) -> dict[str, Any]:
        """Its own data, as far as gossip tells them."""
        return _values(self.local)

    @property
    def highest(self) -> int:
        """The highest number, version or heartbeat, that it has told of itself."""
        return max(self.local.max_version_seen, self.local.heartbeat)

    @property
    def heartbeat(self) -> int:
        """Its heartbeat."""
        return self.local.heartbeat

    @heartbeat.setter
    def heartbeat(self, heartbeat: int) -> None:
        self.local.heartbeat = heartbeat
        self._protocol.membership.put(self.local)

    def peer(self, owner: str) -> Peer:
        """Return what it knows of an owner that it knows."""
        peer = self.storage.get(owner)
        assert peer is not None
        return peer

    def view(self, owner: str) -> dict[str, Any]:
        """Return its view of an owner's data."""
        peer = self.storage.get(owner)
        hidden = self._protocol.membership.expiry.hidden.get(owner, ())
        return {} if peer is None else {key: value for key, value in _values(peer).items() if key not in hidden}

    def is_level(self, owner: Node) -> bool:
        """Whether it knows all that there is to know of an owner, which waits with nothing."""
        peer = self.storage.get(owner.id)
        return peer is not None and peer.max_version_seen == owner.local.max_version_seen and not owner._protocol.waiting

    def check(self, owners: Iterable[Node] = ()) -> None:
        """Check the structures that have an invariant, where they have changed; and Scuttlebutt's, towards these owners.

        That one says: whoever holds version n of an owner holds all that is still current at or below n.
        """
        self._protocol.membership.expiry._check()
        current: dict[str, Peer] | None = None
        for peer in self.storage.live_peers() + self.storage.dead_peers():
            state = (peer, peer.max_version_seen, peer.floor, peer.noted)
            if self._checked.get(peer.id) == state:
                continue
            self._checked[peer.id] = state
            for structure in (peer, peer.log):
                getattr(structure, "_check", bool)()
            versions = [version for _, _, version in peer.deltas_after_version(-1)]
            said = peer.floor, versions, peer.max_version_seen
            assert versions == sorted(versions), f"{self.id} has {peer.id} out of order: {said}"
            assert not versions or peer.floor < versions[0], f"{self.id} has {peer.id} at or below its floor: {said}"
            assert not versions or versions[-1] <= peer.max_version_seen, f"{self.id} has {peer.id} beyond its version: {said}"
            if current is None:
                current = {owner.id: owner.local for owner in owners}
            if peer.id in current:
                owned = current[peer.id].deltas_after_version(-1)
                lacking = [key for key, _, version in owned if version <= peer.max_version_seen and version not in versions]
                assert not lacking, f"{self.id} has {peer.id} without {lacking}: {said}"


def _address(id: str) -> dict[str, Any]:
    return {"host": id, "port": 9742}


def _values(peer: Peer) -> dict[str, Any]:
    return {key: value for key, (value, _) in peer.data.items()}


def views(storage: MemoryStorage) -> dict[str, dict[str, Any]]:
    """Return the data of all peers in a storage."""
    return {peer.id: _values(peer) for peer in storage.live_peers() + storage.dead_peers()}


def copied(storage: MemoryStorage, now: float, without: str | None = None) -> MemoryStorage:
    """Return what the documentation's `FileStorage` keeps of a storage: peers made anew of their public attributes.

    Args:
        storage: The storage.
        now: When it is read again, in milliseconds.
        without: The id of the local peer, if it is left out.
    """
    copy = MemoryStorage()
    for peer in storage.live_peers() + storage.dead_peers():
        if peer.id != without:
            kept = Peer(
                peer.id,
                transport=peer.transport,
                data={key: (value, version) for key, value, version in peer.deltas_after_version(-1)},
                max_version_seen=peer.max_version_seen,
                floor=peer.floor,
                whole=peer.whole,
                heartbeat=peer.heartbeat,
                interval=peer.interval,
                ttls=peer.ttls,
                last_time=now,
            )
            copy.put(peer.id, kept)
    return copy
