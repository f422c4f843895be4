"""What operators do to a cluster: forget a peer by hand, and change the gossip interval node by node."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from random import Random

import pytest

from gossipmonger import ClosedError, Gossipmonger, MemoryStorage
from gossipmonger.simulation import Simulation

from .histories.nodes import copied

pytestmark = pytest.mark.untraced

SECOND = 1_000


class World:
    """A simulated cluster, and what its nodes say of one of them.

    Attributes:
        said: Events about `subject` since it was last cleared: who, which.
    """

    def __init__(self, seed: int, count: int, subject: str, loss: float = 0) -> None:
        self.sim = Simulation(seed, loss=loss)
        self.subject = subject
        self.said: list[tuple[str, str]] = []
        self.nodes = [self.watch(self.sim.add(f"n{number}", seeds=["n0"])) for number in range(count)]
        self.sim.run(20 * SECOND)

    def watch(self, node: Gossipmonger) -> Gossipmonger:
        for event in ("new peer", "peer live", "peer dead", "peer left", "peer forgotten"):
            node.on(
                event,
                lambda peer, event=event: peer.id == self.subject and self.said.append((node.local_peer.id, event)),
            )
        return node

    @property
    def others(self) -> list[Gossipmonger]:
        return [node for node in self.nodes if node.local_peer.id != self.subject]

    def states(self) -> set[str | None]:
        views = [node.peer(self.subject) for node in self.others]
        return {None if view is None else view.state for view in views}

    def forgotten(self) -> bool:
        return self.states() == {None}


# Forgetting by hand


@pytest.mark.parametrize("loss", [0, 0.1])
@pytest.mark.parametrize("how", ["crash", "vanish", "leave"])
def test_a_dead_peer_is_forgotten_everywhere_and_stays_so_until_it_returns(rng: Random, how: str, loss: float) -> None:
    world = World(rng.randrange(10**6), 8, "n7", loss)
    sim, by = world.sim, world.nodes[3]
    if how == "leave":
        world.nodes[7].close()
    else:
        getattr(sim, how)("n7")
    gone = "left" if how == "leave" else "dead"
    sim.run_until(lambda: world.states() == {gone}, limit=60 * SECOND)
    world.said.clear()
    assert by.forget("n7") is True
    assert by.peer("n7") is None
    assert sim.run_until(world.forgotten, limit=30 * SECOND) <= 3 * SECOND
    sim.run(60 * SECOND)
    assert sorted(world.said) == sorted((node.local_peer.id, "peer forgotten") for node in world.others)
    assert by.forget("n7") is False
    sim.restart("n7").update("k", 1)
    sim.run_until(lambda: all(node.get("n7", "k") == 1 for node in world.others), limit=30 * SECOND)
    assert world.states() == {"live"}


def test_nodes_on_which_it_is_live_still_forget_it_when_they_see_it_dead(rng: Random) -> None:
    world = World(rng.randrange(10**6), 8, "n7")
    world.sim.vanish("n7")
    first = world.sim.run_until(lambda: "dead" in world.states(), limit=60 * SECOND, every=1)
    assert "live" in world.states()
    by = next(node for node in world.others if node.peers()["n7"].state == "dead")
    assert by.forget("n7")
    world.sim.run_until(world.forgotten, limit=60 * SECOND)
    world.sim.run(60 * SECOND)
    assert world.forgotten()
    assert first > 0


@pytest.mark.parametrize("away", ["paused", "cut off", "cut off for long", "restarted from its storage"])
def test_who_was_away_does_not_bring_it_back_and_forgets_it_too(rng: Random, away: str) -> None:
    world = World(rng.randrange(10**6), 8, "n7")
    sim, by = world.sim, world.nodes[3]
    if away == "paused":
        sim.pause("n5", 60 * SECOND)
    elif away.startswith("cut off"):
        sim.partition(["n5", "n6"])
    else:
        sim.crash("n5")
    sim.crash("n7")
    sim.run_until(lambda: by.peers()["n7"].state == "dead", limit=60 * SECOND)
    assert by.forget("n7")
    sim.run((300 if away == "cut off for long" else 10) * SECOND)
    if away == "restarted from its storage":
        kept = copied(world.nodes[5].storage, sim.now, without="n5")
        assert isinstance(kept, MemoryStorage)
        world.nodes[5] = world.watch(sim.restart("n5", storage=kept))
    world.said.clear()
    sim.heal()
    sim.run_until(world.forgotten, limit=120 * SECOND)
    sim.run(120 * SECOND)
    assert world.forgotten()
    assert {event for _, event in world.said} <= {"peer dead", "peer forgotten"}


def test_a_peer_that_is_alive_after_all_returns(rng: Random) -> None:
    world = World(rng.randrange(10**6), 8, "n7")
    world.sim.pause("n7", 60 * SECOND)
    world.sim.run_until(lambda: world.states() == {"dead"}, limit=60 * SECOND)
    assert world.nodes[0].forget("n7")
    world.sim.run_until(world.forgotten, limit=10 * SECOND)
    world.sim.run_until(lambda: world.states() == {"live"}, limit=90 * SECOND)
    world.sim.run(60 * SECOND)
    assert world.states() == {"live"}


def test_a_live_peer_and_bad_arguments_are_refused() -> None:
    sim = Simulation(1)
    a, _ = sim.add("a"), sim.add("b", seeds=["a"])
    sim.run(5 * SECOND)
    for id in ("a", "b"):
        with pytest.raises(ValueError, match=f"forget: .*'{id}' is "):
            a.forget(id)
    with pytest.raises(TypeError, match="peer_id must be a string, got 5"):
        a.forget(5)  # type: ignore[arg-type]
    assert a.forget("nobody") is False
    a.close()
    with pytest.raises(ClosedError, match="forget"):
        a.forget("b")


# Intervals


def mixed(seed: int, intervals: list[int], fanout: int = 3, loss: float = 0) -> tuple[Simulation, list[str]]:
    """Nodes with these intervals, all of which find the first; and a list for the ids that are called dead."""
    sim, dead = Simulation(seed, loss=loss), list[str]()
    for number, interval in enumerate(intervals):
        watch(sim.add(f"n{number}", seeds=["n0"], gossip_interval=interval, gossip_fanout=fanout), dead)
    return sim, dead


def watch(node: Gossipmonger, dead: list[str]) -> Gossipmonger:
    node.on("peer dead", lambda peer: dead.append(peer.id))
    return node


@pytest.mark.parametrize("fanout", [1, 3])
@pytest.mark.parametrize(
    "intervals",
    [[1_000] * 4 + [30_000], [1_000] + [30_000] * 4, [30_000] * 8 + [1_000], [200] * 3 + [2_000], [50, 1_000, 5_000, 20_000]],
    ids=str,
)
def test_nodes_of_different_intervals_call_nobody_dead(rng: Random, intervals: list[int], fanout: int) -> None:
    sim, dead = mixed(rng.randrange(10**6), intervals, fanout, loss=0.05)
    sim.run(5 * max(intervals))
    assert dead == []
    assert all(len(sim.node(f"n{number}").peers()) == len(intervals) for number in range(len(intervals)))


@pytest.mark.parametrize(("before", "after"), [(1_000, 30_000), (30_000, 1_000), (50, 5_000), (5_000, 50)])
def test_a_node_may_return_with_another_interval(rng: Random, before: int, after: int) -> None:
    sim, dead = mixed(rng.randrange(10**6), [before] * 4)
    sim.run(5 * before)
    for id in ("n3", "n2"):
        watch(sim.restart(id, gossip_interval=after), dead)
        sim.run(3 * max(before, after))
    assert dead == []


def all_see_dead(nodes: list[Gossipmonger], id: str) -> bool:
    return all(node.peers()[id].state == "dead" for node in nodes)


@pytest.mark.parametrize("how", ["crash", "vanish"])
def test_a_death_is_seen_by_the_peer_s_own_interval(rng: Random, how: str) -> None:
    sim, dead = mixed(rng.randrange(10**6), [1_000] * 4 + [10_000])
    sim.run(150 * SECOND)
    took = defaultdict(float)
    for id in ("n3", "n4"):
        getattr(sim, how)(id)
        others = [sim.node(f"n{number}") for number in range(3)]
        took[id] = sim.run_until(partial(all_see_dead, others, id), limit=300 * SECOND)
    assert set(dead) == {"n3", "n4"}
    least, most = (2, 4) if how == "crash" else (6, 20)
    assert least * SECOND <= took["n3"] <= most * SECOND
    assert 5 * least * SECOND <= took["n4"] <= 15 * most * SECOND
