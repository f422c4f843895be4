"""The simulation as those who test their own programs use it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from gossipmonger import Gossipmonger, MemoryStorage
from gossipmonger.simulation import Simulation


def a_run(seed: int) -> tuple[str, int, int]:
    """Everything that the network carried in a run with a bit of everything in it."""
    carried = hashlib.sha256()
    sim = Simulation(seed, latency=(1, 300), loss=0.1, duplication=0.1)
    send = sim.network.send

    def tap(source: str, host: str, data: bytes) -> None:
        carried.update(f"{sim.now} {source} {host} ".encode() + data)
        send(source, host, data)

    sim.network.send = tap  # type: ignore[method-assign]
    nodes = [sim.add(f"n{i}", seeds=["n0"]) for i in range(5)]
    for second in range(30):
        nodes[second % 5].update("second", second)
        sim.run(1_000)
        if second == 10:
            sim.crash("n1")
        if second == 15:
            nodes[1] = sim.restart("n1")
        if second == 20:
            sim.pause("n2", 3_000)
    return carried.hexdigest(), sim.messages, sim.bytes


def test_the_same_seed_replays_the_same_run_to_the_byte() -> None:
    assert a_run(7) == a_run(7)
    assert a_run(7) != a_run(8)


def test_who_closes_in_vain_takes_the_same_virtual_time_each_time() -> None:
    took = set[float]()
    for _ in range(5):
        sim = Simulation(seed=1)
        a, _ = sim.add("a"), sim.add("b", seeds=["a"])
        sim.run(3_000)
        sim.vanish("b")
        a.update("k", 1)  # nobody will have it
        began = sim.now
        a.close()
        took.add(sim.now - began)
    assert len(took) == 1
    assert 500 < took.pop() <= 1_000


def test_time_passes_only_inside_run() -> None:
    sim = Simulation()
    called: list[float] = []
    start = sim.now
    sim.at(500, lambda: called.append(sim.now))
    sim.run(499)
    assert called == []
    sim.run(1)
    assert called == [start + 500]
    assert sim.now == start + 500


def test_run_until_returns_what_it_took_and_raises_at_its_limit() -> None:
    sim = Simulation(seed=5)
    start = sim.now
    assert sim.run_until(lambda: sim.now >= start + 95, limit=1_000) == 100
    assert sim.run_until(lambda: sim.now >= start + 200, limit=1_000, every=100) == 100
    assert sim.run_until(lambda: True, limit=0) == 0
    with pytest.raises(TimeoutError, match="not within 50 virtual ms, with seed 5"):
        sim.run_until(lambda: False, limit=50)
    assert sim.now == start + 250


def test_messages_take_their_latency_and_are_counted() -> None:
    sim = Simulation(latency=250)
    a, b = sim.add("a", gossip=False), sim.add("b", seeds=["a"], gossip=False)
    arrived: list[float] = []
    a.on("digest receive", lambda *_: arrived.append(sim.now))
    start = sim.now
    b.gossip()
    assert sim.messages == 1
    assert sim.bytes > 100
    sim.run(249)
    assert arrived == []
    sim.run(1)
    assert arrived == [start + 250]


def digests(sim: Simulation, seconds: int) -> int:
    """How many of b's messages to a arrive."""
    arrived: list[Any] = []
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    b.on("error", lambda error: None)  # that it finds nobody
    a.on("digest receive", lambda peer, digest: arrived.append(digest))
    sim.run(seconds * 1_000)
    return sum("reply" not in digest[-1] for digest in arrived)


def test_loss_and_duplication_are_shares_of_messages() -> None:
    assert 398 <= digests(Simulation(seed=1), 400) <= 402
    assert 180 < digests(Simulation(seed=1, loss=0.5), 400) < 240
    assert 550 < digests(Simulation(seed=1, duplication=0.5), 400) < 650
    assert digests(Simulation(seed=1, loss=1), 400) == 0


def test_a_partition_cuts_both_ways_until_it_is_healed() -> None:
    sim = Simulation(seed=2)
    nodes = {id: sim.add(id, seeds=["a"]) for id in "abcd"}
    sim.run(5_000)
    sim.partition(["a", "b"])
    for id, node in nodes.items():
        node.update("from", id)
    sim.run(10_000)
    assert [nodes["a"].get(id, "from") for id in "abcd"] == ["a", "b", None, None]
    assert [nodes["d"].get(id, "from") for id in "abcd"] == [None, None, "c", "d"]
    sim.heal()
    sim.run(10_000)
    assert all(node.get(id, "from") == id for node in nodes.values() for id in "abcd")


def test_what_is_on_its_way_when_a_partition_begins_is_lost() -> None:
    sim = Simulation(latency=100)
    a, b = sim.add("a", gossip=False), sim.add("b", seeds=["a"], gossip=False)
    b.gossip()
    sim.partition(["a"])
    sim.run(500)
    assert list(a.peers()) == ["a"]


def test_a_crash_is_without_a_word_and_a_restart_without_memory() -> None:
    sim = Simulation(seed=3)
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    left: list[Any] = []
    a.on("peer left", left.append)
    b.update("k", 1)
    sim.run(5_000)
    sim.crash("b")
    sim.run(60_000)
    assert left == []
    assert a.peers()["b"].state == "dead"
    again = sim.restart("b")
    assert sim.node("b") is again
    sim.run(5_000)
    assert again.get("b", "k") is None
    assert a.get("b", "k") is None
    assert a.peers()["b"].state == "live"


def links(node: Gossipmonger) -> list[tuple[str, str]]:
    """What a node's transport tells from now on, of whom."""
    told: list[tuple[str, str]] = []
    node.transport.on("link", lambda peer, what: told.append((peer.id, what)))
    return told


def test_the_address_of_a_crashed_node_refuses_and_links_to_it_end() -> None:
    sim = Simulation(seed=3)
    a, _ = sim.add("a"), sim.add("b", seeds=["a"])
    sim.run(5_000)
    told = links(a)
    sim.crash("b")
    sim.crash("b")
    sim.run(4)
    assert told == []
    sim.run(1)
    assert told == [("b", "ended")]
    sim.run(105)
    assert told[1:] == [("b", "refused")]
    sim.restart("b")
    sim.run(5_000)
    assert told[-1] == ("b", "accepted")


def test_the_address_of_a_closed_node_refuses() -> None:
    sim = Simulation(seed=3)
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    sim.run(5_000)
    told = links(a)
    b.close()
    a.transport.dial(b.local_peer.remote)
    sim.run(5)
    assert told == [("b", "refused")]


def test_who_vanishes_or_is_paused_or_cut_off_tells_nothing() -> None:
    sim = Simulation(seed=3)
    a = sim.add("a")
    for id in "bcd":
        sim.add(id, seeds=["a"])
    sim.run(10_000)
    told = links(a)
    sim.vanish("b")
    sim.vanish("b")
    sim.pause("c", 3_000)
    sim.partition(["d"])
    sim.run(1_000)
    for id in "bd":
        a.transport.dial(sim.node(id).local_peer.remote)
    sim.run(1_000)
    assert told == []
    a.transport.dial(sim.node("c").local_peer.remote)  # its kernel accepts
    sim.run(5)
    assert told == [("c", "accepted")]
    sim.run(60_000)
    assert a.peers()["b"].state == "dead"
    sim.restart("b")
    sim.run(5_000)
    assert a.peers()["b"].state == "live"


def test_a_restart_with_its_storage_goes_on_where_it_was() -> None:
    sim = Simulation(seed=4)
    storage = MemoryStorage()
    sim.add("a")
    sim.add("b", seeds=["a"], storage=storage).update("k", 1)
    sim.run(5_000)
    assert sim.restart("b", storage=storage).get("b", "k") == 1
    assert sim.restart("b").get("b", "k") is None


def test_a_restart_can_set_the_clock_back() -> None:
    sim = Simulation()
    sim.add("a")
    node = sim.restart("a", ahead=-5_000)
    assert node.local_peer.max_version_seen == int((sim.now - 5_000) * 1000)


def test_who_is_paused_runs_nothing_and_hears_what_it_missed_when_it_goes_on() -> None:
    sim = Simulation(seed=5)
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    sim.run(5_000)
    seen: list[tuple[str, float]] = []
    b.on("digest receive", lambda *_: seen.append(("heard", sim.now)))
    b.on("digest send", lambda *_: seen.append(("sent", sim.now)))
    b.on("peer dead", lambda *_: seen.append(("dead", sim.now)))
    start = sim.now
    sim.pause("b", 30_000)
    a.update("k", 1)
    sim.run(29_999)
    assert seen == []
    sim.run(1_000)
    assert seen[0][1] == start + 30_000
    assert b.get("a", "k") == 1
    assert "dead" not in [what for what, _ in seen]  # its own pause is nobody's death


def test_a_node_that_left_can_not_be_added_again_but_restarted() -> None:
    sim = Simulation()
    node = sim.add("a")
    with pytest.raises(ValueError, match="'a'"):
        sim.add("a")
    node.close()
    assert sim.restart("a").closed is False


def test_at_the_end_of_a_with_statement_all_nodes_are_closed() -> None:
    with Simulation() as sim:
        nodes = [sim.add(id, seeds=["a"]) for id in "abc"]
        sim.run(3_000)
        sim.crash("c")
    assert [node.closed for node in nodes] == [True, True, False]


BAD_TIMES: Any = [float("nan"), float("inf"), -1, 1e15, "5", None, True]


@pytest.mark.parametrize("time", BAD_TIMES)
def test_a_time_is_a_finite_number_of_milliseconds(time: Any) -> None:
    sim = Simulation()
    sim.add("a")
    calls: dict[str, Callable[[], object]] = {
        "latency": lambda: Simulation(latency=time),
        "milliseconds": lambda: sim.run(time),
        "limit": lambda: sim.run_until(lambda: False, limit=time),
        "every": lambda: sim.run_until(lambda: False, limit=1, every=time),
    }
    if time != -1:  # a clock may be behind
        calls["ahead"] = lambda: sim.add("b", ahead=time)
    for name, call in calls.items():
        with pytest.raises((TypeError, ValueError), match=f"^{name} must be .* ms.*, got "):
            call()
    for call in (lambda: sim.pause("a", time), lambda: sim.at(time, print)):
        with pytest.raises((TypeError, ValueError), match=r"^milliseconds must be .* ms, got "):
            call()
    assert sim.now == Simulation().now


@pytest.mark.parametrize("latency", [(50, 1), (1,), (1, 2, 3), [1, 2], (-1, 2), (0, float("inf")), (float("nan"), 1)])
def test_a_latency_is_one_or_the_least_and_the_most(latency: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^latency must be "):
        Simulation(latency=latency)


@pytest.mark.parametrize("name", ["loss", "duplication"])
def test_a_share_is_from_0_to_1(name: str) -> None:
    for share in (1.5, -0.1, float("nan"), "1"):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must be a?.*from 0 to 1, got "):
            Simulation(**{name: share})  # type: ignore[arg-type]


def test_what_is_changed_of_the_network_is_checked_too() -> None:
    network = Simulation().network
    network.latency, network.loss, network.duplication = (1, 1), 1, 0.5
    for name, value in {"latency": -1, "loss": 2, "duplication": float("nan")}.items():
        with pytest.raises(ValueError, match=f"^{name} must be "):
            setattr(network, name, value)
    assert (network.latency, network.loss, network.duplication) == ((1, 1), 1, 0.5)


async def later() -> None:
    """What nobody would await."""


@pytest.mark.parametrize("function", [None, 5, later])
def test_what_is_to_be_called_is_an_ordinary_function(function: Any) -> None:
    with pytest.raises(TypeError, match=r"^function must be .*got "):
        Simulation().at(1, function)
    with pytest.raises(TypeError, match=r"^condition must be .*got "):
        Simulation().run_until(function, limit=1)


def test_an_id_is_that_of_a_node() -> None:
    sim = Simulation()
    calls: list[Callable[[Any], object]] = [sim.node, sim.crash, sim.vanish, sim.restart, lambda id: sim.pause(id, 1)]
    calls.append(lambda id: sim.partition([id]))
    for call in calls:
        with pytest.raises(KeyError, match=r"id must be that of a node of this simulation, got 'n7'"):
            call("n7")
    for call in (*calls[:-1], sim.add):
        with pytest.raises(TypeError, match=r"id must be a string, got \['n7'\]"):
            call(["n7"])


@pytest.mark.parametrize("ids", ["n0", b"n0", None, 5, [None]])
def test_ids_are_a_list_and_no_string(ids: Any) -> None:
    sim = Simulation()
    with pytest.raises(TypeError, match=r"^ids must be a list of ids, got "):
        sim.partition(ids)
    with pytest.raises(TypeError, match=r"^seeds must be a list of ids, got "):
        sim.add("a", seeds=ids)


@pytest.mark.parametrize("seed", [None, 1.5, "7", True])
def test_a_seed_is_an_integer(seed: Any) -> None:
    with pytest.raises(TypeError, match=r"^seed must be an integer, got "):
        Simulation(seed)


@pytest.mark.parametrize("name", ["clock", "TIMER", "executor", "transport", "listen"])
def test_what_the_simulation_provides_can_not_be_given(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be left out: the simulation has its own"):
        Simulation().add("a", **{name: None})  # type: ignore[arg-type]


def test_a_call_that_failed_has_changed_nothing() -> None:
    sim = Simulation()
    with pytest.raises(TypeError, match="unknown option"):
        sim.add("a", gossip_intervall=5)
    node = sim.add("a", GOSSIP_INTERVAL=50)
    with pytest.raises(ValueError, match="gossip_interval must be"):
        sim.restart("a", gossip_interval=-5)
    assert sim.node("a") is node
    assert not node.closed
    assert sim.restart("a", gossip_interval=70).options.gossip_interval == 70
    assert sim.restart("a").options.gossip_interval == 70


def test_nodes_deflate_above_the_threshold_for_their_own_kind() -> None:
    sent: dict[int | None, tuple[int, int]] = {}
    for above in (None, 100):
        with Simulation(seed=1) as sim:
            nodes = [sim.add(id, seeds=["a"], COMPRESS_ABOVE=above) for id in "abc"]
            sim.run(20_000)
            assert all(len(node.peers()) == 3 for node in nodes)
            sent[above] = sim.messages, sim.bytes
    assert sent[100][0] == sent[None][0]
    assert sent[100][1] < 0.8 * sent[None][1]
