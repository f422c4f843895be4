"""Random histories, and a judge who must not miss a fault; more histories with `make histories`."""

from __future__ import annotations

import random
from typing import Any

import pytest

from . import dense, simulated
from .judge import Judge, Wrong


@pytest.mark.untraced
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(4))  # for four cores
def test_simulated_histories_keep_their_promises(rng: random.Random, part: int) -> None:
    first = rng.randrange(10**9) + 20 * part
    for seed in range(first, first + 20):
        simulated.run(seed)  # a failure names its seed; `python -m tests.histories simulated SEED SEED` replays it


@pytest.mark.untraced
@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(4))
def test_dense_histories_keep_their_promises(rng: random.Random, part: int) -> None:
    first = rng.randrange(10**9) + 50 * part
    for seed in range(first, first + 50):
        dense.run(seed)  # a failure names its seed; `python -m tests.histories dense SEED SEED` replays it


def without_after(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "deltas": [delta[:4] for delta in message["deltas"]]} if "deltas" in message else message


@pytest.mark.untraced
def test_a_history_whose_deltas_may_leave_gaps_is_found_out(rng: random.Random) -> None:
    first = rng.randrange(10**9)
    for seed in range(first, first + 500):
        try:
            dense.History(seed, without_after).run()
        except Wrong:
            return
    pytest.fail("no gap was noticed")


@pytest.fixture
def judge() -> Judge:
    judge = Judge()
    judge.truth["o"] = {}
    return judge


def test_a_judge_takes_what_a_late_replica_may_see(judge: Judge) -> None:
    first = judge.set("o", "k")
    judge.deleted("o", "k")
    again = judge.set("o", "k")
    assert judge.truth == {"o": {"k": again}}
    for event, args in [("update", ("o", "k", first)), ("delete", ("o", "k")), ("update", ("o", "k", again))]:
        judge.saw("r", event, args)
    judge.saw("other", "delete", ("o", "k"))  # it came and went in one message


def test_a_judge_notices_a_live_key_that_vanishes(judge: Judge) -> None:
    judge.set("o", "k")
    judge.deleted("o", "k")
    judge.saw("r", "update", ("o", "k", judge.set("o", "k")))
    with pytest.raises(Wrong, match="o's k=3 vanished at r"):
        judge.saw("r", "delete", ("o", "k"))


def test_a_judge_notices_a_deleted_key_that_comes_back(judge: Judge) -> None:
    value = judge.set("o", "k")
    judge.saw("r", "update", ("o", "k", value))
    judge.deleted("o", "k")
    judge.saw("r", "delete", ("o", "k"))
    with pytest.raises(Wrong, match="o's k=1 is back at r"):
        judge.saw("r", "update", ("o", "k", value))


def test_a_judge_notices_a_value_that_is_older_than_the_one_before_it(judge: Judge) -> None:
    older, newer = judge.set("o", "k"), judge.set("o", "k")
    judge.saw("r", "update", ("o", "k", newer))
    with pytest.raises(Wrong, match="o's k=1 is back at r, which had 2"):
        judge.saw("r", "update", ("o", "k", older))


def test_a_judge_lets_a_replica_begin_again_that_forgot_or_was_restored(judge: Judge) -> None:
    older, newer = judge.set("o", "k"), judge.set("o", "k")
    judge.saw("r", "update", ("o", "k", newer))
    judge.forgot("r", "o")
    judge.saw("r", "update", ("o", "k", older))
    judge.saw("r", "update", ("o", "k", newer))
    judge.restored("r", {"o": {"k": older}})
    judge.saw("r", "update", ("o", "k", newer))
    with pytest.raises(Wrong, match="is back"):
        judge.saw("r", "update", ("o", "k", older))


def test_a_judge_knows_what_an_owner_lost_with_its_life(judge: Judge) -> None:
    value = judge.set("o", "k")
    judge.saw("r", "update", ("o", "k", value))
    judge.kept("o", {})
    assert judge.truth == {"o": {}}
    judge.saw("r", "delete", ("o", "k"))


def test_a_judge_takes_any_error_for_wrong(judge: Judge) -> None:
    with pytest.raises(Wrong, match="r had an error: KeyError"):
        judge.saw("r", "error", (KeyError("k"),))
