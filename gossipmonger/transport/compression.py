"""Compression of large messages, between peers that both know of it.

A message's first byte tells whether it is deflated: zlib's is 0x78, a JSON object's "{" or white space. So nothing has to be
agreed on, and a receiver takes both from anyone.
"""

from __future__ import annotations

import zlib

from gossipmonger.errors import MessageError
from gossipmonger.peer import Kin, RemotePeer

__all__ = ["deflate", "deflate_for", "inflate"]

#: zlib's first byte: deflate, with the largest window. It writes no other one unless it is told to.
_MARK = 0x78

#: zlib's fastest. A digest of 100 entries is 15 KB, at level 1 it takes 0.11 ms and leaves 2.9 KB, at level 6 twice the time
#: for 2.7 KB: see `benchmarks/compression.py`.
_LEVEL = 1


def deflate(data: bytes) -> bytes:
    """Return the message deflated, whether that is shorter or not."""
    return zlib.compress(data, _LEVEL)


def deflate_for(remote_peer: RemotePeer, data: bytes, above: int | None) -> bytes:
    """Return the message as it goes to a peer: deflated if it has more than `above` bytes, `None` for never.

    Only a peer that is known to be of our kind can read that, and only a message that gets shorter is worth it.
    """
    if above is None or len(data) <= above or not isinstance(remote_peer, Kin):
        return data
    return min(data, deflate(data), key=len)


def inflate(data: bytes, limit: int, source: object = None) -> bytes:
    """Return a message as it was before it was deflated; one that is not deflated as it is.

    Args:
        data: The message as it came.
        limit: Bytes that may come out. Not many more are ever held, whatever the message would inflate to.
        source: Where it came from, for the error.

    Raises:
        MessageError: It is cut short or damaged, something follows it, or more than `limit` bytes come out.
    """
    if not data or data[0] != _MARK:
        return data
    inflater = zlib.decompressobj()
    try:
        message = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise MessageError(f"not deflated right: {error}", source) from None
    if len(message) > limit:
        raise MessageError(f"inflates to more than {limit} bytes", source)
    if not inflater.eof:
        raise MessageError("deflated and cut short", source)
    if inflater.unused_data:
        raise MessageError(f"{len(inflater.unused_data)} bytes after the end of what is deflated", source)
    return message
