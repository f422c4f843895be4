"""Datagrams: a message as packets that each stand alone.

A digest is a set of entries, so any part of it is a digest too, as long as the sender's own entry is there: it is what tells
the receiver who speaks and how. In a part it says `part`, so that a peer that is missing from it is not taken for one that the
sender does not know. Deltas say after which version they come, so one that overtakes another is refused and asked for again.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from gossipmonger.entry import Entry
from gossipmonger.peer import RemotePeer
from gossipmonger.transport import messages
from gossipmonger.transport.compression import deflate

__all__ = ["MOST", "pack"]

#: Datagrams that one message may take. They leave all at once, and nobody tells the sender when the receiver's buffer, some 90
#: of them by default on Linux, is full; and for more, TCP's handshake and acknowledgements cost little. It also bounds what a
#: forged digest can make a node send to somebody else.
MOST = 16

#: How many bytes of JSON go into one, deflated. A digest whose versions and heartbeats have nothing in common deflates to a
#: quarter, and a part to a little more; what does worse is cut again.
_RATIO = 3.5

#: Beyond so many into one, there is no hope that deflating is enough, and it is not tried.
_HOPE = 5


def pack(
    sender: RemotePeer,
    deltas: list[list[Any]] | None,
    digest: list[Entry] | None,
    limit: int,
    largest: int = messages.MAX_MESSAGE_SIZE,
) -> list[bytes] | None:
    """Return the datagrams that carry these deltas in their order, then the digest; None if they are better off elsewhere.

    What fits goes as it is. What does not is deflated, cut into so many parts that each fits then. A datagram costs hardly more
    than a shorter one, so to deflate what fits would spend CPU to save nothing but bytes.

    Args:
        sender: Who sends it.
        deltas: What to tell, or None.
        digest: What is known, or None.
        limit: Bytes that a datagram may have.
        largest: Bytes that it may have once it is inflated, at least `limit`.

    Returns:
        At most `MOST` datagrams. None if it would take more, or if one delta or entry is too large for any.
    """
    data = messages.encode(sender, deltas=deltas, digest=digest)
    if len(data) <= limit:
        return [data]
    if len(data) > min(_HOPE * limit, largest):
        count = ceil(len(data) / min(_RATIO * limit, largest))
    else:
        data = deflate(data)
        if len(data) <= limit:
            return [data]
        count = ceil(len(data) / limit)
    if count > MOST:
        return None
    parts = _divide(sender, deltas, digest, count)
    datagrams: list[bytes] = []
    for part in parts if len(parts) > 1 else ():
        packed = pack(sender, *part, limit, largest)
        if packed is None or len(datagrams) + len(packed) > MOST:
            return None
        datagrams += packed
    return datagrams or None


def _divide(
    sender: RemotePeer, deltas: list[list[Any]] | None, digest: list[Entry] | None, count: int
) -> list[tuple[list[list[Any]] | None, list[Entry] | None]]:
    """Return a message as about so many smaller ones."""
    if digest is None:
        return [(part, None) for part in _cut(deltas or [], count)]
    if deltas is not None:
        return [(deltas, None), (None, digest)]
    own = [entry.marked(part=True) for entry in digest if entry.id == sender.id]
    others = [entry for entry in digest if entry.id != sender.id]
    return [(None, part + own) for part in _cut(others, count)]


def _cut(items: list[Any], count: int) -> list[list[Any]]:
    size = ceil(len(items) / count)
    return [items[start : start + size] for start in range(0, len(items), size or 1)]
