"""Watches add up to what `peers` shows; more histories with `make watches`. And a follower must not miss a fault."""

from __future__ import annotations

import random

import pytest

from gossipmonger import Change
from gossipmonger.simulation import Simulation

from . import simulated, sockets
from .follower import Follower


@pytest.mark.untraced
@pytest.mark.timeout(300)
def test_twenty_watched_histories_add_up(rng: random.Random) -> None:
    first = rng.randrange(10**9)
    told = sum(simulated.run(seed) for seed in range(first, first + 20))
    assert told > 1_500  # a failure names its seed; `python -m tests.watches simulated SEED SEED` replays it


@pytest.mark.untraced
def test_watches_of_busy_nodes_on_sockets_add_up(rng: random.Random) -> None:
    cluster = sockets.run(rng.randrange(10**9), 2)
    assert cluster.wrong == []
    assert cluster.written > 100
    assert all(follower.told for follower in cluster.followers if follower.arguments["peer"] != "d")


@pytest.fixture
def follower() -> Follower:
    node = Simulation().add("a", gossip=False)
    node.update("k", 1)
    return Follower(node, "k", order=sockets.order)


def test_a_follower_takes_what_adds_up(follower: Follower) -> None:
    follower.node.update("k", 2)
    for change in [
        Change("a", "k", 1, "set"),
        Change("b", "kk", 1, "set"),
        Change("a", "k", 2, "set"),
        Change("b", "kk", None, "gone"),
    ]:
        follower.hear(change)
    assert follower.differences() == []
    assert follower.told == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], "is 1, and was told as None"),
        ([Change("a", "k", 2, "set")], "is 1, and was told as 2"),
        ([Change("a", "k", 1, "set"), Change("a", "k", 1, "set")], "told twice"),
        ([Change("a", "k", 2, "set"), Change("a", "k", 1, "set")], "told after 2"),
        ([Change("a", "k", 1, "set"), Change("b", "k", None, "delete")], "of what was not there"),
        ([Change("a", "k", 1, "set"), Change("a", "l", 1, "set")], "not watched"),
    ],
)
def test_a_follower_notices_what_does_not(follower: Follower, changes: list[Change], words: str) -> None:
    for change in changes:
        follower.hear(change)
    assert words in follower.differences()[0]
