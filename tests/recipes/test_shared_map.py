"""The shared map: its nodes end with the same content whatever happened, and a write that follows another wins over it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipmonger import Change, ClosedError, Gossipmonger, GossipmongerError, ObserverError
from gossipmonger.recipes import SharedMap
from gossipmonger.recipes.shared_map import _GONE, _LAST_STAMP, _Entry
from gossipmonger.simulation import Simulation

SECOND, HOUR, DAY = 1_000, 3_600_000, 86_400_000


class World:
    """A simulated cluster in which each node has the map."""

    def __init__(
        self, seed: int, count: int = 3, ahead: dict[int, float] | None = None, keep: float = 3600, **options: Any
    ) -> None:
        self.keep = keep
        self.sim = Simulation(seed, **options)
        self.maps: dict[str, SharedMap] = {}
        for number in range(count):
            self.add(number, (ahead or {}).get(number, 0))

    def add(self, number: int, ahead: float = 0) -> SharedMap:
        id = f"n{number}"
        node = self.sim.add(id, seeds=["n0", "n1"], ahead=ahead)
        self.maps[id] = SharedMap(node, "map", keep_deleted=self.keep)
        return self.maps[id]

    def restart(self, id: str, ahead: float = 0) -> None:
        self.maps[id] = SharedMap(self.sim.restart(id, ahead=ahead), "map", keep_deleted=self.keep)

    def crash(self, id: str) -> None:
        self.sim.crash(id)
        self.maps.pop(id, None)

    def agree(self, content: dict[str, Any] | None = None, limit: float = 120 * SECOND) -> dict[str, Any]:
        """Let time pass until all maps have the same content."""

        def same() -> bool:
            there = [each.copy() for each in self.maps.values()]
            return all(each == (there[0] if content is None else content) for each in there)

        self.sim.run_until(same, limit)
        return next(iter(self.maps.values())).copy()


@pytest.fixture
def world(rng: Random) -> Iterator[World]:
    world = World(rng.randrange(1_000))
    world.sim.run_until(lambda: all(len(each.node.live()) == 3 for each in world.maps.values()), 60 * SECOND)
    yield world
    world.sim.close()


# A mapping


def test_it_is_a_mapping_that_all_nodes_share(world: World) -> None:
    a, b, c = world.maps.values()
    a["x"] = {"deep": [1, (2,)]}
    a.update({"y": None, "z": 1.5})
    assert a["x"] == {"deep": [1, [2]]}  # at once, and as others read it
    world.agree({"x": {"deep": [1, [2]]}, "y": None, "z": 1.5})
    assert (len(b), sorted(b), "y" in b, "w" in b, b.__contains__(1)) == (3, ["x", "y", "z"], True, False, False)
    assert (b.get("y", 1), b.get("w", 1)) == (None, 1)
    assert sorted(map(str, b.values())) == ["1.5", "None", "{'deep': [1, [2]]}"]
    assert dict(b.items()) == b.copy() == c.copy()
    assert b == c
    del b["y"]
    assert b.pop("z") == 1.5
    world.agree({"x": {"deep": [1, [2]]}})
    with pytest.raises(KeyError):
        c["y"]
    with pytest.raises(KeyError):
        del c["y"]


def test_what_it_returns_and_what_it_was_given_are_copies(world: World) -> None:
    a = world.maps["n0"]
    given: list[Any] = [1, []]
    a["x"] = given
    given.append(2)
    a["x"].append(3)
    a.copy()["x"][1].append(4)
    assert a["x"] == [1, []]
    a.node.get("n0", "map:map/x")[2].append(5)
    assert a["x"] == [1, []]


@pytest.mark.parametrize(("key", "value", "error"), [(1, 1, TypeError), ("k", {1}, TypeError), ("k", float("nan"), ValueError)])
def test_what_is_refused_changes_nothing(world: World, key: Any, value: Any, error: type[Exception]) -> None:
    a = world.maps["n0"]
    a["k"] = 1
    with pytest.raises(error):
        a[key] = value
    assert a.copy() == {"k": 1}


def test_two_maps_do_not_meet(world: World) -> None:
    others = [SharedMap(each.node, "other") for each in world.maps.values()]
    world.maps["n0"]["x"] = 1
    others[1]["x"] = 2
    world.agree({"x": 1})
    world.sim.run(5 * SECOND)
    assert [each.copy() for each in others] == [{"x": 2}] * 3


def test_iterating_while_it_changes_is_no_error(world: World) -> None:
    a = world.maps["n0"]
    a.update({str(number): number for number in range(10)})
    for key in a:
        del a[key]
    assert len(a) == 0
    a["x"] = 1
    for key, _ in a.items():
        a[key + "y"] = 1
    assert len(a) == 2


# Who wins


def test_the_map_outlives_its_writers(world: World) -> None:
    for id in ("n0", "n1"):
        world.maps[id][id] = id
    world.agree({"n0": "n0", "n1": "n1"})
    for id in ("n0", "n1"):
        world.crash(id)
    world.sim.run(120 * SECOND)
    late = world.add(3)
    world.restart("n0")  # with nothing
    world.agree({"n0": "n0", "n1": "n1"})
    assert late.copy() == world.maps["n2"].copy()


def test_what_a_node_writes_that_leaves_at_once_is_kept(world: World) -> None:
    short = world.add(4)
    world.sim.run(2 * SECOND)
    del world.maps["n4"]
    short["x"] = 1
    short.node.close()
    world.agree({"x": 1})
    world.crash("n0")
    world.crash("n1")
    world.sim.run(60 * SECOND)
    assert world.maps["n2"].copy() == {"x": 1}
    assert world.maps["n2"].node.get("n2", "map:map/x")[1:] == ["n4", 1]


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_a_write_that_knows_of_another_wins_however_wrong_the_clocks_are(rng: Random, ahead: float) -> None:
    world = World(rng.randrange(1_000), ahead={1: ahead})
    world.sim.run(5 * SECOND)
    for number in range(6):
        id = f"n{number % 3}"
        world.maps[id]["x"] = number
        world.maps[id]["y"] = [*world.maps[id].get("y", []), number]  # what was read and what was written
        world.agree({"x": number, "y": list(range(number + 1))})
    world.sim.close()


def test_of_writes_at_the_same_moment_that_of_the_higher_id_wins(world: World) -> None:
    for id, shared in world.maps.items():
        shared["x"] = id
    world.agree({"x": "n2"})
    assert {each._entries["x"].stamp for each in world.maps.values()} == {world.maps["n0"]._last_stamp}


def test_of_writes_that_know_nothing_of_each_other_the_later_wins(world: World) -> None:
    world.sim.partition(["n2"])
    world.maps["n2"]["x"] = "first"
    world.sim.run(SECOND)
    world.maps["n0"]["x"] = "second"
    world.sim.heal()
    world.agree({"x": "second"})


def test_a_delete_that_knows_of_a_write_wins_too_and_stays(rng: Random) -> None:
    world = World(rng.randrange(1_000), ahead={1: -HOUR / 2})
    world.sim.run(5 * SECOND)
    world.maps["n0"]["x"] = 1
    world.agree({"x": 1})
    del world.maps["n1"]["x"]
    world.agree({})
    world.sim.partition(["n2"])
    world.maps["n0"]["y"] = 1
    world.sim.run(60 * SECOND)
    world.sim.heal()
    world.agree({"y": 1})
    world.maps["n1"]["x"] = 2
    world.agree({"x": 2, "y": 1})
    world.sim.close()


def test_a_node_that_was_away_for_less_than_it_is_remembered_brings_nothing_back(world: World) -> None:
    world.maps["n0"]["x"] = 1
    world.agree({"x": 1})
    world.sim.partition(["n2"])
    del world.maps["n0"]["x"]
    world.sim.run(600 * SECOND)
    assert world.maps["n2"].copy() == {"x": 1}
    world.sim.heal()
    world.agree({})


entries = st.builds(
    _Entry, st.integers(0, 3), st.sampled_from("ab"), st.sampled_from([_GONE, None, 0, False, [1], {"a": 1, "b": 2}])
)


@given(entries, entries, entries)
def test_entries_are_in_one_order(one: _Entry, two: _Entry, three: _Entry) -> None:
    assert one.beats(None)
    if one.write() == two.write() and type(one.value) is type(two.value):
        assert not one.beats(two)
    else:
        assert one.beats(two) is not two.beats(one)
    if one.beats(two) and two.beats(three):
        assert one.beats(three)
    assert _Entry.read(json.loads(json.dumps(one.write()))) == one


@pytest.mark.parametrize("value", [
    1, [], [1], [1, "a", 2, 3], ["1", "a", 2], [True, "a", 2], [-1, "a", 2], [_LAST_STAMP + 1, "a", 2],
    [1, 2, 3], {"a": 1}, None,
])  # fmt: skip
def test_what_is_no_entry_is_ignored(world: World, value: Any) -> None:
    world.maps["n0"].node.update("map:map/x", value)
    world.sim.run(5 * SECOND)
    world.agree({})
    world.maps["n1"]["x"] = 5
    world.agree({"x": 5})


def test_the_highest_stamp_leaves_room_above(world: World) -> None:
    world.maps["n0"].node.update("map:map/x", [_LAST_STAMP, "z", 1])
    world.agree({"x": 1})


# The search


class History:
    """Random writes, partitions, crashes, restarts, pauses and wrong clocks; and who knew of which write."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.ahead = {number: self.random.choice([0, 0, HOUR / 4, -HOUR / 4]) for number in range(4)}
        self.world = World(seed, 4, self.ahead, loss=self.random.choice([0, 0.1]), latency=(1, 30))
        self.before: dict[int, set[int]] = {}  # each value, and those that its writer knew it to follow
        self.number = 0
        self.errors: list[Exception] = []
        for id in self.world.maps:
            self.follow(id)

    def follow(self, id: str) -> None:
        last: dict[str, int] = {}

        def changed(change: Change) -> None:
            if change.kind == "set" and change.key[0] == "k":
                if change.key in last:
                    assert change.value not in self.before[last[change.key]], "a write was undone by one that it followed"
                last[change.key] = change.value

        self.world.maps[id].watch(changed)
        self.world.maps[id].node.on("error", self.errors.append)

    def run(self) -> None:
        for _ in range(40):
            self.act()
            self.world.sim.run(self.random.choice([0, 5, 50, 500, 5_000]))
        self.world.sim.heal()
        for id in ("n0", "n1", "n2", "n3"):
            if id not in self.world.maps:
                self.restart(id)
        content = self.world.agree()
        self.world.sim.run(20 * SECOND)
        assert self.world.agree(limit=0) == content
        for each in self.world.maps.values():
            own = {key: entry.value for key, entry in each._entries.items() if entry.value is not _GONE}
            kept = {key.removeprefix("map:map/"): value for key, value in each.node.peer(each.node.local_peer.id).data.items()}  # type: ignore[union-attr]
            assert own == {key: value[2] for key, value in kept.items() if len(value) == 3} == content
        assert not [error for error in self.errors if not isinstance(error, GossipmongerError)]
        self.world.sim.close()

    def restart(self, id: str) -> None:
        self.world.restart(id, self.ahead[int(id[1])])
        self.follow(id)

    def act(self) -> None:
        chance, maps = self.random.random(), self.world.maps
        id = self.random.choice([*maps])
        if chance < 0.5:
            key, self.number = self.random.choice(["k1", "k2", "k3"]), self.number + 1
            known = maps[id].get(key)
            self.before[self.number] = set() if known is None else {known, *self.before[known]}
            maps[id][key] = self.number
        elif chance < 0.6:
            maps[id][self.random.choice(["d1", "d2"])] = self.random.random()
        elif chance < 0.7:
            maps[id].pop(self.random.choice(["d1", "d2"]), None)
        elif chance < 0.8:
            self.world.sim.partition(self.random.sample(["n0", "n1", "n2", "n3"], self.random.randint(1, 2)))
        elif chance < 0.87:
            self.world.sim.heal()
        elif chance < 0.92 and len(maps) > 2:
            self.world.crash(id)
        elif chance < 0.97:
            gone = [each for each in ("n0", "n1", "n2", "n3") if each not in maps]
            self.restart(self.random.choice(gone) if gone else id)
        else:
            self.world.sim.pause(id, self.random.randint(1, 20_000))


@pytest.mark.untraced
@settings(max_examples=int(os.environ.get("EXAMPLES", "12")))
@given(st.integers(0, 2**32))
def test_all_nodes_end_with_the_same_after_any_history(seed: int) -> None:
    History(seed).run()


# Following


def test_a_watch_tells_what_there_is_and_each_write_that_wins(world: World) -> None:
    a, b, c = world.maps.values()
    a["x"] = 1
    a["y"] = 1
    world.agree({"x": 1, "y": 1})
    told: list[Change] = []
    watch = b.watch(told.append)
    assert sorted(told) == [("n0", "x", 1, "set"), ("n0", "y", 1, "set")]
    told.clear()
    c["x"] = 2
    world.agree({"x": 2, "y": 1})
    del a["x"]
    world.agree({"y": 1})
    b["z"] = [3]
    world.agree({"y": 1, "z": [3]})
    world.crash("n0")
    world.sim.run(60 * SECOND)
    assert told == [("n2", "x", 2, "set"), ("n0", "x", None, "delete"), ("n1", "z", [3], "set")]
    watch.cancel()
    b["z"] = 4
    assert len(told) == 3


def test_a_watch_ends_with_the_map_or_when_its_handler_says_so(world: World) -> None:
    a = world.maps["n0"]
    told: list[str] = []

    @a.watch
    def first(change: Change) -> bool:
        told.append(change.key)
        return change.key != "x"

    second = a.watch(lambda change: None)
    a["w"] = a["x"] = a["y"] = 1
    assert told == ["w", "x"]
    assert (first.active, second.active) == (False, True)
    a.close()
    assert not second.active
    with pytest.raises(TypeError, match="handler must be callable"):
        world.maps["n1"].watch(5)  # type: ignore[arg-type]


# Observers


def test_an_observer_reads_and_follows_it_and_cannot_write(world: World) -> None:
    a, b, _ = world.maps.values()
    a["x"] = 1
    world.agree()
    observer = world.sim.add("observer", seeds=["n0"], observer=True)
    seen = SharedMap(observer, "map")
    told: list[Change] = []
    seen.watch(told.append)
    world.sim.run(5 * SECOND)
    assert seen.copy() == {"x": 1}
    a["x"] = 2
    world.sim.run(5 * SECOND)  # it learns by its own rounds
    del b["x"]
    world.sim.run(5 * SECOND)
    b["y"] = 3
    world.agree({"y": 3})
    world.sim.run(5 * SECOND)
    assert seen.copy() == {"y": 3}
    assert [(each.peer_id, each.key, each.value) for each in told] == [
        ("n0", "x", 1), ("n0", "x", 2), ("n1", "x", None), ("n1", "y", 3),
    ]  # fmt: skip
    with pytest.raises(ObserverError):
        seen["z"] = 1
    with pytest.raises(ObserverError):
        del seen["y"]
    assert seen.copy() == {"y": 3}


# The end


def test_deleted_keys_are_forgotten_in_time(rng: Random) -> None:
    world = World(rng.randrange(1_000), keep=60)
    a = world.maps["n0"]
    for number in range(20):
        a[str(number)] = number
    world.agree()
    for number in range(20):
        del a[str(number)]
    world.agree({})
    assert [len(each._entries) for each in world.maps.values()] == [20] * 3
    world.sim.run(61 * SECOND)
    a["x"] = 1
    world.agree({"x": 1})
    assert [len(each._entries) for each in world.maps.values()] == [1] * 3
    assert [[*each.node.peer(id).data] for id, each in world.maps.items()] == [["map:map/x"]] * 3  # type: ignore[union-attr]
    world.sim.close()


def test_a_deletion_that_is_remembered_no_more_deletes_all_the_same(world: World) -> None:
    start = int(world.sim.now * 1000) - 2 * 3_600_000_000
    for each in world.maps.values():
        each.node.update("map:map/x", [start, "z", 1])
    world.agree({"x": 1})
    world.maps["n0"].node.update("map:map/x", [start + 1, "z"])
    world.sim.run(5 * SECOND)
    assert [each.copy() for id, each in world.maps.items() if id != "n0"] == [{}] * 2
    assert world.maps["n1"].node.get("n1", "map:map/x") is None


def test_news_that_come_as_the_node_ends_are_no_error(world: World) -> None:
    a = world.maps["n0"]
    a.node.close()
    a._updated("n1", "map:map/x", [1, "n1", 1])
    assert a.copy() == {}


def test_a_closed_map_takes_part_no_more_and_keeps_what_it_has(world: World) -> None:
    a, b, _ = world.maps.values()
    a["x"] = 1
    world.agree({"x": 1})
    with a:
        pass
    a.close()
    assert (a.closed, b.closed, a["x"]) == (True, False, 1)
    assert "closed" in repr(a)
    b["x"] = 2
    world.sim.run(5 * SECOND)
    assert a["x"] == 1
    for use in (lambda: a.__setitem__("x", 1), lambda: a.__delitem__("x"), lambda: a.watch(print)):
        with pytest.raises(ClosedError, match="SharedMap has been closed"):
            use()
    again = SharedMap(a.node, "map")
    assert again.copy() == {"x": 2}
    assert a.node.listeners("update") == [again._updated]


def test_the_end_of_the_node_is_the_end_of_its_writes(world: World) -> None:
    a = world.maps["n0"]
    a["x"] = 1
    a.node.close()
    with pytest.raises(ClosedError):
        a["x"] = 2
    assert a["x"] == 1
    a.close()
    with pytest.raises(ClosedError):
        SharedMap(a.node, "new")


@pytest.mark.parametrize(("name", "error"), [("a/b", ValueError), ("", ValueError), (1, TypeError), ("map", ValueError)])
def test_a_name_is_checked_and_used_once(world: World, name: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="name must be"):
        SharedMap(world.maps["n0"].node, name)


def test_other_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match="node must be a Gossipmonger"):
        SharedMap("node")  # type: ignore[arg-type]
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}) as node:
        with pytest.raises(ValueError, match=r"keep_deleted must be from 0.001 to 315360000 seconds"):
            SharedMap(node, keep_deleted=0)
        with pytest.raises(TypeError, match="keep_deleted must be a number"):
            SharedMap(node, keep_deleted="1")  # type: ignore[arg-type]
        with SharedMap(node, keep_deleted=1):
            pass


# Real nodes


def started(id: str, *seeds: Gossipmonger) -> Gossipmonger:
    address = {"host": "127.0.0.1", "port": 0}
    node = Gossipmonger(
        {"id": id, "transport": address}, seeds=[f"127.0.0.1:{each.transport.port}" for each in seeds], gossip_interval=100
    )
    node.on("error", lambda error: None)
    node.transport.listen()
    node.gossip()
    return node


def test_threads_of_several_nodes_in_one_process_write_at_once() -> None:
    first = started("a")
    nodes = [first, started("b", first), started("c", first)]
    maps = [SharedMap(node, "map") for node in nodes]
    try:
        threads = [
            threading.Thread(target=lambda each=each: [each.__setitem__(f"k{number % 7}", number) for number in range(100)])
            for each in maps * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        nodes[0].wait_for(lambda: maps[0].copy() == maps[1].copy() == maps[2].copy(), 30)
        assert {*maps[0]} == {f"k{number}" for number in range(7)}
    finally:
        for shared, node in zip(maps, nodes, strict=True):
            shared.close()
            node.close()


def test_a_write_in_a_signal_handler_is_made() -> None:
    import signal

    node = started("a")
    shared = SharedMap(node, "map")
    former = signal.signal(signal.SIGALRM, lambda *_: shared.__setitem__("signal", shared.get("main", 0)))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        for number in range(3_000):
            shared["main"] = number
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert shared["main"] == 2_999
        assert shared["signal"] > 0
        assert node.get("a", "map:map/main")[2] == 2_999
        assert node.get("a", "map:map/signal")[2] == shared["signal"]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        shared.close()
        node.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_map_of_a_node_that_was_not_started_lives_in_the_child() -> None:
    node = Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}})
    shared = SharedMap(node, "map")
    shared["x"] = 1
    child = os.fork()
    if child == 0:
        try:
            node.gossip()
            shared["x"] += 1
            shared.close()
            node.close()
            os._exit(shared["x"])
        finally:
            os._exit(77)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert shared["x"] == 1
    node.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_in_the_child_of_a_started_node_it_can_be_closed_and_read() -> None:
    node = started("a")
    shared = SharedMap(node, "map")
    shared["x"] = 1
    child = os.fork()
    if child == 0:
        try:
            shared.close()
            os._exit(shared["x"])
        finally:
            os._exit(77)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    shared["x"] = 2
    shared.close()
    node.close()
