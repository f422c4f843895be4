"""What the tests of the protocol room share: a protocol without sockets, threads or a clock, and what to say to it."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterable, Sequence
from typing import Any

from gossipmonger.protocol import Config, Event, Output, Protocol, Send
from gossipmonger.state import Delta, Digest, Entry, ExtendedPeer, Header, Kind, Message, Peer, RemotePeer
from gossipmonger.storage import MemoryStorage

NOW = 1_700_000_000_000.0
DAY = 86_400_000.0

#: A sender that speaks our extensions, and one of which only its id and its address are known.
B = ExtendedPeer("b", "at b")
B_NODE_JS = RemotePeer("b", "at b")

#: The header of a digest that says nothing but that its sender speaks our extensions.
OURS = Header()

_DEFAULTS: dict[str, Any] = {
    "dead_peer_phi": 8,
    "gossip_interval": 1000,
    "max_deltas_per_gossip": None,
    "minimum_live_peers": 1,
    "gossip_fanout": 1,
    "rumor_fanout": 4,
    "rumor_interval": 50,
    "rumor_rate": 23,
    "max_exchanges_per_gossip": None,
    "forget_dead_peers_after": DAY,
    "delta_order": "depth",
    "flow_control": False,
    "max_peers": 20_000,
    "max_keys_per_peer": 100_000,
    "max_years_ahead": 10,
}


class Copying(MemoryStorage):
    """Returns copies, as a database does."""

    def get(self, id: str) -> Peer | None:
        peer: Peer | None = copy(super().get(id))
        return peer

    def put(self, id: str, peer: Peer) -> None:
        self.remove(id)
        super().put(id, copy(peer))

    def live_peers(self) -> list[Peer]:
        return [copy(peer) for peer in super().live_peers()]

    def dead_peers(self) -> list[Peer]:
        return [copy(peer) for peer in super().dead_peers()]


def copy(peer: Any) -> Any:
    return pickle.loads(pickle.dumps(peer))


def a_config(**changes: Any) -> Config:
    return Config(**{**_DEFAULTS, **changes})


def a_protocol(
    *peers: Peer, seed: int = 0, local: Peer | None = None, storage: Any = None, **config: Any
) -> tuple[Protocol, Peer, Any]:
    """A protocol that knows these peers, its own peer, and its storage."""
    storage = MemoryStorage() if storage is None else storage
    local = local or Peer("a", transport="at a")
    storage.put(local.id, local)
    protocol = Protocol(local, storage, a_config(**config), random.Random(seed), NOW)
    for peer in peers:
        storage.put(peer.id, peer)
    return protocol, local, storage


def a_peer(id: str, silent: float = 0, left: bool = False, ours: bool | None = None, **attributes: Any) -> Peer:
    peer = Peer(id, transport=f"at {id}", last_time=NOW - silent, **attributes)
    peer.left, peer.speaks_extensions = left, ours
    return peer


def entry(id: str, version: int = 0, **more: Any) -> Entry:
    return Entry(id, version, **{"transport": f"at {id}", **more})


def a_digest(sender: str, entries: Iterable[Entry], kind: Kind = Kind.ROUND, header: Header | None = OURS) -> Digest:
    """A digest as this sender makes it; its own entry is added unless it is the last of these."""
    told = list(entries)
    if not told or told[-1].id != sender:
        told.append(entry(sender, heartbeat=-1 if header is None else 1))
    return Digest(kind, header, told)


def step(
    protocol: Protocol,
    sender: RemotePeer = B,
    *,
    now: float = NOW,
    deltas: Sequence[Delta] | None = None,
    entries: Iterable[Entry] | None = None,
    kind: Kind = Kind.ROUND,
    header: Header | None = OURS,
) -> Output:
    """Take one message. Its digest comes from a node that speaks our extensions, unless the header is None."""
    digest = None if entries is None else a_digest(sender.id, entries, kind, header)
    return protocol.step(now, Message(sender, deltas, digest))


def events(output: Output, name: str) -> list[tuple[Any, ...]]:
    return [item.args for item in output if isinstance(item, Event) and item.name == name]


def sends(output: Output) -> list[Send]:
    return [item for item in output if isinstance(item, Send)]


def digest_of(send: Send) -> Digest:
    assert send.message.digest is not None
    return send.message.digest


def told_in(output: Output) -> list[Delta]:
    """The deltas that are sent."""
    return [delta for send in sends(output) for delta in send.message.deltas or ()]


def ids(digest: Digest) -> list[str]:
    return [each.id for each in digest.entries]


def reply_to(output: Output) -> dict[str, Entry]:
    """The entries of the one reply in it, by their ids; none if there is no reply."""
    digests = [send.message.digest for send in sends(output) if send.message.digest is not None]
    assert len(digests) <= 1
    assert all(digest.kind is Kind.REPLY for digest in digests)
    return {each.id: each for digest in digests for each in digest.entries}
