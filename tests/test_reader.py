"""The reader: whatever it has read before, it takes the same messages as `messages.decode`, and gives the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import MessageError, RemotePeer, values
from gossipmonger.peer import MAX_VERSION
from gossipmonger.transport import checks, fast, messages, reader
from gossipmonger.transport.reader import Reader
from tests.test_messages import DELTA, ENTRIES, ENTRY, SENDER, A, plain

#: Texts at which the reader takes a message apart, where they mean nothing.
#: Of no peer, of one and of two.
CALLS = ["AAAAAAAA", "AAAAAAAACQAAAAEAAAA=", "AAAAAAAACQAAAAEAAAAJAAAAAQAAAA=="]
DECOYS = ["},{", '"digest":[{', ',"sender":', ',"heartbeat":7', ',"roll":"AAAAAAAA"', '}],"sender":{', "}", "{", '"', ",", "\\"]


def text(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def compact(digest: list[Any], deltas: Any = None, sender: Any = SENDER) -> bytes:
    """A message as the wire has it."""
    told = {} if deltas is None else {"deltas": deltas}
    return text({**told, "digest": digest, "sender": sender}).encode() + b"\r\n"


def outcome(read: Any, data: bytes) -> checks.Message | str:
    try:
        message: checks.Message = read(data, "there")
    except MessageError as error:
        return str(error)
    return message


def reads_alike(known: Reader, data: bytes) -> checks.Message | str:
    """Read; the reader has to do as `messages.decode` does, the first time and the second."""
    expected = outcome(lambda data, source: messages.decode(data, source, checks.is_address), data)
    for _ in range(2):
        found = outcome(known.read, data)
        if isinstance(found, str) or isinstance(expected, str):
            assert found == expected
        else:
            assert values.same(plain(found), plain(expected))
    return expected


@pytest.fixture(params=["pyee alone", "msgspec"])
def known(request: pytest.FixtureRequest) -> Iterator[Reader]:
    with mock.patch.object(messages, "fast", fast if request.param == "msgspec" else None):
        yield Reader(checks.is_address)


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is parsed from now on."""
    texts: list[str] = []
    parse, decode = messages.parse, messages.decode

    def noted(parsed: Any, *arguments: Any) -> Any:
        texts.append(parsed if isinstance(parsed, str) else "all")
        return parse(parsed) if isinstance(parsed, str) else decode(parsed, *arguments)

    monkeypatch.setattr(messages, "parse", noted)
    monkeypatch.setattr(messages, "decode", noted)
    return texts


# What it is for


def test_a_digest_that_says_the_same_again_is_not_parsed_again(known: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = [{**ENTRY, "id": f"n{number}"} for number in range(7)]
    first = known.read(compact(digest))
    texts = parsed(monkeypatch)
    again = known.read(compact(digest))
    assert texts == []
    assert again == first
    assert all(one is other for one, other in zip(again.digest or [], first.digest or [], strict=True))
    newer = {**ENTRY, "id": "n3", "maxVersionSeen": 8}
    assert plain(known.read(compact([*digest[:3], newer, *digest[4:]])))[2] == [*digest[:3], newer, *digest[4:]]
    assert texts == [text(newer)]


def test_a_heartbeat_that_rises_makes_no_entry_new(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock.patch.object(messages, "fast", None):
        known = Reader(checks.is_address)
        known.read(compact([{**ENTRY, "floor": 3, "heartbeat": 5}]))
        texts = parsed(monkeypatch)
        for heartbeat in (0, 6, 9_999_999_999_999_999 % (MAX_VERSION + 1), MAX_VERSION):
            digest = [{**ENTRY, "floor": 3, "heartbeat": heartbeat}]
            assert plain(known.read(compact(digest)))[2] == digest
        assert set(texts) <= {"all", text({**ENTRY, "floor": 3, "heartbeat": MAX_VERSION})}


def test_of_a_roll_nothing_is_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock.patch.object(messages, "fast", None):
        known = Reader(checks.is_address)
        for heartbeat in (5, 6):
            digest = [{**ENTRY, "reply": True, "roll": CALLS[heartbeat % 2], "heartbeat": heartbeat}]
            assert plain(known.read(compact(digest, [DELTA])))[1:] == [[DELTA], digest]
        texts = parsed(monkeypatch)
        digest = [{**ENTRY, "reply": True, "roll": CALLS[2], "heartbeat": 7}]
        assert plain(known.read(compact(digest)))[2] == digest
        assert texts == []


def test_a_message_of_much_that_is_new_is_read_as_a_whole(known: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = parsed(monkeypatch)
    digest = [{**ENTRY, "id": f"n{number}"} for number in range(30)]
    while len(texts) < 100:
        before = len(texts)
        assert plain(known.read(compact(digest)))[2] == digest
        if len(texts) == before:
            break
    assert texts.count("all") == 4  # of what begins with what is new, two are learned, and nine each time after that


# What it must not do


def test_what_was_read_once_is_not_remembered_for_ever(known: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_ROOM", 1_000)
    for number in range(100):
        reads_alike(known, compact([{**ENTRY, "id": f"n{number}"}], sender={**SENDER, "id": f"n{number}"}))
        reads_alike(known, compact([ENTRY]))
        for memory in (known._entries, known._senders, known._digests):
            assert all(sum(map(len, texts)) <= 1_000 for texts in (memory.recent, memory._older))
    texts = parsed(monkeypatch)
    known.read(compact([ENTRY]))
    assert texts == []  # though it has been forgotten in between, had it not been met


def test_a_long_text_is_not_remembered(known: Reader) -> None:
    reads_alike(known, compact([{**ENTRY, "id": "x" * 1_000}]))
    assert not known._entries.recent


def test_a_digest_that_says_the_same_again_is_known_as_a_whole_and_to_nobody_s_harm(known: Reader) -> None:
    data = compact([{**ENTRY, "id": f"n{number}"} for number in range(7)])
    known.read(data)
    assert not known._digests.recent
    for _ in range(3):
        digest = known.read(data).digest
        assert digest is not None
        assert len(digest) == 7
        assert len(known._digests.recent) == 1
        digest.clear()  # as its reader may
    known.read(compact([{**ENTRY, "id": "x" * 400}] * (reader._LONGEST_DIGEST // 400)))
    known.read(compact([{**ENTRY, "id": "x" * 400}] * (reader._LONGEST_DIGEST // 400)))
    assert len(known._digests.recent) == 1


WRONG = [
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"heartbeat":07}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"heartbeat":+7}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"heartbeat":7_0}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"heartbeat":9999999999999999}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"heartbeat":}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"roll":"AAAAAAA=","heartbeat":7}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"roll":"AAAA\\nAAAA","heartbeat":7}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"roll":[1,2,3],"heartbeat":7}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}},{}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}},{"id":""}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s,"digest":0}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s}}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":[%s]}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s]',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}},"sender":%s}',
    b'{"deltas":5,"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s}',
    b'{"deltas":[],"deltas":[5],"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s}',
    b'{"deltas":[["b"]],"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s}',
    b'{x"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s}',
]


@pytest.mark.parametrize("data", WRONG)
def test_what_is_wrong_is_refused_in_the_same_words(known: Reader, data: bytes) -> None:
    reads_alike(known, compact([{"id": "b", "maxVersionSeen": 7, "transport": {"host": "h", "port": 1}, "heartbeat": 7}]))
    assert isinstance(reads_alike(known, data % text(SENDER).encode()), str)


RIGHT = [
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}},\n{"id":"c","id":"},{","maxVersionSeen":7,'
    b'"transport":{"host":"h","port":1}}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"heartbeat":7,"heartbeat":8}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"roll":"AAAAAAAA","roll":"AAAAAAAB",'
    b'"heartbeat":8}],"sender":%s}',
    b'{"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1},"heartbeat":7,"maxVersionSeen":8}],"sender":%s}',
    b'{"digest":0,"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":%s}',
    b'{"deltas":[],"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender":{},"sender":%s}',
    b' {"digest":[{"id":"b","maxVersionSeen":7,"transport":{"host":"h","port":1}}],"sender": %s } ',
]


@pytest.mark.parametrize("data", RIGHT)
def test_what_is_only_unusual_is_read_as_it_is_meant(known: Reader, data: bytes) -> None:
    for _ in range(2):
        assert not isinstance(reads_alike(known, data % text(SENDER).encode()), str)


@pytest.mark.parametrize("decoy", DECOYS)
def test_a_text_may_hold_what_a_message_is_taken_apart_at(known: Reader, decoy: str) -> None:
    for text in (decoy, f"a{decoy}", f"{decoy}a", decoy * 2):
        entry = {**ENTRY, "id": text, "transport": {"host": text, "port": 1}}
        sender = {"id": text, "transport": {"host": text, "port": 1}}
        for sent in (compact([entry], sender=sender), compact([ENTRY, entry, ENTRY], [["b", text, text, 5]], sender)):
            assert not isinstance(reads_alike(known, sent), str)


# Anything at all

_memory = Reader(checks.is_address)  # what one message taught must not change what another means

_ids = st.sampled_from(["b", "c", "}],", *DECOYS])
_addresses = st.fixed_dictionaries({"host": _ids, "port": st.sampled_from([1, "1", 0])})
_numbers = st.sampled_from([0, 1, 7, 10**15, 10**16, -1, 7.0, MAX_VERSION])
_entries = st.fixed_dictionaries(
    {"id": _ids, "maxVersionSeen": _numbers, "transport": _addresses},
    optional={"floor": _numbers, "reply": st.booleans(), "roll": st.sampled_from([*CALLS, "AAAA", 7]), "heartbeat": _numbers},
)


@given(
    digest=st.lists(_entries | ENTRIES, max_size=6),
    deltas=st.none() | st.lists(st.tuples(_ids, _ids, _ids | st.integers(), _numbers).map(list), max_size=3),
    id=_ids,
    cuts=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 9), st.sampled_from([*DECOYS, "", " "])), max_size=2),
)
def test_any_message_is_read_as_if_nothing_had_been_read_before(digest: Any, deltas: Any, id: str, cuts: Any) -> None:
    data = compact(digest, deltas, {"id": id, "transport": {"host": "h", "port": 1}})
    for place, length, instead in cuts:
        place %= len(data)
        data = data[:place] + instead.encode() + data[place + length :]
    with mock.patch.object(messages, "fast", None):
        reads_alike(_memory, data)
    reads_alike(_memory, data)


def test_a_sender_is_a_remote_peer(known: Reader) -> None:
    for _ in range(2):
        assert known.read(compact([ENTRY])).sender == RemotePeer("a", A.transport)
