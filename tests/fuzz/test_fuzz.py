"""A few thousand messages that are nearly right, drawn anew each time; for hours of them there is `make fuzz`."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.test_agreement import changed

from .mutations import SEEDS, mutated
from .target import Target, frozen


@pytest.fixture(scope="module")
def target() -> Target:
    return Target()


@pytest.mark.untraced
def test_nothing_escapes_and_what_is_refused_changes_nothing(rng: random.Random) -> None:
    target, data = Target(), b""
    for _ in range(1_500):
        refused = target.refused
        data = mutated(data, rng)
        try:
            target.take(data)
        except Exception as error:
            raise AssertionError(f"after {data!r}: {error!r}") from error
        data = b"" if target.refused > refused else data
    assert min(target.taken, target.refused) > 200


@pytest.mark.untraced
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(SEEDS), st.integers(0, 3))
def test_the_same_with_messages_that_hypothesis_makes_small(target: Target, data: st.DataObject, seed: Any, times: int) -> None:
    parts = json.loads(json.dumps(seed))
    for _ in range(times):
        changed(data, parts)
    target.take(json.dumps(parts).encode())


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_change_nothing(target: Target, data: bytes) -> None:
    target.take(data)


def test_all_seeds_but_a_greeting_are_taken() -> None:
    target = Target()
    for seed in SEEDS:
        target.take(json.dumps(seed).encode())
    assert (target.taken, target.refused) == (len(SEEDS) - 1, 1)


def test_a_change_of_anything_is_seen() -> None:
    target = Target()
    parts = [target.node._protocol, target.node.storage]
    before = frozen(parts)
    assert frozen(parts) == before
    peer = target.node.storage.get("b")
    for change in (
        lambda: setattr(peer, "heard", 5),
        lambda: peer.arrivals.contact(5),
        lambda: target.node._protocol.membership.seeds._own.update({"x": 1.0}),
        lambda: target.node._protocol._random.random(),
        lambda: target.node.storage.remove("c"),
    ):
        change()
        after = frozen(parts)
        assert after != before
        before = after
