"""Greeting: the two `HELLO`s of a link, in plain and sealed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import Keyring, MessageError, RemotePeer, SealError
from gossipmonger.wire import EMPTY, Greeter, Hello, SealedSplitter, Splitter, greeter, hello
from tests.wire.test_frames import A, B
from tests.wire.test_sealing import ONE, TWO

RING = Keyring([ONE])


def ends(one: Keyring | None = RING, other: Keyring | None = RING, cluster: str | None = "prod") -> tuple[Greeter, Greeter]:
    return greeter(one, cluster, True), greeter(other, cluster, False)


@pytest.mark.parametrize("ring", [None, RING])
def test_both_say_hello_and_what_follows_is_kept(ring: Keyring | None) -> None:
    dialling, accepting = ends(ring, ring)
    said = dialling.hello(A, "life", "prod")
    assert accepting.begun(said + b"rest", "there") is True
    assert accepting.read(said + b"rest", "there") == (Hello(A, 1, "life", "prod"), b"rest")
    answer = accepting.hello(B, "other", "prod")
    assert dialling.begun(bytearray(answer), "here") is True
    assert dialling.read(bytearray(answer), "here") == (Hello(B, 1, "other", "prod"), b"")
    for end in (dialling, accepting):
        assert (end.records is not None, end.seals) == (ring is not None, ring is not None)
        assert type(end.splitter(100, "there")) is (Splitter if ring is None else SealedSplitter)


def test_records_follow_that_open_at_the_other_end() -> None:
    dialling, accepting = ends()
    accepting.read(dialling.hello(A), "")
    dialling.read(accepting.hello(B), "")
    assert dialling.records is not None
    assert accepting.records is not None
    for sender, receiver in ((dialling, accepting), (accepting, dialling)):
        assert sender.records is not None
        assert list(receiver.splitter(100, "").frames(sender.records.seal(EMPTY))) == [EMPTY]


def test_a_sealed_hello_is_whole_or_not_there_yet() -> None:
    dialling, accepting = ends()
    said = dialling.hello(A)
    for cut in range(len(said)):
        assert accepting.begun(said[:cut], "there") is None
    assert b"hello" not in said
    assert b"10.0.0.1" not in said


def test_a_hello_that_does_not_end_is_refused_before_to_look_for_its_end_costs_much() -> None:
    endless = b'{"hello":' + b" " * 65_527
    assert Greeter().begun(endless, "there") is None
    with pytest.raises(MessageError, match="message from there refused: a HELLO of more than 65536 bytes"):
        Greeter().begun(endless + b" ", "there")
    assert Greeter().begun(endless + b"\n" + bytes(100_000), "there") is True  # what follows does not count


def test_plain_at_a_node_with_keys_and_sealed_at_one_without_are_refused_at_the_first_byte() -> None:
    with pytest.raises(SealError, match="message from there refused: the message is sealed and this node has no keyring"):
        Greeter().begun(RING.seal(b"x")[:1], "there")
    for data in (hello(A)[:1], b"\3", b"\x16\3"):
        with pytest.raises(SealError, match="the message is not sealed, and this node has a keyring"):
            greeter(RING, None, False).begun(data, "there")


def test_a_hello_of_another_key_or_cluster_is_refused() -> None:
    for ring, cluster in ((Keyring([TWO]), "prod"), (RING, "test"), (RING, None)):
        with pytest.raises(SealError):
            greeter(ring, cluster, False).read(ends()[0].hello(A), "there")


def test_a_hello_is_not_taken_for_its_own_answer_and_an_answer_not_for_a_hello() -> None:
    dialling, accepting = ends()
    said = dialling.hello(A)
    with pytest.raises(SealError):  # reflected
        dialling.read(said, "there")
    accepting.read(said, "there")
    answer = accepting.hello(B)
    with pytest.raises(SealError):
        ends()[1].read(answer, "there")


def test_an_answer_is_not_taken_for_that_to_another_hello() -> None:
    dialling, accepting = ends()
    accepting.read(dialling.hello(A), "")
    recorded = accepting.hello(B)
    later, _ = ends()
    later.hello(A)
    with pytest.raises(SealError):
        later.read(recorded, "")


def test_after_a_recorded_hello_no_recorded_record_opens() -> None:
    dialling, accepting = ends()
    said = dialling.hello(A)
    accepting.read(said, "")
    dialling.read(accepting.hello(B), "")
    assert dialling.records is not None
    recorded = dialling.records.seal(EMPTY)
    again = ends()[1]
    again.read(said, "")
    again.hello(B)
    with pytest.raises(SealError):
        list(again.splitter(100, "").frames(recorded))


@given(st.data())
def test_any_flipped_bit_of_a_hello_is_refused(draw: st.DataObject) -> None:
    dialling, accepting = ends()
    said = bytearray(dialling.hello(A))
    bit = draw.draw(st.integers(24, 8 * len(said) - 1))
    said[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        accepting.read(said, "")


def test_a_sealed_hello_that_is_malformed_is_refused() -> None:
    dialling, accepting = ends()
    sealed = RING.seal(b'{"hello":{"version":0}}\r\n', "prod", b"hello")[1:]
    with pytest.raises(MessageError, match="hello must be an object with a version"):
        accepting.read(b"\4" + len(sealed).to_bytes(2, "big") + sealed, "")
    with pytest.raises(ValueError, match="the transport of the local peer is too long for a HELLO"):
        dialling.hello(RemotePeer("a", {"host": "h", "port": 1, "more": "x" * 70_000}))
