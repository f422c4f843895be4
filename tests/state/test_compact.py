"""The numbers of a compact digest as bytes: how wide they are, and that they come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.state.compact import narrow, numbers

NUMBERS = st.one_of(*[st.integers(-(2**bits), 2**bits - 1) for bits in (7, 15, 31, 63)])


@pytest.mark.parametrize(
    ("number", "width"),
    [(0, 2), (-1, 2), (2**15 - 1, 2), (-(2**15), 2), (2**15, 4), (2**31 - 1, 4), (-(2**31), 4), (2**31, 8), (-(2**63), 8)],
)
def test_the_width_is_the_narrowest_that_fits_all(number: int, width: int) -> None:
    assert len(narrow([1, number, 1], [5, 5, 5])) == len(narrow([1, 1, 1], [5, 5, number])) == 6 * width


def test_the_bytes_are_heartbeats_then_versions_low_byte_first() -> None:
    assert narrow([9, -1], [256, 5]) == b"\x09\x00\xff\xff\x00\x01\x05\x00"
    assert narrow([9], [2**16]) == b"\x09\x00\x00\x00\x00\x00\x01\x00"


def test_a_number_of_more_than_8_bytes_has_no_payload() -> None:
    with pytest.raises(OverflowError):
        narrow([2**63], [0])


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_what_is_narrowed_comes_back_in_wide_arrays(pairs: list[tuple[int, int]]) -> None:
    heartbeats, versions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    read = numbers(narrow(heartbeats, versions), len(pairs))
    assert read is not None
    assert [list(each) for each in read] == [heartbeats, versions]
    assert [each.typecode for each in read] == ["q", "q"]


@pytest.mark.parametrize(
    ("length", "count"),
    [(0, 0), (0, 1), (4, 0), (4, -1), (4, 2), (6, 1), (8, 3), (12, 1), (24, 2), (32, 1), (16, 5)],
)
def test_a_payload_that_cannot_be_about_so_many_peers_is_not_read(length: int, count: int) -> None:
    assert numbers(bytes(length), count) is None


@pytest.mark.parametrize(("length", "count"), [(4, 1), (8, 1), (16, 1), (8, 2), (48, 3)])
def test_the_width_follows_from_the_length_and_the_number_of_peers(length: int, count: int) -> None:
    read = numbers(bytes(length), count)
    assert read is not None
    assert [len(each) for each in read] == [count, count]
