"""The compact digest: two numbers for each peer, between nodes that agree on who there is.

In a cluster at rest, digests repeat again and again who there is, where, and from which floor on; only heartbeats change. So
nodes that speak our extensions replace that part by a *fingerprint*, a hash of what they tell of all peers apart from
heartbeats and versions. A node with the same fingerprint knows which peer "the third one" is, in the order of ids, and reads a
heartbeat and a version for each. A node with another fingerprint answers with its whole digest, and the two go on from there.

Both numbers are told as their distance from the peer's floor. Lives begin at the clock's microseconds, so most of a message
would be the date otherwise.

`encode` and `decode` are the two directions. The fingerprint is kept as long as it holds, since hashing everybody for each
message would cost more than the rest of it; whoever changes a peer calls `note`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import cached_property
from hashlib import blake2b
from operator import add, attrgetter, sub
from typing import Any

from gossipmonger.state.message import Compact
from gossipmonger.state.payload import narrow, numbers
from gossipmonger.state.peer import Peer

__all__ = ["CompactDigest"]

_id, _heartbeat, _version = attrgetter("id"), attrgetter("heartbeat"), attrgetter("max_version_seen")


class CompactDigest:
    """What a node tells of a set of peers, as far as others have to agree with it.

    Args:
        peers: Everybody that the node tells of, itself included.

    Attributes:
        peers: As above.
    """

    def __init__(self, peers: Iterable[Peer]) -> None:
        self.peers: list[Peer] = list(peers)
        self._told = {peer.id: (peer.transport, peer.floor, peer.left, peer.interval) for peer in self.peers}
        self._changed = False

    def __len__(self) -> int:
        return len(self.peers)

    def covers(self, peers: list[Peer]) -> bool:
        """Whether the fingerprint stands for these peers as they are now."""
        return not self._changed and peers == self.peers

    def note(self, peer: Peer) -> None:
        """Note a change of a peer, which may be one that is not told of here."""
        told = self._told.get(peer.id)
        if told is None:
            return
        transport, *rest = told
        if rest != [peer.floor, peer.left, peer.interval] or (peer.transport is not transport and peer.transport != transport):
            self._changed = True

    @cached_property
    def _ordered(self) -> list[Peer]:
        return sorted(self.peers, key=_id)

    @cached_property
    def _floors(self) -> list[int]:
        return [peer.floor for peer in self._ordered]

    @cached_property
    def fingerprint(self) -> str:
        """Eight characters that stand for who there is, where, from which floor on, who has left, how often each gossips."""
        told = [(peer.id, *self._told[peer.id]) for peer in self._ordered]
        text = "".join([f"{id!r}{_text(transport)}{floor}{left}{interval}\n" for id, transport, floor, left, interval in told])
        return b64encode(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest()).decode()

    def encode(self) -> Compact:
        """Return what is known of everybody now."""
        heartbeats = map(sub, map(_heartbeat, self._ordered), self._floors)
        versions = map(sub, map(_version, self._ordered), self._floors)
        return Compact(self.fingerprint, narrow(list(heartbeats), list(versions)))

    def decode(self, compact: Compact) -> Iterator[tuple[Peer, int, int]] | None:
        """Yield each peer with the heartbeat and the version that another node tells; None if it has another fingerprint."""
        told = numbers(compact.payload, len(self)) if compact.fingerprint == self.fingerprint else None
        if told is None:
            return None
        floors = self._floors
        return zip(self._ordered, map(add, told[0], floors), map(add, told[1], floors), strict=True)


def _text(transport: Any) -> str:
    if type(transport) is dict and len(transport) == 2 and "host" in transport and "port" in transport:
        return f"{transport['host']!r}:{transport['port']!r}"
    return repr(sorted(transport.items()) if isinstance(transport, dict) else transport)
