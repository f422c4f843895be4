"""Clusters of different names at each other's addresses: they stay apart, and say so once."""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from random import Random
from typing import Any

import pytest

from gossipmonger import ClusterError, Gossipmonger, TcpTransport, UdpTransport
from gossipmonger.simulation import Simulation

from .cluster import HOST, free_port

Make = Callable[..., TcpTransport]


class Nodes(ExitStack):
    """Endpoints on loopback that gossip every 50 ms, and their errors."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()
        self.errors: defaultdict[str, list[Exception]] = defaultdict(list)

    def add(self, id: str, *seeds: Gossipmonger, cluster: str | None, transport: Any, **options: Any) -> Gossipmonger:
        found = [{"id": seed.local_peer.id, "transport": seed.local_peer.transport} for seed in seeds]
        node = Gossipmonger(
            {"id": id}, seeds=found, cluster=cluster, transport=transport, gossip_interval=50, rumor_interval=5, **options
        )
        self.callback(node.close)
        node.on("error", lambda error: self._heard(id, error))
        for event in ("new peer", "peer dead", "peer live", "update"):
            node.on(event, lambda *_: self._heard(id, None))
        node.transport.listen()
        node.update("who", id)
        node.gossip()
        return node

    def _heard(self, id: str, error: Exception | None) -> None:
        with self.changed:
            if error is not None:
                self.errors[id].append(error)
            self.changed.notify_all()

    def until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 20), dict(self.errors)

    def refusals(self, node: Gossipmonger) -> list[ClusterError]:
        return [error for error in self.errors[node.local_peer.id] if isinstance(error, ClusterError)]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with Nodes() as nodes:
        yield nodes


def know_each_other(*nodes: Gossipmonger) -> bool:
    return all(node.get(other.local_peer.id, "who") == other.local_peer.id for node in nodes for other in nodes)


@pytest.mark.parametrize("make", [TcpTransport, UdpTransport])
@pytest.mark.parametrize(("one", "two"), [("prod", "test"), ("prod", None), (None, "test")])
def test_a_dead_node_s_address_is_given_to_a_node_of_another_cluster(nodes: Nodes, make: Make, one: str, two: str) -> None:
    port = free_port()
    a = nodes.add("a", cluster=one, transport=make(host=HOST, port=0))
    b = nodes.add("b", a, cluster=one, transport=make(host=HOST, port=0))
    gone = nodes.add("gone", a, cluster=one, transport=make(host=HOST, port=port))
    nodes.until(lambda: know_each_other(a, b, gone))
    gone.transport.close()  # as if its process was killed
    gone.stop()
    x = nodes.add("x", cluster=two, transport=make(host=HOST, port=port))
    y = nodes.add("y", x, cluster=two, transport=make(host=HOST, port=0))
    nodes.until(lambda: know_each_other(x, y) and bool(nodes.refusals(x)))
    if make is TcpTransport:  # where the two ends of a link hear of each other's cluster
        nodes.until(lambda: bool(nodes.refusals(a) + nodes.refusals(b)))
    a.update("later", 1)
    y.update("later", 1)
    nodes.until(lambda: b.get("a", "later") == x.get("y", "later") == 1)
    assert (set(a.peers()), set(b.peers())) == ({"a", "b", "gone"}, {"a", "b", "gone"})
    assert (set(x.peers()), set(y.peers())) == ({"x", "y"}, {"x", "y"})
    for node in (a, b, x, y):
        sources = [error.source for error in nodes.refusals(node)]
        assert len(sources) == len(set(sources)) <= 2
        assert all(f"the cluster {two!r}" in str(error) or two is None for error in nodes.refusals(a))


@pytest.mark.parametrize("make", [TcpTransport, UdpTransport])
def test_two_nodes_of_one_name_know_each_other_without_any_error(nodes: Nodes, make: Make) -> None:
    a = nodes.add("a", cluster="prod", transport=make(host=HOST, port=0))
    for number in range(300):  # more than one datagram
        a.update(f"k{number}", "x" * 50)
    b = nodes.add("b", a, cluster="prod", transport=make(host=HOST, port=0))
    nodes.until(lambda: know_each_other(a, b) and b.get("a", "k299") is not None)
    assert dict(nodes.errors) == {}


@pytest.mark.parametrize("cluster", ["prod", None])
def test_a_transport_of_the_node_js_package_s_interface_will_do(nodes: Nodes, cluster: str | None) -> None:
    class Least:
        """Delegates to a transport as the Node.js package's interface has it."""

        def __init__(self) -> None:
            self.inner = TcpTransport(host=HOST, port=0)
            for name in ("digest", "deltas", "on", "listen", "close"):
                setattr(self, name, getattr(self.inner, name))

        @property
        def address(self) -> Any:
            return self.inner.address

    a = nodes.add("a", cluster=cluster, transport=Least())
    b = nodes.add("b", a, cluster=cluster, transport=Least())
    stranger = nodes.add("x", a, cluster="other" if cluster is None else None, transport=Least())
    nodes.until(lambda: know_each_other(a, b) and bool(nodes.refusals(stranger) + nodes.refusals(a)))
    assert (set(a.peers()), set(b.peers()), set(stranger.peers())) == ({"a", "b"}, {"a", "b"}, {"x"})


@pytest.mark.parametrize("cluster", ["prod", None])
def test_a_node_js_node_that_dials_is_taken_only_where_there_is_no_name(nodes: Nodes, cluster: str | None) -> None:
    a = nodes.add("a", cluster=cluster, transport=TcpTransport(host=HOST, port=0))
    heard = threading.Event()
    with socket.create_server((HOST, 0)) as js:
        sender = {"id": "js", "transport": {"host": HOST, "port": js.getsockname()[1]}}
        own = {"id": "js", "maxVersionSeen": 5, "transport": sender["transport"]}

        def listen() -> None:
            while True:
                try:
                    js.accept()[0].close()
                except OSError:
                    return
                heard.set()

        listening = threading.Thread(target=listen)
        listening.start()
        for part in ({"digest": [own]}, {"deltas": [["js", "k", "v", 5]]}):
            with socket.create_connection((HOST, a.transport.port), timeout=10) as connection:
                connection.sendall(json.dumps({**part, "sender": sender}).encode() + b"\r\n")
        try:
            if cluster is None:
                nodes.until(lambda: a.get("js", "k") == "v")
                assert heard.wait(10)
                assert nodes.refusals(a) == []
            else:
                nodes.until(lambda: len(nodes.refusals(a)) == 1)
                assert "it names no cluster, and this node is of 'prod'" in str(nodes.refusals(a)[0])
                assert set(a.peers()) == {"a"}
                assert not heard.is_set()
        finally:
            js.shutdown(socket.SHUT_RDWR)
            listening.join(10)


# Simulated


@pytest.mark.parametrize("loss", [0, 0.2])
def test_clusters_with_seeds_in_each_other_stay_apart(rng: Random, loss: float) -> None:
    sim = Simulation(rng.randrange(10**6), loss=loss, latency=(1, 200), duplication=0.1)
    names = {"p": "prod", "t": "test", "n": None}
    nodes = {f"{letter}{number}": name for letter, name in names.items() for number in range(4)}
    ends = [sim.add(id, seeds=[f"{letter}0" for letter in names], cluster=name) for id, name in nodes.items()]
    errors: defaultdict[str, list[Exception]] = defaultdict(list)
    for node in ends:
        node.on("error", errors[node.local_peer.id].append)
        node.update("k", node.local_peer.id)
    sim.run(60_000)
    for node in ends:
        own = {id for id, name in nodes.items() if name == nodes[node.local_peer.id]}
        assert set(node.peers()) == own
        assert all(node.get(id, "k") == id for id in own)
    refusals = [error for found in errors.values() for error in found if isinstance(error, ClusterError)]
    assert refusals
    assert len(refusals) == len({(id, str(error)) for id, found in errors.items() for error in found})


def test_who_returns_under_its_old_id_and_address_in_another_cluster_stays_dead(rng: Random) -> None:
    sim = Simulation(rng.randrange(10**6))
    nodes = [sim.add(f"n{number}", seeds=["n0"], cluster="prod") for number in range(4)]
    for node in nodes:
        node.on("error", lambda error: None)
    nodes[3].update("k", 1)
    sim.run(10_000)
    node = sim.restart("n3", cluster="test")
    node.on("error", lambda error: None)
    node.update("k", 2)
    sim.run(60_000)
    for other in nodes[:3]:
        peer = other.peer("n3")
        assert peer is not None
        assert (peer.state, dict(peer.data)) == ("dead", {"k": 1})
    assert set(node.peers()) == {"n3"}


def test_a_name_costs_nothing_but_a_few_bytes(rng: Random) -> None:
    seed, sent = rng.randrange(10**6), {}
    for cluster in (None, "prod"):
        sim = Simulation(seed)
        for number in range(10):
            sim.add(f"n{number}", seeds=["n0"], cluster=cluster).update("k", number)
        sim.run(30_000)
        sent[cluster] = sim.messages
        assert all(len(sim.node(f"n{number}").peers()) == 10 for number in range(10))
    assert sent[None] == sent["prod"]
