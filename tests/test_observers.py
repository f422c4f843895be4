"""Observers beside whole clusters: these go on as if nobody were there, and keep nothing of who has gone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from random import Random
from typing import Any

import pytest

from gossipmonger import ClusterError, Gossipmonger, LonelyError, SendError, TcpTransport, UdpTransport
from gossipmonger.simulation import Simulation
from gossipmonger.transport import Network
from gossipmonger.wire import begins_link
from tests.cluster import HOST, ROOT, Cluster
from tests.node_protocol import NodeJsNode
from tests.test_interop import original  # noqa: F401  # a fixture
from tests.traces import traces
from tests.transport.tcp.net import until
from tests.transport.udp.net import Wire

#: What leads from a node to everybody.
OUTSIDE = (Simulation, Network)

#: An observer in a process of its own: says when it knows the keys of so many nodes, then waits to be killed.
PROGRAM = """
import sys
from gossipmonger import Gossipmonger, TcpTransport, UdpTransport
seed, count, transport = sys.argv[1], int(sys.argv[2]), {"tcp": TcpTransport, "udp": UdpTransport}[sys.argv[3]]
with Gossipmonger({"id": "spy"}, seeds=[seed], observer=True, gossip_interval=50, transport=transport()) as node:
    node.wait_for(lambda: len(node.values("who")) == count, 20)
    print(node.local_peer.id, *sorted(node.values("who").values()), flush=True)
    node.wait()
"""


# In the simulation


def history(observed: bool) -> tuple[list[tuple[Any, ...]], dict[str, Gossipmonger]]:
    """Let a cluster go through this and that; return all that its nodes sent each other."""
    sim, sent = Simulation(seed=3), []
    send = sim.network.send

    def spy(source: str, host: str, data: bytes) -> None:
        if not source.startswith("spy") and not host.startswith("spy"):
            sent.append((sim.now, source, host, data))
        send(source, host, data)

    sim.network.send = spy  # type: ignore[method-assign]
    nodes = {f"n{i}": sim.add(f"n{i}", seeds=["n0"], flow_control=i % 2 == 0) for i in range(9)}
    for second in range(42):
        if observed and second % 6 == 1:
            interval = [100, 1_000, 3_000][second % 3]
            sim.add(f"spy{second}", seeds=[f"n{second % 9}"], observer=True, gossip_interval=interval, gossip=False).gossip()
        if observed and second % 6 == 0 and second > 6:
            [sim.crash, sim.vanish][second % 2](f"spy{second - 5}")
        if second == 12:
            sim.crash("n3")
        if second == 18:
            sim.partition(["n1", "n2", "n8"])
        if second == 24:
            sim.heal()
        if second == 30:
            nodes["n5"].close()
        if second % 9 not in (3, 5):
            nodes[f"n{second % 9}"].update("second", second)
        sim.run(1_000)
    return sent, nodes


@pytest.mark.untraced
def test_a_cluster_goes_on_byte_for_byte_as_if_no_observer_were_there() -> None:
    with_them, nodes = history(observed=True)
    without, _ = history(observed=False)
    assert len(without) > 2_000
    assert with_them == without
    for node in nodes.values():
        assert traces(node, "spy", OUTSIDE) == []
    assert traces(nodes["n0"], "n1", OUTSIDE)  # as is left of everybody else


@pytest.mark.untraced
@pytest.mark.parametrize("cluster", [None, "prod"])
def test_nothing_is_left_of_those_who_came_and_went_among_many_nodes(rng: Random, cluster: str | None) -> None:
    sim = Simulation(rng.randrange(10**9), latency=(1, 300), loss=0.05, duplication=0.05)
    nodes = [sim.add(f"n{n}", seeds=["n0", "n1"], cluster=cluster) for n in range(12)]
    plain = [NodeJsNode(sim, f"js{n}", ["n0"], 5) for n in range(2)] if cluster is None else []
    for node in nodes:
        node.update("k", 1)
    for each in plain:
        each.update("k", 1)
    met: list[str] = []
    for node in nodes:
        for event in ("new peer", "peer dead", "peer left", "peer forgotten"):
            node.on(event, lambda peer: met.append(peer.id))
    there: list[str] = []
    dial, dialled = sim.network.dial, []

    def dials(source: str, host: str, *more: Any, **options: Any) -> None:
        dialled.append(host)
        dial(source, host, *more, **options)

    sim.network.dial = dials  # type: ignore[method-assign]

    def close(id: str) -> None:
        sim.node(id).close()

    ends: list[Callable[[str], None]] = [sim.crash, sim.vanish, close]
    for turn in range(20):
        seeds = rng.sample([f"n{n}" for n in range(12)] + [each.id for each in plain], 3)
        there.append(f"spy{turn}")
        spy = sim.add(there[-1], seeds=seeds, observer=True, cluster=cluster, gossip_interval=rng.choice([100, 1_000]))
        spy.on("error", lambda error: None)  # that a Node.js node is asked nothing
        sim.run(rng.choice([100, 2_000]))
        while len(there) > 5:
            ends[turn % 3](there.pop(0))
    sim.network.loss = 0
    sim.run_until(lambda: all(len(sim.node(id).values("k")) == len(nodes) + len(plain) for id in there), 20_000)
    for id in there:
        sim.crash(id)
    sim.run(10_000)
    assert met
    assert not [id for id in [*met, *dialled] if id.startswith("spy")]  # so it may be behind NAT
    for node in nodes:
        assert traces(node, "spy", OUTSIDE) == []
        assert len(node.peers()) == len(node.live()) == len(nodes) + len(plain)
    for each in plain:
        assert not [id for id in each.versions if id.startswith("spy")]


@pytest.mark.untraced
def test_it_catches_up_at_once_and_an_update_reaches_it_within_two_rounds() -> None:
    sim = Simulation(seed=4)
    nodes = [sim.add(f"n{n}", seeds=["n0"]) for n in range(15)]
    sim.run(5_000)
    spy = sim.add("spy", seeds=["n3"], observer=True)
    for n in range(500):
        nodes[7].update(f"k{n}", "x" * 100)
    sim.run_until(lambda: len(spy.live()) == 15 and len(spy.peers()["n7"].data) == 500, 2_000, every=50)
    for n in range(10):
        nodes[n].update("n", n)
        sim.run_until(lambda n=n: spy.get(f"n{n}", "n") == n, 2_000)  # type: ignore[misc]


def test_a_node_that_is_alone_stays_live() -> None:
    sim = Simulation(seed=4)
    sim.add("n")
    spy = sim.add("spy", seeds=["n"], observer=True)
    dead: list[str] = []
    spy.on("peer dead", lambda peer: dead.append(peer.id))
    sim.run(300_000)
    assert (spy.live(), dead) == (["n"], [])


def test_a_node_whose_clock_was_set_back_goes_above_what_only_an_observer_remembers() -> None:
    sim = Simulation(seed=4)
    sim.add("n", gossip_interval=200).update("k", "old")
    sim.add("other", seeds=["n"])
    spy = sim.add("spy", seeds=["n"], observer=True)
    sim.run_until(lambda: spy.get("n", "k") == "old", 5_000)
    for id in ("n", "other"):
        sim.crash(id)
    sim.run(60_000)
    assert spy.live() == []
    sim.restart("n", ahead=-3_600_000).update("k", "new")  # nobody else remembers its former life
    sim.run_until(lambda: spy.get("n", "k") == "new" and len(spy.live()) == 1, 10_000)


def test_where_there_is_nobody_but_node_js_nodes_it_says_so_once_and_tells_them_nothing() -> None:
    sim = Simulation(seed=4)
    plain = NodeJsNode(sim, "js", ["js"], 5)
    node = sim.add("spy", seeds=["js"], observer=True)
    errors: list[Exception] = []
    node.on("error", errors.append)
    sim.run(60_000)
    assert [type(error) for error in errors] == [SendError, LonelyError]
    assert "it answers no HELLO, and a Node.js node would take an observer for a peer" in str(errors[0])
    assert "js:9742 (connected, but no answer: is it a node?)" in str(errors[1])
    assert plain.versions.keys() == {"js"}
    sim.add("n", seeds=["js"])  # with one of ours it learns of both
    other = sim.add("spy2", seeds=["js", "n"], observer=True)
    other.on("error", errors.append)
    plain.update("k", 1)
    sim.run_until(lambda: other.get("js", "k") == 1 and len(other.live()) == 2, 30_000)
    assert plain.versions.keys() == {"js", "n"}


# On sockets


class Nodes(ExitStack):
    """Endpoints on loopback that gossip every 50 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    def add(self, id: str, *seeds: Any, transport: Any = None, **options: Any) -> Gossipmonger:
        if not options.get("observer"):
            transport = transport or TcpTransport(host=HOST, port=0)
        places = [f"{HOST}:{seed.transport.port}" if isinstance(seed, Gossipmonger) else seed for seed in seeds]
        node = Gossipmonger({"id": id}, seeds=places, transport=transport, gossip_interval=50, rumor_interval=5, **options)
        self.callback(node.close)
        node.on("error", self.errors.append)
        node.transport.listen()
        if not options.get("observer"):
            node.update("who", id)
        node.gossip()
        return node


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with Nodes() as nodes:
        yield nodes


def cluster_of(nodes: Nodes, make: type[TcpTransport], count: int = 4, **options: Any) -> list[Gossipmonger]:
    made: list[Gossipmonger] = []
    for n in range(count):
        made.append(nodes.add(f"n{n}", *made[:1], transport=make(host=HOST, port=0), **options))
    until(lambda: all(len(node.values("who")) == count for node in made))
    return made


def has_gone_on(node: Gossipmonger, heartbeat: int) -> bool:
    return node.local_peer.heartbeat > heartbeat


def has_no_trace(node: Gossipmonger) -> bool:
    return traces(node, "spy", (Nodes,)) == []


@pytest.mark.parametrize("of", ["tcp", "udp"])
@pytest.mark.parametrize("make", [TcpTransport, UdpTransport])
def test_nothing_is_left_of_a_process_that_was_killed(nodes: Nodes, make: type[TcpTransport], of: str) -> None:
    made = cluster_of(nodes, make)
    met: list[str] = []
    for node in made:
        for event in ("new peer", "peer dead", "peer left", "error"):
            node.on(event, lambda what: met.append(str(what)))
    arguments = [sys.executable, "-c", PROGRAM, f"{HOST}:{made[0].transport.port}", "4", of]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        id, *known = process.stdout.readline().split()
        assert known == ["n0", "n1", "n2", "n3"]
        assert id.startswith("spy-")
        links = [link for node in made for link in node.transport._links.open_links]
        assert any(link.peer is None for link in links)
        process.kill()
    until(lambda: all(link.peer is not None for node in made for link in [*node.transport._links.open_links]))
    for node in made:  # rounds go on, with nobody dialled and nothing said about it
        count = node.local_peer.heartbeat
        until(partial(has_gone_on, node, count + 20))
    for node in made:
        assert sorted(node.peers()) == sorted(node.live()) == ["n0", "n1", "n2", "n3"]
        assert not [at for at in node.transport._places if at[0] != HOST]
        until(partial(has_no_trace, node))
        assert traces(node, "observer.invalid", (Nodes,)) == []
    assert met == []


def test_one_that_closed_leaves_no_more_behind_than_one_that_was_killed(nodes: Nodes) -> None:
    made = cluster_of(nodes, TcpTransport)
    spy = nodes.add("spy", made[2], observer=True)
    until(lambda: len(spy.values("who")) == 4)
    spy.close()
    until(lambda: all(link.peer is not None for node in made for link in [*node.transport._links.open_links]))
    for node in made:
        until(partial(has_no_trace, node))
    assert nodes.errors == []


def test_one_under_the_id_of_a_node_and_two_under_one_id_trouble_nobody(nodes: Nodes) -> None:
    made = cluster_of(nodes, TcpTransport, dead_peer_phi=1_000)
    spies = [nodes.add("n2", made[n], observer=True) for n in range(2)]
    until(lambda: all(len(spy.values("who")) == 4 for spy in spies))
    assert all(spy.get("n2", "who") == "n2" for spy in spies)
    links = [node.transport._acceptor._by_id.get("n2") for node in made]
    count = made[2].local_peer.heartbeat
    until(partial(has_gone_on, made[2], count + 40))
    now = [node.transport._acceptor._by_id.get("n2") for node in made]
    assert all(before in (None, after) for before, after in zip(links, now, strict=True))
    assert nodes.errors == []
    for node in made:
        assert sorted(node.live()) == ["n0", "n1", "n2", "n3"]


@pytest.mark.parametrize(("ours", "theirs"), [("prod", "test"), ("prod", None), (None, "test")])
def test_one_of_another_cluster_is_refused(nodes: Nodes, ours: str | None, theirs: str | None) -> None:
    node = nodes.add("n", cluster=ours)
    spy = nodes.add("spy", node, observer=True, cluster=theirs)
    until(lambda: [type(error) for error in nodes.errors] == [ClusterError, ClusterError])
    assert (spy.peers(), [*node.peers()]) == ({}, ["n"])


@pytest.mark.parametrize("make", [TcpTransport, UdpTransport])
def test_a_seed_that_says_nothing_hears_a_hello_and_nothing_else(nodes: Nodes, make: type[TcpTransport]) -> None:
    wire = Wire()
    nodes.callback(wire.close)
    seed = {"transport": {"host": HOST, "port": wire.port, "udp": True}}
    spy = nodes.add("spy", seed, observer=True, transport=make())
    for _ in range(2):
        connection, _ = wire.tcp.accept()
        with connection:
            connection.settimeout(10)
            said = connection.makefile("rb").read()
        assert begins_link(said)
        assert (said.count(b"\n"), json.loads(said).keys()) == (1, {"hello"})
    until(lambda: any(isinstance(error, LonelyError) for error in nodes.errors))
    assert [type(error) for error in nodes.errors] == [SendError, LonelyError]
    assert "it answers no HELLO" in str(nodes.errors[0])
    wire.udp.setblocking(False)
    with pytest.raises(BlockingIOError):
        wire.udp.recv(65_536)
    assert spy.peers() == {}


def test_the_original_never_knows_it_and_it_knows_the_original_s_keys(original: None, nodes: Nodes) -> None:  # noqa: F811
    cluster = Cluster(GOSSIP_INTERVAL=50, MAX_DELTAS_PER_GOSSIP=100)
    try:
        ours = [cluster.here("p1"), cluster.here("p2")]
        js: Any = cluster.apart("js", original=True)
        cluster.until(cluster.all_know_all)
        js.update("k", "v")
        spy = nodes.add("spy", f"{HOST}:{js.port}", f"{HOST}:{ours[0].port}", observer=True)
        until(lambda: spy.get("js", "k") == "v" and sorted(spy.live()) == ["js", "p1", "p2"])
        ours[1].update("k", 2)
        until(lambda: spy.get("p2", "k") == 2)
        spy.close()
        assert js.state().keys() == {"p1", "p2", "js"}
        assert [type(error) for error in nodes.errors] in ([], [SendError])
    finally:
        cluster.close()


def test_a_script_reads_a_cluster_from_a_thread_of_its_own_and_ends_at_once(nodes: Nodes) -> None:
    made = cluster_of(nodes, TcpTransport, count=2)
    found: list[Any] = []

    def script() -> None:
        with Gossipmonger(observer=True, seeds=[f"{HOST}:{made[1].transport.port}"]) as node:
            found.append(node.wait_for_key("who", "n0", timeout=10))
            found.append(sorted(node.wait_for_peers(2, timeout=10)))

    thread = threading.Thread(target=script)
    thread.start()
    thread.join(20)
    assert found == ["n0", ["n0", "n1"]]
