"""The encoder: the bytes of a message, to the letter, since other implementations and other versions read them."""

from __future__ import annotations

import json
import threading
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.state import values
from gossipmonger.state.bound import MAX_VERSION
from gossipmonger.state.message import Compact, Delta, Digest, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.wire import encoder
from gossipmonger.wire.encoder import Encoder, as_dicts, as_lists, encode, fits, split

THERE = {"host": "10.0.0.1", "port": 9742}
A = RemotePeer("a", THERE)
OWN = Entry("a", 3, THERE, 7)
B = Entry("b", 7, {"host": "10.0.0.2", "port": 9743})
SENDER = '"sender":{"id":"a","transport":{"host":"10.0.0.1","port":9742}}}\r\n'

# Half of a surrogate pair is text; both halves side by side are one character to every JSON parser.
TEXTS = st.text(st.characters()).map(lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
VERSIONS = st.integers(0, MAX_VERSION)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**2047), 2**2047) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda items: st.lists(items, max_size=4) | st.dictionaries(TEXTS, items, max_size=4), max_leaves=12
)
TTLS = st.floats(0.001, 315_360_000) | st.integers(1, 315_360_000)
MORE = st.tuples() | st.tuples(VERSIONS) | st.tuples(VERSIONS, st.integers(1, 9)) | st.tuples(VERSIONS, st.integers(0, 9), TTLS)
STARTS = st.tuples(TEXTS, TEXTS, VALUES, VERSIONS)
DELTAS = st.lists(st.builds(lambda start, more: Delta(*start, *more), STARTS, MORE), max_size=5)
ADDRESSES = st.fixed_dictionaries(
    {"host": TEXTS, "port": st.integers(0, 3) | st.booleans() | TEXTS}, optional={"udp": st.booleans(), "later": VALUES}
)
MAYBE = st.just(0) | VERSIONS
INTERVALS = st.just(1000) | st.integers(1, 86_400_000)
ENTRIES = st.builds(
    Entry, TEXTS, VERSIONS, ADDRESSES | VALUES, st.just(-1) | VERSIONS, MAYBE, MAYBE, st.booleans(), MAYBE, INTERVALS
)
COMPACTS = st.builds(Compact, st.just("A+/9AAAA"), st.binary(min_size=4, max_size=8).filter(lambda data: len(data) % 4 == 0))
FLOWS = st.lists(st.floats(0, 1e15) | st.integers(0, 5), min_size=2, max_size=3)
HINTS = st.lists(st.tuples(TEXTS, VERSIONS).map(list), max_size=3)
HEADERS = st.builds(
    Header, st.none() | FLOWS, st.none() | COMPACTS, st.none() | HINTS, st.booleans(), st.none() | TEXTS, st.none() | HINTS
)


@st.composite
def digests(draw: st.DrawFn) -> Digest:
    header = draw(st.none() | HEADERS)
    others = draw(st.lists(ENTRIES.filter(lambda entry: entry.id != "a"), max_size=4))
    return Digest(draw(st.sampled_from(Kind)), header, [*others, draw(ENTRIES)._replace(id="a")])


def text(message: Message) -> str:
    return encode(message).decode()


def digest_text(kind: Kind, header: Header | None, *entries: Entry) -> str:
    """What stands between the digest's brackets."""
    made = text(Message(A, None, Digest(kind, header, entries)))
    assert made.startswith('{"digest":[')
    assert made.endswith(f"],{SENDER}")
    return made[len('{"digest":[') : -len(f"],{SENDER}")]


# Bytes


def test_a_digest_for_a_node_js_node_is_these_bytes() -> None:
    assert encode(Message(A, None, Digest(Kind.ROUND, None, [B, Entry("a", 0, THERE)]))) == (
        b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"10.0.0.2","port":9743}},'
        b'{"id":"a","maxVersionSeen":0,"transport":{"host":"10.0.0.1","port":9742}}],'
        b'"sender":{"id":"a","transport":{"host":"10.0.0.1","port":9742}}}\r\n'
    )


def test_deltas_are_these_bytes() -> None:
    deltas = [Delta("b", "foo", "bar", 1732), Delta("c", "é", {"a": [1, 2.5, True, None, '"']}, 2**53 - 1)]
    assert encode(Message(A, deltas)) == (
        b'{"deltas":[["b","foo","bar",1732],["c","\xc3\xa9",{"a":[1,2.5,true,null,"\\""]},9007199254740991]],'
        b'"sender":{"id":"a","transport":{"host":"10.0.0.1","port":9742}}}\r\n'
    )


def test_the_places_of_a_delta_that_have_their_defaults_are_left_out() -> None:
    deltas = [Delta("b", "k", 1, 9), Delta("b", "k", 1, 9, 0), Delta("b", "k", 1, 9, 8, 3), Delta("b", "k", 1, 9, None, 3)]
    lists: list[list[Any]] = [["b", "k", 1, 9], ["b", "k", 1, 9, 0], ["b", "k", 1, 9, 8, 3], ["b", "k", 1, 9]]
    deltas += [Delta("b", "k", 1, 9, 8, 0, 2.5), Delta("b", "k", 1, 9, 8, 3, 60), Delta("b", "k", 1, 9, None, 0, 60)]
    lists += [["b", "k", 1, 9, 8, 0, 2.5], ["b", "k", 1, 9, 8, 3, 60], ["b", "k", 1, 9]]
    assert as_lists(deltas) == lists
    assert text(Message(A, deltas)) == f'{{"deltas":{json.dumps(lists, separators=(",", ":"))},{SENDER}'


def test_deltas_come_before_the_digest_and_no_deltas_are_an_empty_list() -> None:
    digest = Digest(Kind.RUMOR, Header(), [OWN])
    own = '{"id":"a","maxVersionSeen":3,"transport":{"host":"10.0.0.1","port":9742},"rumor":true,"heartbeat":7}'
    assert text(Message(A, [Delta("b", "k", 1, 9)], digest)) == f'{{"deltas":[["b","k",1,9]],"digest":[{own}],{SENDER}'
    assert text(Message(A, [], None)) == f'{{"deltas":[],{SENDER}'
    assert text(Message(A, None, Digest(Kind.ROUND, None, []))) == f'{{"digest":[],{SENDER}'


def test_an_entry_has_its_fields_in_this_order_and_without_those_that_say_nothing() -> None:
    whole = Entry("b", 9, THERE, 12, 5, 11, True, 6, 250)
    start = '{"id":"b","maxVersionSeen":9,"transport":{"host":"10.0.0.1","port":9742}'
    assert (
        digest_text(Kind.ROUND, None, whole)
        == start + ',"floor":5,"heard":11,"left":true,"age":6,"interval":250,"heartbeat":12}'
    )
    whole = whole._replace(age=0, interval=1000)
    assert digest_text(Kind.ROUND, None, whole._replace(floor=0, left=False)) == start + ',"heard":11,"heartbeat":12}'
    assert digest_text(Kind.ROUND, None, whole._replace(floor=0, heard=0, heartbeat=0)) == start + ',"left":true,"heartbeat":0}'
    assert digest_text(Kind.ROUND, None, Entry("b", 9, THERE)) == start + "}"


@pytest.mark.parametrize(
    ("kind", "left", "mark"),
    [
        (Kind.ROUND, False, ""),
        (Kind.REPLY, False, ',"reply":true'),
        (Kind.RUMOR, False, ',"rumor":true'),
        (Kind.PART, False, ',"part":true'),
        (Kind.FAREWELL, True, ',"left":true'),
    ],
)
def test_a_kind_is_a_mark_on_the_sender_s_own_entry(kind: Kind, left: bool, mark: str) -> None:
    own = OWN._replace(left=left)
    address = '"transport":{"host":"10.0.0.1","port":9742}'
    assert digest_text(kind, Header(), own) == f'{{"id":"a","maxVersionSeen":3,{address}{mark},"heartbeat":7}}'


def test_the_header_is_in_the_sender_s_own_entry_before_its_heartbeat() -> None:
    header = Header((1.5, 2), Compact("AAAAAAAA", b"\x09\0\0\0\x01\0\0\0"), [("b", 5)], True, "é", [("c", 6)])
    assert digest_text(Kind.REPLY, header, B, OWN._replace(floor=2)) == (
        '{"id":"b","maxVersionSeen":7,"transport":{"host":"10.0.0.2","port":9743}},'
        '{"id":"a","maxVersionSeen":3,"transport":{"host":"10.0.0.1","port":9742},"floor":2,"reply":true,'
        '"flow":[1.5,2],"roll":"AAAAAAAACQAAAAEAAAA=","hints":[["b",5]],"ask":true,"cluster":"\\u00e9","forget":[["c",6]],"heartbeat":7}'
    )


def test_without_a_header_nothing_is_marked() -> None:
    assert digest_text(Kind.REPLY, None, B, OWN) == digest_text(Kind.ROUND, None, B, OWN)


def test_the_header_is_in_the_last_of_the_sender_s_entries_and_in_nobody_else_s() -> None:
    marked = digest_text(Kind.PART, Header(), OWN, OWN._replace(version=4), B)
    assert [entry.get("part") for entry in json.loads(f"[{marked}]")] == [None, True, None]
    assert "part" not in digest_text(Kind.PART, Header(), B)
    assert digest_text(Kind.PART, Header()) == ""


@pytest.mark.parametrize(
    "transport",
    [
        None, "é", [1], {}, {"host": "h"}, {"host": "h", "port": 1}, {"host": "é", "port": "1"}, {"host": "h", "port": True},
        {"host": "h", "port": 1.0}, {"host": ["h"], "port": 1}, {"host": "h", "port": 1, "later": None},
        {"host": "h", "port": 1, "udp": True}, {"host": "h", "port": 1, "udp": 1}, {"host": "h", "port": 1, "udp": False},
        {"host": "h", "port": 1, "udp": True, "later": "é"},
    ],
)  # fmt: skip
def test_an_address_of_any_form_is_encoded_with_escapes_however_often(transport: Any) -> None:
    made = json.dumps(transport, separators=(",", ":"))
    entry = f'{{"id":"\\u00e9","maxVersionSeen":1,"transport":{made}}}'
    sender = f'{{"id":"\\u00e9","transport":{made}}}'
    for _ in range(2):
        assert digest_text(Kind.ROUND, None, Entry("é", 1, transport)) == entry
        assert text(Message(RemotePeer("é", transport), [])) == f'{{"deltas":[],"sender":{sender}}}\r\n'


@pytest.mark.parametrize("transport", [{"host": object()}, float("nan"), {1, 2}])
def test_a_transport_that_json_has_no_form_for_is_not_encoded(transport: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode(Message(RemotePeer("a", transport), None, Digest(Kind.ROUND, None, [])))
    with pytest.raises((TypeError, ValueError)):
        encode(Message(A, None, Digest(Kind.ROUND, None, [Entry("b", 1, transport)])))


def of_length(length: int, value: str) -> list[Delta]:
    """Deltas whose message, without CR LF, has `value` in it and so many bytes of UTF-8."""
    used = len(encode(Message(A, [Delta("b", "k", value, 5)]))) - 2
    return [Delta("b", "k", value + "x" * (length - used), 5)]


@pytest.mark.parametrize("value", ["é", "€", "😀"])
def test_text_beyond_ascii_has_escapes_only_above_one_segment(value: str) -> None:
    within, above = (encode(Message(A, of_length(length, value))) for length in (1024, 1025))
    assert value.encode() in within
    assert len(within) == 1024 + 2
    assert above.isascii()
    assert json.dumps(value)[1:-1].encode() in above
    assert json.loads(above)["deltas"] == as_lists(of_length(1025, value))


def test_half_of_a_surrogate_pair_has_an_escape_at_any_length() -> None:
    for value in ("\ud800 é", "\udfff é" + "x" * 2_000):
        data = encode(Message(A, [Delta("b", "k", value, 5)]))
        assert data.isascii()
        assert json.loads(data)["deltas"] == [["b", "k", value, 5]]


# The same said in other ways


@given(DELTAS)
def test_deltas_are_the_same_json_with_the_extra_and_without(deltas: list[Delta]) -> None:
    made = []
    for fast in (None, encoder._fast_encode):
        with mock.patch.object(encoder, "_fast_encode", fast):
            made.append(json.loads(encode(Message(A, deltas))))
    assert values.same(*made)
    assert values.same(made[0]["deltas"], as_lists(deltas))


@given(digests())
def test_dicts_are_what_stands_on_the_wire(digest: Digest) -> None:
    read = json.loads(encode(Message(A, None, digest)))["digest"]
    dicts = as_dicts(digest)
    assert values.same(read, dicts)
    assert [[*one] for one in read if isinstance(one, dict)] == [[*one] for one in dicts]  # in the same order


def test_dicts_and_lists_are_new_each_time_and_those_of_nothing_are_empty() -> None:
    digest = Digest(Kind.REPLY, Header([1.0, 2.0]), [B, OWN])
    first, second = as_dicts(digest), as_dicts(digest)
    assert first == second
    assert all(one is not other for one, other in zip(first, second, strict=True))
    assert first[-1]["flow"] is not second[-1]["flow"]
    assert as_dicts(Digest(Kind.REPLY, Header(), [])) == []
    assert as_lists([]) == []


# Encoded once


def test_the_same_object_is_encoded_once_in_a_row_and_its_equal_anew() -> None:
    message = Message(A, [Delta("b", "k", 1, 9)])
    twin = Message(*message)
    made = Encoder()
    with mock.patch.object(encoder, "encode", side_effect=encode) as counted:
        data = made.encode(message)
        assert made.encode(message) is data
        assert counted.call_count == 1
        assert made.encode(twin) == data
        assert made.encode(message) == data
        assert counted.call_count == 3


def test_a_message_that_cannot_be_encoded_leaves_the_last_one() -> None:
    made = Encoder()
    data = made.encode(message := Message(A, []))
    with pytest.raises(TypeError):
        made.encode(Message(RemotePeer("a", object()), []))
    assert made.encode(message) is data


def test_threads_that_share_an_encoder_get_each_their_own() -> None:
    made, wrong = Encoder(), []

    def run(version: int) -> None:
        message = Message(A, [Delta("b", "k", "v", version)])
        wrong.extend([data for data in (made.encode(message) for _ in range(2_000)) if data != encode(message)])

    threads = [threading.Thread(target=run, args=(version,)) for version in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Sizes


SHORT = st.builds(Delta, TEXTS, TEXTS, st.text(max_size=200), VERSIONS, ttl=st.just(0.0) | TTLS)


@given(st.lists(SHORT, min_size=1, max_size=12), st.integers(1, 1_500))
def test_split_keeps_their_order_and_the_limit(deltas: list[Delta], limit: int) -> None:
    parts = list(split(Message(A, deltas), limit))
    carried = [json.loads(data)["deltas"] for data in parts]
    assert [delta for part in carried for delta in part] == as_lists(deltas)
    assert all(len(data) <= limit or len(part) == 1 for data, part in zip(parts, carried, strict=True))
    if len(encode(Message(A, deltas))) <= limit:
        assert len(parts) == 1


def test_split_fills_the_limit_and_not_a_byte_more() -> None:
    message = Message(A, [Delta("b", f"k{n}", "v", n) for n in range(8)])
    size = len(encode(message))
    assert [*split(message, size)] == [encode(message)]
    assert [len(json.loads(data)["deltas"]) for data in split(message, size - 1)] == [4, 4]


def test_deltas_and_a_digest_go_in_one_message_if_there_is_room_and_the_digest_last_if_not() -> None:
    message = Message(A, [Delta("b", f"k{n}", "v", n + 1) for n in range(8)], Digest(Kind.REPLY, Header(), [B, OWN]))
    size = len(encode(message))
    assert [*split(message, size)] == [encode(message)]
    assert [*split(message, size - 1)] == [encode(message._replace(digest=None)), encode(message._replace(deltas=None))]


def test_what_cannot_be_halved_is_one_message_whatever_the_limit() -> None:
    for message in (Message(A, []), Message(A, [Delta("b", "k", 1, 9)]), Message(A, None, Digest(Kind.ROUND, None, [B, OWN]))):
        assert [*split(message, 1)] == [encode(message)]


def test_split_asks_for_the_whole_where_it_is_told_to_and_only_for_that() -> None:
    message = Message(A, [Delta("b", f"k{n}", "v", n) for n in range(8)])
    made = Encoder()
    data = made.encode(message)
    assert next(split(message, len(data), made.encode)) is data
    assert len([*split(message, len(data) - 1, made.encode)]) == 2
    assert made.encode(message) is data


@given(VALUES | st.text(max_size=2_000), st.integers(4_096, 12_000))
def test_a_value_that_fits_goes_in_one_message(value: Any, limit: int) -> None:
    if fits(value, limit):
        delta = Delta("i" * 128, "k" * 128, value, MAX_VERSION)
        assert len(encode(Message(RemotePeer("j" * 128, {"host": "h" * 253, "port": 65535}), [delta]))) <= limit


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: [text], lambda text: {"k": [text]}, lambda text: {text: 1}])
def test_fits_counts_escaped_bytes(wrap: Any) -> None:
    for character in ("x", "é", "😀", "\0", '"'):
        escaped = len(json.dumps(character)) - 2
        rest = len(json.dumps(wrap(""), separators=(",", ":")))
        value = wrap(character * 500)
        assert fits(value, 4_096 + 500 * escaped + rest)
        if escaped < 12:  # below that, no text is measured that is short enough with 12 bytes for each character
            assert not fits(value, 4_096 + 500 * escaped + rest - 1)


def test_numbers_and_the_like_fit_always() -> None:
    assert all(fits(value, 4_096) for value in (None, True, 5, 2**2000, 1.5))
