"""The limits at the call: what a program passes is held to the same limits as what its peers say, before anything changes."""

from __future__ import annotations

from typing import Any

import pytest

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation
from gossipmonger.state import values
from gossipmonger.wire import DEFAULT_LIMITS, Limits


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def a_node(**options: Any) -> Gossipmonger:
    return Gossipmonger({"id": "a"}, **options)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"id": "x" * 256}, r"peer_info.id must have at most 255 bytes, got 'xxx.*\(256 characters\)"),
        ({"id": "é" * 128}, "peer_info.id must have at most 255 bytes, got"),
        ({"id": "a", "data": {"k" * 1025: [1, 1]}}, "peer_info.data must have keys of at most 1024 bytes, got 'kkk"),
        ({"id": "a", "data": {"k": [deep(101), 1]}}, r"peer_info.data\['k'\]\[0\]: nested more than 100 deep"),
        ({"id": "a", "transport": {"host": "h", "zone": "z" * 1024}}, "peer_info.transport must be a short JSON object, got"),
    ],
)
def test_what_is_told_of_oneself_keeps_the_limits(info: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Gossipmonger(info)


def test_what_just_keeps_them_is_taken() -> None:
    node = Gossipmonger({"id": "é" * 127 + "x", "data": {"k" * 1024: [deep(100), 1]}})
    assert node.update("é" * 512, deep(100))
    node.close()


def test_an_update_keeps_the_limits_or_changes_nothing() -> None:
    with Simulation() as sim:
        node = sim.add("a", max_key_size=4, max_nesting=2, max_keys_per_peer=3)
        for key, value, words in [
            ("kkkkk", 1, "key: 'kkkkk' has 5 bytes; at most 4 are allowed"),
            ("éé!", 1, "key: 'éé!' has 5 bytes; at most 4 are allowed"),
            ("k", [[[]]], "value: nested more than 2 deep"),
        ]:
            with pytest.raises(ValueError, match=words):
                node.update(key, value)
        assert node.update("k", [[1]])
        assert node.local_peer.data.keys() == {"k"}


@pytest.mark.parametrize("flow_control", [False, True])
def test_a_key_more_than_there_may_be_is_refused_until_another_is_deleted(flow_control: bool) -> None:
    with Simulation() as sim:
        node = sim.add("a", max_keys_per_peer=3, flow_control=flow_control)
        for key in "xyz":
            assert node.update(key, 1)
        with pytest.raises(ValueError, match=r"key: 'w' would be one more than max_keys_per_peer, 3"):
            node.update("w", 1)
        assert node.update("x", 2)  # which is there already
        assert node.delete("y")
        assert node.update("w", 1)
        assert [node.get("a", key) for key in "wxyz"] == [1, 2, None, 1]
    with pytest.raises(ValueError, match=r"peer_info.data must have at most 3 keys, got 4"):
        Gossipmonger({"id": "a", "data": {key: [1, 1] for key in "wxyz"}}, max_keys_per_peer=3)


def test_the_limits_reach_whoever_decodes() -> None:
    node = a_node(max_id_size=9, max_key_size=8, max_nesting=7)
    assert node.transport.limits == Limits(9, 8, 7)
    assert a_node().transport.limits is DEFAULT_LIMITS


@pytest.mark.parametrize(
    ("name", "bad", "wanted"),
    [
        ("max_peers", 0, "at least 1 peers"),
        ("max_keys_per_peer", 0, "at least 1 keys"),
        ("max_id_size", 0, "from 1 to 65535 bytes"),
        ("max_key_size", 65_536, "from 1 to 65535 bytes"),
        ("max_nesting", values.MAX_NESTING + 1, "from 0 to 100"),
        ("max_years_ahead", 0, "from 0.01 to 200 years"),
    ],
)
def test_a_limit_has_limits(name: str, bad: int, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be {wanted}, got {bad}"):
        a_node(**{name: bad})
