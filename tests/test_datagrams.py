"""Datagrams: how a message is packed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, strategies

from gossipmonger import RemotePeer
from gossipmonger.entry import Entry
from gossipmonger.transport import checks, datagrams, messages
from gossipmonger.transport.compression import inflate
from gossipmonger.transport.datagrams import MOST, pack

SENDER = RemotePeer("s", {"host": "10.0.0.1", "port": 9742, "udp": True})
LIMIT = 1_232


def entry(id: str, rng: random.Random) -> Entry:
    version, host = rng.randrange(2**53), f"10.0.{rng.randrange(256)}.{rng.randrange(256)}"
    transport = {"host": host, "port": 9742, "udp": True}
    return Entry(id, version, transport, rng.randrange(2**53))


def a_digest(count: int, rng: random.Random) -> list[Entry]:
    return [entry(f"n{n}", rng) for n in range(count - 1)] + [entry("s", rng).marked(reply=True)]


def the_deltas(count: int, rng: random.Random) -> list[list[Any]]:
    return [["s", f"key {n}", rng.randbytes(20).hex(), n + 1, n] for n in range(count)]


def unpacked(packed: list[bytes] | None, largest: int = 10**6) -> list[checks.Message]:
    assert packed is not None
    return [messages.decode(inflate(datagram, largest)) for datagram in packed]


def test_what_fits_goes_as_it_is_to_the_byte() -> None:
    data = messages.encode(SENDER, deltas=[["s", "k", "x" * 500, 1]])
    assert pack(SENDER, [["s", "k", "x" * 500, 1]], None, len(data)) == [data]
    (deflated,) = pack(SENDER, [["s", "k", "x" * 500, 1]], None, len(data) - 1) or []
    assert len(deflated) < len(data) / 4
    assert inflate(deflated, len(data)) == data


def test_what_fits_deflated_is_not_cut(rng: random.Random) -> None:
    digest = a_digest(20, rng)
    assert len(messages.encode(SENDER, digest=digest)) > 2 * LIMIT
    (message,) = unpacked(pack(SENDER, [["s", "k", 1, 1]], digest, LIMIT))
    assert message == checks.Message(SENDER, [["s", "k", 1, 1]], digest)  # no part, so no mark


def test_a_digest_of_100_takes_few_datagrams(rng: random.Random) -> None:
    packed = pack(SENDER, None, a_digest(100, rng), LIMIT)
    assert packed is not None
    assert len(messages.encode(SENDER, digest=a_digest(100, rng))) > 10 * LIMIT
    assert len(packed) <= 4


@given(
    strategies.integers(0, 300),
    strategies.integers(0, 300),
    strategies.sampled_from([512, LIMIT, 9_000]),
    strategies.sampled_from([9_000, 10_000, 10**6]),
    strategies.integers(0, 2**32),
)
def test_parts_are_within_both_limits_and_are_the_whole_in_its_order(
    entries: int, deltas: int, limit: int, largest: int, seed: int
) -> None:
    rng = random.Random(seed)
    digest = a_digest(entries, rng) if entries else None
    told = the_deltas(deltas, rng) if deltas or not entries else None
    packed = pack(SENDER, told, digest, limit, largest)
    if packed is None:
        return  # as the tests below have it
    assert len(packed) <= MOST
    assert all(len(datagram) <= limit for datagram in packed)
    parts = unpacked(packed, largest)
    assert all(part.sender == SENDER for part in parts)
    assert [delta for part in parts for delta in part.deltas or []] == (told or [])
    digests = [part.digest for part in parts if part.digest is not None]
    assert [each for part in digests for each in part if each.id != "s"] == (digest or [])[:-1]
    owns = [each for part in digests for each in part if each.id == "s"]
    if digest is not None:
        assert owns == ([digest[-1].marked(part=True)] * len(digests) if len(digests) > 1 else digest[-1:])
    kinds = [part.digest is not None for part in parts]
    assert kinds == sorted(kinds)  # deltas first


def test_a_digest_that_is_cut_off_from_its_deltas_and_nothing_else_is_no_part(rng: random.Random) -> None:
    digest = a_digest(3, rng)
    parts = unpacked(pack(SENDER, the_deltas(50, rng), digest, LIMIT))
    assert len(parts) > 1
    assert parts[-1] == checks.Message(SENDER, None, digest)


def test_a_digest_without_an_entry_of_the_sender_is_cut_too(rng: random.Random) -> None:
    digest = a_digest(101, rng)[:-1]
    parts = unpacked(pack(SENDER, None, digest, LIMIT))
    assert len(parts) > 1
    assert [each for part in parts for each in part.digest or []] == digest


def test_deltas_of_all_sizes_are_packed_by_size(rng: random.Random) -> None:
    told = [["s", f"k{n}", rng.randbytes(n % 7 * 80).hex(), n] for n in range(40)]
    parts = unpacked(pack(SENDER, told, None, LIMIT))
    assert [delta for part in parts for delta in part.deltas or []] == told
    assert len({len(part.deltas or []) for part in parts}) > 1


@pytest.mark.parametrize("others", [0, 5, 100])
def test_what_does_not_fit_keeps_the_whole_message_out(others: int, rng: random.Random) -> None:
    noise = rng.randbytes(1_200).hex()
    digest, told = a_digest(others + 1, rng), the_deltas(others, rng)
    at = rng.randrange(others + 1)
    assert pack(SENDER, [*told[:at], ["s", "k", noise, 1], *told[at:]], None, LIMIT) is None
    assert pack(SENDER, None, [*digest[:at], Entry("x", 1, noise), *digest[at:]], LIMIT) is None
    assert pack(SENDER, told, [*digest[:-1], Entry("s", 1, noise)], LIMIT) is None
    assert pack(RemotePeer("s", noise), told, None, LIMIT) is None


def test_no_message_takes_more_than_so_many_and_the_limit_is_used(rng: random.Random) -> None:
    counts = [len(pack(SENDER, None, a_digest(count, rng), LIMIT) or ()) for count in range(10, 700, 10)]
    assert max(counts) > MOST * 3 // 4
    used = [count for count in counts if count]
    assert counts == used + [0] * (len(counts) - len(used))


def test_what_is_far_too_long_is_not_deflated_in_vain(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    monkeypatch.setattr(datagrams, "deflate", lambda data: 1 / 0)
    assert pack(SENDER, [["s", "k", "x" * 100_000, 1]], None, LIMIT) is None
    assert pack(SENDER, the_deltas(2_000, rng), None, LIMIT) is None
