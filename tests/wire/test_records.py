"""Records: what seals the bytes of a link, and what does not open there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import Keyring, MessageError, SealError
from gossipmonger.wire import CLOSING, EMPTY, Framer, Records, SealedSplitter, Splitter
from gossipmonger.wire.records import begins_sealed, end_of
from tests.wire.test_frames import told
from tests.wire.test_sealing import ONE, THREE, TWO

LINK = b"l" * 32
LIMIT = 1 << 20
PREFIX, OVERHEAD = 3, 27


class Pair:
    """Both ends of a link."""

    def __init__(self, keyring: Keyring | None = None, other: Keyring | None = None, limit: int = LIMIT) -> None:
        self.keyring = keyring or Keyring([ONE, TWO])
        self.sender = Records(self.keyring, "prod", LINK, True)
        self.receiver = Records(other or self.keyring, "prod", LINK, False)
        self.splitter = SealedSplitter(self.receiver, limit, "there")

    def frames(self, data: bytes) -> list[bytes]:
        return list(self.splitter.frames(data))

    def send(self, data: bytes) -> list[bytes]:
        return self.frames(self.sender.seal(data))


def records(data: bytes) -> list[bytes]:
    found = []
    while data:
        assert begins_sealed(data)
        found.append(data[: end_of(data)])
        data = data[end_of(data) :]
    return found


# What is sealed opens


@given(st.lists(st.sampled_from([CLOSING, EMPTY, b"{}\r\n", Framer(LIMIT, 64).frames(told("x" * 500), None)])), st.data())
def test_the_frames_are_the_same_however_the_bytes_come(frames: list[bytes], draw: st.DataObject) -> None:
    pair = Pair()
    data = b"".join([pair.sender.seal(frame) for frame in frames])
    came: list[bytes] = []
    while data:
        cut = draw.draw(st.integers(1, len(data)))
        came += pair.frames(data[:cut])
        data = data[cut:]
    plain = Splitter(LIMIT, "there")
    assert came == [frame for each in frames for frame in plain.frames(each)]
    assert len(pair.splitter) == 0


def test_a_record_tells_nothing_but_its_length() -> None:
    pair = Pair()
    sealed = [pair.sender.seal(b'{"same":1}\r\n') for _ in range(1_000)]
    assert {len(each) for each in sealed} == {12 + OVERHEAD}
    assert len({each[3:11] for each in sealed}) == 1_000
    assert not any(b"same" in each for each in sealed)


def test_long_frames_go_in_several_records_and_hold_up_no_more_memory() -> None:
    pair = Pair()
    frame = b'{"a":"%b"}\r\n' % (b"x" * 500_000)
    sealed = records(pair.sender.seal(frame))
    assert len(sealed) == 8
    assert max(map(len, sealed)) == PREFIX + 0xFFFF
    for each in sealed[:-1]:
        assert pair.frames(each) == []
        assert len(pair.splitter._closed) == 0
    assert pair.frames(sealed[-1]) == [frame]


def test_the_bytes_of_an_incomplete_record_count() -> None:
    pair = Pair()
    sealed = pair.sender.seal(EMPTY)
    for cut in range(len(sealed)):
        assert pair.frames(sealed[cut : cut + 1]) == ([EMPTY] if cut == len(sealed) - 1 else [])
        assert len(pair.splitter) == (cut + 1) % len(sealed)


# What does not open


def test_any_flipped_bit_is_refused() -> None:
    length = len(Pair().sender.seal(b"{}\r\n"))
    for bit in range(8 * length):
        pair = Pair()
        data = bytearray(pair.sender.seal(b"{}\r\n"))
        data[bit // 8] ^= 1 << bit % 8
        if 8 <= bit < 24:  # another length: it waits for more, or is cut short
            data += bytes(0x10000)
        with pytest.raises(SealError):
            pair.frames(bytes(data))


@given(st.binary(min_size=1, max_size=200))
def test_whatever_comes_raises_nothing_else(data: bytes) -> None:
    for each in (data, b"\4" + data, b"\4\0" + data):
        try:
            assert Pair().frames(each) == []
        except SealError:
            pass


def test_records_open_in_their_order_and_once() -> None:
    for order in ([1], [0, 0], [0, 2], [0, 1, 0], [2, 1, 0]):
        pair = Pair()
        sealed = [pair.sender.seal(EMPTY) for _ in range(3)]
        with pytest.raises(SealError, match="no key opens what comes on the link: it was altered, or sealed with a key"):
            pair.frames(b"".join([sealed[index] for index in order]))


def test_records_open_on_no_other_link_in_no_other_cluster_and_not_at_their_sender() -> None:
    ring = Keyring([ONE])
    sealed = Records(ring, "prod", LINK, True).seal(EMPTY)[PREFIX:]
    assert Records(ring, "prod", LINK, False).open(sealed, "") == EMPTY
    others = [("prod", b"m" * 32, False), ("test", LINK, False), (None, LINK, False), ("prod", LINK, True)]
    for cluster, link, dialled in others:
        with pytest.raises(SealError):
            Records(ring, cluster, link, dialled).open(sealed, "")


def test_what_is_not_sealed_is_refused_at_its_first_byte() -> None:
    for data in (b"{", EMPTY, CLOSING, b"\1\0"):
        with pytest.raises(SealError, match="what comes on the link is not sealed, and this node has a keyring"):
            Pair().frames(data)
    pair = Pair()
    with pytest.raises(SealError, match="is not sealed"):
        pair.frames(pair.sender.seal(EMPTY) + EMPTY)


def test_a_record_that_holds_nothing_is_nothing() -> None:
    assert Pair().send(b"") == []


def test_what_is_in_records_is_held_to_the_limit_of_messages() -> None:
    pair = Pair(limit=100)
    assert pair.send(b'{"a":"%b"}\r\n' % (b"x" * 80)) != []
    with pytest.raises(MessageError, match="more than 100 bytes"):
        pair.send(b'{"a":"%b"}\r\n' % (b"x" * 200))


# Rotation


def test_a_link_goes_on_while_keys_are_added_promoted_and_removed() -> None:
    mine, theirs = Keyring([ONE]), Keyring([ONE])
    pair = Pair(mine, theirs)
    for old, new in [(ONE, TWO), (TWO, THREE), (THREE, ONE)]:
        assert pair.send(EMPTY) == [EMPTY]
        for ring in (mine, theirs):
            ring.add(new)
        assert pair.send(EMPTY) == [EMPTY]
        mine.promote(new)
        assert pair.send(EMPTY) + pair.send(CLOSING) == [EMPTY, CLOSING]
        theirs.promote(new)
        for ring in (mine, theirs):
            ring.remove(old)
        assert pair.send(EMPTY) == [EMPTY]


def test_a_key_that_was_removed_opens_nothing_on_links_that_are_open() -> None:
    mine, theirs = Keyring([ONE]), Keyring([ONE])
    pair = Pair(mine, theirs)
    assert pair.send(EMPTY) == [EMPTY]
    theirs.replace([TWO])
    with pytest.raises(SealError, match="sealed with a key that was removed"):
        pair.send(EMPTY)


def test_keys_are_derived_once_for_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair()
    real, made = pair.keyring.cipher, []

    def cipher(*args: Any) -> Any:
        made.append(args)
        return real(*args)

    monkeypatch.setattr(pair.keyring, "cipher", cipher)
    for _ in range(10):
        assert pair.send(EMPTY) == [EMPTY]
    assert len(made) == 2
