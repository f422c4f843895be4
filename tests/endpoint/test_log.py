"""The log: a line for each event of a life, one when a peer goes out of reach and one when it returns, none under a lock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from gossipmonger import ClosedError, Gossipmonger, MessageError, RemotePeer, SendError
from gossipmonger.endpoint import log as log_module
from gossipmonger.endpoint.log import LOG, Log
from gossipmonger.protocol import Event
from gossipmonger.simulation import Simulation
from gossipmonger.state import Message
from tests.cluster import free_port

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

B = RemotePeer("b", {"host": "b.example", "port": 9742})
LOST = SendError("can't send to b", B)

Lines = list[logging.LogRecord]


def lines(records: Lines, *levels: int) -> list[str]:
    return [record.getMessage() for record in records if record.levelno in levels]


def until(condition: Callable[[], bool]) -> None:
    end, pause = monotonic() + 20, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.005)


# A cluster's life


def test_the_events_of_a_life_are_a_line_each(logged: Lines) -> None:
    with Simulation() as sim:
        sim.add("a")
        sim.add("b", seeds=["a"])
        sim.run(5_000)
        sim.crash("b")
        sim.run(60_000)
        sim.restart("b")
        sim.run(10_000)
        sim.node("b").close()
        sim.run(1_000)
        sim.node("a").leave()
    assert [line.removeprefix("node 'a': ") for line in lines(logged, INFO) if line.startswith("node 'a'")] == [
        "listens at a:9742",
        "met peer 'b' at b:9742",
        "peer 'b' at b:9742 is dead",
        "peer 'b' at b:9742 is live",
        "peer 'b' at b:9742 has left",
        "left",
        "closed",
    ]


def test_a_node_that_gossips_before_it_listens_says_so_once(logged: Lines) -> None:
    def warned(node: Gossipmonger, first: Callable[[], object]) -> bool:
        logged.clear()
        first()
        node.gossip()
        node.gossip()
        node.close()
        said = [
            line
            for line in lines(logged, WARNING)
            if "call listen() first, or others refuse what it says, as it has no port" in line
        ]
        assert len(said) <= 1
        return bool(said)

    at = {"transport": {"host": "127.0.0.1", "port": 0}}
    deaf, hears = Gossipmonger({"id": "a", **at}), Gossipmonger({"id": "b", **at})
    assert warned(deaf, lambda: None)
    assert not warned(hears, hears.transport.listen)
    reader = Gossipmonger(observer=True, seeds=["127.0.0.1:9"])
    assert not warned(reader, lambda: None)


def test_a_forgotten_peer_is_a_line(logged: Lines) -> None:
    with Simulation() as sim:
        sim.add("a", forget_dead_peers_after=60_000)
        sim.add("b", seeds=["a"])
        sim.run(5_000)
        sim.vanish("b")
        sim.run(200_000)
    assert lines(logged, INFO).count("node 'a': forgot peer 'b' at b:9742") == 1


def test_a_round_is_a_line_that_says_what_it_has_done(logged: Lines) -> None:
    with Simulation() as sim:
        node = sim.add("a", gossip=False)
        node.gossip()
        assert lines(logged, DEBUG) == ["node 'a': round: nobody to send to"]
        sim.add("b", seeds=["a"])
        sim.run(10_000)
    told = lines(logged, DEBUG)
    assert 15 <= len(told) <= 25  # not one for each message
    assert "node 'a': round: sends a round of 1 entry and a compact digest to 'b'" in told
    assert "node 'b': round: sends a round of 1 entry to 'a'" in told


def test_what_is_not_logged_takes_no_place_in_the_queue(logged: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("gossipmonger"), "level", WARNING)
    log = Log("a", lambda: False)
    assert not log.wants(Event("new peer", (B,)))
    assert not log.wants(Event("update", ("b", "k", 1)))
    assert log.round([]) == []
    log.say(INFO, "closed")
    assert logged == []


# Peers out of reach


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(log_module, "monotonic", lambda: now[0])
    return now


def told(events: list[Event]) -> list[int]:
    """The levels of these lines."""
    assert {event.name for event in events} <= {LOG}
    return [event.args[0] for event in events]


@pytest.mark.parametrize(("handles", "level"), [(False, WARNING), (True, INFO)])
def test_a_peer_out_of_reach_is_a_line_when_it_goes_and_one_when_it_returns(
    logged: Lines, clock: list[float], handles: bool, level: int
) -> None:
    log = Log("a", lambda: handles)
    states: list[bool] = []
    for _ in range(3):
        assert told(log.fails(LOST)) == [level]
        for _ in range(100):
            clock[0] += 1
            assert log.fails(LOST) == []
        states.append(bool(log.unreachable))
        assert log.hears(B, "accepted") == []
        assert told(log.hears(Message(B))) == [level]
        assert log.hears(Message(B)) == []
        states.append(bool(log.unreachable))
    assert states == [True, False] * 3


def test_a_peer_that_only_dials_out_does_not_come_and_go(logged: Lines, clock: list[float]) -> None:
    log = Log("a", lambda: False)
    log.hears(RemotePeer("c", None), "accepted")  # this transport tells
    log.fails(LOST)
    for _ in range(100):
        assert log.fails(LOST) == log.hears(B, "refused") == log.hears(Message(B)) == []


def test_a_port_that_accepts_and_says_nothing_is_not_the_peer(logged: Lines, clock: list[float]) -> None:
    log = Log("a", lambda: False)
    log.fails(LOST)
    for _ in range(100):
        assert log.hears(B, "accepted") == log.fails(LOST) == []
    assert log.hears(Message(B)) == []
    clock[0] += 601  # without a failure
    assert told(log.hears(Message(B))) == [WARNING]


def test_where_no_dial_is_told_a_message_is_enough(logged: Lines, clock: list[float]) -> None:
    log = Log("a", lambda: False)
    log.fails(LOST)
    assert told(log.hears(Message(B))) == [WARNING]


def test_a_peer_that_has_been_left_alone_for_an_hour_is_news_again(logged: Lines, clock: list[float]) -> None:
    log = Log("a", lambda: False)
    assert told(log.fails(LOST)) == [WARNING]
    clock[0] += 3_601
    assert told(log.fails(LOST)) == [WARNING]


def test_no_more_than_so_many_peers_are_remembered(logged: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_CAPACITY", 2)
    log = Log("a", lambda: False)
    peers = [SendError("no", RemotePeer(id, None)) for id in "bcd"]
    assert [told(log.fails(error)) for error in peers] == [[WARNING]] * 3
    assert [told(log.fails(error)) for error in reversed(peers)] == [[], [], [WARNING]]


@pytest.mark.parametrize(
    "error", [MessageError("no"), SendError("no"), SendError("no", "somebody"), OSError("no"), ClosedError("no")]
)
def test_any_other_error_is_no_peer_out_of_reach(logged: Lines, error: Exception) -> None:
    log = Log("a", lambda: False)
    assert log.fails(error) == []
    log.report(error)
    log.report(LOST)  # `fails` has seen to it
    assert lines(logged, WARNING, ERROR) == [f"node 'a': {type(error).__name__}: no"]


@pytest.fixture
def pair() -> Iterator[Callable[..., Gossipmonger]]:
    nodes: list[Gossipmonger] = []

    def make(id: str, port: int = 0, **options: Any) -> Gossipmonger:
        node = Gossipmonger({"id": id, "transport": {"host": "127.0.0.1", "port": port}}, gossip_interval=20, **options)
        nodes.append(node)
        node.transport.listen()
        node.gossip()
        return node

    yield make
    for node in nodes:
        node.close()


def test_a_seed_that_is_down_is_one_line_and_its_return_another(pair: Callable[..., Gossipmonger], logged: Lines) -> None:
    port = free_port()
    failures: list[Exception] = []
    node = pair("a", seeds=[{"id": "b", "transport": {"host": "127.0.0.1", "port": port}}])
    node.transport.on("error", failures.append)
    until(lambda: len(failures) >= 20)
    pair("b", port)
    until(lambda: len(lines(logged, WARNING)) == 2)
    gone, back = lines(logged, WARNING)
    assert gone.startswith(f"node 'a': can't send to peer 'b' at 127.0.0.1:{port}: ")
    assert back == f"node 'a': peer 'b' at 127.0.0.1:{port} is reached again"
    assert {record.threadName for record in logged if record.levelno == WARNING} == {"gossipmonger-events"}


# Errors without a handler


def test_what_a_handler_raises_is_logged_with_its_traceback_and_the_nodes_id(logged: Lines) -> None:
    with Simulation() as sim:
        one, other = sim.add("a"), sim.add("b", seeds=["a"])
        other.on("update", lambda *_: 1 / 0)
        one.update("k", 1)
        sim.run(3_000)
    (record,) = [record for record in logged if record.levelno == ERROR]
    assert record.getMessage() == "node 'b': ZeroDivisionError: division by zero"
    assert record.exc_info is not None


def test_with_a_handler_no_error_is_logged(logged: Lines) -> None:
    with Simulation() as sim:
        node = sim.add("a", gossip=False)
        node.on("error", lambda error: None)
        node.transport.emit("error", MessageError("no"))
        assert lines(logged, WARNING, ERROR) == []
        node.remove_all_listeners("error")
        node.transport.emit("error", MessageError("no"))
        assert lines(logged, WARNING, ERROR) == ["node 'a': MessageError: no"]


# Log handlers


def test_a_log_handler_may_call_any_method(pair: Callable[..., Gossipmonger]) -> None:
    """As one that ships lines by gossip does."""
    nodes: list[Gossipmonger] = []
    shipped: list[str] = []
    enough = threading.Event()

    class Shipping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            for node in nodes:
                node.update("line", record.getMessage())
                node.get("a", "line")
                node.peers()
            shipped.append(record.getMessage())
            if len(shipped) > 20 and nodes:
                enough.set()

    handler, logger = Shipping(), logging.getLogger("gossipmonger")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(DEBUG)
    try:
        nodes.append(pair("a"))
        nodes.append(pair("b", seeds=[{"id": "a", "transport": nodes[0].local_peer.transport}]))
        assert enough.wait(20)
        for node in nodes:
            node.close()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_no_line_is_logged_while_the_state_is_locked(logged: Lines) -> None:
    with Simulation() as sim:
        node = sim.add("a", gossip=False)
        locked: list[bool] = []
        logger = logging.getLogger("gossipmonger")
        handler = logging.Handler()
        handler.emit = lambda record: locked.append(node._engine.lock.locked())  # type: ignore[method-assign]
        logger.addHandler(handler)
        try:
            node.gossip()
            sim.add("b", seeds=["a"])
            sim.run(3_000)
        finally:
            logger.removeHandler(handler)
    assert set(locked) == {False}
