"""The packer: what goes deflated, what goes in several, and what is made only once."""

from __future__ import annotations

import threading
from unittest import mock

import pytest

from gossipmonger.state import Delta, Digest, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.wire import Packer, decode, deflate, encode, packer

A = RemotePeer("a", {"host": "a", "port": 1})
LONG = Message(A, [Delta("a", "k", "v" * 10_000, 1)])


def test_only_a_large_message_to_a_peer_that_speaks_our_extensions_is_deflated() -> None:
    data = encode(LONG)
    assert Packer(1 << 20, len(data) - 1).pack(LONG, True) == [deflate(data)]
    for deflates, above in ((True, len(data)), (True, None), (False, 0), (False, None)):
        assert Packer(1 << 20, above).pack(LONG, deflates) == [data]


def test_what_gets_no_shorter_stays_as_it_is() -> None:
    short = Message(RemotePeer("", 1), [])
    assert Packer(1 << 20, 0).pack(short, True) == [encode(short)]


def test_what_is_too_long_goes_in_several_each_deflated_by_itself() -> None:
    deltas = [Delta("a", f"k{n}", "v" * 100, n + 1, n) for n in range(20)]
    message = Message(A, deltas, Digest(Kind.ROUND, Header(), [Entry("a", 20, A.transport, 1)]))
    plain = Packer(1000, 500).pack(message, False)
    assert len(plain) > 2
    assert all(len(part) <= 1000 for part in plain)
    assert [delta for part in plain for delta in decode(part).deltas or ()] == deltas
    assert decode(plain[-1]).digest is not None
    packed = Packer(1000, 500).pack(message, True)
    assert packed == [deflate(part) if len(part) > 500 else part for part in plain]


def test_a_message_to_several_peers_in_a_row_is_encoded_and_deflated_once() -> None:
    made = Packer(1 << 20, 100)
    with mock.patch.object(packer, "encode", side_effect=encode) as encoded:
        with mock.patch.object(packer, "deflate", side_effect=deflate) as deflated:
            first = made.pack(LONG, True)
            assert made.pack(LONG, True) is first
            assert (encoded.call_count, deflated.call_count) == (1, 1)
            assert made.pack(Message(*LONG), True) == first  # an equal one, which is another object
            assert encoded.call_count == 2


def test_a_message_that_cannot_be_encoded_leaves_the_last_one() -> None:
    made = Packer(1 << 20, None)
    data = made.pack(LONG, False)
    with pytest.raises(TypeError):
        made.pack(Message(RemotePeer("a", object()), []), False)
    assert made.pack(LONG, False) is data


def test_threads_that_share_a_packer_get_each_their_own() -> None:
    made, wrong = Packer(1 << 20, 10), []

    def run(version: int) -> None:
        message = Message(A, [Delta("b", "k", "v", version)])
        wrong.extend([data for data in (made.pack(message, False) for _ in range(2_000)) if data != [encode(message)]])

    threads = [threading.Thread(target=run, args=(version,)) for version in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
