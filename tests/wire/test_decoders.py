"""The decoders: what they make of a message, what they refuse, and that both do the same."""

from __future__ import annotations

import importlib
import json
import sys
from base64 import b64encode
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from gossipmonger import wire
from gossipmonger.errors import MessageError
from gossipmonger.state import MAX_VERSION, Compact, Delta, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.wire.json_decoder import JsonDecoder
from gossipmonger.wire.msgspec_decoder import MsgspecDecoder

ADDRESS = {"host": "10.0.0.1", "port": 9742}
SENDER = {"id": "a", "transport": ADDRESS}
OWN: dict[str, Any] = {"id": "a", "maxVersionSeen": 3, "transport": ADDRESS, "heartbeat": 12}
ENTRY: dict[str, Any] = {"id": "b", "maxVersionSeen": 7, "transport": {"host": "10.0.0.2", "port": 9743}}
DELTA: list[Any] = ["b", "foo", "bar", 1732]
ROLL = "AAAAAAAA" + b64encode(bytes(range(8))).decode()

by_json = JsonDecoder().decode
by_msgspec = MsgspecDecoder().decode


def encoded(**parts: Any) -> bytes:
    """A message of these parts, the sender as ever unless it is one of them."""
    return json.dumps({"sender": SENDER, **parts}).encode()


def plain(message: Message) -> Any:
    """A message as tuples, whoever decoded it."""
    deltas = None if message.deltas is None else [tuple(delta) for delta in message.deltas]
    digest = message.digest
    if digest is None:
        return tuple(message.sender), deltas, None
    entries = [tuple(getattr(entry, name) for name in Entry._fields) for entry in digest.entries]
    return tuple(message.sender), deltas, (digest.kind, digest.header, entries)


def outcome(data: bytes | bytearray, fast: Any = by_msgspec, source: object = "there") -> Any:
    """What becomes of a message: itself, or the words in which it is refused."""
    with mock.patch.object(wire, "_fast_decode", fast):
        try:
            return plain(wire.decode(data, source))
        except MessageError as error:
            words = str(error)
    assert words.startswith("message from there refused: ")
    assert "\n" not in words
    assert len(words) < 500
    return words


def decoded(data: bytes | bytearray) -> Any:
    """The same, with the extra and without."""
    one, other = outcome(data), outcome(data, None)
    assert repr(one) == repr(other)  # 1, 1.0 and True differ
    return one


def refused(data: bytes) -> str:
    words = decoded(data)
    assert isinstance(words, str)
    return words.removeprefix("message from there refused: ")


# What a message becomes


def test_a_message_of_a_node_js_node() -> None:
    data = encoded(digest=[ENTRY, {**ENTRY, "id": "a"}])
    sender, deltas, digest = decoded(data)
    assert sender == ("a", ADDRESS)
    assert deltas is None
    address = ENTRY["transport"]
    assert digest == (Kind.ROUND, None, [Entry("b", 7, address), Entry("a", 7, address)])


def test_deltas() -> None:
    deltas = [
        DELTA,
        [*DELTA, 1731],
        [*DELTA, 1000, 5],
        [*DELTA, 1731, 0, 2.5],
        [*DELTA, 1731, 0, 5],
        ["b", "é", {"a": [1, 2.5, None, True, 2**100]}, MAX_VERSION],
    ]
    data = encoded(deltas=deltas)
    assert decoded(data)[1] == [Delta(*delta) for delta in deltas]
    for decode in (by_json, by_msgspec):
        found = decode(data)
        assert found is not None
        assert all(isinstance(delta, Delta) for delta in found.deltas or ())


def test_every_field_of_an_entry() -> None:
    entry = {**ENTRY, "heartbeat": 5, "floor": 6, "heard": 9, "left": True, "age": 8, "interval": 250}
    assert decoded(encoded(digest=[entry]))[2][2] == [Entry("b", 7, ENTRY["transport"], 5, 6, 9, True, 8, 250)]


def test_an_entry_of_msgspec_has_its_transport_as_a_dict() -> None:
    for address in (ADDRESS, {**ADDRESS, "udp": True}, {**ADDRESS, "udp": False}):
        found = by_msgspec(encoded(digest=[{**ENTRY, "transport": address}]))
        assert found is not None
        assert found.digest is not None
        assert found.digest.entries[0].transport == address
        with pytest.raises(AttributeError):
            found.digest.entries[0].version = 8  # type: ignore[misc]


@pytest.mark.parametrize("bytes_of", [bytes, bytearray])
def test_space_around_a_message_is_ignored(bytes_of: Any) -> None:
    data = encoded(digest=[ENTRY], deltas=[DELTA])
    spaced = b" \t\r\n" + json.dumps(json.loads(data), indent=2).encode() + b"\r\n\n"
    assert decoded(bytes_of(spaced)) == decoded(bytes_of(data + b"\r\n")) == decoded(data)


def test_what_a_later_version_adds_is_ignored() -> None:
    later = {"later": {"x": [1, "é"]}}
    data = encoded(deltas=[[*DELTA, 1731, 0, 0, later]], digest=[{**ENTRY, **later}], sender={**SENDER, **later}, **later)
    assert decoded(data) == decoded(encoded(deltas=[[*DELTA, 1731]], digest=[ENTRY]))


def test_an_integer_of_thousands_of_digits_matters_only_where_somebody_reads_it() -> None:
    for number in (b"9" * 5_000, b"-" + b"9" * 5_000):
        assert decoded(encoded(digest=[{**ENTRY, "later": "N"}]).replace(b'"N"', number)) == decoded(encoded(digest=[ENTRY]))
        words = refused(encoded(digest=[{**ENTRY, "maxVersionSeen": "N"}]).replace(b'"N"', number))
        assert words.startswith("digest[0].maxVersionSeen must be an integer from 0 to")
        assert refused(encoded(deltas=[["b", "k", "N", 5]]).replace(b'"N"', number)).startswith("deltas[0][2] must be")


def test_half_of_a_surrogate_pair_is_text() -> None:
    data = encoded(deltas=[["b", "k", "\ud800 é", 5]])
    assert decoded(data)[1] == [Delta("b", "k", "\ud800 é", 5)]


# Headers


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        ({}, Kind.ROUND),
        ({"reply": True}, Kind.REPLY),
        ({"rumor": True}, Kind.RUMOR),
        ({"part": True}, Kind.PART),
        ({"left": True}, Kind.FAREWELL),
        ({"reply": False, "rumor": False, "part": False, "left": False}, Kind.ROUND),
        ({"rumor": True, "part": True}, Kind.RUMOR),
        ({"reply": True, "rumor": True, "part": True}, Kind.REPLY),
        ({"reply": True, "rumor": True, "part": True, "left": True}, Kind.FAREWELL),
    ],
)
def test_the_kind_of_a_digest_stands_in_the_senders_own_entry(marks: dict[str, bool], kind: Kind) -> None:
    found, header, entries = decoded(encoded(digest=[ENTRY, {**OWN, **marks}]))[2]
    assert (found, header) == (kind, Header())
    assert entries[1] == Entry("a", 3, ADDRESS, 12, left=marks.get("left", False))


def test_the_other_fields_of_the_header_stand_there_too() -> None:
    own = {**OWN, "flow": [1.5, 2, -3], "roll": ROLL, "hints": [["b", 5]], "ask": True, "cluster": "é", "forget": [["c", 6]]}
    header = decoded(encoded(digest=[own]))[2][1]
    assert header == Header([1.5, 2, -3], Compact("AAAAAAAA", bytes(range(8))), [["b", 5]], True, "é", [["c", 6]])


def test_without_a_heartbeat_there_is_no_header() -> None:
    own = {name: value for name, value in OWN.items() if name != "heartbeat"}
    assert decoded(encoded(digest=[{**own, "reply": True, "left": True, "flow": [1, 2]}]))[2][:2] == (Kind.ROUND, None)
    assert decoded(encoded(digest=[{**own, "heartbeat": 0}]))[2][:2] == (Kind.ROUND, Header())


def test_without_an_own_entry_there_is_no_header() -> None:
    for digest in ([], [{**ENTRY, "heartbeat": 5, "reply": True}]):
        assert decoded(encoded(digest=digest))[2][:2] == (Kind.ROUND, None)


def test_the_last_of_several_own_entries_counts() -> None:
    assert decoded(encoded(digest=[{**OWN, "reply": True}, ENTRY, {**OWN, "rumor": True}]))[2][0] is Kind.RUMOR
    assert decoded(encoded(digest=[{**OWN, "rumor": True}, {**OWN, "part": True}, ENTRY]))[2][0] is Kind.PART


def test_in_other_entries_the_headers_fields_are_ignored() -> None:
    wrong = {"reply": 5, "rumor": None, "flow": "fast", "roll": "", "hints": 5, "ask": 1, "cluster": "", "forget": "b"}
    for more in ({"reply": True, "flow": [1, 2], "cluster": "c"}, wrong):
        for id in ("a", "b"):
            assert decoded(encoded(digest=[{**OWN, **more, "id": id}, OWN]))[2][:2] == (Kind.ROUND, Header())


# What is refused


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "message must be JSON in UTF-8: Expecting value"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "message must be JSON in UTF-8: Expecting value"),
        (encoded(digest=[])[:-1], "message must be JSON in UTF-8: "),
        (encoded(digest=[]) + b"\r\n" + encoded(digest=[]), "message must be JSON in UTF-8: Extra data"),
        (b"\xef\xbb\xbf" + encoded(digest=[]), "message must be JSON in UTF-8: "),
        (encoded(deltas=[["b", "k", float("nan"), 5]]), "message must be JSON in UTF-8: NaN is not JSON"),
        (encoded(digest=[{**ENTRY, "later": -float("inf")}]), "message must be JSON in UTF-8: -Infinity is not JSON"),
        (b"[" * 200_000, "message must not be nested more than 100 deep"),
        (b'"digest"', "message must be an object, got 'digest'"),
        (b'[{"digest":[]}]', "message must be an object, got [{'digest': []}]"),
        (encoded(), "message must have deltas or a digest"),
        (b'{"digest":[]}', "sender must be an object, got None"),
    ],
)
def test_what_is_not_a_message_is_refused(data: bytes, words: str) -> None:
    assert refused(data).startswith(words)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82"])
@pytest.mark.parametrize("place", ["value", "key", "id", "later", "host"])
def test_invalid_utf_8_is_refused_wherever_it_stands(bad: bytes, place: str) -> None:
    entry = {**ENTRY, "transport": {"host": "h-host", "port": 1}, "later": ["h-later"]}
    data = encoded(digest=[entry], deltas=[["h-id", "h-key", "h-value", 5]])
    assert refused(data.replace(f"h-{place}".encode(), bad)).startswith("message must be JSON in UTF-8: 'utf-8' codec can't")


@pytest.mark.parametrize("name", ["deltas", "digest"])
@pytest.mark.parametrize("bad", [None, 0, 5, False, True, "", "b", {}, {"0": ["b", "k", "v", 5]}])
def test_deltas_and_a_digest_must_be_lists(name: str, bad: Any) -> None:
    assert refused(encoded(**{name: bad})) == f"{name} must be a list, got {bad!r}"


@pytest.mark.parametrize("bad", [None, 5, True, "abcd", [], {}, ["b", "k", "v"]])
def test_what_is_not_a_delta_is_named(bad: Any) -> None:
    assert refused(encoded(deltas=[DELTA, bad])) == f"deltas[1] must be [peer_id, key, value, version, ...], got {bad!r}"


@pytest.mark.parametrize("bad", [None, 5, True, "abcd", []])
def test_what_is_not_an_entry_or_a_sender_is_named(bad: Any) -> None:
    assert refused(encoded(digest=[ENTRY, bad])) == f"digest[1] must be an object, got {bad!r}"
    assert refused(encoded(digest=[], sender=bad)) == f"sender must be an object, got {bad!r}"


def test_a_refusal_of_something_large_is_short_and_in_one_line() -> None:
    nested = [[[[{f"{n}": [n] * 6 for n in range(4)}] * 6] * 6] * 6] * 6
    for bad in (nested, "x\n" * 100_000, ["x\n"] * 100_000, {str(n): n for n in range(10_000)}, 10**4_000):
        assert len(refused(encoded(digest=[{**ENTRY, "maxVersionSeen": bad}]))) < 300
        assert len(refused(encoded(digest=[bad]))) < 300


@pytest.mark.parametrize("id", ["a\nb", "x" * 100_000, "\ud800"])
def test_the_source_is_named_in_one_short_line(id: str) -> None:
    for decode in (wire.decode, by_json):
        with pytest.raises(MessageError) as caught:
            decode(encoded(digest=[5], sender={**SENDER, "id": id}))
        words = str(caught.value)
        assert words.isprintable()
        assert len(words) < 250


def test_the_source_is_the_sender_unless_it_is_given() -> None:
    for source, said in ((None, "a"), (("10.0.0.9", 5), ("10.0.0.9", 5))):
        with pytest.raises(MessageError) as caught:
            wire.decode(encoded(digest=[5]), source)
        assert caught.value.source == said
        assert str(caught.value).startswith(f"message from {said} refused: ")


def test_another_transport_says_what_it_can_reach() -> None:
    def reachable(transport: Any) -> bool:
        return bool(transport == "the sea")

    sender, entry = {"id": "a", "transport": "the sea"}, {**ENTRY, "transport": "the sea"}
    found = wire.decode(encoded(digest=[entry], sender=sender), reachable=reachable)
    assert found.sender == RemotePeer("a", "the sea")
    with pytest.raises(MessageError, match=r"digest\[1\].transport must be an address that can be reached, got 'the moon'"):
        wire.decode(encoded(digest=[entry, {**ENTRY, "transport": "the moon"}], sender=sender), reachable=reachable)


# What a transport of another kind hands over


@pytest.mark.parametrize("sender", [SENDER, SimpleNamespace(**SENDER), RemotePeer("a", ADDRESS), {**SENDER, "later": 1}])
def test_message_of_takes_mappings_and_objects(sender: Any) -> None:
    found = wire.message_of(sender, [DELTA], [ENTRY, {**OWN, "reply": True}])
    assert plain(found) == decoded(encoded(deltas=[DELTA], digest=[ENTRY, {**OWN, "reply": True}]))
    assert wire.message_of(sender, None, []).deltas is None
    assert wire.message_of(sender, [], None).digest is None


def test_message_of_takes_any_transport_that_json_can_carry() -> None:
    assert wire.message_of({"id": "a", "transport": [5, None]}, []).sender.transport == [5, None]
    for bad in (float("nan"), {1, 2}, object(), 10**5_000):
        with pytest.raises(MessageError, match=r"sender\.transport must be"):
            wire.message_of({"id": "a", "transport": bad}, [])


@pytest.mark.parametrize(
    ("sender", "deltas", "digest", "words"),
    [
        (None, [], None, "sender must be an object, got None"),
        (SimpleNamespace(id="a"), [], None, "sender.transport must be an address that can be reached, but is missing"),
        (SimpleNamespace(id=5, transport=1), [], None, "sender.id must be a non-empty string of at most 255 bytes, got 5"),
        (SENDER, None, None, "message must have deltas or a digest"),
        (SENDER, (DELTA,), None, "deltas must be a list, got"),
        (SENDER, [tuple(DELTA)], None, "deltas[0] must be [peer_id, key, value, version, ...], got"),
        (SENDER, [["b", "k", {1: float("inf")}, 5]], None, "deltas[0][2] must be a JSON value"),
        (SENDER, None, {}, "digest must be a list, got {}"),
        (SENDER, None, [Entry("b", 7, ADDRESS)], "digest[0] must be an object, got"),
        (SENDER, None, [{**OWN, "flow": [float("nan"), 1]}], "digest[0].flow must be [rho, tau]"),
    ],
)
def test_message_of_refuses_what_is_not_a_message(sender: Any, deltas: Any, digest: Any, words: str) -> None:
    with pytest.raises(MessageError) as caught:
        wire.message_of(sender, deltas, digest)
    assert str(caught.value).split(" refused: ")[-1].startswith(words)


# With the extra and without


def test_without_the_extra_there_is_the_other_decoder() -> None:
    with mock.patch.dict(sys.modules, {"msgspec": None}), mock.patch.object(sys.modules["gossipmonger"], "wire"):
        del sys.modules["gossipmonger.wire"], sys.modules["gossipmonger.wire.msgspec_decoder"]
        bare = importlib.import_module("gossipmonger.wire")
    assert bare._fast_decode is None
    assert plain(bare.decode(encoded(digest=[ENTRY]))) == decoded(encoded(digest=[ENTRY]))


def test_msgspec_takes_what_nodes_send() -> None:
    for parts in ({"digest": [ENTRY, {**OWN, "floor": 1, "reply": True, "flow": [1, 2]}]}, {"deltas": [DELTA, [*DELTA, 5, 1]]}):
        assert by_msgspec(encoded(**parts)) is not None


@pytest.mark.parametrize("step", ["decode", "parse"])
def test_a_message_that_memory_is_too_short_for_is_refused_like_any_other(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(wire, "_fast_decode", fail if step == "decode" else None)
    monkeypatch.setattr(JsonDecoder, step, fail)
    with pytest.raises(MessageError, match=r"^message from 10.0.0.1:5 refused: it takes more memory than there is$"):
        wire.decode(b"{}", "10.0.0.1:5")
