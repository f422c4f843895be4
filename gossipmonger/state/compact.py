"""The compact digest: two numbers for each peer, between nodes that agree on who there is.

In a cluster at rest, digests repeat again and again who there is, where, and from which floor on; only heartbeats change. So
nodes that speak our extensions replace that part by a *fingerprint*, a hash of what they tell of all peers apart from
heartbeats and versions. A node with the same fingerprint knows which peer "the third one" is, in the order of ids, and reads a
heartbeat and a version for each. A node with another fingerprint answers with its whole digest, and the two go on from there.

Both numbers are told as their distance from the peer's floor. Lives begin at the clock's microseconds, so most of a message
would be the date otherwise. The *payload* holds the heartbeats of all peers, then their versions, as signed little-endian
integers. All have the same width: the narrowest of 2, 4 and 8 bytes that fits every one of them. The payload does not name its
width. The receiver works it out from the number of peers, which it knows once the fingerprints match.

`encode` and `decode` are the two directions. The fingerprint is kept as long as it holds, since hashing everybody for each
message would cost more than the rest of it; whoever changes a peer calls `note`.
"""

from __future__ import annotations

import sys
from array import array
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from operator import add, attrgetter, sub
from typing import Any

from gossipmonger.state.message import Compact
from gossipmonger.state.peer import Peer

__all__ = ["CompactDigest", "narrow", "numbers"]

#: Bytes that a number may take, and the code that an array has for it; narrowest first.
_CODES = {2: "h", 4: "i", 8: "q"}

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
        told = numbers(compact.payload, len(self.peers)) if compact.fingerprint == self.fingerprint else None
        if told is None:
            return None
        floors = self._floors
        return zip(self._ordered, map(add, told[0], floors), map(add, told[1], floors), strict=True)


def _text(transport: Any) -> str:
    if type(transport) is dict and len(transport) == 2 and "host" in transport and "port" in transport:
        return f"{transport['host']!r}:{transport['port']!r}"
    return repr(sorted(transport.items()) if isinstance(transport, dict) else transport)


def narrow(heartbeats: Sequence[int], versions: Sequence[int]) -> bytes:
    """Return the payload of as many heartbeats and versions, less the floors; raise OverflowError if one takes over 8 bytes."""
    wide = array("q", heartbeats)
    wide.extend(array("q", versions))
    for code in _CODES.values():
        try:
            packed = array(code, wide)
            break
        except OverflowError:  # not in the last, which is as wide
            pass
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def numbers(payload: bytes, count: int) -> tuple[array[int], array[int]] | None:
    """Return the heartbeats and versions of a payload, as distances from the floors; None if its size fits no such count."""
    if count < 1:
        return None
    width, rest = divmod(len(payload), 2 * count)
    code = _CODES.get(width)
    if code is None or rest:
        return None
    packed = array(code, payload)
    if sys.byteorder == "big":
        packed.byteswap()
    return array("q", packed[:count]), array("q", packed[count:])
