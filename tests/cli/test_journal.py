from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gossipmonger import ClusterError, DuplicateError, Gossipmonger, LonelyError, RemotePeer, SendError
from gossipmonger.cli.journal import EVENTS, Journal, advice, line, stamp
from gossipmonger.cli.output import Output
from gossipmonger.simulation import Simulation


@pytest.fixture
def told() -> Iterator[tuple[Gossipmonger, list[dict[str, Any]]]]:
    """A node, and the records of its journal; its handlers run at once."""
    sim = Simulation()
    node = sim.add("a")
    records: list[dict[str, Any]] = []
    Journal(node).follow(records.append)
    yield node, records
    sim.close()


def test_every_event_is_a_record(told: tuple[Gossipmonger, list[dict[str, Any]]]) -> None:
    node, records = told
    peer = RemotePeer("b", {"host": "10.0.0.7", "port": 9742})
    node.emit("update", "b", "role", ["web"])
    node.emit("delete", "b", "role")
    for event in EVENTS[:5]:
        node.emit(event, peer)
    node.emit("error", SendError("no\nway"))
    assert {record["event"] for record in records} == {*EVENTS}
    assert records[0].items() >= {"event": "update", "peer": "b", "key": "role", "value": ["web"]}.items()
    assert records[2].items() >= {"event": "new peer", "peer": "b", "address": "10.0.0.7:9742"}.items()
    assert records[-1].items() >= {"event": "error", "error": "SendError", "text": "no way"}.items()


def test_who_has_ended_is_told_no_more(told: tuple[Gossipmonger, list[dict[str, Any]]]) -> None:
    node, records = told
    journal, more = Journal(node), list[Any]()
    end = journal.follow(more.append)
    node.emit("delete", "b", "x")
    end()
    node.emit("delete", "b", "y")
    assert [record["key"] for record in more] == ["x"]
    assert [record["key"] for record in records] == ["x", "y"]


def test_a_peer_that_stays_unreachable_is_told_once(told: tuple[Gossipmonger, list[dict[str, Any]]]) -> None:
    node, records = told
    b = RemotePeer("b", {"host": "b", "port": 1})
    for _ in range(3):
        node.emit("error", SendError("refused", b))
    node.emit("error", SendError("timed out", b))
    node.emit("error", SendError("refused", RemotePeer("c", None)))
    assert [record["text"] for record in records] == ["refused", "refused"]
    node.emit("peer live", b)
    node.emit("error", SendError("refused again", b))
    assert records[-1]["text"] == "refused again"


def test_the_time_is_in_utc() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp())


def text(**record: Any) -> str:
    return line({"time": "2026-11-27T12:03:04.123Z", **record}, Output(io.StringIO(), None, {}))


def test_a_record_is_a_line() -> None:
    assert text(event="peer dead", peer="b", address="b:9742") == "12:03:04.123  peer dead       b at b:9742"
    assert text(event="update", peer="b", key="role", value="web") == '12:03:04.123  update          b role = "web"'
    assert (
        text(event="error", error="SendError", text="no", advice="yes") == "12:03:04.123  error           SendError: no (yes)"
    )


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\n", "\x9b", "\u202e"])
def test_a_hostile_record_is_one_printable_line(hostile: str) -> None:
    assert text(event="update", peer=hostile, key=hostile, value={hostile: hostile}).isprintable()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LonelyError(10, {"10.0.0.9:9742": "no answer"}), "`gossipmonger ping 10.0.0.9:9742` says more"),
        (DuplicateError("a", {"host": "b", "port": 1}), "--id of its own"),
        (ClusterError("prod", "test", "b", "b:1"), "the same --cluster"),
        (SendError("x"), ""),
    ],
)
def test_an_error_comes_with_what_to_do(error: Exception, said: str) -> None:
    assert said in advice(error)
    assert advice(error).isprintable()
