"""Answers for programs; what they are over HTTP is tested with the server."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from gossipmonger.simulation import Simulation
from gossipmonger.web import Board
from gossipmonger.web.answers import Answers


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Simulation(seed=1) as simulation:
        a, b = simulation.add("a"), simulation.add("b", seeds=["a"])
        a.update("role", "web")
        b.update("role", "db")
        simulation.run(5_000)
        simulation.vanish("b")
        simulation.run(60_000)
        board = Board(a)
        yield Answers(a, board)
        board.close()


def test_values_of_dead_peers_are_told_if_they_are_asked_for(answers: Answers) -> None:
    assert answers.key("role", all=False).body["values"] == {"a": "web"}
    assert answers.key("role", all=True).body["values"] == {"a": "web", "b": "db"}


def test_peers_are_told_with_their_states(answers: Answers) -> None:
    assert {peer["id"]: peer["state"] for peer in answers.peers().body["peers"]} == {"a": "live", "b": "dead"}


@pytest.mark.parametrize(
    ("accept", "type", "end"),
    [("", "text/plain", b""), ("application/openmetrics-text; version=1.0.0", "application/open", b"# EOF\n")],
)
def test_metrics_are_told_as_they_are_asked_for(answers: Answers, accept: str, type: str, end: bytes) -> None:
    pytest.importorskip("prometheus_client")
    for _ in range(2):
        answer = answers.metrics(accept)
        assert answer.status == 200
        assert answer.type.startswith(type)
        assert b'gossipmonger_peers{state="dead"} 1.0' in answer.encoded()
        assert answer.encoded().endswith(end)


def test_without_the_extra_it_is_named(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    answer = answers.metrics("")
    assert (answer.status, b"gossipmonger[prometheus]" in answer.encoded()) == (501, True)
