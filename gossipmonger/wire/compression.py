"""Compression of large messages, between peers that both speak our extensions.

The first byte of a message tells whether it is deflated: zlib's is 0x48 or 0x78, a JSON object's is "{" or white space. So
nothing has to be agreed on, and a receiver takes both from anyone.

To read a message takes time by what it inflates to. So that nobody can have megabytes read for a few kilobytes, a message may
inflate to `_DENSEST` times its bytes, or to `_ALWAYS` bytes. Most messages stay far below that. One that would not, such as a
value that repeats a letter, is padded by its sender with deflate's own empty blocks.
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

#: How many times its bytes a message may have once it is inflated. A digest of a thousand peers has five, and the slowest JSON
#: there is takes a fifth of a second a megabyte.
_DENSEST = 10

#: Bytes to which any message may inflate.
_ALWAYS = 8192

#: A block of a deflated message that has nothing in it: where the block before it ends with a byte, so does this one.
_EMPTY_BLOCK = b"\0\0\0\xff\xff"

#: Bytes up to which a message is deflated with a window of 4 KB and as little memory. To make zlib's usual 256 KB takes 50
#: microseconds, ten times as long as to deflate such a message.
_SHORT = 8192

#: The base-two logarithm of the window, and zlib's measure of memory: for short messages, and for long ones.
_SMALL, _LARGE = (12, 5), (15, 8)

#: zlib's first byte with either window. zlib writes no other one unless it is told to.
_MARKS = b"\x48\x78"


def deflate(data: bytes) -> bytes:
    """Return the message deflated, whether that makes it shorter or not, and no denser than receivers take it."""
    window = _SMALL if len(data) <= _SHORT else _LARGE
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, *window)
    deflated = deflater.compress(data) + deflater.flush()
    if len(data) <= max(_ALWAYS, _DENSEST * len(deflated)):
        return deflated
    blocks = (len(data) // _DENSEST - len(deflated)) // len(_EMPTY_BLOCK) + 1
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, *window)
    return deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH) + blocks * _EMPTY_BLOCK + deflater.flush()


def inflate(data: bytes, limit: int, source: object = None) -> bytes:
    """Return a message as it was before it was deflated. One that is not deflated is returned as it is.

    Args:
        data: The message as it came.
        limit: Bytes that may come out. Hardly more are ever held, whatever the message would inflate to.
        source: Where it came from, for the error.

    Raises:
        MessageError: It is cut short or damaged, something follows it, more than `limit` bytes come out, or it is too dense.
    """
    if not data or data[0] not in _MARKS:
        return data
    most = min(limit, max(_ALWAYS, _DENSEST * len(data)))
    inflater = zlib.decompressobj()
    try:
        message = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise MessageError(f"not deflated right: {error}", source) from None
    except MemoryError:
        raise MessageError("it takes more memory than there is", source, "memory") from None
    if len(message) > most:
        dense = "" if most == limit else f", {_DENSEST} times its own"
        raise MessageError(f"inflates to more than {most} bytes{dense}", source, "oversized")
    if not inflater.eof:
        raise MessageError("deflated and cut short", source)
    if inflater.unused_data:
        raise MessageError(f"{len(inflater.unused_data)} bytes after the end of what is deflated", source)
    return message
