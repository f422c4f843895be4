"""A message as datagrams that each stand alone.

A digest is a set of entries, so any part of it is a digest too, as long as the sender's own entry is in it: that tells the
receiver who speaks and how. A part of a round's digest is marked as a part, so that the receiver does not conclude from a
missing peer that the sender does not know it. Deltas say after which version they come, so one that overtakes another is
refused and asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import TypeVar

from gossipmonger.state.message import Digest, Kind, Message
from gossipmonger.wire.compression import deflate
from gossipmonger.wire.encoder import encode
from gossipmonger.wire.schema import MAX_MESSAGE_SIZE

__all__ = ["MOST", "divide"]

_Item = TypeVar("_Item")

#: Datagrams that one message may take. They leave all at once, and nobody tells the sender when the receiver's buffer is full,
#: which by default on Linux holds some 90 of them. For longer messages, TCP's handshake and acknowledgements cost little. The
#: limit also bounds what a forged digest can make a node send to somebody else.
MOST = 16

#: Bytes of JSON for each byte of a deflated datagram. A digest whose versions and heartbeats have nothing in common deflates to
#: a quarter, and a part of it to a little more. What does worse is cut again.
_RATIO = 3.5

#: A message that is longer than so many datagrams will not fit into one, so nobody tries to deflate it as a whole.
_HOPE = 5


def divide(
    message: Message, limit: int, largest: int = MAX_MESSAGE_SIZE, encode: Callable[[Message], bytes] = encode
) -> list[bytes] | None:
    """Return the datagrams that carry a message, its deltas in their order and then its digest.

    What fits goes as it is. What does not fit is deflated, and cut into so many parts that each fits then. A datagram costs
    hardly more than a shorter one, so to deflate what fits would spend CPU time to save nothing but bytes.

    A rumour is never cut: its deltas would be no news without its digest.

    Args:
        message: What to send.
        limit: Bytes that a datagram may have.
        largest: Bytes that it may have once it is inflated, at least `limit`.
        encode: How to encode the message as a whole, such as `Encoder.encode`, which may have done so before.

    Returns:
        At most `MOST` datagrams; None if they are not the way to send this, because it would take more, one delta or entry is
        too large for any, or it is a rumour that takes more than one.

    Raises:
        TypeError, ValueError: A peer's transport is something that JSON has no form for.
    """
    data = encode(message)
    if len(data) <= limit:
        return [data]
    if len(data) > min(_HOPE * limit, largest):
        count = ceil(len(data) / min(_RATIO * limit, largest))
    else:
        data = deflate(data)
        if len(data) <= limit:
            return [data]
        count = ceil(len(data) / limit)
    if count > MOST or (message.digest is not None and message.digest.kind is Kind.RUMOR):
        return None
    parts = _parts(message, count)
    datagrams: list[bytes] = []
    for part in parts if len(parts) > 1 else ():
        divided = divide(part, limit, largest)
        if divided is None or len(datagrams) + len(divided) > MOST:
            return None
        datagrams += divided
    return datagrams or None


def _parts(message: Message, count: int) -> list[Message]:
    """Return a message as about so many smaller ones."""
    sender, deltas, digest = message
    if digest is None:
        return [Message(sender, part, None) for part in _cut(deltas or (), count)]
    if deltas is not None:
        return [Message(sender, deltas, None), Message(sender, None, digest)]
    kind = Kind.PART if digest.kind is Kind.ROUND else digest.kind
    own = [entry for entry in digest.entries if entry.id == sender.id]
    others = [entry for entry in digest.entries if entry.id != sender.id]
    return [Message(sender, None, Digest(kind, digest.header, [*part, *own])) for part in _cut(others, count)]


def _cut(items: Sequence[_Item], count: int) -> list[Sequence[_Item]]:
    size = ceil(len(items) / count)
    return [items[start : start + size] for start in range(0, len(items), size or 1)]
