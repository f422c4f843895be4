"""Ours and the Node original in one cluster, over real sockets."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from gossipmonger.state import values
from gossipmonger.state.values import TOMBSTONE
from tests.cluster import NODE, Cluster

#: Key -> value, each as JSON carries it to a Node node and back. An integer beyond 2**53 is none: Node rounds it.
VALUES: dict[str, Any] = {
    "int": 42,
    "zero": 0,
    "negative": -17,
    "big": 2**53 - 1,
    "big negative": -(2**53 - 1),
    "float": 0.1,
    "great": 1.7976931348623157e308,
    "tiny": -5e-324,
    "true": True,
    "false": False,
    "null": None,
    "text": "text",
    "empty text": "",
    "beyond the BMP": "a😀𝄞é€",
    "controls": "".join(map(chr, range(32))) + '\x7f\u2028\u2029"\\/',
    "half a pair": "a\ud83d b\ude00",
    "list": [1, [2.5, [None, [True, ["€"]]]]],
    "empty list": [],
    "object": {"a": {"b": {"c": [{}, {"": "x"}]}}, "1": 1, "__proto__": {"x": 1}, "constructor": []},
    "empty object": {},
    "": "the empty key",
    " \n\t\0": "a blank key",
    "7": "a digit for a key",
    "schlüssel 😀": "a key beyond ASCII",
    "\ud800": "half a pair for a key",
    "constructor": "a key that every object inherits",
}

#: 2 MB in UTF-8, three bytes a character: a chunk of TCP that ends at random cuts two characters in three.
LONG = {"long": "€" * 700_000, "long mixed": "aé€😀" * 100_000}


@pytest.fixture(scope="session")
def original() -> None:
    if (NODE / "node_modules" / "gossipmonger").is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("the Node original is not installed in tests/node, and there is no npm on PATH to install it")
    subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=NODE, check=True, timeout=100)


@pytest.fixture
def cluster(original: None) -> Iterator[Cluster]:
    cluster = Cluster(GOSSIP_INTERVAL=50, MAX_DELTAS_PER_GOSSIP=100)
    yield cluster
    cluster.close()


@pytest.fixture
def mixed(cluster: Cluster) -> Cluster:
    """Three of ours, one of them in a process of its own, and two of the original."""
    cluster.here("p1")
    cluster.here("p2")
    cluster.apart("p3")
    cluster.apart("n1", original=True)
    cluster.apart("n2", original=True)
    cluster.until(cluster.all_know_all)
    return cluster


def test_everyone_meets_everyone_and_every_value_reaches_everyone(mixed: Cluster) -> None:
    for writer in mixed.nodes.values():
        for key, value in VALUES.items():
            writer.update(key, value)
    pairs = [(node, id) for node in mixed.nodes.values() for id in others(node)]
    mixed.until(lambda: all(len(node.data.get(id, {})) == len(told(node, VALUES)) for node, id in pairs))
    for node in mixed.nodes.values():
        state = node.state()
        assert state.keys() == mixed.nodes.keys()
        for id in mixed.nodes:
            assert wrong(state[id], VALUES) == {}, (node.id, id)
        for id in others(node):
            assert wrong(node.data[id], told(node, VALUES)) == {}, (node.id, id)
        assert node.errors == []


@pytest.mark.parametrize(
    "original_relay", [True, False], ids=["ours through a Node node", "the original's through one of ours"]
)
def test_every_value_passes_through_a_relay_of_the_other_kind(cluster: Cluster, original_relay: bool) -> None:
    # A Node node tells no heartbeats, so to each other the ends seem dead soon, and of the dead nobody asks.
    cluster.options["DEAD_PEER_PHI"] = 1_000
    if original_relay:
        relay: Any = cluster.apart("relay", original=True)
        ends: list[Any] = [cluster.here("a", refuse=("b",)), cluster.here("b", refuse=("a",))]
    else:
        relay = cluster.here("relay")
        ends = [cluster.apart("a", ("b",), original=True), cluster.apart("b", ("a",), original=True)]
    cluster.until(cluster.all_know_all)
    wanted = {**VALUES, **LONG}
    for key, value in wanted.items():
        ends[0].update(key, value)
    cluster.until(lambda: all(len(node.data.get("a", {})) == len(told(node, wanted)) for node in (relay, ends[1])))
    for node in (relay, ends[1]):
        assert wrong(node.data["a"], told(node, wanted)) == {}
        assert wrong(node.state()["a"], wanted) == {}
        assert node.errors == []


def test_a_deleted_key_is_gone_from_ours_and_a_tombstone_at_the_original(mixed: Cluster) -> None:
    owner: Any = mixed.nodes["p1"]
    for n in range(10):
        owner.update(f"k{n}", n)
    owner.update("kept", 1)
    mixed.until(lambda: all(len(node.data.get("p1", {})) == 11 for node in mixed.nodes.values() if node is not owner))
    for n in range(10):
        owner.node.delete(f"k{n}")
    ours = [mixed.nodes[id] for id in ("p2", "p3")]
    originals = [mixed.nodes[id] for id in ("n1", "n2")]
    mixed.until(lambda: all(node.data["p1"].get(f"k{n}") == TOMBSTONE for node in originals for n in range(10)))
    mixed.until(lambda: all(node.deleted["p1"] == {f"k{n}" for n in range(10)} for node in ours))
    assert owner.node.local_peer.floor < owner.node.local_peer.max_version_seen - 10  # it waits with its compaction
    mixed.until(lambda: owner.node.local_peer.count_after_version(0) == 1)
    owner.update("after", 2)
    mixed.until(lambda: all(node.data["p1"].get("after") == 2 for node in (*ours, *originals)))
    for node in ours:
        assert wrong(node.state()["p1"], {"kept": 1, "after": 2}) == {}
    for node in originals:
        assert node.state()["p1"] == {"kept": 1, "after": 2, **{f"k{n}": TOMBSTONE for n in range(10)}}


def test_a_node_of_ours_that_restarts_under_its_id_is_heard_by_both_kinds(mixed: Cluster) -> None:
    first = mixed.nodes["p2"]
    first.update("life", 1)
    for n in range(50):
        first.update("count", n)  # so the former life's version is well above what the new one's number of writes gives
    survivors = [node for node in mixed.nodes.values() if node is not first]
    mixed.until(lambda: all(node.data.get("p2", {}).get("count") == 49 for node in survivors))
    first.close()
    second = mixed.here("p2", port=first.port)
    second.update("life", 2)
    mixed.until(lambda: all(node.data["p2"].get("life") == 2 for node in survivors))
    for node in survivors:
        node.update("for the second life", node.id)
    mixed.until(lambda: all(second.data.get(node.id) == {"for the second life": node.id} for node in survivors))


def test_nodes_over_udp_are_of_one_cluster_with_the_original(cluster: Cluster) -> None:
    for id in ("u1", "u2"):
        cluster.here(id, udp=True)
    cluster.apart("n1", original=True)
    cluster.here("p1")
    cluster.apart("n2", original=True)
    cluster.until(cluster.all_know_all)
    for writer in cluster.nodes.values():
        writer.update("id", writer.id)
    pairs = [(node, id) for node in cluster.nodes.values() for id in others(node)]
    cluster.until(lambda: all(node.data.get(id) == {"id": id} for node, id in pairs))
    for node in cluster.nodes.values():
        assert node.errors == []
    p1: Any = cluster.nodes["p1"]
    for id in ("u1", "u2"):
        assert p1.node.peer(id).transport["udp"] is True  # nobody has lost it on the way


@pytest.mark.parametrize("victim_id", ["p3", "n2"])
def test_a_killed_node_is_dead_to_both_kinds_and_live_on_its_return(mixed: Cluster, victim_id: str) -> None:
    victim: Any = mixed.nodes.pop(victim_id)
    watchers = list(mixed.nodes.values())
    # Whom it has never heard from itself, the original never takes for dead; and a window of few samples is a slow one.
    mixed.until(lambda: all(node.contacts[victim_id] >= 10 for node in watchers))
    victim.kill()
    mixed.until(lambda: all(node.peers[victim_id] == "dead" for node in watchers), seconds=60)
    back = mixed.apart(victim_id, port=victim.port, original=victim_id.startswith("n"))
    mixed.until(lambda: all(node.peers[victim_id] == "live" for node in watchers))
    back.update("back", True)
    mixed.until(lambda: all(node.data.get(victim_id, {}).get("back") is True for node in watchers))


def others(node: Any) -> list[str]:
    return [id for id in node.cluster.nodes if id != node.id]


def told(node: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """What `update` events bring of it: the original keeps a value under the empty key, but has no event for it."""
    return {key: value for key, value in wanted.items() if key or not node.original}


def wrong(data: dict[str, Any], wanted: dict[str, Any]) -> dict[str, str]:
    """What differs, short enough to read."""
    keys = data.keys() | wanted.keys()
    return {
        key: f"{data.get(key, 'nothing')!r:.60} instead of {wanted.get(key, 'nothing')!r:.60}"
        for key in keys
        if key not in data or key not in wanted or not values.same(data[key], wanted[key])
    }
