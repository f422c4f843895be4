"""Frames: what a link begins with, what follows, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import wire
from gossipmonger.errors import MessageError
from gossipmonger.state.message import Delta, Digest, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.wire import CLOSING, EMPTY, Framer, Splitter, begins_link, decode, encode, hello, packer, read_hello
from gossipmonger.wire.compression import deflate
from gossipmonger.wire.frames import Hello
from tests.wire.test_decoders import plain

A = RemotePeer("a", {"host": "10.0.0.1", "port": 9742})
B = RemotePeer("b", {"host": "10.0.0.2", "port": 9742})


def told(*values: Any, sender: RemotePeer = A) -> Message:
    return Message(sender, [Delta("a", f"k{index}", value, index + 1, index) for index, value in enumerate(values)])


def deflated(data: bytes) -> bytes:
    packed = deflate(data)
    return b"\1" + len(packed).to_bytes(4, "big") + packed


# HELLO


@pytest.mark.parametrize("sender", [A, RemotePeer("é\ud800", {"host": "h", "port": "1", "udp": True}), None])
def test_a_hello_says_who_is_there_and_is_one_line(sender: RemotePeer | None) -> None:
    data = hello(sender)
    assert data.startswith(b'{"hello":')
    assert (data.count(b"\n"), data[-2:]) == (1, b"\r\n")
    assert begins_link(data) is True
    assert begins_link(bytearray(data + b"\3")) is True
    for cut in range(len(data)):
        assert begins_link(data[:cut]) is None
    assert read_hello(data, "there") == Hello(sender, 1)
    assert read_hello(bytearray(data.strip()), "there") == Hello(sender, 1)


@pytest.mark.parametrize(("you", "read"), [("10.0.0.9:53122", "10.0.0.9:53122"), ("", ""), ("\x1b", "\x1b")])
def test_a_hello_may_say_where_it_sees_the_reader_come_from(you: str, read: str) -> None:
    data = hello(A, you=you)
    assert data.endswith(b"\r\n")
    assert data.count(b"\n") == 1
    assert read_hello(data, "there") == Hello(A, 1, "", None, read)
    assert read_hello(data.replace(b'"you":"', b'"you":5,"x":"'), "there").you == ""


@pytest.mark.parametrize("cluster", ["prod", "é\ud800", "c" * 255])
def test_a_hello_names_the_cluster(cluster: str) -> None:
    data = hello(A, cluster=cluster)
    assert data.isascii()
    assert read_hello(data, "there") == Hello(A, 1, "", cluster)
    assert b"cluster" not in hello(A)


@pytest.mark.parametrize("cluster", [b"null", b"5", b'""', b'"%b"' % (b"c" * 256), b"[]"])
def test_a_hello_with_another_kind_of_cluster_is_refused(cluster: bytes) -> None:
    with pytest.raises(MessageError, match=r"hello\.cluster must be a string of 1 to 255 characters, got "):
        read_hello(b'{"hello":{"version":1,"cluster":%b}}\n' % cluster, "there")


def test_a_node_js_node_finds_neither_deltas_nor_a_digest_in_a_hello() -> None:
    with pytest.raises(MessageError, match="must have deltas or a digest"):
        decode(hello(A), "there")


def test_a_hello_of_a_later_version_is_read_though_it_says_more() -> None:
    line = b'{"hello":{"version":7,"speaks":["x"]},"sender":{"id":"a","transport":{"host":"10.0.0.1","port":9742}},"more":1}\n'
    assert read_hello(line, "there") == Hello(A, 7)


@pytest.mark.parametrize("data", [b"{", b'{"hel', b'{"hello":', b'{"hello":{"version":1}}', b""])
def test_what_may_become_a_hello_cannot_be_told_yet(data: bytes) -> None:
    assert begins_link(data) is None


@pytest.mark.parametrize(
    "data", [b"x", b"\x78\x01", b'{"digest"', b'{ "hello":1}\n', b"\r\n", b'{"hello" :1}\n', encode(told(1))]
)
def test_what_is_no_hello_shows_at_its_first_bytes(data: bytes) -> None:
    assert begins_link(data) is False


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"hello":}', "must be JSON"),
        (b'{"hello":1}', "hello must be an object with a version of at least 1, got 1"),
        (b'{"hello":null}', "got None"),
        (b'{"hello":[1]}', r"got \[1\]"),
        (b'{"hello":{}}', "got {}"),
        (b'{"hello":{"version":0}}', "version"),
        (b'{"hello":{"version":true}}', "version"),
        (b'{"hello":{"version":1.0}}', "version"),
        (b'{"hello":{"version":"1"}}', "version"),
        (b'{"hello":{"version":1},"sender":null}', "sender must be an object, got None"),
        (b'{"hello":{"version":1},"sender":{"id":5,"transport":{"host":"h","port":1}}}', "sender.id"),
        (b'{"hello":{"version":1},"sender":{"id":"__proto__","transport":{"host":"h","port":1}}}', "sender.id"),
        (b'{"hello":{"version":1},"sender":{"id":"a","transport":{"host":"","port":1}}}', "sender.transport"),
        (b'{"hello":{"version":1},"sender":{"id":"a","transport":{"host":"h","port":0}}}', "sender.transport"),
        (b'{"hello":{"version":1},"sender":{"id":"a"}}', "sender.transport"),
        (b'{"hello":\xff}', "must be JSON in UTF-8"),
        (b'{"hello":' + b"[" * 100_000 + b"}", "nested more than 100 deep"),
    ],
)
def test_a_malformed_hello_is_refused(line: bytes, words: str) -> None:
    with pytest.raises(MessageError, match=words) as caught:
        read_hello(line, "there")
    assert caught.value.source == "there"


def test_a_sender_that_json_has_no_form_for_is_the_callers_error() -> None:
    with pytest.raises(TypeError):
        hello(RemotePeer("a", {"host": {1}}))


# What a message becomes


def test_a_frame_leaves_out_the_sender_that_the_link_has_named() -> None:
    message = told("v")
    framer = Framer(10_000, None)
    assert framer.frames(message, A) == b'{"deltas":[["a","k0","v",1,0]]}\r\n'
    assert framer.frames(message, B) == framer.frames(message, None) == encode(message)
    digest = Message(A, None, Digest(Kind.ROUND, None, [Entry("b", 1, B.transport)]))
    assert b"sender" not in framer.frames(digest, A)
    assert b"sender" in framer.frames(digest._replace(sender=B), A)


def test_a_message_to_several_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = mock.Mock(side_effect=encode)
    monkeypatch.setattr(packer, "encode", encoder)
    message, equal = told("v" * 3_000), told("v" * 3_000)
    framer = Framer(10_000, 100)
    first = framer.frames(message, A)
    assert framer.frames(message, A) is first
    assert encoder.call_count == 1
    assert framer.frames(equal, A) == first
    assert encoder.call_count == 2  # another object may change yet
    assert framer.frames(equal, None) != first
    assert encoder.call_count == 3


@pytest.mark.parametrize(("above", "packed"), [(None, False), (10_000, False), (100, True), (0, True)])
def test_a_long_message_is_deflated_where_that_helps(above: int | None, packed: bool) -> None:
    message = told("v" * 3_000)
    frame = Framer(10_000, above).frames(message, A)
    assert (frame[:1] == b"\1") is packed
    assert (len(frame) < 200) is packed
    assert [*Splitter(10_000, "there").frames(frame)] == [encode(message, anonymous=True)]
    short = told(1)
    assert Framer(10_000, above).frames(short, A) == encode(short, anonymous=True)  # which deflating would make longer


def test_the_deltas_of_a_message_beyond_the_limit_go_in_several_frames_and_its_digest_behind_them() -> None:
    message = told(*["x" * 100] * 20)._replace(digest=Digest(Kind.ROUND, None, [Entry("a", 20, A.transport)]))
    for above in (None, 100):
        found = [*Splitter(1_000, "there").frames(Framer(1_000, above).frames(message, A))]
        assert len(found) > 3
        assert all(len(frame) <= 1_000 for frame in found)
        parts = [decode(frame, "there", speaker=A) for frame in found]
        assert [delta for part in parts for delta in part.deltas or ()] == [*(message.deltas or ())]
        assert [part.digest is not None for part in parts] == [False] * (len(parts) - 1) + [True]


def test_a_transport_that_json_has_no_form_for_is_the_callers_error() -> None:
    with pytest.raises(TypeError):
        Framer(1_000, None).frames(Message(RemotePeer("a", {"host": {1}}), []), A)


# What frames become


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield the data in chunks of these sizes, again and again."""
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        yield data[at : at + size]
        at, turn = at + size, turn + 1


_values = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=300), st.just("long" * 600))
_messages = st.builds(
    lambda values, sender, round: told(*values, sender=sender)._replace(
        digest=Digest(Kind.ROUND, Header(), [Entry("b", 7, B.transport), Entry(sender.id, 3, sender.transport, heartbeat=5)])
        if round
        else None
    ),
    st.lists(_values, max_size=4),
    st.sampled_from([A, B]),
    st.booleans(),
)


@given(
    st.lists(st.one_of(_messages, st.sampled_from([CLOSING, EMPTY])), max_size=8),
    st.lists(st.one_of(st.integers(1, 9), st.integers(10, 2_000)), min_size=1, max_size=6),
    st.sampled_from([None, 0, 300]),
    st.sampled_from([400, 1 << 20]),
)
def test_messages_cut_into_any_chunks_come_out_as_they_were(
    sent: list[Message | bytes], sizes: list[int], above: int | None, limit: int
) -> None:
    framer, splitter = Framer(limit, above), Splitter(1 << 20, "there")
    data = b"".join(each if isinstance(each, bytes) else framer.frames(each, A) for each in sent)
    found = [frame for chunk in cut(data, sizes) for frame in splitter.frames(chunk)]
    assert len(splitter) == 0
    whole = Framer(limit, None)
    expected = [
        frame
        for each in sent
        for frame in ([each] if isinstance(each, bytes) else whole.frames(each, A).splitlines(keepends=True))
    ]
    assert found == expected
    for frame in found:
        if frame not in (CLOSING, EMPTY):
            assert decode(frame, "there", speaker=A).sender in (A, B)


def test_bytes_of_a_frame_that_is_not_complete_are_counted() -> None:
    splitter = Splitter(100, "there")
    for data, left in ((b"{", 1), (b"}", 2), (b"\n", 0), (b"\1\0", 2), (b"\0\0\2", 5), (b"{", 6), (b"}", 0), (EMPTY, 0)):
        list(splitter.frames(data))
        assert len(splitter) == left


def test_the_limit_is_that_of_a_message_without_its_end() -> None:
    longest = b"{" + b"x" * 98 + b"}\r\n"
    for chunks in ([longest], [longest[:50], longest[50:]], [longest[:-1], b"\n"]):
        splitter = Splitter(100, "there")
        assert [frame for chunk in chunks for frame in splitter.frames(chunk)] == [longest]
    assert [*Splitter(100, "there").frames(deflated(longest[:-2]))] == [longest[:-2]]


@pytest.mark.parametrize("before", [b"", EMPTY, b"{}\r\n"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"x", "a frame begins with b'x'"),
        (b"\0", "a frame begins with"),
        (b"\r\n{}", "a frame begins with"),
        (b"\x78\x01", "a frame begins with b'x'"),
        (b"{" + b"x" * 102, "more than 100 bytes"),  # and no end of the line
        (b"{" + b"x" * 101 + b"\n", "more than 100 bytes"),
        (b"\1\0\0\0\x65", "more than 100 bytes"),  # before they have come
        (b"\1\xff\xff\xff\xff", "more than 100 bytes"),
        (deflated(b"{" + b"x" * 100), "inflates to more than 100 bytes"),
        (deflated(bytes(1_000_000))[:1] + b"\0\0\0\5" + deflate(bytes(1_000_000))[:5], "cut short"),
        (b"\1\0\0\0\4\x78xyz", "not deflated right"),
        (b"\1" + (len(deflate(b"{}")) + 1).to_bytes(4, "big") + deflate(b"{}") + b"x", "1 bytes after the end"),
    ],
)
def test_what_is_no_frame_is_refused_in_one_piece_and_byte_by_byte(data: bytes, words: str, before: bytes) -> None:
    for size in (1, 1_000_000):
        splitter, found = Splitter(100, "there"), list[bytes]()
        with pytest.raises(MessageError, match=words) as caught:
            found.extend(frame for chunk in cut(before + data, [size]) for frame in splitter.frames(chunk))
        assert caught.value.source == "there"
        assert found == ([before] if before else [])


def test_what_a_deflated_frame_holds_may_be_anything_and_is_decoded_later() -> None:
    (frame,) = Splitter(100, "there").frames(deflated(b"rubbish"))
    assert frame == b"rubbish"
    assert [*Splitter(100, "there").frames(b"\1\0\0\0\3abc")] == [b"abc"]  # not deflated after all
    assert [*Splitter(100, "there").frames(b"\1\0\0\0\0")] == [b""]


def test_a_line_that_trickles_is_searched_once() -> None:
    splitter = Splitter(1 << 20, "there")
    for _ in range(100):
        assert [*splitter.frames(b"{" * 100)] == []
    assert splitter._searched == 10_000
    (frame,) = splitter.frames(b"\n")
    assert (len(frame), len(splitter), splitter._searched) == (10_001, 0, 0)


# Who speaks


def outcome(fast: Any, data: bytes, speaker: RemotePeer | None) -> Any:
    with mock.patch.object(wire, "_fast_decode", fast):
        try:
            return plain(decode(data, "there", speaker=speaker))
        except MessageError as error:
            return str(error)


def both(data: bytes, speaker: RemotePeer | None) -> Any:
    """What becomes of a message, with the extra `fast` and without."""
    one, other = outcome(wire._fast_decode, data, speaker), outcome(None, data, speaker)
    assert repr(one) == repr(other)
    return one


@given(
    _messages, st.booleans(), st.sampled_from([A, B, None]), st.integers(0, 400), st.sampled_from([b"", b"\xff", b"]", b"{"])
)
def test_both_decoders_do_the_same_with_a_speaker(
    message: Message, anonymous: bool, speaker: RemotePeer | None, at: int, rubbish: bytes
) -> None:
    data = encode(message, anonymous)
    found = both(data, speaker)
    if anonymous and speaker is None:
        assert found == "message from there refused: sender must be an object, got None"
    else:
        assert found[0] == tuple((speaker if anonymous else message.sender) or ())
    both(data[:at] + rubbish + data[at:], speaker)


@pytest.mark.parametrize(
    "sender", [None, [], "a", {"id": "a"}, {"id": 1, "transport": A.transport}, {"id": "a", "transport": {"host": "h"}}]
)
def test_a_sender_that_is_named_is_checked_whoever_speaks(sender: Any) -> None:
    words = both(json.dumps({"deltas": [], "sender": sender}).encode(), A)
    assert words.startswith("message from there refused: sender")


def test_the_own_entry_of_the_speaker_carries_the_header() -> None:
    message = Message(
        A, None, Digest(Kind.RUMOR, Header([1.0, 2.0]), [Entry("b", 7, B.transport), Entry("a", 3, A.transport, 5)])
    )
    data = encode(message, anonymous=True)
    for fast in (wire._fast_decode, None):
        with mock.patch.object(wire, "_fast_decode", fast):
            digest = decode(data, "there", speaker=A).digest
            assert digest is not None
            assert (digest.kind, digest.header) == (Kind.RUMOR, Header([1.0, 2.0]))
            other = decode(data, "there", speaker=B).digest
            assert other is not None
            assert other.kind is not Kind.RUMOR
