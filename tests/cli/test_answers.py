"""What can be asked, on nodes of a simulation; what waits is asked of a real agent in test_commands.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gossipmonger.cli.answers import Answers
from gossipmonger.cli.journal import Journal
from gossipmonger.cli.outcome import ABSENT, USAGE, CommandError
from gossipmonger.simulation import Simulation


class Cluster:
    """Three nodes that know each other, of which one has been killed, and what answers for the first."""

    def __init__(self) -> None:
        self.sim = Simulation(seed=1)
        self.nodes = {id: self.sim.add(id, seeds=["a"]) for id in "abc"}
        self.node = self.nodes["a"]
        self.ended: list[bool] = []
        self.answers = Answers(self.node, Journal(self.node), lambda: {"version": "1"}, lambda: self.ended.append(True))
        self.nodes["a"].update("role", "web")
        self.nodes["b"].update("role", "db")
        self.nodes["b"].update("load/cpu", 0.5)
        self.nodes["c"].update("role", "web")
        self.sim.run(5_000)
        self.sim.crash("c")
        self.sim.run(30_000)

    def ask(self, ask: str, **arguments: Any) -> list[dict[str, Any]]:
        return [*self.answers.answer({"ask": ask, **arguments})]

    def refused(self, ask: str, code: int, said: str, **arguments: Any) -> None:
        with pytest.raises(CommandError, match=said) as error:
            self.ask(ask, **arguments)
        assert error.value.code == code


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.sim.close()


def test_members_are_told_with_what_one_needs_at_night(cluster: Cluster) -> None:
    a, b, c = cluster.ask("members")
    assert a == {**a, "id": "a", "state": "live", "heard": 0.0, "phi": 0.0, "keys": 1, "local": True}
    assert (b["id"], b["state"], b["keys"], b["local"]) == ("b", "live", 2, False)
    assert 0 <= b["heard"] < 5
    assert (c["id"], c["state"]) == ("c", "dead")
    assert c["heard"] > 20


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ({"state": ["dead"]}, "c"), ({"state": ["dead", "live"]}, "abc"), ({"where": {"role": "web"}}, "ac"),
        ({"where": {"role": "web"}, "state": ["live"]}, "a"), ({"where": {"none": 1}}, ""), ({"where": {"load/cpu": 0.5}}, "b"),
    ],
)  # fmt: skip
def test_members_are_chosen_by_state_and_by_their_keys(cluster: Cluster, arguments: dict[str, Any], ids: str) -> None:
    assert [member["id"] for member in cluster.ask("members", **arguments)] == [*ids]


def test_get(cluster: Cluster) -> None:
    assert cluster.ask("get", key="role") == [{"peer": "a", "key": "role", "value": "web"}]
    assert cluster.ask("get", key="role", peer="b") == [{"peer": "b", "key": "role", "value": "db"}]
    cluster.refused("get", ABSENT, "'a' has no key 'none'", key="none")
    cluster.refused("get", ABSENT, "no peer 'z' is known; `gossipmonger members` lists", key="role", peer="z")
    cluster.refused("get", USAGE, "key must be a string, got None")


def test_keys(cluster: Cluster) -> None:
    assert cluster.ask("keys") == [{"key": "load/cpu", "peers": ["b"]}, {"key": "role", "peers": ["a", "b"]}]
    assert cluster.ask("keys", prefix="lo") == [{"key": "load/cpu", "peers": ["b"]}]
    assert cluster.ask("keys", peer="c") == [{"key": "role", "value": "web"}]
    assert cluster.ask("keys", prefix="zz") == []
    cluster.refused("keys", ABSENT, "no peer 'z'", peer="z")


def test_values(cluster: Cluster) -> None:
    assert cluster.ask("values", key="role") == [{"peer": "a", "value": "web"}, {"peer": "b", "value": "db"}]
    assert len(cluster.ask("values", key="role", all=True)) == 3


def test_set_and_delete(cluster: Cluster) -> None:
    assert cluster.ask("set", key="x", value=None) == [{"changed": True}]
    assert cluster.ask("set", key="x", value=None) == [{"changed": False}]
    assert cluster.ask("delete", key="x") == [{"deleted": True}]
    assert cluster.ask("delete", key="x") == [{"deleted": False}]
    cluster.refused("set", USAGE, "value is missing", key="x")
    cluster.refused("set", USAGE, "__proto__", key="__proto__", value=1)


def test_forget(cluster: Cluster) -> None:
    cluster.refused("forget", ABSENT, "'b' is live", peer="b")
    assert cluster.ask("forget", peer="z") == [{"forgotten": False}]
    cluster.refused("forget", USAGE, "peer must be a string", peer=5)


def test_info(cluster: Cluster) -> None:
    (info,) = cluster.ask("info")
    assert info.items() >= {"id": "a", "cluster": None, "peers": {"live": 2, "dead": 1, "left": 0}, "version": "1"}.items()


def test_an_unknown_question_is_refused_with_the_nearest(cluster: Cluster) -> None:
    cluster.refused("membrs", USAGE, "can't be asked 'membrs'; did you mean 'members'")
    cluster.refused("zzz", USAGE, "can't be asked 'zzz'; it may be of an older version")
    with pytest.raises(CommandError, match="can't be asked None"):
        next(cluster.answers.answer({}))


def test_who_reads_events_too_slowly_is_told(cluster: Cluster) -> None:
    answers = cluster.answers.answer({"ask": "events"})
    cluster.node.emit("delete", "b", "before")
    late: list[bool] = []
    answers = cluster.answers.answer({"ask": "events"}, lambda: bool(late))

    def flood() -> bool:
        if not late:
            for _ in range(10_001):
                cluster.node.emit("delete", "b", "x")
        return False

    answers = cluster.answers.answer({"ask": "events", "events": ["delete"]}, flood)
    assert next(answers)["key"] == "x"
    late.append(True)
    with pytest.raises(CommandError, match="events came faster than they were read"):
        for _ in answers:
            pass
