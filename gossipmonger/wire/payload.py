"""The compact digest as text: 8 characters of fingerprint, then the payload in base64.

The wire calls it `roll`. What the payload says is none of this room's business: see `gossipmonger.state.compact`.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from gossipmonger.state.message import Compact

__all__ = ["pack", "unpack"]

#: Bytes of a fingerprint, and the characters that base64 makes of them.
_FINGERPRINT = 6
_CHARACTERS = 8

#: A payload holds two numbers for each peer, of at least 2 bytes each.
_UNIT = 4


def pack(compact: Compact) -> str:
    """Return a compact digest as the text that stands on the wire."""
    return compact.fingerprint + b2a_base64(compact.payload, newline=False).decode()


def unpack(text: str) -> Compact | None:
    """Return the compact digest that this text is; None if it has not the form of one.

    Whether the payload fits the receiver's peers shows when the numbers are read.
    """
    try:
        packed = a2b_base64(text)
    except ValueError:
        return None
    # `a2b_base64` skips characters that are not base64. Only from Python 3.11 on can it be told to refuse them.
    if b2a_base64(packed, newline=False).decode() != text:
        return None
    payload = packed[_FINGERPRINT:]
    if len(packed) < _FINGERPRINT or len(payload) % _UNIT:
        return None
    return Compact(text[:_CHARACTERS], payload)
