"""What the contracts put into storages and send over transports."""

from __future__ import annotations

from typing import Any

__all__ = ["TEXT", "TEXTS", "VALUES"]

#: What text may hold: controls, a letter in one code point and in two, a line separator, a byte order mark, the ends of both
#: ranges of code points, characters beyond the basic plane alone and joined, and half of a surrogate pair, which only an escape
#: can carry, beside what looks like such an escape.
TEXT = "\0 \t\r\n\x7f é e\u0301 \u2028 \ufeff \uffff 𠀀 😀 👩‍👩‍👧 \U0010ffff \ud800 \\ud800 \"'\\/"

#: Ids and keys that a peer may have, each another: a database that folds case, trims blanks, normalizes, reads an escape or
#: encodes strictly would take two for one, or fail. All of them can come in from the network.
TEXTS = (
    *("a", "A", "a ", " a", " ", "\t", "\n", "\0", "a\0", "a\0b", "0", "00", "null", "é", "e\u0301", "ß", "ss", "İ", "\u200b"),
    *("\ufeff", "\uffff", "\U0001d49c", "😀", "👩‍👩‍👧", "\ud800", "\udfff", "\\ud800", "%", "_", "*", "?"),
    *("'", '"', "`", "';--", "\\", "/", "..", "../a", "a/b", "CON", ".", "$a", "{}", "[]", "x" * 1_000),
    *("__proto__", "constructor", "toString", "__class__"),
)

#: One value of each kind that JSON has, and some that have been taken for another.
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "minus one": -1,
    "a fraction": 0.1,
    "minus a fraction": -2.5,
    "the last integer of a double": 2**53 - 1,
    "the smallest": 5e-324,
    "the largest": 1.7976931348623157e308,
    "beyond 64 bits": 2**2000,
    "far below zero": -(2**2000),
    "64 bits": 2**64,
    "no text": "",
    "zero in text": "0",
    "null in text": "null",
    "any text": list(TEXTS),
    "no list": [],
    "no object": {},
    "an object": {text: index for index, text in enumerate(TEXTS)},
    "empty ones": [[], {}],
    "like a message": {"sender": 1, "digest": [], "__proto__": None},
    "mixed": [None, True, 1, "1", [1, [2, {"three": [4]}]], {"": {"": ""}}],
}
