"""Whatever is done to a message, both decoders take it for the same, or refuse it in the same words."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gossipmonger import wire
from gossipmonger.errors import MessageError
from gossipmonger.state import MAX_VERSION, values
from tests.wire.test_decoders import ADDRESS, DELTA, ENTRY, OWN, ROLL, SENDER, decoded

TEXTS = st.text(st.characters(), max_size=6)
NUMBERS = (
    st.integers(-1, 9) | st.sampled_from([MAX_VERSION, MAX_VERSION + 1, 2**63, 2**64, 2**2048]) | st.floats(allow_nan=False)
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.sampled_from(["__proto__", "a", "b", ROLL, "9742", ""])
VALUES = st.recursive(
    SCALARS, lambda items: st.lists(items, max_size=3) | st.dictionaries(TEXTS, items, max_size=3), max_leaves=6
)
SEEDS: list[dict[str, Any]] = [
    {
        "digest": [ENTRY, {**ENTRY, "heartbeat": 5, "floor": 3, "heard": 9, "left": True, "age": 7, "interval": 9}, OWN],
        "sender": SENDER,
    },
    {"digest": [{**OWN, "reply": True, "rumor": False, "flow": [1.5, 2, 3], "roll": ROLL, "ask": True}], "sender": SENDER},
    {
        "deltas": [DELTA, ["b", "é", {"x": [1, 2.5, None]}, 9, 8, 1], ["b", "k", 1, 10, 9, 0, 2.5]],
        "digest": [],
        "sender": SENDER,
    },
    {"digest": [{**OWN, "hints": [["b", 1]], "cluster": "c", "forget": [["b", 1], ["é", 0]]}], "sender": SENDER},
    {"deltas": [], "digest": [{**OWN, "transport": {**ADDRESS, "udp": True}, "later": [{}]}], "sender": SENDER},
]
FIELDS = [
    "id", "maxVersionSeen", "transport", "heartbeat", "floor", "heard", "left", "age",
    "reply", "rumor", "part", "flow", "roll", "hints", "ask", "cluster", "forget", "interval",
]  # fmt: skip
NAMES = [*FIELDS, "host", "port", "udp", "deltas", "digest", "sender", "later"]
# fmt: off
TOKENS = [
    b"null", b"true", b"-1", b"1e999", b"1.0", b"NaN", b'""', b'"__proto__"', b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\",
    b"\\ud800", b"\\u0000", b"\x00", b"\x7f", b"\xff", b"\xed\xa0\x80", "é".encode(), b" ", b"\n", b"00", b"1" * 5_000, b"},{",
    b',"sender":{"id":"z","transport":{"host":"h","port":9}}', b'"id":"a",', b',"heartbeat":3', b'"later":["',
]
# fmt: on


def places(item: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: what it is in, and its key or index."""
    keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
    return [place for key in keys for place in [(item, key), *places(item[key])]]


def changed(data: st.DataObject, parts: Any) -> None:
    """Change a message in one place: exchange, remove, add or copy something."""
    found = places(parts)
    if not found:
        return
    item, key = data.draw(st.sampled_from(range(len(found))).map(found.__getitem__))
    match data.draw(st.sampled_from(["exchange", "remove", "add", "copy"])):
        case "exchange":
            item[key] = data.draw(VALUES)
        case "remove":
            del item[key]
        case "add" if isinstance(item, dict):
            item[data.draw(st.sampled_from(NAMES))] = data.draw(VALUES)
        case "add":
            item.insert(key, data.draw(VALUES))
        case _:
            other, where = data.draw(st.sampled_from(range(len(found))).map(found.__getitem__))
            if not isinstance(other, list) or where < len(other):
                item[key] = json.loads(json.dumps(other.get(where) if isinstance(other, dict) else other[where]))


@given(st.data(), st.sampled_from(SEEDS), st.integers(1, 3))
def test_a_message_changed_in_some_places_is_the_same_to_both(data: st.DataObject, seed: Any, times: int) -> None:
    parts = json.loads(json.dumps(seed))
    for _ in range(times):
        changed(data, parts)
    decoded(json.dumps(parts, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass"))


@given(st.data(), st.sampled_from(SEEDS), st.integers(1, 3))
def test_a_message_of_which_bytes_changed_is_the_same_to_both(data: st.DataObject, seed: Any, times: int) -> None:
    text = json.dumps(seed, ensure_ascii=False).encode()
    for _ in range(times):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.sampled_from([0, 0, 1, 2, 5, 30]))
        new = data.draw(st.sampled_from(TOKENS) | st.just(text[start:end] * 2) | st.binary(max_size=2))
        text = text[:start] + new + text[end:]
        decoded(text)


@given(st.binary())
@example(b"\xff")
@example(b"{}")
def test_any_bytes_are_the_same_to_both(data: bytes) -> None:
    decoded(data)


@given(VALUES, VALUES, VALUES)
def test_nothing_but_message_errors_comes_out_of_message_of(sender: Any, deltas: Any, digest: Any) -> None:
    for parts in (
        (sender, deltas, digest),
        (SENDER, [deltas], [digest]),
        (SENDER, [[*DELTA[:3], sender, deltas, digest]], None),
    ):
        try:
            found = wire.message_of(*parts)
        except MessageError:
            continue
        assert values.checked(found.sender.transport)
