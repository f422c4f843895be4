"""Compression of large messages, between peers that both speak our extensions.

The first byte of a message tells whether it is deflated: zlib's is 0x48 or 0x78, a JSON object's is "{" or white space. So
nothing has to be agreed on, and a receiver takes both from anyone.
"""

from __future__ import annotations

import zlib

from gossipmonger.errors import MessageError

__all__ = ["COMPRESS_ABOVE", "deflate", "inflate"]

#: Bytes above which a message is deflated by default. From some hundred bytes on, deflating leaves half or less.
COMPRESS_ABOVE = 256

#: zlib's fastest level. A digest of 100 entries has 15 KB. Level 1 takes 0.11 ms and leaves 2.9 KB; level 6 takes twice the
#: time and leaves 2.7 KB.
_LEVEL = 1

#: Bytes up to which a message is deflated with a window of 4 KB and as little memory. To make zlib's usual 256 KB takes 50
#: microseconds, ten times as long as to deflate such a message.
_SHORT = 8192

#: The base-two logarithm of the window, and zlib's measure of memory: for short messages, and for long ones.
_SMALL, _LARGE = (12, 5), (15, 8)

#: zlib's first byte with either window. zlib writes no other one unless it is told to.
_MARKS = b"\x48\x78"


def deflate(data: bytes) -> bytes:
    """Return the message deflated, whether that makes it shorter or not."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, *(_SMALL if len(data) <= _SHORT else _LARGE))
    return deflater.compress(data) + deflater.flush()


def inflate(data: bytes, limit: int, source: object = None) -> bytes:
    """Return a message as it was before it was deflated. One that is not deflated is returned as it is.

    Args:
        data: The message as it came.
        limit: Bytes that may come out. Hardly more are ever held, whatever the message would inflate to.
        source: Where it came from, for the error.

    Raises:
        MessageError: It is cut short or damaged, something follows it, or more than `limit` bytes come out.
    """
    if not data or data[0] not in _MARKS:
        return data
    inflater = zlib.decompressobj()
    try:
        message = inflater.decompress(data, limit + 1)
    except zlib.error as error:
        raise MessageError(f"not deflated right: {error}", source) from None
    except MemoryError:
        raise MessageError("it takes more memory than there is", source, "memory") from None
    if len(message) > limit:
        raise MessageError(f"inflates to more than {limit} bytes", source, "oversized")
    if not inflater.eof:
        raise MessageError("deflated and cut short", source)
    if inflater.unused_data:
        raise MessageError(f"{len(inflater.unused_data)} bytes after the end of what is deflated", source)
    return message
