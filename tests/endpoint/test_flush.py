"""`flush`, and what `close` hands on: in a simulation, where time passes while somebody waits, and over sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from gossipmonger import ClosedError, Gossipmonger
from gossipmonger.simulation import Simulation
from tests.node_protocol import NodeJsNode

DURATIONS = [0, 50, 200]


def a_cluster(sim: Simulation, nodes: int, **options: Any) -> list[Gossipmonger]:
    cluster = [sim.add(f"n{n}", seeds=["n0"], **options) for n in range(nodes)]
    sim.run(10_000)
    assert all(len(node.peers()) == nodes for node in cluster)
    return cluster


def short_program(sim: Simulation, id: str, key: str, value: Any, milliseconds: float) -> float:
    """Run a program with the seed n0 that sets one key; return the virtual milliseconds that its `close` took."""
    program = sim.restart(id) if id in sim._options else sim.add(id, seeds=["n0"], gossip=False)
    program.gossip()
    program.update(key, value)
    sim.run(milliseconds)
    began = sim.now
    program.close()
    return sim.now - began


# Short programs


@pytest.mark.untraced
@pytest.mark.parametrize("seed", range(2))
def test_what_a_short_program_says_is_everywhere_and_replaces_what_its_last_run_said(seed: int) -> None:
    sim = Simulation(seed, latency=(1, 20))
    cluster = a_cluster(sim, 25)
    deleted: list[Any] = []
    for node in cluster:
        node.on("delete", lambda *args: deleted.append(args))
    for run, milliseconds in enumerate(DURATIONS):
        assert short_program(sim, "job", "k", run, milliseconds) < 500
        sim.run_until(lambda run=run: all(node.get("job", "k") == run for node in cluster), limit=10_000)  # type: ignore[misc]
        sim.run_until(lambda: all(node.peer("job").state == "left" for node in cluster), limit=10_000)  # type: ignore[union-attr]
    assert deleted == []


@pytest.mark.untraced
def test_what_a_short_program_said_is_known_to_a_node_that_joins_an_hour_later() -> None:
    sim = Simulation(1)
    a_cluster(sim, 3, gossip_interval=5_000)
    assert short_program(sim, "job", "k", 1, 0) < 500
    sim.run(3_600_000)
    late = sim.add("late", seeds=["n0"])
    sim.run_until(lambda: late.get("job", "k") == 1, limit=10_000)
    assert (late.peers()["job"].state, len(late.peers())) == ("left", 5)


def test_two_runs_with_one_id_follow_each_other_at_once() -> None:
    sim = Simulation(1)
    cluster = a_cluster(sim, 3)
    for run in range(20):
        short_program(sim, "job", "k", run, run % 3 * 100)
    sim.run_until(lambda: all(node.get("job", "k") == 19 for node in cluster), limit=5_000)
    sim.run_until(lambda: all(node.peer("job").state == "left" for node in cluster), limit=5_000)  # type: ignore[union-attr]


def test_a_program_that_sets_nothing_drops_what_its_last_run_set_only_when_it_leaves() -> None:
    sim = Simulation(2)
    cluster = a_cluster(sim, 5)
    short_program(sim, "job", "k", 1, 0)
    sim.run(5_000)
    silent = sim.restart("job")
    sim.run(1_500)
    assert [node.get("job", "k") for node in cluster] == [1] * 5
    silent.close()
    sim.run(5_000)
    assert [node.peer("job").state for node in cluster] == ["left"] * 5  # type: ignore[union-attr]
    assert [node.get("job", "k") for node in cluster] == [None] * 5


def test_a_node_that_sets_nothing_for_an_interval_drops_what_its_last_run_set() -> None:
    sim = Simulation(3)
    cluster = a_cluster(sim, 5)
    short_program(sim, "job", "k", 1, 0)
    sim.run(5_000)
    sim.restart("job")
    sim.run(10_000)
    assert [node.get("job", "k") for node in cluster] == [None] * 5


def test_what_a_killed_program_said_before_is_kept() -> None:
    sim = Simulation(4)
    cluster = a_cluster(sim, 5)
    short_program(sim, "job", "k", 1, 0)
    sim.run(5_000)
    sim.restart("job")
    sim.run(1_200)
    sim.crash("job")
    sim.run(60_000)
    assert [node.peer("job").state for node in cluster] == ["dead"] * 5  # type: ignore[union-attr]
    assert [node.get("job", "k") for node in cluster] == [1] * 5


# `flush` in a simulation


def test_flush_returns_once_a_live_peer_has_everything() -> None:
    sim = Simulation(5, latency=10)
    cluster = a_cluster(sim, 5)
    cluster[1].update("k", 1)
    began = sim.now
    assert cluster[1].flush(5) is True
    assert sim.now - began in (20, 30, 40)  # a question and its answer, or one more of both
    assert sum(node.get("n1", "k") == 1 for node in cluster) > 1
    began = sim.now
    assert cluster[1].flush(timedelta(seconds=5)) is True
    assert sim.now == began  # it is known


def test_flush_goes_on_where_messages_are_lost() -> None:
    sim = Simulation(6)
    cluster = a_cluster(sim, 3)
    sim.network.loss = 0.6
    for n in range(20):
        cluster[1].update("k", n)
        assert cluster[1].flush(60)


def test_without_peers_flush_is_false_after_its_time() -> None:
    sim = Simulation(7)
    node = sim.add("a")
    node.update("k", 1)
    assert node.flush(5) is False  # it does not gossip yet
    sim.run(2_000)
    began = sim.now
    assert node.flush(1.5) is False
    assert sim.now - began == 1_500
    sim.at(500, lambda: sim.add("b", seeds=["a"]).gossip())
    assert node.flush(5) is True  # somebody joined meanwhile


def test_with_node_js_nodes_alone_flush_is_false() -> None:
    sim = Simulation(8)
    node = sim.add("a", seeds=["plain"])
    NodeJsNode(sim, "plain", ["a"], 5)
    sim.run(10_000)
    node.update("k", 1)
    assert node.flush(5) is False
    began = sim.now
    node.update("k", 2)
    node.close()  # which has nobody to wait for
    assert sim.now == began


def test_flush_may_be_called_in_a_handler() -> None:
    sim = Simulation(9)
    cluster = a_cluster(sim, 3)
    said: list[bool] = []

    def updated(id: str, key: str, value: Any) -> None:
        cluster[2].update("seen", value)
        said.append(cluster[2].flush(5))

    cluster[2].on("update", updated)
    cluster[1].update("k", 1)
    sim.run(1_000)
    assert said == [True]


def test_flush_waits_until_flow_control_admits_what_waits() -> None:
    sim = Simulation(10)
    cluster = a_cluster(sim, 3, flow_control=True, max_deltas_per_gossip=1, max_exchanges_per_gossip=1)
    for n in range(5):
        cluster[1].update(f"k{n}", n)
    began = sim.now
    assert not cluster[1].flush(0.1)
    assert cluster[1].flush(60)
    assert sim.now - began > 1_000
    for n in range(50):
        cluster[1].update(f"k{n}", -n)
    cluster[1].close()  # which cannot wait for that
    sim.run(1_000)
    assert any(len(node.peers()["n1"].data) == 50 for node in (cluster[0], cluster[2]))


def test_arguments_of_flush_are_checked() -> None:
    sim = Simulation(11)
    node = sim.add("a")
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            node.flush(wrong)
    with pytest.raises(TypeError, match="timeout"):
        node.flush("1")  # type: ignore[arg-type]
    node.close()
    with pytest.raises(ClosedError, match="flush"):
        node.flush(1)


# `close` in a simulation


def test_close_asks_all_seeds_side_by_side() -> None:
    sim = Simulation(12, latency=50)
    cluster = a_cluster(sim, 3)
    for id in ("dead1", "dead2", "dead3"):
        sim.add(id, gossip=False)
        sim.vanish(id)
    program = sim.add("job", seeds=["dead1", "dead2", "dead3", "n2"], gossip=False)
    program.gossip()
    program.update("k", 1)
    began = sim.now
    program.close()
    assert sim.now - began <= 300
    sim.run_until(lambda: all(node.get("job", "k") == 1 for node in cluster), limit=5_000)


def test_close_gives_up_within_a_second() -> None:
    sim = Simulation(13)
    program = sim.add("job", seeds=["nobody"], gossip=False)
    program.gossip()
    program.update("k", 1)
    began = sim.now
    program.close()
    assert 800 <= sim.now - began <= 1_000


def test_close_is_immediate_where_there_is_nothing_to_tell_or_nobody() -> None:
    sim = Simulation(14)
    cluster = a_cluster(sim, 3)
    cluster[1].update("k", 1)
    sim.run(3_000)
    silent = sim.add("silent", seeds=["nobody"], gossip=False)
    silent.gossip()
    unknown = sim.add("unknown", seeds=["n0"], gossip=False)
    unknown.update("k", 1)  # and it never gossips
    alone = sim.add("alone", gossip=False)
    alone.gossip()
    alone.update("k", 1)
    began = sim.now
    for node in (cluster[1], silent, unknown, alone):
        node.close()
    assert sim.now == began


def test_closing_a_simulation_takes_no_time() -> None:
    sim = Simulation(15)
    program = sim.add("job", seeds=["nobody"], gossip=False)
    program.gossip()
    program.update("k", 1)
    began = sim.now
    sim.close()
    assert (sim.now, program.closed) == (began, True)


# Over sockets


@pytest.fixture
def real() -> Iterator[Any]:
    nodes: list[Gossipmonger] = []

    def make(id: str, *seeds: Any, **options: Any) -> Gossipmonger:
        told = [{"id": seed.local_peer.id, "transport": dict(seed.local_peer.transport)} for seed in seeds]
        node = Gossipmonger({"id": id, "transport": {"host": "127.0.0.1", "port": 0}}, seeds=told, **options)
        node.on("error", lambda error: None)
        nodes.append(node)
        node.transport.listen()
        return node

    yield make
    for node in nodes:
        node.close()


def test_a_short_program_over_sockets(real: Any) -> None:
    """Rounds are hours apart, so nothing but the flush can have told it."""
    seed = real("seed", gossip_interval=3_600_000)
    seed.gossip()
    came, left = threading.Event(), threading.Event()
    seed.on("update", lambda id, key, value: came.set())
    seed.on("peer left", lambda peer: left.set())
    program = real("job", seed, gossip_interval=3_600_000)
    program.gossip()
    program.update("k", 1)
    program.close()
    assert seed.get("job", "k") == 1  # at once
    assert came.wait(10)
    assert left.wait(10)


def test_flush_over_sockets_from_a_handler_and_on_the_threads_that_it_needs(real: Any) -> None:
    seed = real("seed", gossip_interval=3_600_000)
    seed.gossip()
    node = real("node", seed, gossip_interval=3_600_000)
    said: list[Any] = []
    done = threading.Semaphore(0)

    def met(peer: object) -> None:
        node.update("k", 1)
        said.append(node.flush(30))
        done.release()

    def received(message: object) -> None:
        try:
            said.append(node.flush(30))
        except RuntimeError as error:
            said.append(str(error))
        node.transport.remove_listener("message", received)
        done.release()

    node.on("new peer", met)
    node.transport.on("message", received)
    node.gossip()
    assert done.acquire(timeout=30)
    assert done.acquire(timeout=30)
    assert sorted(map(str, said))[0] == "True"
    assert "could come while it waits" in sorted(map(str, said))[1]


def test_close_takes_no_longer_than_a_second_where_nobody_answers(real: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        seed = {"id": "silent", "transport": {"host": "127.0.0.1", "port": silent.getsockname()[1]}}
        node = Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}, seeds=[seed])
        node.on("error", lambda error: None)
        node.transport.listen()
        node.gossip()
        node.update("k", 1)
        began = monotonic()
        node.close()
        assert monotonic() - began < 3  # on a loaded machine; it gives up after one
