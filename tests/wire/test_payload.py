"""The compact digest as text: what stands on the wire, and what is seen to be none."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.state.compact import narrow
from gossipmonger.state.message import Compact
from gossipmonger.wire.payload import pack, unpack


def test_the_text_is_the_fingerprint_and_then_the_payload_in_base64() -> None:
    assert pack(Compact("AAAAAAAA", narrow([9, 0], [1, 0]))) == "AAAAAAAACQAAAAEAAAA="
    assert unpack("AAAAAAAACQAAAAEAAAA=") == Compact("AAAAAAAA", b"\x09\0\0\0\x01\0\0\0")


@given(st.binary(min_size=6, max_size=6).map(b64encode), st.integers(0, 20))
def test_what_is_packed_is_unpacked_to_the_same(fingerprint: bytes, count: int) -> None:
    compact = Compact(fingerprint.decode(), bytes(range(4 * count)))
    assert unpack(pack(compact)) == compact


@given(st.text(st.sampled_from("AQgw/+=é \n-_")) | st.text())
def test_any_text_is_refused_or_is_what_its_compact_digest_is_packed_to(text: str) -> None:
    compact = unpack(text)
    if compact is not None:
        assert pack(compact) == text
        assert len(compact.fingerprint) == 8
        assert len(compact.payload) % 4 == 0


@pytest.mark.parametrize(
    "text",
    [
        "", "AAAA", "AAAAAAA", "AAAAAAA=", "AAAAAA==", "AAAAAAAAAAAA", "AAAAAAAACQA=", "AAAA AAAA", "AAAAAAAA\n", "AAAAAAAé",
        "AAAAAAAACQAAAAEAAAB=", "AAAAAAAACQAAAAEAAAA", "AAAAAAAACQAAAAEAAAA==", "AAAAAA==CQAAAAEAAAA=", "AAAAAAAA-_AAAAEAAAA=",
    ],
)  # fmt: skip
def test_what_has_not_the_form_is_none(text: str) -> None:
    assert unpack(text) is None


def test_a_fingerprint_alone_has_the_form() -> None:
    assert unpack("AAAAAAAA") == Compact("AAAAAAAA", b"")
