"""Messages as data: what one node tells another, with no word on how it travels or what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal, NamedTuple

from gossipmonger.errors import shown

__all__ = [
    "INTERVAL", "MAX_INTERVAL", "MAX_TTL", "MIN_TTL", "Compact", "Delta", "Digest", "Entry", "ExtendedPeer",
    "Header", "Kind", "Message", "RemotePeer", "State", "own_index",
]  # fmt: skip

#: What is thought of a peer.
State = Literal["live", "dead", "left"]

#: Milliseconds between two rounds of a peer of which no other number is told.
INTERVAL = 1000

#: The longest interval between two rounds, in milliseconds: a day.
MAX_INTERVAL = 86_400_000

#: The shortest ttl of a key, in seconds: a millisecond, less than any clock here tells.
MIN_TTL = 0.001

#: The longest ttl of a key, in seconds: ten years.
MAX_TTL = 315_360_000

#: Bytes of a delta in a message beside its id, key and value.
_FRAME = 43


class _Address(NamedTuple):
    id: str
    transport: Any


class RemotePeer(_Address):
    """Who and where: all that is known of a message's sender or of a seed.

    Attributes:
        id: The peer's id.
        transport: What the transport needs to reach it; for TCP a mapping with `host` and `port`.
        speaks_extensions: Whether it is known to read what this package adds to the wire, which a Node.js node does not.
        vouched: The cluster that both ends of the connection have named on which its message came; None for none.
    """

    __slots__ = ()

    speaks_extensions = False
    vouched: str | None = None

    def __repr__(self) -> str:
        return f"RemotePeer(id={shown(self.id)}, transport={shown(self.transport)})"


class ExtendedPeer(RemotePeer):
    """A remote peer that speaks our extensions.

    A transport may hand out a message's sender as a subclass that carries the way back. The protocol answers to that very
    object.
    """

    __slots__ = ()

    speaks_extensions = True


class Kind(Enum):
    """What a digest is, which decides what it is answered with: see the table in `gossipmonger.protocol.protocol`."""

    ROUND = "round"
    REPLY = "reply"
    RUMOR = "rumor"
    PART = "part"
    FAREWELL = "farewell"


class Entry(NamedTuple):
    """What a digest tells about one peer.

    Attributes:
        id: The peer's id.
        version: The highest version that the sender knows; on the wire, `maxVersionSeen`.
        transport: Where the peer is reached.
        heartbeat: How many digests it has sent, -1 if nobody has counted.
        floor: A version at or below which nothing of it exists.
        heard: A version above `version` that the sender has heard of and does not have yet; 0 for none.
        left: Whether it has said goodbye.
        age: Milliseconds since the sender heard of it last, by way of all that passed it on, if it has left or has keys with a
            ttl; 0 if the sender does not say.
        interval: Milliseconds between two rounds of it.
    """

    id: str
    version: int
    transport: Any
    heartbeat: int = -1
    floor: int = 0
    heard: int = 0
    left: bool = False
    age: int = 0
    interval: int = INTERVAL


class Compact(NamedTuple):
    """A compact digest: the numbers of all peers that sender and receiver agree on, in the order of their ids.

    Attributes:
        fingerprint: What both must agree on for the numbers to mean anything, hashed; 8 characters.
        payload: Each peer's heartbeat, then each peer's version, less their floors: see `gossipmonger.state.compact`. To read
            them takes the number of peers, which whoever has the same fingerprint knows.
    """

    fingerprint: str
    payload: bytes


class Header(NamedTuple):
    """What a digest says about itself. It travels as fields of the sender's own entry.

    Attributes:
        flow: The sender's rates, `[rho, tau]` or `[rho, tau, grant]`: see `gossipmonger.state.flow`. None for none.
        compact: The compact digest; None for none.
        hints: Peers whose dials were refused, each as its id and the heartbeat that the sender knows; None for none.
        ask: Whether this is to be answered whatever there is to say, at least with the entries of both sides.
        cluster: The name of the sender's cluster; None if it has none.
        forget: Peers that an operator has dropped, each as its id and the heartbeat up to which it is to be forgotten; None for
            none.
        observer: Whether the sender only asks. It is no peer: what it is told is all that there is to it.
    """

    flow: Sequence[float] | None = None
    compact: Compact | None = None
    hints: Sequence[Sequence[Any]] | None = None
    ask: bool = False
    cluster: str | None = None
    forget: Sequence[Sequence[Any]] | None = None
    observer: bool = False


class Digest(NamedTuple):
    """What a node knows.

    Attributes:
        kind: What it is sent for.
        header: None if the sender does not speak our extensions.
        entries: One for each peer that it tells of. The sender's own stands last in what we send.
    """

    kind: Kind
    header: Header | None
    entries: Sequence[Entry]


class Delta(NamedTuple):
    """One write of one peer.

    Attributes:
        peer_id: Whose write it is.
        key: The key.
        value: A JSON value.
        version: Its version.
        after: The version after which it comes; None if the sender does not say.
        more: How far above `version` the sender's own knowledge of the peer reached, where the delta leaps over versions.
        ttl: Seconds for which the key is there, unless its owner lives and sets it again; 0 for no limit.
    """

    peer_id: str
    key: str
    value: Any
    version: int
    after: int | None = None
    more: int = 0
    ttl: float = 0.0

    @property
    def size(self) -> int:
        """About how many bytes it takes in a message, text counted as if it were plain ASCII."""
        return _FRAME + len(self.peer_id) + len(self.key) + len(repr(self.value))


class Message(NamedTuple):
    """One message. The deltas are handled before the digest.

    Attributes:
        sender: Who sent it, by its own word.
        deltas: What it tells; None for nothing.
        digest: What it knows; None if it does not say.
    """

    sender: RemotePeer
    deltas: Sequence[Delta] | None = None
    digest: Digest | None = None

    @property
    def header(self) -> Header | None:
        """What its digest says about itself; None if it has no digest, or one of a Node.js node."""
        return None if self.digest is None else self.digest.header


def own_index(entries: Sequence[Any], sender_id: str) -> int | None:
    """Return the index of the sender's own entry, the last one with its id; None if there is none."""
    for index in range(len(entries) - 1, -1, -1):
        if entries[index].id == sender_id:
            return index
    return None
