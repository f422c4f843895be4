"""Each row and rule of the schema is needed: a message that breaks it and nothing else is refused, and taken without it."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from gossipmonger import wire
from gossipmonger.errors import MessageError, shown
from gossipmonger.state import MAX_VERSION, values
from gossipmonger.wire import schema as schema_module
from gossipmonger.wire.json_decoder import JsonDecoder
from gossipmonger.wire.limits import MAX_ADDRESS, MAX_HOST, Limits
from gossipmonger.wire.msgspec_decoder import MsgspecDecoder
from gossipmonger.wire.schema import FATAL_IDS, REQUIRED, SCHEMA, Field, Schema, Table, Type, is_address, schema_of

ADDRESS = {"host": "10.0.0.1", "port": 9742}
SENDER = {"id": "a", "transport": ADDRESS}
#: Without a heartbeat, its header is checked and not used. So a decoder without the check has nothing to stumble over.
OWN = {"id": "a", "maxVersionSeen": 3, "transport": ADDRESS}
ENTRY = {"id": "b", "maxVersionSeen": 7, "transport": {"host": "10.0.0.2", "port": 9743}}
DELTA = ["b", "foo", "bar", 1732, 1731, 2, 2.5]

#: Where an object of each table is called what in errors.
PLACES = {"sender": "sender", "entry": "digest[1]", "header": "digest[2]", "delta": "deltas[1]"}

MISSING: Any = object()


def deep(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


def message(table: str, attribute: str, value: Any) -> bytes:
    """A message that is right, but for the value of one field of one object."""
    fields = [field.attribute for field in getattr(SCHEMA, table).fields]
    names = [field.name for field in getattr(SCHEMA, table).fields]
    place = fields.index(attribute)
    delta = DELTA
    if table == "delta":
        rest = [] if attribute == "version" else DELTA[place + 1 :]  # `after` and `more` are right only by the version
        delta = DELTA[:place] if value is MISSING else [*DELTA[:place], value, *rest]
    objects: dict[str, dict[str, Any]] = {"sender": SENDER, "entry": ENTRY, "header": OWN}
    if table != "delta":
        changed = {**objects[table], names[place]: value}
        objects[table] = {name: value for name, value in changed.items() if value is not MISSING}
    parts = {"digest": [ENTRY, objects["entry"], objects["header"]], "deltas": [DELTA, delta], "sender": objects["sender"]}
    return json.dumps(parts).encode()


def label(table: str, field: Field) -> str:
    place = getattr(SCHEMA, table).fields.index(field)
    return f"[{place}]" if table == "delta" else f".{field.name}"


def refused(data: bytes) -> str:
    """The words in which both decoders refuse a message."""
    assert MsgspecDecoder().decode(data) is None
    words = []
    for fast in (None, MsgspecDecoder().decode):
        with mock.patch.object(wire, "_fast_decode", fast), pytest.raises(MessageError) as caught:
            wire.decode(data, "there")
        words.append(str(caught.value))
    assert words[0] == words[1]
    start, _, rest = words[0].partition(" refused: ")
    assert start == "message from there"
    assert "\n" not in rest
    return rest


def takes(schema: Schema, data: bytes) -> None:
    """Assert that each decoder that is made of a schema takes a message by itself."""
    assert JsonDecoder(schema).decode(data, "there", is_address)
    assert MsgspecDecoder(schema).decode(data) is not None


def without(table: str, *, rules: bool = False, field: Field | None = None, **relaxed: Any) -> Schema:
    """The schema without the rules of a table, or with something of a row relaxed."""
    fields, kept = getattr(SCHEMA, table)
    changed = tuple(row._replace(**relaxed) if field is not None and row is field else row for row in fields)
    # Rules take it for granted that a field has its type.
    return SCHEMA._replace(**{table: Table(changed, kept) if rules and "type" not in relaxed else Table(changed)})


# Rows

WRONG_TYPES: dict[Type, list[Any]] = {
    Type.TEXT: [None, 5, True, 1.5, ["b"], {"id": "b"}],
    Type.INTEGER: [None, "5", 5.0, 5.5, True, [5], {}],
    Type.NUMBER: [None, "5", True, [5], {}],
    Type.BOOLEAN: [None, 0, 1, "true", []],
    Type.LIST: [None, 0, "", {}, "[1, 2]", True],
    Type.TRANSPORT: [None, "moon", {}, {"host": "", "port": 1}, {"host": "h"}, {"port": 1}, {"host": "h", "port": 0}],
    Type.ANY: [],
}


def rows() -> Iterator[tuple[str, Field]]:
    return ((table, field) for table in PLACES for field in getattr(SCHEMA, table).fields)


def named(cases: Iterator[tuple[str, Field, Any]]) -> list[Any]:
    return [pytest.param(*case, id=f"{case[0]}-{case[1].name}-{json.dumps(case[2])[:20]}") for case in cases]


@pytest.mark.parametrize(
    ("table", "field", "bad"), named((table, field, bad) for table, field in rows() for bad in WRONG_TYPES[field.type])
)
def test_a_field_of_another_type_is_refused(table: str, field: Field, bad: Any) -> None:
    data = message(table, field.attribute, bad)
    assert refused(data) == f"{PLACES[table]}{label(table, field)} must be {field.wanted()}, got {bad!r}"
    takes(without(table, field=field, type=Type.ANY, least=None, most=None), data)


@pytest.mark.parametrize(
    ("table", "field", "bad"),
    named(
        (table, field, "" if field.type is Type.TEXT else field.least - 1) for table, field in rows() if field.least is not None
    ),
)
def test_less_than_the_least_is_refused(table: str, field: Field, bad: Any) -> None:
    data = message(table, field.attribute, bad)
    assert refused(data) == f"{PLACES[table]}{label(table, field)} must be {field.wanted()}, got {bad!r}"
    takes(without(table, rules=True, field=field, least=None), data)


@pytest.mark.parametrize(
    ("table", "field", "bad"),
    named(
        (table, field, "x" * (field.most + 1) if field.type is Type.TEXT else field.most + 1)
        for table, field in rows()
        if field.most is not None
    ),
)
def test_more_than_the_most_is_refused(table: str, field: Field, bad: Any) -> None:
    data = message(table, field.attribute, bad)
    assert refused(data) == f"{PLACES[table]}{label(table, field)} must be {field.wanted()}, got {shown(bad)}"
    # Of a text, a rule says the same in bytes.
    takes(without(table, rules=field.type is not Type.TEXT, field=field, most=None), data)


@pytest.mark.parametrize(
    ("table", "field"),
    [case for case in rows() if case[1].default is REQUIRED and case[0] != "delta"],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_required_field_that_is_missing_is_named(table: str, field: Field) -> None:
    data = message(table, field.attribute, MISSING)
    assert refused(data) == f"{PLACES[table]}.{field.name} must be {field.wanted()}, but is missing"
    if field.type is not Type.TRANSPORT:  # whose default would be msgspec's struct
        takes(without(table, field=field, rules=True, default=json.loads('{"id": "x", "maxVersionSeen": 0}')[field.name]), data)


def test_a_delta_that_is_too_short_is_refused() -> None:
    version = SCHEMA.delta.fields[3]
    data = message("delta", "version", MISSING)
    assert refused(data) == "deltas[1] must be [peer_id, key, value, version, ...], got ['b', 'foo', 'bar']"
    takes(without("delta", rules=True, field=version, default=0), data)


@pytest.mark.parametrize(("table", "field"), [case for case in rows() if case[1].default is not REQUIRED], ids=str)
def test_an_optional_field_may_be_absent_and_counts_as_its_default(table: str, field: Field) -> None:
    data = message(table, field.attribute, MISSING)
    for found in (JsonDecoder().decode(data), MsgspecDecoder().decode(data)):
        assert found is not None
        if table == "delta":
            assert found.deltas
            assert getattr(found.deltas[1], field.attribute) == field.default
        elif table == "entry":
            assert found.digest
            assert getattr(found.digest.entries[1], field.attribute) == field.default


# Addresses, which are a host and a port

ADDRESSES: list[tuple[str, Any, dict[str, Any]]] = [
    ("host", "", {"least": None}),
    ("host", "h" * (MAX_HOST + 1), {"most": None}),
    ("host", 5, {"type": Type.ANY, "least": None}),
    ("host", MISSING, {"default": "h"}),
    ("port", 0, {"least": None}),
    ("port", 65536, {"most": None}),
    ("port", True, {"type": Type.ANY, "least": None, "most": None}),
    ("port", 1.0, {"type": Type.ANY, "least": None, "most": None}),
    ("port", None, {"type": Type.ANY, "least": None, "most": None}),
    ("port", MISSING, {"default": 1}),
]


@pytest.mark.parametrize("table", ["sender", "entry"])
@pytest.mark.parametrize(("name", "bad", "relaxed"), ADDRESSES, ids=lambda value: "missing" if value is MISSING else str(value))
def test_an_address_out_of_reach_is_refused(table: str, name: str, bad: Any, relaxed: dict[str, Any]) -> None:
    address = {name: value for name, value in {**ADDRESS, name: bad}.items() if value is not MISSING}
    data = message(table, "transport", address)
    assert refused(data).startswith(f"{PLACES[table]}.transport must be an address that can be reached, got ")
    (field,) = (field for field in SCHEMA.address.fields if field.name == name)
    assert MsgspecDecoder(without("address", field=field, **relaxed)).decode(data) is not None
    assert JsonDecoder().decode(data, None, lambda transport: True)


@pytest.mark.parametrize("more", [{"port": "9742"}, {"udp": None}, {"udp": 5}, {"zone": ["x"]}])
def test_an_address_that_msgspec_does_not_take_is_taken_all_the_same(more: dict[str, Any]) -> None:
    data = message("entry", "transport", {**ADDRESS, **more})
    assert MsgspecDecoder().decode(data) is None
    found = wire.decode(data)
    assert found.digest
    assert found.digest.entries[1].transport == {**ADDRESS, **more}


def test_an_address_that_json_cannot_carry_is_refused() -> None:
    for more in (deep(values.MAX_NESTING), 2**2048, "z" * MAX_ADDRESS):
        assert "transport must be an address" in refused(message("entry", "transport", {**ADDRESS, "zone": more}))


# Rules

FATAL = "an id that a Node.js node can hold"
LONG = "a non-empty string of at most 255 bytes"
FLOW = "[rho, tau] or [rho, tau, grant], numbers below 1e+15, of which rho and tau are not negative"
VALUE = "a JSON value, nested at most 100 deep, whose numbers are finite and have at most 2048 bits"
HINTS = (
    "at most 64 [peer id, heartbeat], ids of at most 255 bytes that a Node.js node can hold and integers up to 9007199254740991"
)

#: Table, attribute, what it must be -> values that are right for the row and break a rule.
BREAKS: dict[tuple[str, str, str], list[Any]] = {
    ("sender", "id", FATAL): sorted(FATAL_IDS),
    ("sender", "id", LONG): ["é" * 128, "\U0001f4a3" * 64, "x" + "é" * 127 + "x"],
    ("entry", "id", FATAL): sorted(FATAL_IDS),
    ("entry", "id", LONG): ["é" * 128, "\U0001f4a3" * 64],
    ("entry", "floor", "an integer from 0 to 7"): [8, MAX_VERSION + 1, 2**70],
    ("entry", "heard", "0 or an integer from 7 to 9007199254740991"): [1, 6, -1],
    ("header", "flow", FLOW): [
        [],
        [1],
        [1, 2, 3, 4],
        [-1, 1],
        [1, -0.5],
        [1e15, 1],
        [1, 2, -1e15],
        [1, True],
        ["1", 2],
        [[], 1],
    ],
    ("header", "compact", "a compact digest in base64"): [
        "",
        "AAAA",
        "AAAAAAAAAA==",
        "AAAAAAAA\n",
        "AAAAAAAA!",
        "AAAAAAAAAAAAAAB=",
        "é",
    ],
    ("header", "cluster", "a string of 1 to 255 characters"): ["", "c" * 256],
    ("header", "forget", HINTS): [
        [["b", 1]] * 65,
        [["b"]],
        [["", 1]],
        [["b" * 256, 1]],
        [["toString", 1]],
        [["b", -1]],
        [["b", 1.0]],
    ],
    ("header", "hints", HINTS): [
        [["b", 1]] * 65,
        ["b"],
        [["b"]],
        [["b", 1, 2]],
        [{"b": 1}],
        [["", 1]],
        [["b" * 256, 1]],
        [["é" * 128, 1]],
        [[5, 1]],
        [["constructor", 1]],
        [["b", -1]],
        [["b", True]],
        [["b", 1.0]],
        [["b", MAX_VERSION + 1]],
        [["c", 1], ["b", None]],
    ],
    ("delta", "peer_id", FATAL): sorted(FATAL_IDS),
    ("delta", "peer_id", LONG): ["é" * 128, "\U0001f4a3" * 64],
    ("delta", "key", "a string of at most 1024 bytes"): ["é" * 513, "\U0001f4a3" * 257],
    ("delta", "key", "a key that a Node.js node can hold"): ["__proto__"],
    ("delta", "value", VALUE): [deep(values.MAX_NESTING + 1), {"k": deep(values.MAX_NESTING)}, 2**2048, [-(2**2048)]],
    ("delta", "after", "an integer below the version 1732"): [1732, 1733, MAX_VERSION + 1],
    ("delta", "more", "an integer that does not take the version 1732 beyond 9007199254740991"): [
        MAX_VERSION - 1731,
        MAX_VERSION + 1,
        2**70,
    ],
    ("delta", "ttl", "0 or a number of seconds from 0.001 to 315360000"): [0.000999, 5e-324],
}


@pytest.mark.parametrize(
    ("table", "attribute", "wanted", "bad"),
    [
        pytest.param(*rule, bad, id=f"{rule[0]}-{rule[1]}-{json.dumps(bad)[:20]}")
        for rule, cases in BREAKS.items()
        for bad in cases
    ],
)
def test_what_breaks_a_rule_is_refused(table: str, attribute: str, wanted: str, bad: Any) -> None:
    (field,) = (field for field in getattr(SCHEMA, table).fields if field.attribute == attribute)
    data = message(table, attribute, bad)
    assert refused(data).startswith(f"{PLACES[table]}{label(table, field)} must be {wanted}, got ")
    takes(without(table), data)


class Without(ast.NodeTransformer):
    """Takes one rule out of the code that has them: an `if` that returns what is broken."""

    def __init__(self, line: int) -> None:
        self.line = line

    def visit_If(self, node: ast.If) -> ast.AST:
        return ast.copy_location(ast.Pass(), node) if node.lineno == self.line else self.generic_visit(node)


CODE = ast.parse(inspect.getsource(schema_of))
RULES = [node for node in ast.walk(CODE) if isinstance(node, ast.If) and ast.unparse(node.body[0]).startswith("return Broken(")]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: ast.unparse(rule.test))
def test_each_rule_alone_is_needed(rule: ast.If) -> None:
    names = dict(vars(schema_module))
    exec(compile(Without(rule.lineno).visit(ast.parse(inspect.getsource(schema_of))), "schema", "exec"), names)
    schema = names["schema_of"](Limits())
    taken = 0
    for (table, attribute, _), cases in BREAKS.items():
        for bad in cases:
            data = message(table, attribute, bad)
            if MsgspecDecoder(schema).decode(data) is not None:
                assert JsonDecoder(schema).decode(data, "there", is_address)
                taken += 1
    assert taken


def test_the_numbers_that_just_keep_the_rules_are_taken() -> None:
    kept: list[tuple[str, str, list[Any]]] = [
        ("entry", "floor", [0, 7]),
        ("entry", "heard", [0, 7, MAX_VERSION]),
        ("entry", "version", [0, MAX_VERSION]),
        ("entry", "age", [0, MAX_VERSION]),
        ("header", "flow", [[0, 0], [1.5, 2, -1], [0, 999999999999999]]),
        ("header", "compact", ["AAAAAAAA", "AAAAAAAAAAAAAA=="]),
        ("header", "hints", [[], [["b", 0], ["b", MAX_VERSION]], [["b", 1]] * 64]),
        ("header", "cluster", ["c", "é" * 255]),
        ("header", "forget", [[], [["b", 0], ["b", MAX_VERSION]], [["b", 1]] * 64]),
        ("entry", "interval", [1, 1000, 86_400_000]),
        ("sender", "id", ["x" * 255, "é" * 127]),
        ("entry", "id", ["x" * 255, "é" * 127]),
        ("delta", "peer_id", ["x" * 255, "é" * 127]),
        ("delta", "key", ["", "constructor", "x" * 1024, "é" * 512, "\U0001f4a3" * 256]),
        ("delta", "value", [deep(values.MAX_NESTING), 2**2047, None, 1e308]),
        ("delta", "after", [0, 1731]),
        ("delta", "more", [0, MAX_VERSION - 1732]),
        ("delta", "ttl", [0, 0.0, -0.0, 0.001, 1, 2.5, 315_360_000, 315_360_000.0]),
    ]
    for table, attribute, good in kept:
        for value in good:
            takes(SCHEMA, message(table, attribute, value))


def test_words_are_in_plain_english() -> None:
    assert refused(message("entry", "floor", 9)) == "digest[1].floor must be an integer from 0 to 7, got 9"
    assert refused(message("delta", "after", -1)) == "deltas[1][4] must be an integer of at least 0, got -1"
    wanted = "deltas[1][6] must be 0 or a number of seconds from 0.001 to 315360000"
    for bad in (-1, 0.0001, 315_360_000.5, 2**70, "5"):
        assert refused(message("delta", "ttl", bad)) == f"{wanted}, got {bad!r}"
    assert refused(message("entry", "heard", MAX_VERSION + 1)).startswith("digest[1].heard must be an integer of at most 9007")
    assert refused(message("sender", "id", "")) == "sender.id must be a non-empty string of at most 255 bytes, got ''"


# Other limits than the default ones

LOWER = Limits(max_id_size=4, max_key_size=6, max_nesting=2)
BEYOND: list[tuple[str, str, Any, str]] = [
    ("sender", "id", "bcdef", "sender.id must be a non-empty string of at most 4 bytes, got 'bcdef'"),
    ("entry", "id", "éé!", "digest[1].id must be a non-empty string of at most 4 bytes, got 'éé!'"),
    ("delta", "peer_id", "bcdef", "deltas[1][0] must be a non-empty string of at most 4 bytes, got 'bcdef'"),
    ("delta", "key", "éééé", "deltas[1][1] must be a string of at most 6 bytes, got 'éééé'"),
    ("delta", "value", [[[]]], "deltas[1][2] must be a JSON value, nested at most 2 deep, "),
    ("header", "hints", [["bcdef", 1]], "digest[2].hints must be at most 64 [peer id, heartbeat], ids of at most 4 bytes "),
    ("header", "forget", [["bcdef", 1]], "digest[2].forget must be at most 64 [peer id, heartbeat], ids of at most 4 bytes "),
]


@pytest.mark.parametrize(("table", "attribute", "bad", "words"), BEYOND, ids=lambda value: str(value)[:20])
def test_other_limits_are_kept_by_both_decoders(table: str, attribute: str, bad: Any, words: str) -> None:
    data = message(table, attribute, bad)
    assert MsgspecDecoder(schema_of(LOWER)).decode(data) is None
    with pytest.raises(MessageError, match="refused: ") as caught:
        wire.decode(data, "there", limits=LOWER)
    assert str(caught.value).partition(" refused: ")[2].startswith(words)
    takes(SCHEMA, data)


def test_limits_may_be_higher_too() -> None:
    higher = Limits(max_id_size=1_000, max_key_size=5_000)
    for table, attribute, good in (("sender", "id", "x" * 1_000), ("delta", "key", "é" * 2_500)):
        data = message(table, attribute, good)
        takes(schema_of(higher), data)
        assert wire.decode(data, limits=higher).deltas
        refused(data)
    parts = {"id": "x" * 999, "transport": ADDRESS}, [["b", "k", 1, 2]]
    assert wire.message_of(*parts, limits=higher).sender.id == "x" * 999
    with pytest.raises(MessageError):
        wire.message_of(*parts)
