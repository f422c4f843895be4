"""Keys with a ttl, as programs see them: who reads, watches or waits sees the same, and every way to set one keeps it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from gossipmonger import Change, ClosedError, ForkedError, Gossipmonger, MemoryStorage, Peer
from gossipmonger.simulation import Simulation

from ..forks import in_child, make, start
from ..node_protocol import NodeJsNode


def cluster(count: int = 3, seed: int = 1, **options: Any) -> tuple[Simulation, list[Gossipmonger]]:
    """A simulation whose nodes have met."""
    sim = Simulation(seed=seed)
    nodes = [sim.add(f"n{n}", seeds=["n0"], **options) for n in range(count)]
    sim.run(10_000)
    return sim, nodes


def seen(node: Gossipmonger, id: str, key: str) -> list[Any]:
    """What each way to look shows of a key."""
    view = node.peer(id)
    assert view is not None
    assert (key in view.data) == (key in view.versions)
    return [
        node.get(id, key), view.data.get(key), node.peers()[id].data.get(key), node.values(key, live=False).get(id),
    ]  # fmt: skip


def events_of(node: Gossipmonger) -> list[tuple[Any, ...]]:
    heard: list[tuple[Any, ...]] = []
    for name in ("update", "delete"):
        node.on(name, lambda *args, name=name: heard.append((name, *args)))
    return heard


# Arguments


@pytest.mark.parametrize("ttl", [0.001, 1, 2.5, 315_360_000, timedelta(milliseconds=1), timedelta(days=3)])
def test_a_ttl_is_seconds_or_a_timedelta(ttl: Any) -> None:
    node = Simulation().add("a", gossip=False)
    assert node.update("k", 1, ttl) is True
    assert node.update("k", 1, ttl=ttl) is False
    assert node.local_peer.ttls == {"k": ttl.total_seconds() if isinstance(ttl, timedelta) else ttl}


@pytest.mark.parametrize(
    ("ttl", "error", "words"),
    [
        (0, ValueError, r"^ttl must be from 0.001 to 315360000 seconds, got 0$"),
        (-1.5, ValueError, r"^ttl must be .* got -1.5$"),
        (float("nan"), ValueError, r"^ttl must be .* got nan$"),
        (float("inf"), ValueError, r"^ttl must be .* got inf$"),
        (timedelta(days=3651), ValueError, r"^ttl must be .* got 315446400.0$"),
        ("5", TypeError, r"^ttl must be a number from 0.001 to 315360000 seconds, got '5'$"),
        (True, TypeError, r"^ttl must be a number .* got True$"),
    ],
)
def test_a_bad_ttl_raises_at_once(ttl: Any, error: type[Exception], words: str) -> None:
    node = Simulation().add("a", gossip=False)
    with pytest.raises(error, match=words):
        node.update("k", 1, ttl)
    assert node.get("a", "k") is None


# What is seen


def test_an_owner_deletes_and_all_others_hear_of_it() -> None:
    sim, nodes = cluster()
    heard = [events_of(node) for node in nodes]
    nodes[0].update("k", 1, ttl=5)
    sim.run(4_999)
    assert [seen(node, "n0", "k") for node in nodes] == [[1] * 4] * 3
    sim.run(100)
    assert [seen(node, "n0", "k") for node in nodes] == [[None] * 4] * 3
    assert heard == [[("delete", "n0", "k")]] + [[("update", "n0", "k", 1), ("delete", "n0", "k")]] * 2


def test_an_update_renews_a_key_and_tells_nobody() -> None:
    sim, nodes = cluster()
    nodes[0].update("k", 1, ttl=5)
    sim.run(100)
    version = nodes[0].local_peer.max_version_seen
    for _ in range(5):
        sim.run(4_000)
        assert nodes[0].update("k", 1, ttl=5) is False
        assert [node.get("n0", "k") for node in nodes] == [1, 1, 1]
    assert nodes[0].local_peer.max_version_seen == version


@pytest.mark.parametrize("end", ["crash", "vanish"])
def test_a_key_of_a_killed_owner_is_gone_for_whoever_looks_watches_or_waits(end: str) -> None:
    sim, nodes = cluster(dead_peer_phi=100)  # so that its owner is not seen dead before
    reader, changes = nodes[1], list[Change]()
    reader.watch("k", changes.append)
    heard = events_of(reader)
    nodes[0].update("k", 1, ttl=8)
    sim.run(100)
    with pytest.raises(TimeoutError, match=r"'n0' is live and has 1"):
        reader.wait_for_key("k", "n0", 2, timeout=0)
    sim.vanish("n0") if end == "vanish" else sim.crash("n0")
    sim.run(6_900)
    assert seen(reader, "n0", "k") == [1] * 4
    sim.run(5_000)
    assert seen(reader, "n0", "k") == [None] * 4
    assert heard == [("update", "n0", "k", 1), ("delete", "n0", "k")]
    assert [change.kind for change in changes] == ["set", "gone" if end == "crash" else "delete"]
    with pytest.raises(TimeoutError, match=r"'n0' is .* and has no keys"):
        reader.wait_for_key("k", "n0", timeout=0)


def test_a_key_is_back_when_its_owner_was_only_cut_off() -> None:
    sim, nodes = cluster(4)
    heard, changes = events_of(nodes[1]), list[Change]()
    nodes[1].watch(handler=changes.append)
    nodes[0].update("k", 1, ttl=60)
    nodes[0].update("l", 1, ttl=5)
    sim.run(100)
    sim.partition(["n0"])
    for _ in range(5):
        nodes[0].update("l", 1, ttl=5)
        sim.run(4_000)
    assert (nodes[1].get("n0", "k"), nodes[1].get("n0", "l")) == (1, None)
    sim.heal()
    nodes[0].update("l", 1, ttl=60)
    sim.run_until(lambda: nodes[1].peer("n0").state == "live" and nodes[1].get("n0", "l") == 1, 30_000)  # type: ignore[union-attr]
    assert [what[0] for what in heard if what[2] == "l"] == ["update", "delete", "update"]
    mirror: dict[str, Any] = {}
    for change in changes:
        mirror[change.key] = change.value
    assert mirror == {"k": 1, "l": 1}


def test_a_watch_that_begins_while_a_key_is_hidden_is_told_of_it_when_it_is_back() -> None:
    sim, nodes = cluster(4, dead_peer_phi=100)
    nodes[0].update("k", 1, ttl=5)
    nodes[0].update("other", 1)
    sim.run(100)
    sim.pause("n0", 8_000)
    sim.run(7_000)
    assert nodes[1].get("n0", "k") is None
    changes = list[Change]()
    nodes[1].watch(peer="n0", handler=changes.append)
    assert [(change.key, change.kind) for change in changes] == [("other", "set")]
    nodes[0].update("k", 1, ttl=60)
    sim.run(5_000)
    assert [(change.key, change.kind) for change in changes[1:]] == [("k", "set")]


def test_who_waits_is_woken_when_a_key_expires() -> None:
    node = start(make("a"))
    with closing(node):
        node.update("k", 1, ttl=0.2)
        began = time.monotonic()
        assert node.wait_for(lambda: node.get("a", "k") is None, timeout=10)
        assert 0.19 < time.monotonic() - began < 5


def test_an_iterator_is_told_when_a_key_expires() -> None:
    node = start(make("a"))
    with closing(node):
        node.update("k", 1, ttl=0.1)
        assert [change.kind for change in (node.watch("k").next(10), *node.watch("k", replay=False, timeout=0.5))] == [
            "set",
            "delete",
        ]


def test_a_reader_that_restarts_shows_a_key_when_it_hears_of_its_owner() -> None:
    sim, nodes = cluster()
    nodes[0].update("k", 1, ttl=300)
    sim.run(100)
    storage = nodes[2].storage
    sim.crash("n2")
    again = sim.restart("n2", storage=storage)
    heard = events_of(again)
    assert seen(again, "n0", "k") == [None] * 4
    sim.run(5_000)
    assert seen(again, "n0", "k") == [1] * 4
    assert heard == [("update", "n0", "k", 1)]


def test_an_owner_that_restarts_on_its_storage_gives_its_keys_their_whole_ttl() -> None:
    sim, nodes = cluster()
    nodes[0].update("k", 1, ttl=30)
    sim.run(1_000)
    storage = nodes[0].storage
    sim.crash("n0")
    sim.run(15_000)
    again = sim.restart("n0", storage=storage, seeds=["n1"])
    sim.run(29_000)
    assert [node.get("n0", "k") for node in (again, nodes[1])] == [1, 1]
    sim.run(2_000)
    assert [node.get("n0", "k") for node in (again, nodes[1])] == [None, None]


def test_who_joins_after_an_owner_has_left_is_not_shown_what_is_over() -> None:
    sim, nodes = cluster()
    nodes[1].update("k", 1, ttl=5)
    nodes[1].update("other", 1)
    sim.run(1_000)
    nodes[1].close()
    sim.run(10_000)
    newcomer = sim.add("n9", seeds=["n0"])
    heard = events_of(newcomer)
    sim.run(5_000)
    assert newcomer.peer("n1").state == "left"  # type: ignore[union-attr]
    assert (newcomer.get("n1", "other"), seen(newcomer, "n1", "k")) == (1, [None] * 4)
    assert newcomer.storage.get("n1").get("k") == 1
    assert heard == [("update", "n1", "other", 1)]


def test_a_node_js_node_sees_an_ordinary_key_and_so_does_who_learns_it_from_there() -> None:
    sim = Simulation(seed=4)
    owner, reader = sim.add("a"), sim.add("b", seeds=["a"])
    plain = NodeJsNode(sim, "p", ["a"], 5)
    sim.run(5_000)
    owner.update("k", 1, ttl=10)
    sim.run(4_000)
    assert plain.view("a") == {"k": 1}
    sim.crash("a")
    sim.crash("b")
    newcomer = sim.add("c", seeds=["p"])
    sim.run(20_000)
    assert newcomer.storage.get("a").ttls == {}
    assert newcomer.get("a", "k") == 1
    assert reader.storage.get("a").ttls == {"k": 10}


# Every way to set one


def test_a_deferred_update_has_its_ttl_and_the_latest_counts() -> None:
    class Inside(MemoryStorage):
        action: Callable[[], object] | None = None

        def put(self, id: str, peer: Peer) -> None:
            super().put(id, peer)
            action, self.action = self.action, None
            if action is not None:
                action()

    sim, storage = Simulation(seed=1), Inside()
    node = sim.add("a", storage=storage)
    sim.run(2_000)

    def interrupt() -> None:
        assert node.update("k", 1, ttl=60)
        assert node.update("k", 1, ttl=2)
        with pytest.raises(ValueError, match=r"^ttl must be from"):
            node.update("k", 1, ttl=0)

    storage.action = interrupt
    node.update("interrupted", 1)
    assert node.local_peer.ttls == {"k": 2}
    sim.run(2_100)
    assert node.get("a", "k") is None


def test_a_ttl_counts_from_the_update_though_the_life_begins_later() -> None:
    now = 1_700_000_000_000.0
    node = Gossipmonger({"id": "a"}, clock=lambda: now)
    node.update("k", 1, ttl=5)
    node.update("l", 1, ttl=60)
    now += 4_000
    assert node.get("a", "k") == 1
    now += 1_000
    assert node.get("a", "k") is None  # though no timer runs
    assert not node._engine.started
    with closing(node):
        node.gossip()
        assert dict(node.peer("a").data) == {"l": 1}  # type: ignore[union-attr]
        assert node.local_peer.ttls == {"l": 60}


def test_a_stopped_node_looks_when_it_is_asked() -> None:
    sim, nodes = cluster()
    nodes[0].update("k", 1, ttl=5)
    sim.run(100)
    nodes[1].stop()
    nodes[1].transport.close()
    sim.run(20_000)
    assert nodes[1].values("k") == {}


def test_a_closed_node_refuses_and_expires_nothing() -> None:
    sim, nodes = cluster()
    nodes[0].update("k", 1, ttl=5)
    nodes[0].close()
    with pytest.raises(ClosedError, match=r"^update: this endpoint has been closed$"):
        nodes[0].update("k", 1, ttl=5)
    sim.run(20_000)
    assert nodes[0].get("n0", "k") == 1


@pytest.mark.untraced
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_copy_refuses_and_a_node_started_in_a_child_expires_its_keys() -> None:
    def refused() -> bool:
        with pytest.raises(ForkedError):
            node.update("k", 1, ttl=5)
        return True

    def expires() -> bool:
        unborn.gossip()
        with closing(unborn):
            return bool(unborn.wait_for(lambda: unborn.get("b", "k") is None, timeout=10))

    unborn = make("b")
    unborn.update("k", 1, ttl=0.3)
    with closing(start(make("a"))) as node, closing(unborn):
        assert in_child(refused) == "True"
        assert in_child(expires) == "True"


def test_no_thread_is_started_for_a_ttl() -> None:
    with closing(start(make("a"))) as node:
        before = {thread.name for thread in threading.enumerate()}
        node.update("k", 1, ttl=0.1)
        node.wait_for(lambda: node.get("a", "k") is None, timeout=10)
        assert {thread.name for thread in threading.enumerate()} <= before


def test_flow_control_holds_back_what_expires_too() -> None:
    sim, nodes = cluster(flow_control=True, max_deltas_per_gossip=1, max_exchanges_per_gossip=1)
    changes = list[Change]()
    nodes[0].watch(peer="n0", handler=changes.append)
    for n in range(30):
        nodes[0].update(f"k{n}", n, ttl=2)
    assert len(nodes[0]._protocol.waiting) > 0
    sim.run(2_100)
    assert dict(nodes[0].peer("n0").data) == {}  # type: ignore[union-attr]
    assert [change.kind for change in changes] == ["set"] * 30 + ["delete"] * 30
    sim.run_until(lambda: not nodes[0]._protocol.waiting, 120_000, every=1_000)
    sim.run(3_000)
    assert dict(nodes[1].peer("n0").data) == {}  # type: ignore[union-attr]
