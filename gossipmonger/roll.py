"""The roll: a digest as two numbers for each peer, between nodes that agree on who there is.

In a cluster at rest, digests say again and again who there is, where, and from which floor on, and only heartbeats change. So
nodes of our kind tell each other that part as one number, the *basis*: a hash of what they tell of all peers but heartbeats and
versions. Whoever has the same basis knows what the sender means by "the third peer", in the order of ids, and reads a
heartbeat and a version for each. Whoever has another answers with its whole digest, and the two go on as always.

Both numbers go as their distance from the peer's floor, since lives begin at the clock's microseconds: as they are, most of a
message would be the date. There is no loop over peers here that Python runs itself; in a large cluster this is what a
message costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import blake2b
from operator import add, attrgetter, itemgetter, sub
from typing import Any

from gossipmonger.peer import MAX_VERSION, Peer

__all__ = ["Roll"]

_heartbeat = attrgetter("heartbeat")
_id = attrgetter("id")
_transport = attrgetter("transport")
_floor = attrgetter("floor")
_left = attrgetter("left")
_version = attrgetter("max_version_seen")


class Roll:
    """Peers in an order that all who agree on them have.

    Args:
        peers: All that a node tells of, itself among them.
    """

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._peers = list(peers)
        self._said = _said(self._peers)

    # Made when they are needed: while a cluster forms, most rolls change before they are called.

    @cached_property
    def _rows(self) -> list[tuple[str, Peer, Any, int, bool]]:
        return sorted(zip(map(_id, self._peers), self._peers, *self._said, strict=True), key=itemgetter(0))

    @cached_property
    def called(self) -> list[Peer]:
        """The peers, in the order of their ids."""
        return [row[1] for row in self._rows]

    @cached_property
    def basis(self) -> int:
        """A number that stands for who they are, where, from which floor on, and who of them has left."""
        text = "".join([f"{id!r}{_text(transport)}{floor}{left}\n" for id, _, transport, floor, left in self._rows])
        return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest(), "big")

    @cached_property
    def _floors(self) -> list[int]:
        return [row[3] for row in self._rows]

    def __len__(self) -> int:
        return len(self._peers)

    def holds(self, peers: list[Peer]) -> bool:
        """Whether it is the roll of these peers as they are now."""
        return peers == self._peers and _said(peers) == self._said

    def heartbeats(self) -> list[int]:
        """Return the heartbeats of those called."""
        return list(map(_heartbeat, self.called))

    def versions(self) -> list[int]:
        """Return the versions of those called."""
        return list(map(_version, self.called))

    def call(self) -> list[int]:
        """Return the basis, then each peer's heartbeat and version, less its floor."""
        numbers = [self.basis] * (2 * len(self.called) + 1)
        numbers[1::2] = map(sub, self.heartbeats(), self._floors)
        numbers[2::2] = map(sub, self.versions(), self._floors)
        return numbers

    def read(self, numbers: Sequence[int]) -> tuple[list[int], list[int]] | None:
        """Return the heartbeats and the versions of those called that another's call tells; None if it is of another roll."""
        if numbers[0] != self.basis or len(numbers) != 2 * len(self.called) + 1:
            return None
        heartbeats = list(map(add, numbers[1::2], self._floors))
        versions = list(map(add, numbers[2::2], self._floors))
        if min(heartbeats) < -1 or min(versions) < 0 or max(max(heartbeats), max(versions)) > MAX_VERSION:
            return None
        return heartbeats, versions


def _said(peers: list[Peer]) -> list[list[Any]]:
    """Return all that the basis is made of beside the ids, in three lists, which are made and compared faster than one."""
    return [list(map(_transport, peers)), list(map(_floor, peers)), list(map(_left, peers))]


def _text(transport: Any) -> str:
    return repr(sorted(transport.items()) if isinstance(transport, dict) else transport)
