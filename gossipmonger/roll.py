"""The roll: a digest as two numbers for each peer, between nodes that agree on who there is.

In a cluster at rest, digests say again and again who there is, where, and from which floor on, and only heartbeats change. So
nodes of our kind tell each other that part as one word, the *basis*: a hash of what they tell of all peers but heartbeats and
versions. Whoever has the same basis knows what the sender means by "the third peer", in the order of ids, and reads a
heartbeat and a version for each. Whoever has another answers with its whole digest, and the two go on as always.

Both numbers go as their distance from the peer's floor, since lives begin at the clock's microseconds: as they are, most of a
message would be the date. They are kept in that form, and in arrays of their own: to ask every peer for its numbers at every
message would be most of what a message costs. So a roll has to be told, by `note`, when a peer of it has changed.
"""

from __future__ import annotations

import sys
from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable
from functools import cached_property
from hashlib import blake2b
from operator import add, attrgetter, sub
from typing import Any

from gossipmonger.peer import MAX_VERSION, Peer

__all__ = ["Roll", "is_call"]

#: Characters of a basis, which stand for 6 bytes.
_BASIS = 8

#: Bytes that a number may have, and an array's code for it, narrowest first.
_CODES = {2: "h", 4: "i", 8: "q"}

_id = attrgetter("id")
_heartbeat = attrgetter("heartbeat")
_version = attrgetter("max_version_seen")


class Roll:
    """Peers in an order that all who agree on them have.

    Args:
        peers: All that a node tells of, itself among them.
    """

    # All but what tells whether it holds is worked out when it is asked for first: while a cluster forms, each round has
    # another roll, and nobody calls it.

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._peers = list(peers)
        self._said = {peer.id: (peer.transport, peer.floor, peer.left) for peer in self._peers}
        self._changed = False

    @cached_property
    def called(self) -> list[Peer]:
        """The peers, in the order of their ids."""
        return sorted(self._peers, key=_id)

    @cached_property
    def floors(self) -> list[int]:
        """Their floors, in this order."""
        return [self._said[peer.id][1] for peer in self.called]

    @cached_property
    def behind(self) -> dict[str, Peer]:
        """Those of whom anyone was heard to know more, by their ids."""
        return {peer.id: peer for peer in self.called if peer.behind}

    @property
    def heartbeats(self) -> array[int]:
        """Their heartbeats, less their floors."""
        return self._numbers[0]

    @property
    def versions(self) -> array[int]:
        """Their versions, less their floors; both arrays have the same width, the least that does."""
        return self._numbers[1]

    @cached_property
    def _numbers(self) -> list[array[int]]:
        return _narrowed(self._now(_heartbeat), self._now(_version))

    def _now(self, number: Callable[[Peer], int]) -> array[int]:
        return array("q", map(sub, map(number, self.called), self.floors))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {peer.id: place for place, peer in enumerate(self.called)}

    @cached_property
    def basis(self) -> str:
        """A word that stands for who they are, where, from which floor on, and who of them has left."""
        said = [(peer.id, *self._said[peer.id]) for peer in self.called]
        text = "".join([f"{id!r}{_text(transport)}{floor}{left}\n" for id, transport, floor, left in said])
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest()
        return b2a_base64(digest, newline=False).decode()

    @cached_property
    def _room(self) -> int:
        """How many bytes a number may have so that no floor makes it more than a version can be."""
        return (MAX_VERSION - max(self.floors)).bit_length() // 8

    def __len__(self) -> int:
        return len(self._peers)

    def number(self, id: str) -> int | None:
        """Return the place of the peer with this id among those called, None if it is not there."""
        return self._places.get(id)

    def note(self, peer: Peer) -> None:
        """Note what has become of a peer, which need not be in the roll."""
        said = self._said.get(peer.id)
        if said is None or self._changed:
            return
        transport, floor, left = said
        if peer.floor != floor or peer.left != left or (peer.transport is not transport and peer.transport != transport):
            self._changed = True
            return
        if "behind" in self.__dict__:
            if peer.behind:
                self.behind[peer.id] = peer
            else:
                self.behind.pop(peer.id, None)
        if "_numbers" in self.__dict__:
            self._write(self._places[peer.id], peer.heartbeat - floor, peer.max_version_seen - floor)

    def _write(self, place: int, heartbeat: int, version: int) -> None:
        try:
            self.heartbeats[place], self.versions[place] = heartbeat, version
        except OverflowError:
            self._widen()
            self._write(place, heartbeat, version)

    def _widen(self) -> None:
        code = _CODES[2 * self.heartbeats.itemsize]
        self._numbers = [array(code, numbers) for numbers in self._numbers]

    def holds(self, peers: list[Peer]) -> bool:
        """Whether it is the roll of these peers as they are now."""
        return not self._changed and peers == self._peers

    def note_heartbeats(self) -> None:
        """Note the heartbeats of all."""
        if "_numbers" in self.__dict__:
            self._numbers = _narrowed(self._now(_heartbeat), self.versions)

    def call(self) -> str:
        """Return the basis, then all heartbeats and all versions, less the floors, low byte first; in base64 as a whole."""
        numbers = self.heartbeats + self.versions
        if sys.byteorder == "big":
            numbers.byteswap()
        return self.basis + b2a_base64(numbers.tobytes(), newline=False).decode()

    def read(self, call: str) -> tuple[array[int], array[int]] | None:
        """Return the heartbeats and the versions that another's call tells, less the floors; None if it is of another roll.

        Args:
            call: What `is_call`.
        """
        packed, count = a2b_base64(call[_BASIS:]), len(self)
        code = _CODES.get(len(packed) // (2 * count))
        if code is None or len(packed) % (2 * count) or not call.startswith(self.basis):
            return None
        numbers = array(code, packed)
        if sys.byteorder == "big":
            numbers.byteswap()
        while numbers.typecode != self.heartbeats.typecode:
            try:
                numbers = array(self.heartbeats.typecode, numbers)
            except OverflowError:
                self._widen()
        # A number that is too low says that its sender knows nothing, and does no harm.
        if numbers.itemsize > self._room and max(map(add, numbers, [*self.floors, *self.floors])) > MAX_VERSION:
            return None
        # As wide as any number can be, since the caller writes into them what a peer of the roll has become meanwhile.
        return array("q", numbers[:count]), array("q", numbers[count:])


def _narrowed(*wide: array[int]) -> list[array[int]]:
    """Return arrays of the same, in the least width that does for all."""
    for code in _CODES.values():
        try:
            return [array(code, numbers) for numbers in wide]
        except OverflowError:
            pass
    return [*wide]


def is_call(call: Any) -> bool:
    """Whether this has the form of a call; whose, and whether its numbers can be any, is seen when it is read."""
    if type(call) is not str:
        return False
    try:
        packed = a2b_base64(call)
    except ValueError:
        return False
    # What is no base64 is left out where it is read, unless it is told to be strict, which before Python 3.11 it can't.
    return len(packed) >= 6 and len(packed) % 4 == 2 and b2a_base64(packed, newline=False).decode() == call


def _text(transport: Any) -> str:
    if type(transport) is dict and len(transport) == 2 and "host" in transport and "port" in transport:  # as most, so faster
        return f"{transport['host']!r}:{transport['port']!r}"
    return repr(sorted(transport.items()) if isinstance(transport, dict) else transport)
