"""JSON values: what is taken, that a copy is private and plain, and when two values are the same."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict, UserDict
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.state.values import MAX_NESTING, checked, copied, copied_key, same

TEXTS = st.text(st.characters()).map(lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**2047), 2**2047) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda items: st.lists(items, max_size=4) | st.dictionaries(TEXTS, items, max_size=4), max_leaves=20
)

#: What a program may hand in, JSON or not.
ANYTHING = st.recursive(
    SCALARS | st.floats() | st.binary() | st.complex_numbers() | st.integers(2**2040, 2**2056),
    lambda items: (
        st.lists(items, max_size=4)
        | st.tuples(items, items)
        | st.dictionaries(TEXTS | st.integers() | st.none(), items, max_size=4)
        | st.frozensets(st.integers(), max_size=2)
    ),
    max_leaves=10,
)


class Text(str):
    def __str__(self) -> str:
        return "not this"


class Number(int):
    def __repr__(self) -> str:
        return "not this"


class Real(float):
    def __repr__(self) -> str:
        return "not this"


class Colour(enum.IntEnum):
    RED = 3


class Point(NamedTuple):
    x: int
    y: int


def deep(levels: int, kind: str = "list") -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = {"k": value} if kind == "dict" else (value,) if kind == "tuple" else [value]
    return value


def exactly(value: Any) -> Any:
    """The value with the type of each of its parts, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return type(value), [(exactly(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [exactly(item) for item in value]
    return type(value), repr(value)


# Copies


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ((1, (2, [3])), [1, [2, [3]]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(b=1, a=(2,)), {"b": 1, "a": [2]}),
        (Text("text"), "text"),
        ({Text("key"): Text("text")}, {"key": "text"}),
        (Number(7), 7),
        (Colour.RED, 3),
        (Real(1.5), 1.5),
        ([True, False, None, 0, -0.0, ""], [True, False, None, 0, -0.0, ""]),
        ("\ud800", "\ud800"),
        ({}, {}),
    ],
)
def test_a_copy_is_plain_json(given: Any, taken: Any) -> None:
    assert exactly(copied(given)) == exactly(taken)


@given(VALUES)
def test_a_copy_is_the_same_value(value: Any) -> None:
    copy = copied(value)
    assert same(copy, value)
    assert exactly(copy) == exactly(value)
    assert checked(copy)


@given(VALUES)
def test_a_copy_survives_json(value: Any) -> None:
    assert same(json.loads(json.dumps(value, allow_nan=False)), copied(value))


def test_a_copy_shares_nothing_that_can_change() -> None:
    value: dict[str, Any] = {"list": [[1]], "dict": {"k": {"l": 1}}, "tuple": ([1],)}
    copy = copied(value)
    value["list"][0].append(2)
    value["list"].append(3)
    value["dict"]["k"]["l"] = 2
    value["tuple"][0].append(2)
    value["new"] = 1
    assert copy == {"list": [[1]], "dict": {"k": {"l": 1}}, "tuple": [[1]]}


def test_a_list_that_is_in_it_twice_is_copied_twice() -> None:
    shared = [1]
    copy = copied([shared, shared])
    copy[0].append(2)
    assert copy == [[1, 2], [1]]


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_nesting_is_taken_to_its_limit_and_no_further(kind: str) -> None:
    assert checked(copied(deep(MAX_NESTING, kind)))
    with pytest.raises(ValueError, match=r"^value: nested more than 100 deep$"):
        copied(deep(MAX_NESTING + 1, kind))
    with pytest.raises(ValueError, match=r"^value: nested more than 100 deep$"):
        copied(deep(100_000, kind))


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append({"again": value})
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        copied(value)


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_are_taken_up_to_2048_bits(sign: int) -> None:
    assert copied(sign * (2**2048 - 1)) == sign * (2**2048 - 1)
    with pytest.raises(ValueError, match=r"^value: an integer of 2049 bits is beyond what peers read"):
        copied(sign * 2**2048)
    with pytest.raises(ValueError, match=r"^value: an integer of 99658 bits"):
        copied(sign * 10**30_000)  # longer than Python prints


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, Real("nan"), Real("inf")])
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [1, (value,)], lambda value: {"k": value}])
def test_a_number_that_is_not_finite_is_refused(number: float, wrap: Any) -> None:
    with pytest.raises(ValueError, match=r"^value: .* has no form in JSON$"):
        copied(wrap(number))
    assert not checked(wrap(float(number)))


@pytest.mark.parametrize(
    "thing", [object(), {1}, frozenset(), b"x", bytearray(), 1j, Fraction(1, 2), range(2), UserDict(), iter([])]
)
def test_what_json_has_no_type_for_is_refused(thing: Any) -> None:
    for value in (thing, [thing], {"k": thing}):
        with pytest.raises(TypeError, match=f"^value: .* of type {type(thing).__name__} has no form in JSON$"):
            copied(value)
        assert not checked(value)


@pytest.mark.parametrize("key", [1, 1.5, True, None, (1, 2), b"k"])
def test_a_key_that_is_no_string_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match=f"the key .* of type {type(key).__name__} must be a string, as JSON wants it$"):
        copied({"good": [{key: 1}]})


def test_an_error_names_the_argument() -> None:
    with pytest.raises(TypeError, match=r"^transport: "):
        copied({"deep": [object()]}, "transport")


@given(ANYTHING)
def test_anything_is_copied_to_json_or_refused(value: Any) -> None:
    try:
        copy = copied(value)
    except (TypeError, ValueError):
        return
    assert checked(copy)
    assert exactly(copied(copy)) == exactly(copy)
    assert same(json.loads(json.dumps(copy, allow_nan=False)), copy)


# Checks of what a parser returned


@given(VALUES)
def test_what_json_can_carry_passes_the_check(value: Any) -> None:
    assert checked(value)


@pytest.mark.parametrize("value", [2**2048, -(2**2048), [2**2048], (1,), {"k": (1,)}, Text("x"), Number(1), OrderedDict()])
def test_what_no_parser_returns_fails_the_check(value: Any) -> None:
    assert not checked(value)


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_the_check_counts_nesting(kind: str) -> None:
    assert checked(deep(MAX_NESTING, kind))
    assert not checked(deep(MAX_NESTING + 1, kind))
    assert not checked(deep(100_000, kind))
    assert checked(deep(2, kind), depth=2)
    assert not checked(deep(3, kind), depth=2)
    assert checked("flat", depth=0)


# Sameness


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (0.0, -0.0),
        (2**53, float(2**53)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, [2]], [1.0, [2]]),
        (None, None),
        (True, True),
        ("", ""),
    ],
)
def test_same(one: Any, other: Any) -> None:
    assert same(one, other)
    assert same(other, one)
    assert same({"k": [one]}, {"k": [other]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (True, 1),
        (True, 1.0),
        (False, 0),
        (False, None),
        (False, ""),
        (True, False),
        (1, "1"),
        (1, 2),
        (None, 0),
        ([], {}),
        ([], None),
        ("", None),
        ("a", ["a"]),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        ([1, 1], [1]),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": None}),
        ({"a": None}, {}),
        ({"a": None}, {"b": None}),
        (2**53 + 1, float(2**53)),
        ("é", "e\u0301"),
    ],
)
def test_not_same(one: Any, other: Any) -> None:
    assert not same(one, other)
    assert not same(other, one)
    assert not same({"k": [one]}, {"k": [other]})
    assert not same([0, one], [0, other])


#: Few scalars, so that two values drawn of them are often the same, or nearly.
ALIKE = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 0.0, 1.0, "", "1"]),
    lambda items: st.lists(items, max_size=2) | st.dictionaries(st.sampled_from(["", "1"]), items, max_size=2),
    max_leaves=3,
)


def canonical(value: Any) -> Any:
    """A value whose Python equality is that of JSON."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return ("bool", value) if isinstance(value, bool) else value


@given(ALIKE, ALIKE)
def test_sameness_is_equality_where_true_is_no_number(one: Any, other: Any) -> None:
    assert same(one, other) == (canonical(one) == canonical(other))
    assert same(one, one)


def test_an_error_is_short_and_comes_whatever_a_value_shows_of_itself() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError("it has no words")

    for thing in (Silent(), b"x" * 100_000):
        for value in (thing, [thing], {thing: 1}):
            with pytest.raises(TypeError, match=r"^value: .{,200}$"):
                copied(value)
        with pytest.raises(TypeError, match=r"^key must be a string, got .{,200}$"):
            copied_key(thing)
