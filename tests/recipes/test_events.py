"""Events: each handler is told of each event once, and of those of one emitter in their order."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipmonger import ClosedError, Gossipmonger, ObserverError
from gossipmonger.recipes import Event, Events

from .worlds import SECOND, Cluster


@pytest.fixture
def cluster(rng: Random) -> Iterator[Cluster]:
    with Cluster(rng.randrange(1_000)) as cluster:
        yield cluster


def hear(events: Events, name: str | None = None) -> list[Any]:
    """The payloads that a handler is told of."""
    heard: list[Any] = []
    events.on(name, lambda event: heard.append(event.payload))
    return heard


def test_every_node_is_told_of_each_event_once_and_in_order(cluster: Cluster) -> None:
    events = [Events(node) for node in cluster.nodes]
    heard = [hear(each) for each in events]
    for number in range(50):
        events[0].emit("step", number)
    cluster.run(5)
    assert heard == [[*range(50)]] * 3
    assert cluster.errors == []


def test_an_event_says_what_it_is(cluster: Cluster) -> None:
    first, second = Events(cluster[0]), Events(cluster[1])
    told: list[Event] = []
    own: list[Event] = []

    @second.on("deployed")
    def deployed(event: Event) -> None:
        told.append(event)

    first.on("deployed", own.append)
    first.emit("other", 1)
    first.emit("deployed", {"version": [7]})
    first.emit("deployed")
    cluster.run(5)
    assert told == own
    assert [(each.name, each.payload, each.peer_id) for each in told] == [
        ("deployed", {"version": [7]}, "n0"),
        ("deployed", None, "n0"),
    ]
    assert len({each.id for each in told}) == 2


def test_handlers_of_a_name_and_of_all(cluster: Cluster) -> None:
    first, second = Events(cluster[0]), Events(cluster[1])
    everything: list[str] = []

    @second.on()
    def anything(event: Event) -> None:
        everything.append(event.name)

    a = hear(second, "a")
    for name in "abca":
        first.emit(name, name)
    cluster.run(5)
    assert (everything, a) == (["a", "b", "c", "a"], ["a", "a"])


def test_a_node_that_returns_or_comes_within_the_ttl_is_told_and_a_later_one_is_not(cluster: Cluster) -> None:
    events = [Events(node, ttl=60) for node in cluster.nodes]
    heard = hear(events[2])
    cluster.sim.partition(["n2"])
    events[0].emit("x", 1)
    cluster.run(40)
    assert heard == []
    cluster.sim.heal()
    cluster.until(lambda: heard, 15 * SECOND)
    early = hear(Events(cluster.add("n3")))
    cluster.run(40)
    late = hear(Events(cluster.add("n4")))
    cluster.run(20)
    assert (heard, early, late) == ([1], [1], [])
    assert cluster.own(0) == {}


def test_an_event_outlives_its_emitter_also_one_that_leaves_at_once(cluster: Cluster) -> None:
    heard = hear(Events(cluster[2]))
    script = cluster.add("script")
    cluster.run(2)
    with Events(script) as events:
        events.emit("x", 1)
        events.emit("x", 2)
    script.close()
    cluster.run(10)
    late = hear(Events(cluster.add("n3")))
    cluster.run(10)
    assert (heard, late) == ([1, 2], [1, 2])


def test_a_handler_that_comes_later_is_told_of_what_there_is_in_order(cluster: Cluster) -> None:
    events = [Events(node) for node in cluster.nodes]
    for number in range(12):
        events[0].emit("x", number)
    cluster.run(2)
    assert hear(events[1]) == [*range(12)]
    assert hear(events[0]) == []  # its own, which it knows of


def test_what_was_told_is_not_told_again_when_its_emitter_returns(cluster: Cluster) -> None:
    first, second = Events(cluster[0], ttl=600), Events(cluster[1])
    heard = hear(second)
    first.emit("x", 1)
    cluster.run(2)
    cluster.sim.partition(["n0"])
    cluster.until(lambda: "n0" not in cluster[1].live(), 200 * SECOND)
    first.emit("x", 2)
    cluster[1].forget("n0")
    cluster.run(5)
    cluster.sim.heal()
    cluster.until(lambda: len(heard) > 1)
    cluster.run(20)
    assert heard == [1, 2]


def test_the_next_life_of_an_emitter_is_heard_though_its_clock_was_set_back(cluster: Cluster) -> None:
    heard = hear(Events(cluster[1]))
    Events(cluster[0]).emit("x", 1)
    cluster.run(2)
    again = Events(cluster.restart("n0", ahead=-3_600_000))
    cluster.run(5)
    again.emit("x", 2)
    cluster.until(lambda: heard == [1, 2])


def test_the_next_life_of_a_receiver_is_told_again_under_the_same_ids(cluster: Cluster) -> None:
    ids: list[str] = []
    Events(cluster[1]).on("x", lambda event: ids.append(event.id))
    events = Events(cluster[0], ttl=300)
    events.emit("x", 1)
    cluster.run(2)
    Events(cluster.restart("n1")).on("x", lambda event: ids.append(event.id))
    cluster.run(20)
    assert len(ids) == 2
    assert len({*ids}) == 1


def test_events_that_are_made_anew_at_one_moment_are_all_heard(cluster: Cluster) -> None:
    heard = hear(Events(cluster[1]))
    for number in range(3):
        with Events(cluster[0]) as events:
            events.emit("x", number)
    cluster.run(5)
    assert heard == [0, 1, 2]


def test_an_error_in_a_handler_is_an_error_event_and_delays_nothing(cluster: Cluster) -> None:
    first, second = Events(cluster[0]), Events(cluster[1])
    heard = []

    @second.on("x")
    @first.on("x")
    def fail(event: Event) -> None:
        heard.append(event.payload)
        raise RuntimeError(f"no {event.payload}")

    first.emit("x", 1)
    first.emit("x", 2)
    cluster.run(5)
    assert sorted(heard) == [1, 1, 2, 2]
    assert sorted(map(str, cluster.errors)) == ["no 1", "no 1", "no 2", "no 2"]


def test_what_fails_while_it_begins_is_raised_and_what_comes_after_it_is_told(cluster: Cluster, logged: list[Any]) -> None:
    first, second = Events(cluster[0]), Events(cluster[1])
    heard = []

    def fail(event: Event) -> None:
        heard.append(event.payload)
        if event.payload in (1, 2):
            raise RuntimeError(f"no {event.payload}")

    for number in range(4):
        first.emit("x", number)
    cluster.run(2)
    with pytest.raises(RuntimeError, match="no 2"):
        second.on("x", fail)
    first.emit("x", 4)
    cluster.run(2)
    assert heard == [0, 1, 2, 3, 4]
    assert [str(record.exc_info[1]) for record in logged if record.exc_info] == ["no 1"]


def test_a_handler_may_emit_and_is_told_of_that_when_it_is_done(cluster: Cluster) -> None:
    events = Events(cluster[0])
    told: list[Any] = []

    @events.on("x")
    def again(event: Event) -> None:
        if event.payload:
            events.emit("x", event.payload - 1)
        told.append(event.payload)

    others = hear(Events(cluster[1]))
    events.emit("x", 3)
    cluster.run(2)
    assert told == others == [3, 2, 1, 0]


def test_a_handler_ends_when_it_says_so_or_with_the_events(cluster: Cluster) -> None:
    first, second = Events(cluster[0]), Events(cluster[1])
    few: list[Any] = []
    second.on("x", lambda event: (few.append(event.payload), event.payload < 1)[1])
    own: list[Any] = []
    first.on("x", lambda event: (own.append(event.payload), event.payload < 1)[1])
    many = hear(second)
    for number in range(4):
        first.emit("x", number)
    cluster.run(2)
    second.close()
    second.close()
    first.emit("x", 4)
    cluster.run(2)
    assert (few, own, many) == ([0, 1], [0, 1], [0, 1, 2, 3])
    assert cluster[1].listeners("update") == cluster[1].listeners("peer forgotten") == []
    for use in (lambda: second.emit("x"), lambda: second.on("x"), lambda: second.on("x", print)):
        with pytest.raises(ClosedError, match="Events has been closed"):
            use()


def test_an_observer_is_told_and_cannot_emit(cluster: Cluster) -> None:
    events = Events(cluster.add("observer", observer=True))
    heard = hear(events)
    cluster.run(3)
    Events(cluster[0]).emit("x", 1)
    cluster.run(5)
    assert heard == [1]
    with pytest.raises(ObserverError):
        events.emit("x", 2)
    assert (heard, cluster.errors) == ([1], [])


def test_what_is_no_event_is_ignored(cluster: Cluster) -> None:
    heard = hear(Events(cluster[1]))
    for key, value in (
        ("1", ["x", 1]),
        ("1/x", ["x", 1]),
        ("x/1", ["x", 1]),
        ("1/-1", ["x", 1]),
        ("1/1", ["x"]),
        ("1/2", [1, 1]),
    ):
        cluster[0].update(f"event:events/{key}", value)
    cluster[0].update("event:event/1/1", ["x", 1])
    Events(cluster[0]).emit("x", 5)
    cluster.run(5)
    assert heard == [5]
    assert cluster.errors == []


@pytest.mark.parametrize(
    ("name", "payload", "error"), [(1, 1, TypeError), ("x", {1}, TypeError), ("x", float("inf"), ValueError)]
)
def test_what_is_refused_is_not_emitted(cluster: Cluster, name: Any, payload: Any, error: type[Exception]) -> None:
    events, heard = Events(cluster[0]), hear(Events(cluster[1]))
    with pytest.raises(error):
        events.emit(name, payload)
    events.emit("x", 1)
    cluster.run(2)
    assert heard == [1]


def test_arguments_are_checked(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match=r"ttl must be from 0.001 to 315360000 seconds"):
        Events(cluster[0], ttl=-1)
    events = Events(cluster[0])
    with pytest.raises(TypeError, match="name must be a string, got <built-in function print>"):
        events.on(print)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="handler must be callable"):
        events.on("x", 5)  # type: ignore[call-overload]


def test_who_was_forgotten_long_ago_takes_no_memory(cluster: Cluster) -> None:
    events = Events(cluster[1], ttl=5)
    heard = hear(events)
    for number in range(5):
        with Events(cluster[0], ttl=5) as each:
            each.emit("x", number)
        cluster.run(15)
    told = events._subscriptions[0]._told
    assert (len(heard), len(told["n0"])) == (5, 1)
    cluster.sim.crash("n0")
    cluster.until(lambda: "n0" not in cluster[1].live())
    cluster.run(20)
    cluster[1].forget("n0")
    cluster.run(1)
    assert told == {}


# The search


class History:
    """Emits at random nodes, with partitions, pauses, and receivers and emitters that restart."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.cluster = Cluster(seed, 4, loss=self.random.choice([0, 0.1]), latency=(1, 30))
        self.events: dict[str, Events] = {}
        self.heard: dict[str, dict[str, list[int]]] = {}  # receiver -> emitter -> payloads, in its present life
        self.emitted: dict[str, list[int]] = defaultdict(list)  # emitter -> payloads, in its present life
        self.number = 0
        for node in self.cluster.nodes:
            self.begin(node)

    def begin(self, node: Gossipmonger) -> None:
        id = node.local_peer.id
        self.events[id] = Events(node, ttl=3600)
        heard: dict[str, list[int]] = defaultdict(list)
        self.heard[id] = heard
        self.emitted[id] = []
        self.events[id].on("x", lambda event: heard[event.peer_id].append(event.payload))

    def run(self) -> None:
        sim = self.cluster.sim
        for _ in range(40):
            id, chance = self.random.choice([*self.events]), self.random.random()
            if chance < 0.65:
                for _ in range(self.random.choice([1, 1, 5])):
                    self.number += 1
                    self.emitted[id].append(self.number)
                    self.events[id].emit("x", self.number)
            elif chance < 0.75:
                sim.partition(self.random.sample([*self.events], self.random.randint(1, 2)))
            elif chance < 0.85:
                sim.heal()
            elif chance < 0.93:
                self.begin(self.cluster.restart(id))
            else:
                sim.pause(id, self.random.randint(1, 20_000))
            sim.run(self.random.choice([0, 5, 50, 500, 5_000]))
        sim.heal()
        self.cluster.until(self.all_heard, 180 * SECOND)
        self.cluster.run(20)
        for heard in self.heard.values():
            for payloads in heard.values():
                assert payloads == sorted({*payloads}), "told twice, or not in order"
        assert self.all_heard()
        sim.close()

    def all_heard(self) -> bool:
        return all({*emitted} <= {*heard[id]} for id, emitted in self.emitted.items() for heard in self.heard.values())


@pytest.mark.untraced
@settings(max_examples=int(os.environ.get("EXAMPLES", "12")))
@given(st.integers(0, 2**32))
def test_all_events_arrive_once_and_in_order_in_any_history(seed: int) -> None:
    History(seed).run()


# Real nodes


def test_threads_and_signals_emit_at_once_and_all_is_told_in_order() -> None:
    address = {"host": "127.0.0.1", "port": 0}
    told: queue.Queue[int] = queue.Queue()
    with Gossipmonger({"id": "a", "transport": address}) as a:
        a.on("error", lambda error: None)
        with Gossipmonger({"id": "b", "transport": address}, seeds=[f"127.0.0.1:{a.transport.port}"]) as b:
            b.on("error", lambda error: None)
            with Events(a) as sending, Events(b) as receiving:
                own: list[int] = []
                sending.on("x", lambda event: own.append(event.payload))
                receiving.on("x", lambda event: told.put(event.payload))
                former = signal.signal(signal.SIGALRM, lambda *_: sending.emit("x", -1))
                signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
                threads = [threading.Thread(target=lambda: [sending.emit("x", n) for n in range(200)]) for _ in range(2)]
                try:
                    for thread in threads:
                        thread.start()
                    for number in range(200):
                        sending.emit("x", number)
                    for thread in threads:
                        thread.join()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    signal.signal(signal.SIGALRM, former)
                sending.emit("x", 1_000)
                heard = [told.get(timeout=30)]
                while heard[-1] != 1_000:
                    heard.append(told.get(timeout=30))
                a.wait_for(lambda: own[-1:] == [1_000], 30)
    assert own == heard
    assert [heard.count(number) for number in range(200)] == [3] * 200
