"""The numbers of a compact digest as bytes, and back.

The payload holds the heartbeats of all peers, then their versions, both less the peers' floors, as signed little-endian
integers. All have the same width: the narrowest of 2, 4 and 8 bytes that fits every one of them. The payload does not name
its width. The receiver works it out from the number of peers, which it knows once the fingerprints match.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

__all__ = ["narrow", "numbers"]

#: Bytes that a number may take, and the code that an array has for it; narrowest first.
_CODES = {2: "h", 4: "i", 8: "q"}


def narrow(heartbeats: Sequence[int], versions: Sequence[int]) -> bytes:
    """Return the payload of these numbers.

    Args:
        heartbeats: Each peer's heartbeat, less its floor.
        versions: Each peer's version, less its floor; as many, in the same order.

    Raises:
        OverflowError: A number does not fit in 8 bytes.
    """
    wide = array("q", heartbeats)
    wide.extend(array("q", versions))
    packed = _narrowest(wide)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def numbers(payload: bytes, count: int) -> tuple[array[int], array[int]] | None:
    """Return the heartbeats and the versions in a payload, less the floors.

    Both arrays are as wide as any number can be, so the caller may write into them.

    Args:
        payload: What `narrow` made, or what claims to be it.
        count: How many peers the payload is about.

    Returns:
        The two arrays; None if the payload cannot be about so many peers, or if there are none.
    """
    if count < 1:
        return None
    width, rest = divmod(len(payload), 2 * count)
    code = _CODES.get(width)
    if code is None or rest:
        return None
    packed = array(code, payload)
    if sys.byteorder == "big":
        packed.byteswap()
    return array("q", packed[:count]), array("q", packed[count:])


def _narrowest(wide: array[int]) -> array[int]:
    for code in _CODES.values():
        try:
            return array(code, wide)
        except OverflowError:
            pass
    return wide
