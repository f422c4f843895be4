"""Elections: the one that has stood longest leads, at all nodes that agree on who is live."""

from __future__ import annotations

import math
from random import Random

import pytest

from gossipmonger import Gossipmonger
from gossipmonger.recipes import elect
from gossipmonger.simulation import Simulation

SECOND = 1_000


def test_whoever_stands_longest_leads_and_of_equals_the_lower_id() -> None:
    assert elect({"a": 3, "b": 1.5, "c": 2}) == "b"
    assert elect({"b": 1, "a": 1, "c": 2}) == elect({"a": 1, "c": 2, "b": 1}) == "a"


def test_nobody_leads_if_nobody_stands() -> None:
    assert elect({}) is None
    assert elect({"a": "1", "b": None, "c": True, "d": [0], "e": math.nan}) is None
    assert elect({"a": "1", "b": 5}) == "b"


@pytest.mark.parametrize("ids", [["a", "b"], "ab", None])
def test_ids_without_ages_are_refused(ids: object) -> None:
    with pytest.raises(TypeError, match=r"ids must be a mapping, .* node\.values"):
        elect(ids)  # type: ignore[arg-type]


def stand(node: Gossipmonger) -> None:
    node.update("standing", node.options.clock())


def test_all_nodes_elect_the_oldest_and_a_restart_goes_to_the_end_of_the_line(rng: Random) -> None:
    with Simulation(rng.randrange(1_000)) as sim:
        for number in range(5):
            sim.add(f"n{9 - number}", seeds=["n9"])  # ids and ages in opposite orders
            stand(sim.node(f"n{9 - number}"))
            sim.run(3 * SECOND)

        def all_elect(leader: str, among: str) -> bool:
            nodes = [sim.node(f"n{number}") for number in among]
            return {elect(node.values("standing")) for node in nodes} == {leader}

        sim.run_until(lambda: all_elect("n9", "98765"), limit=10 * SECOND)
        sim.crash("n9")
        sim.run_until(lambda: all_elect("n8", "8765"), limit=60 * SECOND)
        stand(sim.restart("n9"))
        sim.run_until(lambda: len(sim.node("n5").values("standing")) == 5, limit=60 * SECOND)
        sim.run(10 * SECOND)
        assert all_elect("n8", "98765")
        sim.node("n8").delete("standing")
        sim.run_until(lambda: all_elect("n7", "98765"), limit=10 * SECOND)


def test_a_number_that_no_float_holds_is_one() -> None:
    assert elect({"a": 10**400, "b": 5, "c": float("inf")}) == "b"
    assert elect({"a": 10**400}) == "a"
