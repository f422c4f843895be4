"""Owners: who owns a key is the same everywhere, spread evenly, and moves only where it has to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.recipes import owner

KEYS = [f"job/{number}" for number in range(2_000)]
ids = st.lists(st.text(), min_size=2, max_size=12, unique=True)


@given(st.text(), ids, st.randoms())
def test_the_order_of_the_ids_does_not_matter(key: str, ids: list[str], random: Random) -> None:
    shuffled = random.sample(ids, len(ids))
    assert owner(key, shuffled) == owner(key, ids) == owner(key, {*ids}) == owner(key, ids + ids)
    assert owner(key, ids) in ids


@given(st.text(), ids)
def test_only_the_keys_of_a_node_that_goes_move(key: str, ids: list[str]) -> None:
    former = owner(key, ids)
    for gone in ids:
        rest = [id for id in ids if id != gone]
        if gone != former:
            assert owner(key, rest) == former
        else:
            assert owner(key, rest) in rest


@given(st.text(), ids, st.text())
def test_a_node_that_comes_takes_keys_and_moves_none_between_others(key: str, ids: list[str], new: str) -> None:
    assert owner(key, [*ids, new]) in (owner(key, ids), new)


@pytest.mark.parametrize("count", [2, 3, 10, 50])
def test_each_node_has_its_share(count: int) -> None:
    shares = Counter(owner(key, [f"node-{number}" for number in range(count)]) for key in KEYS)
    mean = len(KEYS) / count
    assert len(shares) == count
    assert all(abs(share - mean) < 4.5 * mean**0.5 for share in shares.values())  # as for throws of dice


def test_what_a_node_leaves_is_spread_over_all_others() -> None:
    ids = [f"node-{number}" for number in range(10)]
    heirs = Counter(owner(key, ids[1:]) for key in KEYS if owner(key, ids) == ids[0])
    assert len(heirs) == 9


def test_the_owners_are_these_in_every_process_and_every_python() -> None:
    expected = ["a", "b", "b", "c", "b", "b"]
    assert [owner(key, ["a", "b", "c"]) for key in ("", "k", "job/1", "é", "\ud800", "日本")] == expected
    program = "from gossipmonger.recipes import owner; print([owner(k, {'a', 'b', 'c'}) for k in ('', 'k', 'job/1')])"
    for seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == repr(expected[:3]), done.stderr


def test_a_key_and_an_id_do_not_run_into_each_other() -> None:
    pairs = [(f"{number}a", f"{number}b") for number in range(50)]
    assert [owner("k1", pair) for pair in pairs] != [owner("k", ["1" + id for id in pair])[1:] for pair in pairs]


@pytest.mark.parametrize(("key", "ids", "error"), [
    (b"k", ["a"], "key must be a string"),
    (1, ["a"], "key must be a string"),
    ("k", "abc", r"ids must be several strings, such as node.live\(\)"),
    ("k", [1], "ids must be strings, got 1"),
])  # fmt: skip
def test_wrong_types_are_refused(key: object, ids: object, error: str) -> None:
    with pytest.raises(TypeError, match=error):
        owner(key, ids)  # type: ignore[arg-type]


def test_nobody_is_no_owner() -> None:
    with pytest.raises(ValueError, match="ids must not be empty"):
        owner("k", [])
