"""JSON values: what a key may hold, how it is copied, and when two are the same.

A value that has been taken in is never changed again: `copied` makes a private copy on the way in and on the way out,
so that the state, the network and every handler may share one object without a lock.

Equality is JSON's and not Python's: `True` is no `1`, while `1` and `1.0` are the same number (a Node node could not tell
them apart).
"""

from __future__ import annotations

import math
from typing import Any

from gossipmonger.errors import shown

__all__ = ["MAX_NESTING", "TOMBSTONE", "checked", "copied", "copied_key", "is_tombstone", "same"]

#: Lists and objects inside each other. Far below the depth at which any JSON parser of a peer gives up.
MAX_NESTING = 100

#: Types whose values JSON can always carry.
_PLAIN = frozenset({str, bool, type(None)})

_TOMBSTONE_KEY = "gossipmonger:deleted"

#: What a deleted key holds until its owner has forgotten it: an ordinary value, so that it survives a Node node's relay.
TOMBSTONE: dict[str, Any] = {_TOMBSTONE_KEY: True}


def is_tombstone(value: Any) -> bool:
    """Whether `value` is `TOMBSTONE`, or a copy of it."""
    return type(value) is dict and len(value) == 1 and value.get(_TOMBSTONE_KEY) is True


class _TooDeep(Exception):
    pass


def copied(value: Any, name: str = "value", depth: int = MAX_NESTING) -> Any:
    """Return a copy of `value` in plain JSON types: tuples become lists, subclasses of str, int and float their base.

    Args:
        value: None, a bool, number, string, list, tuple, or a dict with string keys.
        name: What the argument is called in an error.
        depth: How deep it may be nested, at most `MAX_NESTING`.

    Raises:
        TypeError: JSON has no such type, or an object's key is no string.
        ValueError: NaN, an infinity, an integer too long to print, or nesting beyond that depth.
    """
    try:
        return _copied(value, name, depth)
    except _TooDeep:
        raise ValueError(f"{name}: nested more than {depth} deep") from None


def _copied(value: Any, name: str, depth: int) -> Any:
    kind = type(value)
    if kind is bool or value is None or (kind is str and value.isascii()):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        number = int(value)
        if number.bit_length() > 2048:
            raise ValueError(f"{name}: an integer of {number.bit_length()} bits is beyond what peers read (2048)")
        return number
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name}: {shown(value)} has no form in JSON")
        return float(value)
    if not isinstance(value, (list, tuple, dict)):
        raise TypeError(f"{name}: {shown(value)} of type {kind.__name__} has no form in JSON")
    if depth == 0:
        raise _TooDeep
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name}: the key {shown(key)} of type {type(key).__name__} must be a string, as JSON wants it")
        return {_text(key): _copied(item, name, depth - 1) for key, item in value.items()}
    return [_copied(item, name, depth - 1) for item in value]


def _text(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # surrogates: in JSON two that make a pair are one character
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return str.__str__(text)


def copied_key(key: Any, most: int | None = None) -> str:
    """Return a copy of a key.

    Raises:
        TypeError: It is not a string.
        ValueError: It is "__proto__", which in JavaScript is no key like others, or has more than `most` bytes in UTF-8.
    """
    if not isinstance(key, str):
        raise TypeError(f"key must be a string, got {shown(key)}")
    if key == "__proto__":
        raise ValueError("key: '__proto__' is a name that a Node.js node can't keep a value under")
    text = key if type(key) is str and key.isascii() else _text(key)
    if most is not None and len(text) > most // 4 and len(text.encode()) > most:
        raise ValueError(f"key: {shown(text)} has {len(text.encode())} bytes; at most {most} are allowed")
    return text


def checked(value: Any, depth: int = MAX_NESTING) -> bool:
    """Whether a value out of a JSON parser can go back into one: every number finite, nesting at most `depth`."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(value.bit_length() <= 2048)
    if kind is float:
        return math.isfinite(value)
    if depth == 0 or (kind is not list and kind is not dict):
        return False
    for item in value.values() if kind is dict else value:
        if type(item) not in _PLAIN and not checked(item, depth - 1):
            return False
    return True


def same(one: Any, other: Any) -> bool:
    """Whether two copied values are the same JSON value."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and len(one) == len(other)
            and all(key in other and same(item, other[key]) for key, item in one.items())
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
