"""Sealing, as nodes have it: the option `keyring`, how often errors are told, and rotation while updates flow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from gossipmonger import Gossipmonger, Keyring, SealError, TcpTransport, UdpTransport
from gossipmonger.endpoint.sealing import SealErrors, share
from gossipmonger.simulation import Simulation
from gossipmonger.transport import SeedTransport
from tests.transport.seed_only import SeedOnly

from ..wire.test_sealing import ONE, TWO

HOST = "127.0.0.1"

# The option


def test_a_node_hands_its_keyring_to_its_transport() -> None:
    ring = Keyring([ONE])
    for transport in (None, TcpTransport(), UdpTransport()):
        node = Gossipmonger({"id": "a"}, KEYRING=ring, transport=transport)  # type: ignore[call-arg] # in either spelling
        assert node.transport.keyring is ring
        assert node.options.keyring is ring
        node.close()


def test_a_transport_may_have_its_own() -> None:
    ring = Keyring([ONE])
    node = Gossipmonger({"id": "a"}, transport=TcpTransport(keyring=ring))
    assert node.transport.keyring is ring
    node.close()


@pytest.mark.parametrize("wrong", ["secret!", b"secret!", ["secret!"], 5])
def test_a_keyring_is_one_and_what_is_none_is_not_shown(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"keyring must be a Keyring, as of Keyring\(\[key, \.\.\.\]\), got") as raised:
        Gossipmonger({"id": "a"}, keyring=wrong)
    assert "secret" not in str(raised.value)


def test_a_transport_that_does_not_seal_gets_none() -> None:
    for transport in (SeedOnly(), SeedTransport(SeedOnly())):
        with pytest.raises(TypeError, match=r"keyring: the transport Seed[A-Za-z]+ does not seal; a Transport that does has"):
            share(Keyring([ONE]), transport)


# Errors


def refusal(source: str) -> SealError:
    return SealError("it does not open", source)


def test_each_host_has_one_error_a_minute_and_all_together_ten() -> None:
    errors = SealErrors()
    assert errors.is_news(0, refusal("10.0.0.1:1"))
    assert not errors.is_news(1, refusal("10.0.0.1:2"))  # another port
    assert [errors.is_news(10 + number, refusal(f"[::{number}]:1")) for number in range(20)] == [True] * 9 + [False] * 11
    assert not errors.is_news(59_999, refusal("10.0.0.2:1"))
    assert errors.is_news(60_000, refusal("10.0.0.1:1"))
    assert not errors.is_news(60_001, refusal("10.0.0.2:1"))
    assert errors.is_news(60_015, refusal("10.0.0.2:1"))
    assert errors.is_news(0, refusal("10.0.0.3:1"))  # the clock was set back


def test_a_flood_of_what_does_not_open_is_one_error_and_holds_nothing() -> None:
    with Simulation(1) as sim:
        errors: list[Exception] = []
        node = sim.add("a", keyring=Keyring([ONE]))
        node.on("error", errors.append)
        sim.run(1_000)
        for _ in range(1_000):
            sim.network.send("evil", "a", b'{"digest":[],"sender":{"id":"evil","transport":{"host":"evil","port":1}}}')
        before = sim.messages
        sim.run(5_000)
        assert [type(error) for error in errors] == [SealError]
        assert (sim.messages, list(node.peers())) == (before, ["a"])


def test_plain_and_sealed_nodes_say_so_and_hear_nothing_of_each_other() -> None:
    with Simulation(1) as sim:
        errors: dict[str, list[Exception]] = {"a": [], "b": []}
        sim.add("a", seeds=["b"], keyring=Keyring([ONE])).on("error", errors["a"].append)
        sim.add("b", seeds=["a"]).on("error", errors["b"].append)
        sim.run(30_000)
        assert [list(sim.node(id).peers()) for id in "ab"] == [["a"], ["b"]]
        sealed = {id: [error for error in found if isinstance(error, SealError)] for id, found in errors.items()}
        assert [len(found) for found in sealed.values()] == [1, 1]
        assert "the message is not sealed, and this node has a keyring" in str(sealed["a"][0])
        assert "the message is sealed and this node has no keyring" in str(sealed["b"][0])


# Rotation


def rotation(rings: list[Keyring], old: str, new: str) -> list[list[Callable[[], object]]]:
    """What is done at all nodes, step by step; they need not do a step at the same time."""
    return [
        [partial(ring.add, new) for ring in rings],
        [partial(ring.promote, new) for ring in rings],
        [partial(ring.remove, old) for ring in rings],
    ]


def test_a_simulated_cluster_rotates_its_key_without_losing_a_message() -> None:
    with Simulation(3, latency=(1, 20)) as sim:
        errors: list[Exception] = []
        deaths: list[Any] = []
        rings = [Keyring([ONE]) for _ in range(5)]
        nodes = [sim.add(f"n{n}", seeds=["n0"], keyring=ring, cluster="prod") for n, ring in enumerate(rings)]
        for node in nodes:
            node.on("error", errors.append)
            node.on("peer dead", deaths.append)
        sim.run(5_000)
        count = 0
        for steps in rotation(rings, ONE, TWO) + rotation(rings, TWO, ONE):
            for step in steps:
                step()
                for _ in range(5):
                    sim.run(20)
                    count += 1
                    for node in nodes:
                        node.update("k", count)
            sim.run(1_000)
        assert all(node.get(f"n{n}", "k") == count for node in nodes for n in range(5))
        assert (errors, deaths) == ([], [])


class Cluster(ExitStack):
    """Nodes in this process that gossip every 50 ms, each with a keyring of its own, and what has gone wrong."""

    def __init__(self, make: Callable[..., TcpTransport], size: int) -> None:
        super().__init__()
        self.rings = [Keyring([ONE]) for _ in range(size)]
        self.errors: list[Exception] = []
        self.deaths: list[Any] = []
        self.nodes: list[Gossipmonger] = []
        for number, ring in enumerate(self.rings):
            seeds = [{"id": "n0", "transport": self.nodes[0].local_peer.transport}] if self.nodes else []
            node = Gossipmonger(
                {"id": f"n{number}"}, transport=make(host=HOST, port=0), keyring=ring, seeds=seeds,
                cluster="prod", gossip_interval=50, rumor_interval=5,
            )  # fmt: skip
            self.enter_context(node)
            node.on("error", self.errors.append)
            node.on("peer dead", self.deaths.append)
            self.nodes.append(node)

    def wait(self, key: str, value: Any) -> None:
        for node in self.nodes:
            for number in range(len(self.nodes)):
                assert node.wait_for(lambda node=node, number=number: node.get(f"n{number}", key) == value, timeout=20)  # type: ignore[misc]

    def let_pass(self, rounds: int, phase: Any) -> None:
        """Wait until each node has done so many rounds, and all have what each of them said then."""
        for node in self.nodes:
            until = node.local_peer.heartbeat + 2 * rounds  # it counts digests, of which two go out in each
            assert node.wait_for(lambda node=node, until=until: node.local_peer.heartbeat >= until, timeout=20)  # type: ignore[misc]
            node.update("phase", phase)
        self.wait("phase", phase)


@pytest.fixture(params=[TcpTransport, UdpTransport])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(request.param, 3) as cluster:
        yield cluster


@pytest.mark.untraced
def test_a_cluster_rotates_its_key_at_full_speed_without_losing_a_message(cluster: Cluster) -> None:
    for node in cluster.nodes:
        node.update("ready", True)
    cluster.wait("ready", True)
    stop = threading.Event()
    last = [0] * len(cluster.nodes)

    def write(number: int) -> None:
        while not stop.is_set():
            last[number] += 1
            cluster.nodes[number].update("k", last[number])
            stop.wait(0.001)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(len(cluster.nodes))]
    for writer in writers:
        writer.start()
    try:
        for round, (old, new) in enumerate([(ONE, TWO), (TWO, ONE)]):
            for phase, steps in enumerate(rotation(cluster.rings, old, new)):
                for step in steps:
                    step()
                cluster.let_pass(3, [round, phase])  # what is on its way has come before the next step
    finally:
        stop.set()
        for writer in writers:
            writer.join(10)
    for number, node in enumerate(cluster.nodes):
        for other in cluster.nodes:
            assert other.wait_for(lambda o=other, n=number: o.get(f"n{n}", "k") == last[n], timeout=20)  # type: ignore[misc]
        assert node.transport.keyring.ids == Keyring([ONE]).ids
    assert (cluster.errors, cluster.deaths) == ([], [])
