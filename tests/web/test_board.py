"""The board: what is newer than a number, in which order, and how much of it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gossipmonger import RemotePeer, SendError
from gossipmonger.simulation import Simulation
from gossipmonger.web import Board, board


class Case:
    """Two nodes, and the board of the first."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.a, self.b = simulation.add("a"), simulation.add("b", seeds=["a"])
        self.a.update("old", 1)
        self.board = Board(self.a)
        self.number, self.told = self.news(None)

    def news(self, number: int | None) -> tuple[int, dict[str, Any]]:
        found = self.board.news(number, 0)
        assert found is not None
        return found

    def next(self) -> dict[str, Any]:
        self.number, told = self.news(self.number)
        return told

    def keys(self, told: dict[str, Any]) -> list[Any]:
        return [(each["peer"], each["key"], each.get("text")) for each in told["keys"]]


@pytest.fixture
def case() -> Iterator[Case]:
    with Simulation(seed=1) as simulation:
        case = Case(simulation)
        yield case
        case.board.close()


def test_everything_comes_first(case: Case) -> None:
    assert case.told["node"].items() >= {"id": "a", "cluster": None, "dead_phi": 8}.items()
    assert [each["id"] for each in case.told["peers"]] == ["a"]
    assert case.told["keys"] == [{"peer": "a", "key": "old", "text": "1", "cut": False, "time": None}]
    assert case.told["events"] == []


def test_then_comes_what_is_newer(case: Case) -> None:
    case.a.update("x", 1)
    case.a.update("y", 2)
    case.a.update("x", 3)
    told = case.next()
    assert case.keys(told) == [("a", "y", "2"), ("a", "x", "3")]
    assert [each["text"] for each in told["events"]] == ["1", "2", "3"]
    assert "peers" not in told
    assert case.board.news(case.number, 0) is None


def test_a_number_beyond_all_is_taken_for_the_last(case: Case) -> None:
    assert case.board.news(10**9, 0) is None


def test_the_time_of_a_change_is_the_node_s(case: Case) -> None:
    case.simulation.run(5_000)
    case.a.update("x", 1)
    assert case.next()["keys"][-1]["time"] == round(case.simulation.now)


def test_a_deleted_key_is_removed(case: Case) -> None:
    case.a.delete("old")
    told = case.next()
    assert told["keys"] == [{"peer": "a", "key": "old", "removed": True}]
    assert told["events"][-1]["event"] == "delete"
    assert case.news(None)[1]["keys"] == []


def test_keys_of_a_dead_peer_stay_until_it_is_forgotten(case: Case) -> None:
    case.b.update("x", 1)
    case.simulation.run(10_000)
    case.board.look()
    when = case.news(None)[1]["keys"][-1]["time"]
    case.simulation.vanish("b")
    case.simulation.run(60_000)
    case.board.look()
    told = case.news(None)[1]
    assert told["keys"][-1] == {"peer": "b", "key": "x", "text": "1", "cut": False, "time": when, "gone": True}
    assert [each["state"] for each in told["peers"]] == ["live", "dead"]
    assert "peer dead" in [each["event"] for each in told["events"]]
    case.number = case.news(None)[0]
    case.a.forget("b")
    case.board.look()
    told = case.next()
    assert told["keys"] == [{"peer": "b", "key": "x", "removed": True}]
    assert case.news(None)[1]["phis"].keys() == {"a"}


def test_a_peer_that_is_back_has_changed_nothing(case: Case) -> None:
    case.b.update("x", 1)
    case.simulation.run(10_000)
    case.board.look()
    before = case.news(None)[1]["keys"][-1]
    case.simulation.partition(["a"])
    case.simulation.run(60_000)
    assert "gone" in case.news(None)[1]["keys"][-1]
    case.simulation.heal()
    case.simulation.run(20_000)
    assert case.news(None)[1]["keys"][-1] == before


def test_an_error_that_comes_again_moves_up(case: Case) -> None:
    for number in range(3):
        case.a.emit("error", SendError("no route", RemotePeer("b", None)))
        case.a.emit("error", ValueError(f"other {number}"))
    events = case.next()["events"]
    assert [(each["text"], each["times"]) for each in events] == [
        ("ValueError: other 0", 1), ("ValueError: other 1", 1), ("SendError: no route", 3), ("ValueError: other 2", 1),
    ]  # fmt: skip
    assert events[2]["peer"] == "b"


def test_only_what_changed_last_is_kept(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "MAX_KEYS", 3)
    for number in range(board.MAX_EVENTS + 5):
        case.a.update(f"k{number}", number)
    _, told = case.news(None)
    assert [each["text"] for each in told["keys"]] == ["202", "203", "204"]
    assert len(told["events"]) == board.MAX_EVENTS


def test_phi_is_kept_for_a_minute(case: Case) -> None:
    for _ in range(board.MAX_PHIS + 5):
        case.simulation.run(1_000)
        case.board.look()
    assert {id: len(phis) for id, phis in case.news(None)[1]["phis"].items()} == {"a": board.MAX_PHIS, "b": board.MAX_PHIS}


def test_a_failing_storage_ends_nothing(case: Case, monkeypatch: pytest.MonkeyPatch, logged: list[Any]) -> None:
    failed = iter([True, False])
    real = case.board.look
    monkeypatch.setattr(board, "_PAUSE", 0.01)
    other = Board(case.a)
    try:
        monkeypatch.setattr(other, "look", lambda: 1 / 0 if next(failed, False) else real())
        number = case.number
        found = None
        for _ in range(20):
            found = found or case.board.news(number, 2)
        assert found is not None
        assert "ZeroDivisionError" in str([each.getMessage() for each in logged] + [each.exc_info for each in logged])
    finally:
        other.close()


def test_whoever_waits_is_told_of_the_end(case: Case) -> None:
    case.board.close()
    assert case.board.news(case.number, 10) is None
    assert case.board.news(None, 10) is None


@pytest.mark.parametrize(
    ("value", "text", "cut"),
    [
        (None, "null", False), ("käse", '"käse"', False), ({"a": [1, 2.5, True]}, '{"a": [1, 2.5, true]}', False),
        ("x" * 500, '"' + "x" * 199, True), (list(range(1000)), str(list(range(1000)))[:200], True),
        ("\ud800", '"\ud800"', False),
    ],
)  # fmt: skip
def test_a_value_is_shown_as_json_as_far_as_there_is_room(value: Any, text: str, cut: bool) -> None:
    assert board.preview(value) == (text, cut)
