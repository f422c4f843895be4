"""Compression: what goes deflated and what does not, and what is refused of what claims to be."""

from __future__ import annotations

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
