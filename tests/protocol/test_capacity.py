"""Capacity: so many peers, so many keys of each, and strangers that are forgotten soon."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from gossipmonger import Gossipmonger, MessageError
from gossipmonger.protocol import Protocol
from gossipmonger.simulation import Simulation
from gossipmonger.state import Delta, Entry, ExtendedPeer, Kind, Message, Peer, RemotePeer

from .steps import NOW, B, Copying, a_peer, a_protocol, entry, events, reply_to, sends, step, told_in

MINUTE = 60_000.0


def invented(count: int, **more: Any) -> list[Entry]:
    return [entry(f"x{number}", **{"heartbeat": 7, **more}) for number in range(count)]


def known(storage: Any) -> list[str]:
    return sorted(peer.id for peer in storage.live_peers() + storage.dead_peers())


def words(output: Any) -> list[str]:
    errors = [error for (error,) in events(output, "error")]
    assert all(isinstance(error, MessageError) for error in errors)
    return [str(error) for error in errors]


# Peers


@pytest.mark.parametrize("storage", [None, Copying()])
def test_relayed_peers_beyond_the_limit_are_ignored_with_one_error_a_minute(storage: Any) -> None:
    protocol, _, storage = a_protocol(a_peer("b", heartbeat=1, ours=True), storage=storage, max_peers=3)
    protocol.round(NOW)
    output = step(protocol, B, entries=[*invented(5), entry("b", heartbeat=2)])
    assert known(storage) == ["a", "b", "x0", "x1"]
    assert [peer.id for (peer,) in events(output, "new peer")] == ["x0", "x1"]
    assert words(output) == ["peer 'x2' is ignored: max_peers, 3, are known already"]
    assert words(step(protocol, B, now=NOW + 59_000, entries=[*invented(5), entry("b", heartbeat=3)])) == []
    output = step(protocol, B, now=NOW + MINUTE, entries=[*invented(5, heartbeat=9), entry("b", heartbeat=4)])
    assert len(words(output)) == 1
    found = storage.get("b"), storage.get("x1")
    assert [peer.heartbeat for peer in found] == [4, 9]  # whoever is known carries on


def test_deltas_of_peers_beyond_the_limit_are_of_unknown_peers() -> None:
    protocol, _, storage = a_protocol(a_peer("b", ours=True), max_peers=1)
    protocol.round(NOW)
    told = [Delta("x", "k", 1, 1, 0), Delta("b", "k", 1, 1, 0)]
    output = step(protocol, B, deltas=told, entries=[entry("x", 1, heartbeat=5)], kind=Kind.RUMOR)
    assert events(output, "unknown peer") == [("x",)]
    assert events(output, "update") == [("b", "k", 1)]
    assert known(storage) == ["a", "b"]


def test_a_sender_beyond_the_limit_is_answered_and_its_news_of_others_is_taken() -> None:
    b = a_peer("b", heartbeat=5, ours=True)
    protocol, _, storage = a_protocol(b, max_peers=1)
    protocol.update(NOW, "k", "v")
    protocol.round(NOW)
    new = ExtendedPeer("new", "at new")
    told = [entry("b", 1, heartbeat=6), entry("a"), entry("new", heartbeat=9)]
    output = step(protocol, new, now=NOW + 5, deltas=[Delta("b", "k", 1, 1, 0)], entries=told)
    assert known(storage) == ["a", "b"]
    assert (b.heartbeat, b.data) == (6, {"k": (1, 1)})
    assert {send.to.id for send in sends(output)} == {"new"}
    assert [delta.value for delta in told_in(output)] == ["v"]
    assert words(output) == ["peer 'new' is ignored: max_peers, 1, are known already"]
    assert len(reply_to(step(protocol, new, now=NOW + 9, entries=[entry("new", heartbeat=9)]))) > 0
    node_js = step(protocol, RemotePeer("js", "at js"), now=NOW + 9, entries=[entry("a")], header=None)
    assert [delta.value for delta in told_in(node_js)] == ["v"]


def test_a_sender_takes_the_place_of_a_stranger_that_was_never_heard() -> None:
    protocol, _, storage = a_protocol(a_peer("b", heartbeat=5, ours=True), max_peers=3)
    protocol.round(NOW)
    step(protocol, B, entries=[*invented(2), entry("b", heartbeat=6)])
    step(protocol, B, now=NOW + 100, entries=[entry("x0", heartbeat=8), entry("b", heartbeat=7)])  # x0 has risen
    told = [entry("x1", heartbeat=7), entry("new", heartbeat=9)]
    output = step(protocol, ExtendedPeer("new", "at new"), now=NOW + 200, entries=told)
    assert known(storage) == ["a", "b", "new", "x0"]
    assert [name for name in ("peer dead", "peer forgotten") for (peer,) in events(output, name) if peer.id == "x1"] == [
        "peer dead",
        "peer forgotten",
    ]
    step(protocol, ExtendedPeer("new", "at new"), now=NOW + 250, entries=[entry("new", heartbeat=10)])
    output = step(protocol, ExtendedPeer("other", "at other"), now=NOW + 300, entries=[entry("new", heartbeat=10)])
    assert known(storage) == ["a", "b", "new", "x0"]  # all have been heard
    assert len(words(output)) == 1


def test_room_is_counted_anew_in_each_round() -> None:
    protocol, _, storage = a_protocol(a_peer("b", ours=True), a_peer("c"), max_peers=2)
    protocol.round(NOW)
    step(protocol, B, entries=invented(1))
    assert known(storage) == ["a", "b", "c"]
    storage.remove("c")
    protocol.round(NOW + 1_000)
    step(protocol, B, now=NOW + 1_000, entries=invented(2))
    assert known(storage) == ["a", "b", "x0"]


def rounds(protocol: Protocol, start: float, end: float, beat: Any = None, every: float = 5_000) -> float:
    """Do rounds between these times, before each of which somebody may say something; return when the last one was."""
    while start < end:
        start += every
        if beat is not None:
            beat(start)
        protocol.round(start)
    return start


def speaks(protocol: Protocol, id: str) -> Any:
    def beat(now: float) -> None:
        step(protocol, ExtendedPeer(id, f"at {id}"), now=now, entries=[entry(id, heartbeat=int(now / 1000))])

    return beat


def test_strangers_that_are_silent_are_forgotten_after_five_minutes() -> None:
    restored = a_peer("restored", heartbeat=5)
    protocol, _, storage = a_protocol(restored, a_peer("b", heartbeat=1, ours=True), gossip_interval=5_000)
    start = NOW
    step(protocol, B, now=start, entries=[*invented(3), entry("risen", heartbeat=5)])
    step(protocol, B, now=start + MINUTE, entries=[entry("risen", heartbeat=6)])
    beat = speaks(protocol, "b")
    end = rounds(protocol, start, start + 5 * MINUTE - 20_000, beat)
    assert known(storage) == ["a", "b", "restored", "risen", "x0", "x1", "x2"]
    end = rounds(protocol, end, start + 5.5 * MINUTE, beat)
    assert known(storage) == ["a", "b", "restored", "risen"]
    rounds(protocol, end, start + 6.5 * MINUTE, beat)
    assert known(storage) == ["a", "b", "restored"]  # which have been heard, or were kept by a storage
    step(protocol, B, now=start + 7 * MINUTE, entries=[*invented(3), entry("risen", heartbeat=6)])
    assert known(storage) == ["a", "b", "restored"]  # that is old news
    step(protocol, B, now=start + 7 * MINUTE, entries=[entry("risen", heartbeat=7)])
    assert known(storage) == ["a", "b", "restored", "risen"]


def test_whoever_has_spoken_is_no_stranger() -> None:
    protocol, _, storage = a_protocol(a_peer("b", heartbeat=1, ours=True), gossip_interval=5_000)
    speaks(protocol, "once")(NOW)
    speaks(protocol, "twice")(NOW)
    step(protocol, B, entries=[entry("told", heartbeat=5)])
    speaks(protocol, "twice")(NOW + 1_000)
    speaks(protocol, "told")(NOW + 1_000)
    rounds(protocol, NOW, NOW + 20 * MINUTE, speaks(protocol, "b"))
    assert known(storage) == ["a", "b", "told", "twice"]
    assert [peer.id for peer in storage.dead_peers()] == ["twice", "told"]


def test_a_stranger_that_has_left_is_kept_for_what_it_has_published() -> None:
    protocol, _, storage = a_protocol(a_peer("b", heartbeat=1, ours=True), gossip_interval=5_000)
    step(protocol, B, entries=[entry("gone", 1, heartbeat=5, left=True), entry("empty", heartbeat=5, left=True)])
    step(protocol, B, deltas=[Delta("gone", "k", 1, 1, 0)])
    rounds(protocol, NOW, NOW + 20 * MINUTE, speaks(protocol, "b"))
    assert known(storage) == ["a", "b", "gone"]


@pytest.mark.parametrize(("interval", "least", "most"), [(5_000, 4, 6), (600_000, 29, 31), (86_400_000, 44, 46)])
def test_a_stranger_is_given_some_of_its_intervals_but_no_more_than_three_quarters_of_an_hour(
    interval: int, least: float, most: float
) -> None:
    protocol, _, storage = a_protocol(a_peer("b", heartbeat=1, ours=True), gossip_interval=5_000)
    step(protocol, B, entries=invented(1, interval=interval))
    beat = speaks(protocol, "b")
    end = rounds(protocol, NOW, NOW + least * MINUTE, beat)
    assert "x0" in known(storage)
    rounds(protocol, end, NOW + most * MINUTE, beat)
    assert "x0" not in known(storage)
    step(protocol, B, now=NOW + 60 * MINUTE, entries=invented(1, interval=interval, heartbeat=8))
    assert "x0" in known(storage)
    rounds(protocol, NOW + 60 * MINUTE, NOW + 120 * MINUTE, beat)
    assert "x0" in known(storage)  # its heartbeat has risen since, so it is there, and gossips rarely


def test_a_lateness_of_this_node_is_not_a_silence_of_strangers() -> None:
    protocol, _, storage = a_protocol(a_peer("b", heartbeat=1, ours=True), gossip_interval=5_000)
    protocol.round(NOW)
    step(protocol, B, entries=invented(1))
    protocol.round(NOW + 20 * MINUTE)
    rounds(protocol, NOW + 20 * MINUTE, NOW + 24 * MINUTE)
    assert "x0" in known(storage)
    rounds(protocol, NOW + 24 * MINUTE, NOW + 26 * MINUTE)
    assert "x0" not in known(storage)


@pytest.mark.parametrize(("fanout", "least"), [(1, 5), (3, 10)])
def test_rounds_never_go_to_strangers_alone(fanout: int, least: int) -> None:
    protocol, _, _ = a_protocol(*[a_peer(id, heartbeat=1, ours=True) for id in "bcdef"], gossip_fanout=fanout)
    step(protocol, B, entries=invented(200))
    step(protocol, B, now=NOW + 1, entries=invented(200, heartbeat=8))
    to = [[send.to.id for send in sends(protocol.round(NOW + 100 * number))] for number in range(1, 11)]
    assert len([id for ids in to for id in ids if not id.startswith("x")]) >= least
    assert any(id.startswith("x") for ids in to for id in ids)
    if fanout > 1:
        assert all(any(not id.startswith("x") for id in ids) for ids in to)


# Keys


def deltas_of(id: str, first: int, last: int) -> list[Delta]:
    return [Delta(id, f"k{version}", version, version, version - 1) for version in range(first, last + 1)]


def test_a_replica_takes_no_more_keys_than_it_may_and_leaves_no_gap() -> None:
    b = a_peer("b", ours=True)
    protocol, _, _ = a_protocol(b, max_keys_per_peer=2)
    assert words(step(protocol, B, deltas=deltas_of("b", 1, 8))) == []
    other = a_peer("c", ours=True)
    protocol.membership.put(other)
    output = step(protocol, B, deltas=[*deltas_of("b", 9, 11), *deltas_of("c", 1, 3)])
    assert words(output) == ["peer 'b' has too many keys: max_keys_per_peer is 2 here; its news is ignored"]
    assert (b.max_version_seen, len(b.data)) == (8, 8)
    assert other.max_version_seen == 3
    b._check()
    changed = [Delta("b", "k3", "new", 9, 8), Delta("b", "k12", 1, 12, 9), Delta("b", "k4", "new", 13, 12)]
    step(protocol, B, now=NOW + 5, deltas=changed)
    assert (b.max_version_seen, b.get("k3"), b.get("k4")) == (9, "new", 4)  # k4 comes after what was left out
    answer = step(protocol, B, now=NOW + 6, entries=[entry("b", 13, heartbeat=2)])
    assert reply_to(answer)["b"].version == 9  # it is still asked for
    protocol.round(NOW + 1_000)
    new_life = entry("b", 100, heartbeat=10_000_000, floor=100)
    step(protocol, B, now=NOW + 1_000, entries=[new_life])
    step(protocol, B, now=NOW + 1_001, deltas=[Delta("b", "k", 1, 101, 100)], entries=[new_life._replace(version=101)])
    protocol.round(NOW + 2_000)
    assert b.data == {"k": (1, 101)}


def test_the_tombstones_of_one_that_deletes_all_the_time_are_forgotten_though_node_js_nodes_are_there() -> None:
    protocol, local, _ = a_protocol(a_peer("js", ours=False), max_keys_per_peer=4)
    most = 0
    for number in range(100):
        protocol.update(NOW + number, f"k{number}", 1)
        protocol.delete(NOW + number, f"k{number}")
        protocol.round(NOW + number)
        most = max(most, len(local.log))
    assert 8 <= most <= 9


# Whole clusters


def a_crowd(sim: Simulation, count: int, **limits: Any) -> list[Gossipmonger]:
    nodes = [sim.add(f"n{number}", seeds=["n0"], **limits) for number in range(count)]
    for node in nodes:
        node.on("error", lambda error: None)
        node.update("k", 1)
    return nodes


def all_have(nodes: list[Gossipmonger], value: int) -> bool:
    return all(peer.data.get("k") == value for node in nodes for peer in node.peers().values())


@pytest.mark.untraced
@pytest.mark.parametrize("limited", ["one", "all"])
def test_a_cluster_above_the_limit_agrees_on_what_it_holds(limited: str) -> None:
    with Simulation(seed=5) as sim:
        nodes = a_crowd(sim, 12, gossip_interval=5_000, **({"max_peers": 7} if limited == "all" else {}))
        if limited == "one":
            nodes.append(sim.add("few", seeds=["n0"], max_peers=7, gossip_interval=5_000))
            nodes[-1].on("error", lambda error: None)
            nodes[-1].update("k", 1)
        sim.run(100_000)
        dead: list[str] = []
        for node in nodes:
            node.on("peer dead", lambda peer: dead.append(peer.id))
        at_limit = [node for node in nodes if node.options.max_peers == 7]
        assert at_limit
        assert all(len(node.peers()) == 8 for node in at_limit)
        for value in (2, 3):
            for node in nodes:
                node.update("k", value)
            sim.run_until(partial(all_have, nodes, value), 100_000)
        before = sim.bytes
        sim.run(300_000)
        assert limited == "all" or dead == []  # with half of all peers unknown to everybody, news of the others is rare
        assert (sim.bytes - before) / 60 / len(nodes) < 20_000  # bytes a node and round: whole digests, but no storm


@pytest.mark.untraced
def test_a_newcomer_is_met_while_invented_peers_fill_the_room() -> None:
    with Simulation(seed=6) as sim:
        nodes = a_crowd(sim, 4, max_peers=50, gossip_interval=5_000)
        sim.run(50_000)
        clock = int(sim.now * 1000)
        fakes = [Entry(f"x{number}", 0, {"host": "nowhere", "port": 1}, clock) for number in range(200)]
        for node in nodes:
            node._protocol.step(sim.now, Message(RemotePeer("x0", fakes[0].transport), None, _digest(fakes)))
        assert all(len(node.peers()) == 51 for node in nodes)
        late = sim.add("late", seeds=["n1"], max_peers=50, gossip_interval=5_000)
        late.update("k", 1)
        sim.run_until(lambda: all(node.get("late", "k") == 1 for node in nodes), 30_000)
        sim.run(6 * MINUTE)
        assert all(set(node.peers()) == {"n0", "n1", "n2", "n3", "late"} for node in [*nodes, late])


def _digest(entries: list[Entry]) -> Any:
    from .steps import a_digest

    return a_digest("x0", entries, header=None)


@pytest.mark.untraced
def test_a_partition_that_lasts_longer_than_strangers_do_heals() -> None:
    with Simulation(seed=7) as sim:
        nodes = a_crowd(sim, 6, gossip_interval=5_000)
        sim.run(60_000)
        sim.partition(["n0", "n1", "n2"])
        sim.run(12 * MINUTE)
        assert all(len(node.peers()) == 6 for node in nodes)
        sim.heal()
        sim.run_until(lambda: all(len(node.live()) == 6 for node in nodes), 2 * MINUTE)


@pytest.mark.untraced
def test_a_hundred_thousand_invented_peers_stay_within_the_limit_and_are_gone_within_the_hour() -> None:
    with Simulation(seed=8) as sim:
        nodes = a_crowd(sim, 3, max_peers=1_000, gossip_interval=20_000)
        sim.run(200_000)
        for start in range(0, 100_000, 20_000):
            clock = int(sim.now * 1000)
            more: dict[str, Any] = {"interval": 86_400_000} if start else {}
            told = [Entry(f"x{start + n}", 0, {"host": "nowhere", "port": 1}, clock)._replace(**more) for n in range(20_000)]
            own = Entry(f"x{start}", 0, {"host": "nowhere", "port": 1}, clock)
            nodes[0]._protocol.step(sim.now, Message(RemotePeer(own.id, own.transport), None, _digest([*told, own])))
            sim.run(20_000)
            assert all(len(node.peers()) <= 1_001 for node in nodes)
        sim.run(60 * MINUTE)
        assert all(set(node.peers()) == {"n0", "n1", "n2"} for node in nodes)
        assert all(len(node.live()) == 3 for node in nodes)


def test_a_peer_knows_how_many_keys_it_has() -> None:
    peer = Peer("a")
    assert peer.key_count == 0
    peer.update_local("k", 1)
    peer.update_local("l", 1)
    peer.delete_local("k")
    assert peer.key_count == 1
