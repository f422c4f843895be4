"""An observer as a program sees it: what it is told, what it may call, and what it knows."""

from __future__ import annotations

import gc
import logging
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gossipmonger import (
    Change,
    ClosedError,
    Gossipmonger,
    MemoryStorage,
    ObserverError,
    RemotePeer,
    TcpTransport,
    UdpTransport,
)
from gossipmonger.endpoint import exit as exit_module
from gossipmonger.simulation import Simulation
from gossipmonger.transport import Transport

#: Where nobody is, as far as these tests go.
SEEDS = [{"id": "seed", "transport": {"host": "192.0.2.1", "port": 9742}}]


class Own(Transport):
    """A transport that somebody else wrote."""

    def send(self, to: RemotePeer, message: Any) -> None:
        pass

    def listen(self, *_: Any) -> None:
        pass

    def close(self, *_: Any) -> None:
        pass


@pytest.fixture
def observer() -> Iterator[Gossipmonger]:
    node = Gossipmonger(observer=True, seeds=SEEDS)
    yield node
    node.close()


@pytest.fixture
def sim() -> Iterator[Simulation]:
    sim = Simulation(seed=5)
    for id in "abc":
        sim.add(id, seeds=["a"]).update("load", id)
    sim.run(5_000)
    yield sim
    sim.close()


# What it is told


@pytest.mark.parametrize(
    ("given", "pattern"),
    [((), "observer-[0-9a-f]{12}"), (({},), "observer-[0-9a-f]{12}"), (({"id": "report"},), "report-[0-9a-f]{12}")],
)
def test_its_id_may_be_left_out_and_is_told_with_something_random(given: Any, pattern: str) -> None:
    nodes = [Gossipmonger(*given, observer=True, seeds=SEEDS) for _ in range(2)]
    ids = {node.local_peer.id for node in nodes}
    assert len(ids) == 2
    assert all(re.fullmatch(pattern, id) for id in ids)
    for node in nodes:
        node.close()


def test_its_id_is_drawn_by_the_option_random() -> None:
    nodes = [Gossipmonger(observer=True, seeds=SEEDS, random=random.Random(3)) for _ in range(2)]
    assert nodes[0].local_peer.id == nodes[1].local_peer.id
    for node in nodes:
        node.close()


def test_only_an_observer_may_leave_its_peer_info_out() -> None:
    with pytest.raises(TypeError, match="peer_info must be a mapping such as"):
        Gossipmonger()
    with pytest.raises(TypeError, match=r"peer_info\.id must be a string, got None"):
        Gossipmonger({})


@pytest.mark.parametrize(
    ("info", "error", "words"),
    [
        ({"data": {"k": ["v", 1]}}, ValueError, "peer_info.data must be left out, as an observer owns no keys"),
        ({"maxVersionSeen": 0}, ValueError, "peer_info.maxVersionSeen must be left out, as an observer owns no keys"),
        ({"id": ""}, ValueError, "peer_info.id must not be empty"),
        ({"id": None}, TypeError, "peer_info.id must be a string, got None"),
        ({"port": 1}, TypeError, "peer_info has no key 'port'"),
        ([], TypeError, "peer_info must be a mapping"),
    ],
)
def test_what_is_wrong_is_named(info: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        Gossipmonger(info, observer=True, seeds=SEEDS)
    assert words in str(caught.value)


def test_the_option_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="OBSERVER must be True or False, got 1"):
        Gossipmonger({}, {"OBSERVER": 1})


def test_it_needs_a_seed_or_a_storage_that_may_know_one() -> None:
    with pytest.raises(ValueError, match="seeds must name a node for an observer, which no node finds by itself"):
        Gossipmonger(observer=True)
    Gossipmonger(observer=True, storage=MemoryStorage()).close()


@pytest.mark.parametrize("transport", [Own(), object()])
def test_a_transport_that_cannot_greet_is_refused(transport: Any) -> None:
    if type(transport) is object:
        transport = type("Seed", (), dict.fromkeys(("digest", "deltas", "on"), lambda *_: None))()
    with pytest.raises(ValueError, match="transport must be a TcpTransport, a UdpTransport, or one whose `greets` is true"):
        Gossipmonger(observer=True, seeds=SEEDS, transport=transport)


def test_a_transport_that_says_it_greets_is_taken() -> None:
    transport = Own()
    transport.greets = True
    Gossipmonger({"transport": "mine"}, observer=True, seeds=SEEDS, transport=transport).close()
    assert transport.observer


@pytest.mark.parametrize(
    "transport", [None, TcpTransport(host="127.0.0.1", port=0), UdpTransport(host="127.0.0.1", port=0), UdpTransport()]
)
def test_over_tcp_and_udp_it_tells_an_address_that_nobody_has(transport: Any) -> None:
    given = {"transport": {"host": "localhost", "port": 9742}}
    with Gossipmonger(given, observer=True, seeds=SEEDS, transport=transport) as node:
        assert node.local_peer.transport == {"host": "observer.invalid", "port": 9742}
        assert node.transport.bound is None


def test_its_storage_does_not_hold_it(sim: Simulation) -> None:
    storage = MemoryStorage()
    sim.add("o", seeds=["b"], observer=True, storage=storage)
    sim.run(5_000)
    assert {peer.id for peer in storage.live_peers()} == {"a", "b", "c"}
    assert storage.dead_peers() == []


# What it may call


@pytest.mark.parametrize("call", ["update", "delete", "forget"])
def test_what_would_change_something_raises(observer: Gossipmonger, call: str) -> None:
    arguments = ("k", 1) if call == "update" else ("k",)
    with pytest.raises(ObserverError, match=f"^{call}: this node is an observer, which owns no keys"):
        getattr(observer, call)(*arguments)


def test_a_bad_argument_is_named_first(observer: Gossipmonger) -> None:
    with pytest.raises(TypeError):
        observer.update("k", object())


def test_there_is_nothing_to_flush(observer: Gossipmonger) -> None:
    assert observer.flush(0)
    with pytest.raises(ValueError, match="timeout"):
        observer.flush(-1)
    observer.close()
    with pytest.raises(ClosedError):
        observer.flush(1)


@pytest.mark.parametrize("end", ["leave", "close", "stop"])
def test_it_says_no_goodbye(sim: Simulation, end: str) -> None:
    node = sim.add("o", seeds=["a"], observer=True)
    sim.run(5_000)
    heard = []
    for id in "abc":
        sim.node(id).on("digest receive", lambda peer, _: heard.append(peer.id))
    sim.network.latency = 100_000  # of what is said from now on, nothing arrives before the end
    getattr(node, end)()
    sim.network.latency = 5
    sim.run(200_000)
    assert not [id for id in heard if id.startswith("o")]
    if end == "leave":
        assert "stopped" in repr(node)
        node.gossip()
        sim.run(10)
        assert [id for id in heard if id.startswith("o")]


def test_close_waits_for_nothing_that_is_on_its_way() -> None:
    with Gossipmonger(observer=True, seeds=["192.0.2.1:9742"]) as node:
        node.on("error", lambda error: None)
        began = time.monotonic()
    assert time.monotonic() - began < 0.2


def test_it_logs_that_it_observes(logged: list[logging.LogRecord]) -> None:
    with Gossipmonger({"id": "report"}, observer=True, seeds=SEEDS):
        pass
    lines = [record.getMessage() for record in logged]
    assert any(line.startswith("node 'report-") and line.endswith(": observes") for line in lines)


def test_one_that_is_not_closed_is_no_trouble_at_the_end() -> None:
    node = Gossipmonger(observer=True, seeds=SEEDS)
    node.gossip()
    assert node._engine not in exit_module._nodes
    node.close()
    gc.collect()


# What it knows


def test_it_knows_all_others_and_not_itself(sim: Simulation) -> None:
    node = sim.add("o", seeds=["c"], observer=True)
    sim.run(3_000)
    assert sorted(node.live()) == sorted(node.peers()) == ["a", "b", "c"]
    assert node.values("load") == node.values("load", live=False) == {"a": "a", "b": "b", "c": "c"}
    assert (node.get("b", "load"), node.get(node.local_peer.id, "load")) == ("b", None)
    assert node.peer(node.local_peer.id) is None
    assert "3 live peers" in repr(node)
    for id in "abc":
        assert sorted(sim.node(id).peers()) == ["a", "b", "c"]


def test_one_that_says_the_id_of_a_node_troubles_nobody(sim: Simulation) -> None:
    nodes = [sim.add(f"o{n}", seeds=["a"], observer=True) for n in range(2)]
    for node in nodes:
        node.local_peer.id = "b"
    errors: list[Exception] = []
    for node in [*nodes, *map(sim.node, "abc")]:
        node.on("error", errors.append)
    sim.run(60_000)
    assert errors == []
    assert sorted(sim.node("b").live()) == ["a", "b", "c"]


def test_watches_and_waits_work(sim: Simulation) -> None:
    node = sim.add("o", seeds=["a"], observer=True)
    changes: list[Change] = []
    node.watch("load", changes.append)
    with pytest.raises(RuntimeError):
        node.wait_for_peers(3, 1)  # in a simulation, time stands still meanwhile
    sim.run(3_000)
    assert sorted(node.wait_for_peers(3, 1)) == ["a", "b", "c"]
    assert node.wait_for_key("load", "c", timeout=1) == "c"
    assert node.wait_for(lambda: len(node.live()) == 3, 1)
    assert sorted((change.peer_id, change.value) for change in changes) == [("a", "a"), ("b", "b"), ("c", "c")]
    sim.node("b").update("load", "more")
    sim.node("c").close()
    sim.run(3_000)
    assert Change("b", "load", "more", "set") in changes
    assert Change("c", "load", None, "gone") in changes
    assert node.peers()["c"].state == "left"


def test_it_learns_of_those_that_left_before_it_came(sim: Simulation) -> None:
    sim.node("c").close()
    sim.run(60_000)
    node = sim.add("o", seeds=["a"], observer=True)
    sim.run(5_000)
    assert node.peers()["c"].state == "left"
    assert node.get("c", "load") == "c"


@pytest.mark.parametrize("interval", [100, 1_000, 30_000])
def test_it_judges_others_by_itself(sim: Simulation, interval: float) -> None:
    node = sim.add("o", seeds=["a"], observer=True, gossip_interval=interval)
    dead: list[str] = []
    node.on("peer dead", lambda peer: dead.append(peer.id))
    sim.run(20 * max(interval, 1_000))
    assert dead == []
    sim.crash("b")
    sim.run_until(lambda: dead == ["b"], 5 * max(interval, 1_000))
    sim.vanish("c")
    sim.run_until(lambda: dead == ["b", "c"], 20 * max(interval, 1_000))
    sim.restart("b")
    sim.run_until(lambda: node.peers()["b"].state == "live", 5 * max(interval, 1_000))
