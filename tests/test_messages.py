"""Messages: what goes out comes back, byte for byte where another implementation reads it; what is malformed is refused."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import MessageError, RemotePeer, values
from gossipmonger.entry import as_dicts
from gossipmonger.peer import MAX_VERSION
from gossipmonger.transport import checks, fast, messages

A = RemotePeer("a", {"host": "10.0.0.1", "port": 9742})
SENDER = {"id": "a", "transport": {"host": "10.0.0.1", "port": 9742}}
ENTRY: dict[str, Any] = {"id": "b", "maxVersionSeen": 7, "transport": {"host": "10.0.0.2", "port": 9743}}
DELTA: list[Any] = ["b", "foo", "bar", 1732]

# Half of a surrogate pair is text; both halves side by side are one character to every JSON parser.
TEXTS = st.text(st.characters()).map(lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass"))
IDS = TEXTS.filter(lambda id: id and id not in checks.FATAL_IDS)
VERSIONS = st.integers(0, MAX_VERSION)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**2047), 2**2047) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda items: st.lists(items, max_size=4) | st.dictionaries(TEXTS, items, max_size=4), max_leaves=12
)
SENDERS = st.builds(RemotePeer, IDS, VALUES)
DELTAS = st.lists(st.tuples(IDS, TEXTS, VALUES, VERSIONS).map(list), max_size=5)
FIELDS = {
    "heartbeat": VERSIONS,
    "floor": VERSIONS,
    "heard": VERSIONS,
    **dict.fromkeys(("left", "reply", "rumor", "part"), st.booleans()),
    "flow": st.lists(st.floats(-1, 1e16) | st.integers(-1, 5), min_size=1, max_size=4),
    "later": VALUES,
}
PORTS = st.integers(-1, 70_000) | st.integers(1, 65535).map(str) | st.booleans()
ADDRESSES = st.fixed_dictionaries({"host": TEXTS, "port": PORTS}, optional={"udp": st.booleans() | SCALARS, "later": VALUES})
ENTRIES = st.fixed_dictionaries({"id": IDS, "maxVersionSeen": VERSIONS, "transport": ADDRESSES}, optional=FIELDS)
DIGESTS = st.lists(st.fixed_dictionaries({"id": IDS, "maxVersionSeen": VERSIONS, "transport": VALUES}), max_size=5)


def decode(data: bytes | bytearray, source: object = None, **arguments: Any) -> checks.Message:
    """Decode; between hosts and ports with the extra and without: both have to take the same messages and give the same."""
    one, other = (outcome(data, decoder, source, reachable=checks.is_address) for decoder in (None, fast))
    if isinstance(one, MessageError) or isinstance(other, MessageError):
        assert (str(one), type(one)) == (str(other), type(other))
    else:
        assert values.same(plain(one), plain(other))
    decoded = outcome(data, fast, source, **arguments)
    if isinstance(decoded, MessageError):
        raise decoded
    return decoded


def outcome(data: bytes | bytearray, decoder: Any, source: object, **arguments: Any) -> checks.Message | MessageError:
    with mock.patch.object(messages, "fast", decoder):
        try:
            return messages.decode(data, source, **arguments)
        except MessageError as error:
            return error


def plain(message: checks.Message) -> list[Any]:
    """A message in JSON's own types."""
    digest = None if message.digest is None else as_dicts(message.digest)
    return [*map(list, [message.sender]), message.deltas, digest]


def deep(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


# Bytes


def test_a_digest_is_these_bytes() -> None:
    assert messages.encode(A, digest=[ENTRY, {"id": "a", "maxVersionSeen": 0, "transport": A.transport}]) == (
        b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"10.0.0.2","port":9743}},'
        b'{"id":"a","maxVersionSeen":0,"transport":{"host":"10.0.0.1","port":9742}}],'
        b'"sender":{"id":"a","transport":{"host":"10.0.0.1","port":9742}}}\r\n'
    )


def test_deltas_are_these_bytes() -> None:
    deltas = [DELTA, ["c", "é", {"a": [1, 2.5, True, None, '"']}, 2**53 - 1]]
    assert messages.encode(A, deltas=deltas) == (
        b'{"deltas":[["b","foo","bar",1732],["c","\xc3\xa9",{"a":[1,2.5,true,null,"\\""]},9007199254740991]],'
        b'"sender":{"id":"a","transport":{"host":"10.0.0.1","port":9742}}}\r\n'
    )


def of_length(length: int, text: str) -> list[list[Any]]:
    """Deltas whose message, without CR LF, has `text` in it and so many bytes of UTF-8."""
    used = len(messages.encode(A, deltas=[["b", "k", text, 5]])) - 2
    return [["b", "k", text + "x" * (length - used), 5]]


@pytest.mark.parametrize("text", ["é", "€", "😀"])
def test_text_beyond_ascii_has_escapes_only_above_one_segment(text: str) -> None:
    within, above = (messages.encode(A, deltas=of_length(length, text)) for length in (1024, 1025))
    assert text.encode() in within
    assert len(within) == 1024 + 2
    assert above.isascii()
    assert json.dumps(text)[1:-1].encode() in above
    assert decode(above).deltas == of_length(1025, text)


def test_half_of_a_surrogate_pair_has_an_escape_at_any_length() -> None:
    for value in ("\ud800 é", "\udfff é" + "x" * 2_000):
        data = messages.encode(A, deltas=[["b", "k", value, 5]])
        assert data.isascii()
        assert decode(data).deltas == [["b", "k", value, 5]]


@pytest.mark.parametrize("transport", [{"host": object()}, float("nan"), {1, 2}])
def test_a_transport_that_json_has_no_form_for_is_not_encoded(transport: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        messages.encode(RemotePeer("a", transport), digest=[])


# Round trips


@given(DELTAS)
def test_deltas_are_the_same_json_with_the_extra_and_without(deltas: list[list[Any]]) -> None:
    made = []
    for encoder in (None, fast):
        with mock.patch.object(messages, "fast", encoder):
            made.append(json.loads(messages.encode(A, deltas=deltas)))
    assert values.same(*made)


@given(SENDERS, st.none() | DELTAS, st.none() | DIGESTS)
def test_deltas_and_a_digest_come_back_alone_and_together(sender: RemotePeer, deltas: Any, digest: Any) -> None:
    hypothesis.assume(deltas is not None or digest is not None)
    message = decode(bytearray(messages.encode(sender, deltas=deltas, digest=digest)))
    assert message.sender.id == sender.id
    assert values.same(message.sender.transport, sender.transport)
    assert values.same(message.deltas, deltas)  # an empty list is not None
    assert values.same(plain(message)[2], digest)


def test_the_line_end_is_optional_and_white_space_is_none_of_the_message() -> None:
    data = messages.encode(A, digest=[ENTRY])
    spaced = b" " + json.dumps(json.loads(data), indent=2).encode() + b"\n\n"
    assert decode(data[:-2]) == decode(spaced) == decode(data)


def test_the_deepest_value_that_update_takes_comes_back() -> None:
    value = deep(values.MAX_NESTING)
    values.copied(value)
    assert decode(messages.encode(A, deltas=[["b", "k", value, 5]])).deltas == [["b", "k", value, 5]]


def test_what_a_later_version_adds_is_ignored() -> None:
    sender = {**SENDER, "later": 1}
    deltas = {"later": {"x": []}, "deltas": [[*DELTA, 1731, 0, {"later": 1}]], "sender": sender}
    digest = {"later": None, "digest": [{**ENTRY, "later": [1]}], "sender": sender}
    heard = decode(json.dumps(deltas).encode())
    assert heard.sender == A
    assert [delta[:4] for delta in heard.deltas or []] == [DELTA]
    heard = decode(json.dumps(digest).encode())
    assert heard.sender == A
    assert as_dicts(heard.digest or []) == [ENTRY]


# What is refused


def refused(data: bytes, **arguments: Any) -> str:
    with pytest.raises(MessageError) as caught:
        decode(data, "10.0.0.9:5", **arguments)
    assert caught.value.source == "10.0.0.9:5"
    who, _, what = str(caught.value).partition(" refused: ")
    assert who == "message from 10.0.0.9:5"
    return what


def message(**parts: Any) -> bytes:
    """A message of these parts, the sender as ever unless it is one; the string 1e999 stands for the number."""
    return json.dumps({"sender": SENDER, **parts}).replace('"1e999"', "1e999").encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON in UTF-8"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "no JSON in UTF-8"),
        (message(digest=[])[:-1], "no JSON in UTF-8"),
        (message(digest=[]) + b"\r\n" + message(digest=[]), "no JSON in UTF-8: Extra data"),
        (message(deltas=[["b", "k", "v", 5]]).replace(b"v", b"\xff"), "no JSON in UTF-8: 'utf-8' codec can't decode"),
        (b"\xef\xbb\xbf" + message(digest=[]), "no JSON in UTF-8: Expecting value"),
        (message(deltas=[["b", "k", float("nan"), 5]]), "no JSON in UTF-8: NaN is no JSON"),
        (message(deltas=[["b", "k", float("inf"), 5]]), "no JSON in UTF-8: Infinity is no JSON"),
        (message(digest=[{**ENTRY, "later": -float("inf")}]), "no JSON in UTF-8: -Infinity is no JSON"),
        (b"[" * 200_000, "nested more than 100 deep"),
        (b'"digest"', "'digest' is no object"),
        (b'[{"digest":[]}]', "[{'digest': []}] is no object"),
        (message(), "neither deltas nor digest"),
        (b'{"digest":[]}', "sender.id is None, no id"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, words: str) -> None:
    assert words in refused(data)


BAD_KEYS: list[Any] = [None, 5, True, ["k"], {}]
BAD_IDS: list[Any] = ["", None, 5, True, 1.5, ["b"], {"id": "b"}]
BAD_VERSIONS: list[Any] = [-1, MAX_VERSION + 1, 10**30, 5.0, 5.5, "1e999", "5", True, None, [5], {}]
BAD_TRANSPORTS: list[Any] = ["1e999", {"port": "1e999"}, [["1e999"]], deep(values.MAX_NESTING + 1)]

NO_BOOLS: list[Any] = [None, 0, 1, "true", []]

#: What a digest's entry may not hold: the field, what is wrong in it, what the error says of it.
BAD_FIELDS: list[tuple[str, Any, str]] = [
    *[("id", bad, "no id") for bad in BAD_IDS],
    *[("id", bad, "which ends Node nodes") for bad in sorted(checks.FATAL_IDS)],
    *[("maxVersionSeen", bad, "no version") for bad in BAD_VERSIONS],
    *[("transport", bad, "out of reach") for bad in BAD_TRANSPORTS],
    *[("heartbeat", bad, "not from 0 to") for bad in BAD_VERSIONS],
    *[("heard", bad, "not from 7 to") for bad in [*BAD_VERSIONS, 6]],
    *[("floor", bad, "not from 0 to") for bad in [*BAD_VERSIONS, ENTRY["maxVersionSeen"] + 1]],
    *[(name, bad, "neither true nor false") for name in ("left", "reply", "rumor", "part") for bad in NO_BOOLS],
]

#: The same for the places in a delta.
BAD_PLACES: list[tuple[int, Any, str]] = [
    *[(0, bad, "no id") for bad in BAD_IDS],
    *[(0, bad, "which ends Node nodes") for bad in sorted(checks.FATAL_IDS)],
    *[(1, bad, "no key") for bad in BAD_KEYS],
    *[(2, bad, "holds an infinite number or is nested too deep") for bad in BAD_TRANSPORTS],
    *[(3, bad, "no version") for bad in BAD_VERSIONS],
    *[(4, bad, "no version below") for bad in [*BAD_VERSIONS, DELTA[3]]],
    *[(5, bad, "not from 0 to") for bad in [*BAD_VERSIONS, MAX_VERSION - DELTA[3] + 1]],
]


@pytest.mark.parametrize(("field", "bad", "words"), BAD_FIELDS)
def test_a_bad_field_of_an_entry_is_named(field: str, bad: Any, words: str) -> None:
    what = refused(message(digest=[ENTRY, {**ENTRY, field: bad}, None]))
    assert what.startswith(f"digest[1].{field} ")
    assert words in what


@pytest.mark.parametrize("field", ["id", "maxVersionSeen"])
def test_a_field_that_an_entry_lacks_is_named(field: str) -> None:
    entry = {name: part for name, part in ENTRY.items() if name != field}
    assert refused(message(digest=[entry])).startswith(f"digest[0].{field} is None")


@pytest.mark.parametrize(("place", "bad", "words"), BAD_PLACES)
def test_a_bad_place_of_a_delta_is_named(place: int, bad: Any, words: str) -> None:
    whole = [*DELTA, 1731, 0]
    what = refused(message(deltas=[DELTA, [*whole[:place], bad, *whole[place + 1 :]], None]))
    assert what.startswith(f"deltas[1][{place}] ")
    assert words in what


@pytest.mark.parametrize("bad", [None, 5, True, "abcd", []])
def test_what_is_no_delta_and_no_entry_is_named(bad: Any) -> None:
    assert refused(message(deltas=[DELTA, bad])) == f"deltas[1] is {bad!r}, no [peer id, key, value, version]"
    assert refused(message(digest=[ENTRY, bad])) == f"digest[1] is {bad!r}, no entry"


@pytest.mark.parametrize("bad", [{}, ["b"], ["b", "k", "v"]])
def test_a_delta_that_is_too_short_is_named(bad: Any) -> None:
    assert refused(message(deltas=[bad])) == f"deltas[0] is {bad!r}, no [peer id, key, value, version]"


@pytest.mark.parametrize("name", ["deltas", "digest"])
@pytest.mark.parametrize("bad", [0, 5, False, True, "", "b", {}, {"0": ["b", "k", "v", 5]}])
def test_deltas_and_a_digest_that_are_no_list_are_named(name: str, bad: Any) -> None:
    assert refused(message(**{name: bad})) == f"{name} is {bad!r}, no list"


@pytest.mark.parametrize("bad", [None, 5, "a", [], ["a"], {}, {"transport": 1}, *({"id": id} for id in BAD_IDS)])
def test_a_sender_without_an_id_is_refused(bad: Any) -> None:
    assert refused(message(digest=[], sender=bad)).startswith("sender.id is ")


@pytest.mark.parametrize("id", sorted(checks.FATAL_IDS))
def test_a_sender_named_like_what_every_object_inherits_is_refused(id: str) -> None:
    assert refused(message(digest=[], sender={**SENDER, "id": id})) == f"sender.id is {id!r}, which ends Node nodes"


@pytest.mark.parametrize("bad", BAD_TRANSPORTS)
def test_a_sender_whose_transport_no_json_can_carry_is_refused(bad: Any) -> None:
    assert refused(message(digest=[], sender={"id": "a", "transport": bad})).startswith("sender.transport is ")


def test_a_transport_that_is_out_of_reach_is_refused_in_sender_and_entries() -> None:
    def reachable(transport: Any) -> bool:
        return bool(transport != "the moon")

    assert as_dicts(decode(message(digest=[ENTRY]), reachable=reachable).digest or []) == [ENTRY]
    sender, entry = {"id": "a", "transport": "the moon"}, {**ENTRY, "transport": "the moon"}
    assert refused(message(digest=[], sender=sender), reachable=reachable) == "sender.transport is 'the moon', out of reach"
    assert refused(message(digest=[ENTRY, entry]), reachable=reachable) == "digest[1].transport is 'the moon', out of reach"


def test_a_refusal_of_something_large_is_short() -> None:
    for bad in ("x" * 100_000, ["x"] * 100_000, {str(n): n for n in range(10_000)}):
        assert len(refused(message(digest=[bad]))) < 300


def test_an_integer_of_thousands_of_digits_is_refused() -> None:
    refused(message(digest=[{**ENTRY, "maxVersionSeen": "9s"}]).replace(b'"9s"', b"9" * 5_000))


# Anything at all


def decoded_or_refused(data: bytes) -> None:
    heard, error = None, None
    try:
        heard = decode(data, "there")
    except MessageError as refusal:
        error = refusal
    if heard is not None:
        sender, deltas, digest = heard
        assert checks.validate(sender, deltas, None if digest is None else as_dicts(digest)) == heard
    else:
        assert str(error).startswith("message from there refused: ")


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    decoded_or_refused(data)


@given(VALUES, VALUES, VALUES)
def test_any_json_is_decoded_or_refused(sender: Any, deltas: Any, digest: Any) -> None:
    decoded_or_refused(message(sender=sender, digest=digest, deltas=deltas))
    decoded_or_refused(message(deltas=[deltas, digest]))
    decoded_or_refused(message(digest=[digest]))


@given(st.data(), ENTRIES)
def test_any_entry_is_decoded_or_refused(data: st.DataObject, entry: dict[str, Any]) -> None:
    decoded_or_refused(message(digest=[entry], sender={"id": entry["id"], "transport": entry["transport"]}))
    decoded_or_refused(message(digest=[{**entry, data.draw(st.sampled_from([*ENTRY, *FIELDS])): data.draw(SCALARS)}]))


TOKENS = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"NaN",
    b'""',
    b'"__proto__"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"\\ud800",
    b"\xff",
]


@given(st.data(), st.one_of(DELTAS.map(lambda deltas: {"deltas": deltas}), DIGESTS.map(lambda digest: {"digest": digest})))
def test_a_message_that_was_tampered_with_is_decoded_or_refused(data: st.DataObject, parts: dict[str, Any]) -> None:
    encoded = messages.encode(A, **parts)
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(encoded))] * 2)))
        encoded = encoded[:start] + data.draw(st.sampled_from([b"", encoded[start:end] * 2, *TOKENS])) + encoded[end:]
        decoded_or_refused(encoded)


@given(st.data())
def test_one_part_exchanged_for_any_json_is_decoded_or_refused(data: st.DataObject) -> None:
    field, place = data.draw(st.sampled_from([*ENTRY, "later"])), data.draw(st.integers(0, 6))
    value = data.draw(VALUES)
    decoded_or_refused(message(digest=[{**ENTRY, field: value}]))
    decoded_or_refused(message(deltas=[[*DELTA[:place], value, *DELTA[place + 1 :]]]))


# Sizes


@given(
    st.lists(st.tuples(IDS, TEXTS, st.text(max_size=200), VERSIONS).map(list), min_size=1, max_size=12), st.integers(1, 1_500)
)
def test_split_keeps_their_order_and_the_limit(deltas: list[list[Any]], limit: int) -> None:
    split = list(messages.split(A, deltas, None, limit))
    carried = [decode(data).deltas or [] for data in split]
    assert [delta for part in carried for delta in part] == deltas
    assert all(len(data) <= limit or len(part) == 1 for data, part in zip(split, carried, strict=True))
    if len(messages.encode(A, deltas=deltas)) <= limit:
        assert len(split) == 1


def test_split_fills_the_limit_and_not_a_byte_more() -> None:
    deltas = [["b", f"k{n}", "v", n] for n in range(8)]
    size = len(messages.encode(A, deltas=deltas))
    assert len(list(messages.split(A, deltas, None, size))) == 1
    assert [len(decode(data).deltas or []) for data in messages.split(A, deltas, None, size - 1)] == [4, 4]


def test_deltas_and_a_digest_go_in_one_message_if_there_is_room_and_the_digest_last_if_not() -> None:
    deltas = [["b", f"k{n}", "v", n + 1] for n in range(8)]
    size = len(messages.encode(A, deltas=deltas, digest=[ENTRY]))
    (whole,) = messages.split(A, deltas, [ENTRY], size)
    assert plain(decode(whole)) == [list(A), deltas, [ENTRY]]
    parts = [plain(decode(data)) for data in messages.split(A, deltas, [ENTRY], size - 1)]
    assert parts == [[list(A), deltas, None], [list(A), None, [ENTRY]]]


def test_no_deltas_at_all_are_one_message_whatever_the_limit() -> None:
    assert len(list(messages.split(A, [], None, 1))) == 1


@given(VALUES | st.text(max_size=2_000), st.integers(4_096, 12_000))
def test_a_value_that_fits_goes_in_one_message(value: Any, limit: int) -> None:
    if messages.fits(value, limit):
        entry = ["i" * 128, "k" * 128, value, MAX_VERSION]
        assert len(messages.encode(RemotePeer("j" * 128, {"host": "h" * 253, "port": 65535}), deltas=[entry])) <= limit


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: [text], lambda text: {"k": [text]}, lambda text: {text: 1}])
def test_fits_counts_escaped_bytes(wrap: Any) -> None:
    for text in ("x", "é", "😀", "\0", '"'):
        escaped = len(json.dumps(text)) - 2
        rest = len(json.dumps(wrap(""), separators=(",", ":")))
        value = wrap(text * 500)
        assert messages.fits(value, 4_096 + 500 * escaped + rest)
        if escaped < 12:  # below that, no text is measured that is short enough with 12 bytes for each character
            assert not messages.fits(value, 4_096 + 500 * escaped + rest - 1)


def test_numbers_and_the_like_fit_always() -> None:
    assert all(messages.fits(value, 4_096) for value in (None, True, 5, 2**2000, 1.5))
