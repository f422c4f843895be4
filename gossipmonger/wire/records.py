"""Records: the bytes of a link whose two ends share keys.

All that follows the two `HELLO`s goes in records, whatever frames that are:

    4 | length (2 bytes) | random (8) | what AES-GCM makes of some bytes of frames, its tag (16) at the end

Each side seals with a key that is derived from the shared one, from both `HELLO`s and from which side it is. So a record opens
on no other link and not at its sender, and a recorded link cannot be played to anybody, whose own `HELLO` would be another. The
nonce is the number of the record, which is not told, and the random bytes; so one that is left out, repeated or moved does not
open either. The number alone would do, but for a machine that is restored from a snapshot and sends other records under the
same numbers.

Which of the shared keys it is need not be told: the last one that has opened a record is tried first, and then the others. When
a cluster changes its key, links go on. A key that was removed opens nothing any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from gossipmonger.errors import SealError
from gossipmonger.wire.frames import Splitter
from gossipmonger.wire.sealing import MARK, Key, Keyring, associated

__all__ = ["PREFIX", "Records", "SealedSplitter", "begins_sealed", "end_of"]

#: Bytes in front of a record or `HELLO`.
PREFIX = 3

#: Bytes of the random part of a nonce, and of a tag.
_RANDOM, _TAG = 8, 16

#: Bytes of frames in one record: its length has two bytes.
_MOST = 0xFFFF - _RANDOM - _TAG


def begins_sealed(data: bytes | bytearray) -> bool | None:
    """Whether what has come on a connection is a whole record or sealed `HELLO`; None if that cannot be told yet."""
    if data[:1] not in (b"", MARK):
        return False
    return True if PREFIX <= len(data) >= end_of(data) else None


def end_of(data: bytes | bytearray) -> int:
    """Return where a record or sealed `HELLO` ends, of which three bytes or more are there."""
    return PREFIX + int.from_bytes(data[1:PREFIX], "big")


class Records:
    """Seals what one end of a link writes, and opens what the other end has written, in this order and no other.

    Args:
        keyring: The keys.
        cluster: The name of the node's cluster.
        link: What tells this link from all others.
        dialled: Whether this is the end that has dialled.
    """

    def __init__(self, keyring: Keyring, cluster: str | None, link: bytes, dialled: bool) -> None:
        self._keyring = keyring
        self._about = associated(cluster, b"record")
        self._labels = b"dialled" + link, b"accepted" + link
        if not dialled:
            self._labels = self._labels[::-1]
        self._sealed = self._opened = 0
        self._sealing: tuple[Key | None, Any] = None, None  # the key in use, and the cipher with what is derived of it
        self._opening: tuple[Key | None, Any] = None, None

    def seal(self, data: bytes) -> bytes:
        """Return these bytes as records."""
        if len(data) > _MOST:
            return b"".join([self.seal(data[start : start + _MOST]) for start in range(0, len(data), _MOST)])
        key, cipher = self._sealing
        if key is not self._keyring.first:
            key = self._keyring.first
            self._sealing = key, cipher = key, self._keyring.cipher(key, self._labels[0])
        random = os.urandom(_RANDOM)
        sealed = cipher.encrypt(_nonce(self._sealed, random), data, self._about)
        self._sealed += 1
        return b"%b%b%b%b" % (MARK, (_RANDOM + len(sealed)).to_bytes(2, "big"), random, sealed)

    def open(self, record: bytes, source: object) -> bytes:
        """Return what was sealed in the next record, which stands here without its prefix.

        Raises:
            SealError: No key opens it, as that which comes next.
        """
        nonce, sealed = _nonce(self._opened, record[:_RANDOM]), record[_RANDOM:]
        former, cipher = self._opening
        for key in self._keyring.keys(former) if len(sealed) >= _TAG else ():
            if key is not former:
                cipher = self._keyring.cipher(key, self._labels[1])
            opened = self._keyring.decrypted(cipher, nonce, sealed, self._about)
            if opened is not None:
                self._opened += 1
                self._opening = key, cipher
                return opened
        raise SealError("no key opens what comes on the link: it was altered, or sealed with a key that was removed", source)


def _nonce(number: int, random: bytes) -> bytes:
    return (number & 0xFFFFFFFF).to_bytes(4, "big") + random


class SealedSplitter(Splitter):
    """Takes the bytes that come on a link, opens the records and yields the frames in them: see `Splitter`.

    Args:
        records: Opens them.
        limit: Bytes that a message may have.
        source: Where they come from, for errors.
    """

    def __init__(self, records: Records, limit: int, source: object) -> None:
        super().__init__(limit, source)
        self._records = records
        self._closed = bytearray()  # records that have not been opened

    def __len__(self) -> int:
        """Bytes of a record or frame that is not complete yet."""
        return len(self._closed) + super().__len__()

    def frames(self, data: bytes) -> Iterator[bytes]:
        """Yield the frames that are complete now.

        Raises:
            MessageError: A record does not open, or what is in it is no frame. Nothing that follows can be read.
        """
        closed = self._closed
        closed += data
        while begun := begins_sealed(closed):
            record, end = bytes(closed[PREFIX : end_of(closed)]), end_of(closed)
            del closed[:end]
            opened = self._records.open(record, self.source)
            if opened:
                yield from super().frames(opened)
        if begun is False:
            raise SealError("what comes on the link is not sealed, and this node has a keyring", self.source)
