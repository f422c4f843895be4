"""Datagrams: how a message is divided."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.state.message import Compact, Delta, Digest, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.wire import datagrams
from gossipmonger.wire.compression import inflate
from gossipmonger.wire.datagrams import MOST, divide
from gossipmonger.wire.encoder import Encoder, as_dicts, as_lists, encode

SENDER = RemotePeer("s", {"host": "10.0.0.1", "port": 9742, "udp": True})
LIMIT = 1_232
LARGEST = 10**6


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.node.name)


def entry(id: str, rng: random.Random) -> Entry:
    version, host = rng.randrange(2**53), f"10.0.{rng.randrange(256)}.{rng.randrange(256)}"
    return Entry(id, version, {"host": host, "port": 9742, "udp": True}, rng.randrange(2**53))


def a_digest(count: int, rng: random.Random, kind: Kind = Kind.ROUND) -> Digest:
    """Return a digest of so many entries, the sender's among them."""
    return Digest(kind, Header(), [*[entry(f"n{n}", rng) for n in range(count - 1)], entry("s", rng)])


def the_deltas(count: int, rng: random.Random) -> list[Delta]:
    return [Delta("s", f"key {n}", rng.randbytes(20).hex(), n + 1, n) for n in range(count)]


def read(divided: list[bytes] | None, largest: int = LARGEST) -> list[dict[str, Any]]:
    """Return each datagram's JSON."""
    assert divided is not None
    return [json.loads(inflate(datagram, largest)) for datagram in divided]


def as_json(message: Message) -> Any:
    return json.loads(encode(message))


def test_what_fits_goes_as_it_is_to_the_byte() -> None:
    message = Message(SENDER, [Delta("s", "k", "x" * 500, 1)])
    data = encode(message)
    assert divide(message, len(data), LARGEST) == [data]
    (deflated,) = divide(message, len(data) - 1, LARGEST) or []
    assert len(deflated) < len(data) / 4
    assert inflate(deflated, len(data)) == data


@pytest.mark.parametrize("kind", Kind)
def test_what_fits_deflated_is_not_cut_and_keeps_its_kind(kind: Kind, rng: random.Random) -> None:
    message = Message(SENDER, [Delta("s", "k", 1, 1)], a_digest(20, rng, kind))
    assert len(encode(message)) > 2 * LIMIT
    assert read(divide(message, LIMIT, LARGEST)) == [as_json(message)]


def test_a_digest_of_100_takes_few_datagrams(rng: random.Random) -> None:
    message = Message(SENDER, None, a_digest(100, rng))
    assert len(encode(message)) > 10 * LIMIT
    assert len(divide(message, LIMIT, LARGEST) or [b""] * 9) <= 4


@given(
    st.integers(0, 300),
    st.integers(0, 300),
    st.sampled_from([512, LIMIT, 9_000]),
    st.sampled_from([9_000, 10_000, LARGEST]),
    st.sampled_from([Kind.ROUND, Kind.REPLY, Kind.PART]),
    st.integers(0, 2**32),
)
def test_parts_are_within_both_limits_and_are_the_whole_in_its_order(
    entries: int, deltas: int, limit: int, largest: int, kind: Kind, seed: int
) -> None:
    rng = random.Random(seed)
    digest = a_digest(entries, rng, kind) if entries else None
    told = the_deltas(deltas, rng) if deltas or not entries else None
    divided = divide(Message(SENDER, told, digest), limit, largest)
    if divided is None:
        return  # as the tests below have it
    assert len(divided) <= MOST
    assert all(len(datagram) <= limit for datagram in divided)
    parts = read(divided, largest)
    assert all(part["sender"] == {"id": "s", "transport": SENDER.transport} for part in parts)
    assert [delta for part in parts for delta in part.get("deltas", ())] == as_lists(told or [])
    digests = [part["digest"] for part in parts if "digest" in part]
    whole = [] if digest is None else as_dicts(digest)
    assert [each for part in digests for each in part[:-1]] == whole[:-1]
    if digest is not None:
        marked = as_dicts(digest._replace(kind=Kind.REPLY if kind is Kind.REPLY else Kind.PART))[-1]
        assert [part[-1] for part in digests] == ([marked] * len(digests) if len(digests) > 1 else whole[-1:])
    kinds = ["digest" in part for part in parts]
    assert kinds == sorted(kinds)  # deltas first


def test_a_digest_that_is_cut_off_from_its_deltas_and_nothing_else_is_no_part(rng: random.Random) -> None:
    digest = a_digest(3, rng)
    parts = read(divide(Message(SENDER, the_deltas(50, rng), digest), LIMIT, LARGEST))
    assert len(parts) > 1
    assert parts[-1] == as_json(Message(SENDER, None, digest))


@pytest.mark.parametrize(("kind", "mark"), [(Kind.ROUND, "part"), (Kind.PART, "part"), (Kind.REPLY, "reply")])
def test_every_part_has_the_whole_header(kind: Kind, mark: str, rng: random.Random) -> None:
    header = Header([1.5, 2.0], Compact("AAAAAAAA", b"\x09\0\0\0\x01\0\0\0"))
    digest = a_digest(100, rng, kind)._replace(header=header)
    parts = read(divide(Message(SENDER, None, digest), LIMIT, LARGEST))
    own = {**as_dicts(digest._replace(kind=Kind.ROUND))[-1], mark: True}
    assert len(parts) > 1
    assert all(part["digest"][-1] == own for part in parts)
    assert {"flow", "roll"} < own.keys()


def test_a_farewell_says_so_in_every_part(rng: random.Random) -> None:
    digest = a_digest(100, rng, Kind.FAREWELL)
    digest = digest._replace(entries=[*digest.entries[:-1], digest.entries[-1]._replace(left=True)])
    parts = read(divide(Message(SENDER, None, digest), LIMIT, LARGEST))
    assert len(parts) > 1
    assert [part["digest"][-1] for part in parts] == as_dicts(digest)[-1:] * len(parts)


@pytest.mark.parametrize(("deltas", "entries"), [(50, 3), (0, 100), (3, 60), (50, 60)])
def test_a_rumour_that_takes_more_than_one_is_not_for_datagrams(deltas: int, entries: int, rng: random.Random) -> None:
    told = the_deltas(deltas, rng) if deltas else None
    digest = a_digest(entries, rng)
    assert len(divide(Message(SENDER, told, digest), LIMIT, LARGEST) or []) > 1
    assert divide(Message(SENDER, told, digest._replace(kind=Kind.RUMOR)), LIMIT, LARGEST) is None


def test_a_digest_without_an_entry_of_the_sender_is_cut_too(rng: random.Random) -> None:
    digest = Digest(Kind.ROUND, None, a_digest(101, rng).entries[:-1])
    parts = read(divide(Message(SENDER, None, digest), LIMIT, LARGEST))
    assert len(parts) > 1
    assert [each for part in parts for each in part["digest"]] == as_dicts(digest)


def test_deltas_of_all_sizes_are_divided_by_size(rng: random.Random) -> None:
    told = [Delta("s", f"k{n}", rng.randbytes(n % 7 * 80).hex(), n) for n in range(40)]
    parts = read(divide(Message(SENDER, told), LIMIT, LARGEST))
    assert [delta for part in parts for delta in part["deltas"]] == as_lists(told)
    assert len({len(part["deltas"]) for part in parts}) > 1


@pytest.mark.parametrize("others", [0, 5, 100])
def test_what_does_not_fit_keeps_the_whole_message_out(others: int, rng: random.Random) -> None:
    noise = rng.randbytes(1_200).hex()
    digest, told = a_digest(others + 1, rng), the_deltas(others, rng)
    entries = digest.entries
    at = rng.randrange(others + 1)
    for message in (
        Message(SENDER, [*told[:at], Delta("s", "k", noise, 1), *told[at:]]),
        Message(SENDER, None, digest._replace(entries=[*entries[:at], Entry("x", 1, noise), *entries[at:]])),
        Message(SENDER, told, digest._replace(entries=[*entries[:-1], Entry("s", 1, noise)])),
        Message(RemotePeer("s", noise), told),
    ):
        assert divide(message, LIMIT, LARGEST) is None


def test_no_message_takes_more_than_so_many_and_the_limit_is_used(rng: random.Random) -> None:
    messages = [Message(SENDER, None, a_digest(count, rng)) for count in range(10, 700, 10)]
    counts = [len(divide(message, LIMIT, LARGEST) or ()) for message in messages]
    assert max(counts) > MOST * 3 // 4
    used = [count for count in counts if count]
    assert counts == used + [0] * (len(counts) - len(used))


def test_what_is_far_too_long_is_not_deflated_in_vain(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    monkeypatch.setattr(datagrams, "deflate", lambda data: 1 / 0)
    assert divide(Message(SENDER, [Delta("s", "k", "x" * 100_000, 1)]), LIMIT, LARGEST) is None
    assert divide(Message(SENDER, the_deltas(2_000, rng)), LIMIT, LARGEST) is None


def test_the_whole_is_encoded_where_it_is_told_to_and_only_that(rng: random.Random) -> None:
    message = Message(SENDER, the_deltas(50, rng))
    made = Encoder()
    data = made.encode(message)
    assert (divide(message, len(data), LARGEST, made.encode) or [b""])[0] is data
    assert divide(message, LIMIT, LARGEST, made.encode) == divide(message, LIMIT, LARGEST)
    assert made.encode(message) is data
