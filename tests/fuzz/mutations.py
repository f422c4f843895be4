"""Messages that are nearly right: taken apart as JSON, changed in a few places, and put together again."""

from __future__ import annotations

import json
import zlib
from copy import deepcopy
from random import Random
from typing import Any

from gossipmonger.state import MAX_VERSION
from gossipmonger.wire import deflate

__all__ = ["SEEDS", "mutated"]

NOW = 1_700_000_000_000_000
AT = {"host": "b", "port": 9742}
SENDER = {"id": "b", "transport": AT}
OWN = {"id": "b", "maxVersionSeen": NOW, "transport": AT, "heartbeat": NOW + 10, "floor": NOW}
ENTRY = {"id": "c", "maxVersionSeen": NOW + 1, "transport": {"host": "c", "port": 9742}, "heartbeat": NOW + 20, "floor": NOW}
ABOUT = {"id": "a", "maxVersionSeen": NOW, "transport": {"host": "a", "port": 9742}, "heartbeat": NOW}
NEW = {"id": "new", "maxVersionSeen": 0, "transport": {"host": "new", "port": 1}, "heartbeat": 5}

#: Messages that are right.
SEEDS: list[dict[str, Any]] = [
    {"digest": [ENTRY, ABOUT, OWN], "sender": SENDER},
    {"digest": [ENTRY, {**NEW, "heard": 9, "left": True, "age": 7, "interval": 9}, OWN], "sender": SENDER},
    {"digest": [{**OWN, "reply": True, "ask": True}], "sender": SENDER},
    {"digest": [{**OWN, "rumor": True, "hints": [["a", 1], ["c", NOW]]}], "sender": SENDER},
    {"digest": [{**OWN, "part": True, "flow": [1.5, 2, 3]}, {**OWN, "roll": "AAAAAAAAAAAAAAAAAAA="}], "sender": SENDER},
    {"digest": [{**OWN, "left": True, "forget": [["c", NOW + 30], ["new", 5]]}], "sender": SENDER},
    {"deltas": [["b", "k", {"x": [1, 2.5, None]}, NOW + 1, NOW, 1], ["b", "l", "é", NOW + 3, NOW + 1]], "sender": SENDER},
    {
        "deltas": [["c", "k", {"gossipmonger:deleted": True}, NOW + 9, 0, 2]],
        "digest": [{**OWN, "rumor": True}],
        "sender": SENDER,
    },
    {"digest": [NEW, {"id": "js", "maxVersionSeen": 3, "transport": AT}], "sender": {"id": "js", "transport": AT}},
    {"hello": {"version": 1, "life": "f"}, "sender": SENDER},
]

NAMES = [
    "id", "maxVersionSeen", "transport", "heartbeat", "floor", "heard", "left", "age", "interval", "reply", "rumor", "part",
    "flow", "roll", "hints", "ask", "cluster", "forget", "ttl", "host", "port", "udp", "deltas", "digest", "sender", "hello",
]  # fmt: skip

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 5, 65_536, NOW, NOW + 1, NOW + 2, NOW + 100, NOW + 10**15, MAX_VERSION - 1, MAX_VERSION,
    MAX_VERSION + 1, 2**64, 2**2048, 1.5, 1e308, "", "a", "b", "c", "new", "__proto__", "constructor", "é" * 128, "x" * 256,
    "\ud800", "k", [], {}, [[]], [["a", 1]], {"gossipmonger:deleted": True}, {"host": "h", "port": 1}, "AAAAAAAA",
]  # fmt: skip


def _places(item: Any) -> list[tuple[Any, Any]]:
    keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
    return [place for key in keys for place in [(item, key), *_places(item[key])]]


def _change(parts: Any, chance: Random) -> None:
    places = _places(parts)
    if not places:
        return
    item, key = chance.choice(places)
    what = chance.randrange(5)
    if what == 0:
        item[key] = deepcopy(chance.choice(VALUES))
    elif what == 1:
        del item[key]
    elif what == 2 and isinstance(item, dict):
        item[chance.choice(NAMES)] = deepcopy(chance.choice(VALUES))
    elif what == 2:
        item.insert(key, deepcopy(chance.choice(VALUES)))
    elif what == 3 and type(item[key]) is int:
        item[key] += chance.choice([-(2**20), -2, -1, 1, 2, 2**20, 2**40])
    else:
        other, where = chance.choice(places)
        item[key] = deepcopy(other[where])


def _changed(parts: Any, chance: Random) -> Any:
    """Return a message, None for a right one, changed in a few places."""
    parts = deepcopy(chance.choice(SEEDS) if parts is None else parts)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 5])):
        _change(parts, chance)
    return parts


def mutated(data: bytes, chance: Random) -> bytes:
    """Return a message that comes of this one; of a right one, if these bytes are none."""
    try:
        parts = json.loads(zlib.decompress(data) if data[:1] in (b"\x48", b"\x78") else data)
        changed = _changed(parts if isinstance(parts, dict) and chance.random() >= 0.05 else None, chance)
    except (ValueError, zlib.error, RecursionError):  # the last of what is nested too deep
        changed = _changed(None, chance)
    data = json.dumps(changed, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    what = chance.random()
    if what < 0.05:
        data = deflate(data)
    if what < 0.1 and data:
        place = chance.randrange(len(data))
        data = data[:place] + bytes([chance.randrange(256)]) * chance.randrange(3) + data[place + chance.randrange(3) :]
    return data
