"""Compression: what goes deflated and what does not, and what is refused of what claims to be."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from unittest import mock

import pytest

from gossipmonger.errors import MessageError
from gossipmonger.wire.compression import deflate, inflate

LONG = b'{"k":"' + b"v" * 10_000 + b'"}\r\n'


@pytest.mark.parametrize("data", [b"", b"{}\r\n", LONG, bytes(range(256)) * 500])
def test_what_was_deflated_inflates_to_the_same(data: bytes) -> None:
    assert deflate(data)[0] == (0x48 if len(data) <= 8192 else 0x78)
    assert inflate(deflate(data), len(data)) == data


@pytest.mark.parametrize("data", [b"", b"{}", b" {}", b"\r\n{}", b"\xef\xbb\xbf{}", b"[]", b"\x79"])
def test_what_is_not_deflated_stays_as_it_is(data: bytes) -> None:
    assert inflate(data, 0) is data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (deflate(LONG)[:-1], "deflated and cut short"),  # only of its checksum
        (deflate(LONG)[:10], "deflated and cut short"),
        (b"\x78", "deflated and cut short"),
        (deflate(LONG) + b"\r\n", "2 bytes after the end of what is deflated"),
        (deflate(LONG) + deflate(LONG), f"{len(deflate(LONG))} bytes after the end of what is deflated"),
        (deflate(LONG)[:-1] + b"?", "not deflated right: "),
        (b"x{}", "not deflated right: "),
        (b"H{}", "not deflated right: "),
        (b"\x78\x9c\xff\xff", "not deflated right: "),
        (zlib.compressobj(zdict=b"known").compress(b"") + b"\x78\xbb", "not deflated right: "),
    ],
)
def test_what_is_damaged_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(MessageError) as caught:
        inflate(data, 1_000_000, "somewhere")
    assert str(caught.value).startswith(f"message from somewhere refused: {words}")
    assert caught.value.source == "somewhere"


@pytest.mark.parametrize("count", [8_192, 8_193, 100_000, 131_072, 8_000_000])
@pytest.mark.parametrize("letters", [b"v", b"abcdefgh", bytes(range(256))])
def test_a_message_is_never_denser_than_receivers_take_it(count: int, letters: bytes) -> None:
    data = (letters * (count // len(letters) + 1))[:count]
    deflated = deflate(data)
    assert inflate(deflated, count) == data
    assert len(deflated) <= count / 10 + 400
    assert count <= 8_192 or len(deflated) >= count / 10


def test_what_is_too_dense_is_refused() -> None:
    for size, letters in ((8_192, 8_193), (100_000, 100_000), (16_000, 16_000_000)):
        bomb = zlib.compress(b"v" * letters, 9)
        if letters == size:
            bomb = deflate(b"v" * size)
            assert inflate(bomb, size)
            bomb = zlib.compress(b"v" * size, 9)
        most = max(8_192, 10 * len(bomb))
        with pytest.raises(MessageError, match=f"inflates to more than {most} bytes, 10 times its own|more than 8192 bytes"):
            inflate(bomb, 1 << 24)


def test_sixteen_kilobytes_that_are_a_thousand_to_one_take_no_time() -> None:
    bomb = zlib.compress(b'{"deltas":[["x","k",[' + b"[]," * 5_400_000, 9)
    assert 15_000 < len(bomb) < 17_000
    start = time.process_time()
    with pytest.raises(MessageError, match="10 times its own"):
        inflate(bomb, 1 << 24)
    assert time.process_time() - start < 0.05


def test_what_sixteen_kilobytes_make_a_node_decode_is_bounded() -> None:
    """Whatever is packed into it."""
    for value in ("[]", "{}", "0", '""', "[[]]", '{"":0}', "0.1"):
        count = 10 * 16_000 // (len(value) + 1)
        sender = '"sender":{"id":"p","transport":{"host":"h","port":9}}'
        data = deflate(('{"deltas":[["x","k",[' + ",".join([value] * count) + f"],5]],{sender}}}").encode())
        assert 15_000 < len(data) < 16_400
        assert len(inflate(data, 1 << 24)) <= 10 * len(data)


def test_the_limit_is_for_what_comes_out() -> None:
    assert inflate(deflate(LONG), len(LONG)) == LONG
    with pytest.raises(MessageError, match=f"inflates to more than {len(LONG) - 1} bytes"):
        inflate(deflate(LONG), len(LONG) - 1)


def test_a_bomb_is_refused_before_it_has_taken_memory() -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(MessageError, match="inflates to more than 100000 bytes"):
            inflate(bomb, 100_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_message_that_memory_is_too_short_to_inflate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    inflater = mock.Mock(**{"decompress.side_effect": MemoryError})
    monkeypatch.setattr("gossipmonger.wire.compression.zlib.decompressobj", lambda: inflater)
    with pytest.raises(MessageError, match="more memory than there is"):
        inflate(deflate(b"{}" * 500), 10_000)
