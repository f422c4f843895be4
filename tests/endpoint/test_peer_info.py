"""`peer_info`: its spellings, what is refused and how that is said, and the local peer that comes of it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from gossipmonger import Gossipmonger, MemoryStorage, Peer
from gossipmonger.endpoint.peer_info import PeerInfo
from gossipmonger.state.bound import MAX_VERSION

NOW = 1_700_000_000_123.4  # milliseconds


def test_only_the_id_is_needed() -> None:
    assert PeerInfo.parse({"id": "a"}) == PeerInfo("a", None, {}, None)


def test_an_id_may_be_any_string_that_json_has() -> None:
    assert Gossipmonger({"id": "\udcff"}).local_peer.id == "\udcff"


@pytest.mark.parametrize("name", ["maxVersionSeen", "max_version_seen"])
def test_the_version_may_be_spelled_either_way(name: str) -> None:
    assert PeerInfo.parse(MappingProxyType({"id": "a", name: 7})).max_version_seen == 7


def test_what_is_given_is_copied() -> None:
    transport, value = {"host": "a.example"}, [1]
    info = PeerInfo.parse({"id": "a", "transport": transport, "data": {"k": (value, 3)}})
    transport["host"] = "b.example"
    value.append(2)
    assert (info.transport, info.data) == ({"host": "a.example"}, {"k": ([1], 3)})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, 'peer_info must be a mapping such as {"id": "a"}, got None'),
        ({}, "peer_info.id must be a string, got None"),
        ({"id": 5}, "peer_info.id must be a string, got 5"),
        ({"id": ""}, "peer_info.id must not be empty"),
        ({"id": "toString"}, "peer_info.id must not be 'toString', which a Node.js node can't use as an id"),
        ({"id": "a", "ip": 1}, "peer_info has no key 'ip'; the keys are id, transport, data and maxVersionSeen"),
        ({"id": "a", 5: 1}, "peer_info has no key 5; the keys are id, transport, data and maxVersionSeen"),
        ({"id": "a", "data": []}, "peer_info.data must be a mapping, got []"),
        ({"id": "a", "data": {5: ["v", 1]}}, "peer_info.data must have strings as keys, got 5"),
        ({"id": "a", "data": {"k": "v"}}, "peer_info.data['k'] must be [value, version], got 'v'"),
        ({"id": "a", "data": {"k": ["v"]}}, "peer_info.data['k'] must be [value, version], got ['v']"),
    ],
)
def test_what_is_wrong_is_named(given: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        PeerInfo.parse(given)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"maxVersionSeen": -1}, "peer_info.maxVersionSeen", "-1"),
        ({"max_version_seen": MAX_VERSION + 1}, "peer_info.max_version_seen", "9007199254740992"),
        ({"maxVersionSeen": True}, "peer_info.maxVersionSeen", "True"),
        ({"data": {"k": ["v", "1"]}}, "peer_info.data['k'][1]", "'1'"),
        ({"data": {"k": [float("nan"), 1]}}, "peer_info.data['k'][0]", "nan"),
    ],
)
def test_what_another_module_checks_is_named_as_it_was_typed(given: Any, name: str, value: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        PeerInfo.parse({"id": "a", **given})
    assert str(caught.value).startswith(name)
    assert value in str(caught.value)


@pytest.mark.parametrize("host", ["", "*", "0.0.0.0", "::", "[::]", "::ffff:0.0.0.0"])
def test_a_host_at_which_nobody_can_connect_is_refused_with_advice(host: str) -> None:
    with pytest.raises(ValueError, match=r"^peer_info.transport.host must not be .*; |the option `listen` says where to bind$"):
        PeerInfo.parse({"id": "a", "transport": {"host": host, "port": 1}})


def test_a_host_loses_its_brackets_and_what_is_no_host_passes() -> None:
    for given, told in (("[::1]", "::1"), ("::1%lo", "::1"), ("fe80::1%eth0", "fe80::1%eth0"), ("a.example", "a.example")):
        assert PeerInfo.parse({"id": "a", "transport": {"host": given}}).transport == {"host": told}
    for other in ({"queue": 5}, {"host": 5}, "here", None):
        assert PeerInfo.parse({"id": "a", "transport": other}).transport == other


def local_peer(storage: MemoryStorage | None = None, **given: Any) -> Peer:
    storage = MemoryStorage() if storage is None else storage
    local = PeerInfo.parse({"id": "a", "transport": "here", **given}).local_peer(storage, NOW)
    assert storage.get("a") is local
    return local


def test_a_new_life_starts_at_the_microseconds_of_the_clock_and_has_nothing_below() -> None:
    local = local_peer()
    assert (local.max_version_seen, local.floor, local.data) == (1_700_000_000_123_400, 1_700_000_000_123_400, {})


def test_data_without_a_version_is_as_new_as_this_life() -> None:
    start = 1_700_000_000_123_400
    local = local_peer(data={"late": [1, 9], "early": ["v", 3]})
    assert local.data == {"early": ("v", start + 1), "late": (1, start + 2)}


def test_an_explicit_version_is_taken_as_it_is() -> None:
    local = local_peer(maxVersionSeen=7, data={"k": ["v", 3], "l": [1, 5]})
    assert (local.max_version_seen, local.floor, local.data) == (7, 0, {"k": ("v", 3), "l": (1, 5)})


def test_a_stored_life_continues_where_it_was_reached_or_elsewhere() -> None:
    storage = MemoryStorage()
    stored = Peer("a", data={"k": ["kept", 5]}, transport="there", left=True, live=False)
    storage.put("a", stored)
    local = local_peer(storage, transport=None, data={"l": ["new", 3]})
    assert local.data == {"k": ("kept", 5), "l": ("new", 6)}
    assert (local.transport, local.left, local.live) == ("there", False, True)
    assert local_peer(storage).transport == "here"


def test_an_explicit_version_replaces_what_is_stored() -> None:
    storage = MemoryStorage()
    storage.put("a", Peer("a", data={"k": ["old", 5]}))
    assert local_peer(storage, maxVersionSeen=0).data == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ID": "a"}, "peer_info has no key 'ID'; did you mean 'id'?"),
        ({"id": "a", "transprot": {}}, "peer_info has no key 'transprot'; did you mean 'transport'?"),
        ({"id": "a", "max_version": 1}, "peer_info has no key 'max_version'; did you mean 'max_version_seen'?"),
        ({"id": "a", "transport": {"hostname": "h"}}, "peer_info.transport has no key 'hostname'; did you mean 'host'?"),
        ({"id": "a", "transport": {"host": "h", "prot": 1}}, "peer_info.transport has no key 'prot'; did you mean 'port'?"),
        ({"id": "a", "transport": {"host": 5}}, "peer_info.transport.host must be a string, got 5"),
        ({"id": "a", "transport": {"port": "1"}}, "peer_info.transport.port must be an integer from 0 to 65535, got '1'"),
        ({"id": "a", "transport": {"port": -1}}, "peer_info.transport.port must be from 0 to 65535, got -1"),
    ],
)
def test_what_is_mistyped_is_named_with_what_is_wanted(given: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        PeerInfo.parse(given).check_over_tcp()
    assert str(caught.value) == words
