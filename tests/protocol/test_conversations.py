"""Conversations: who is replied to, and what flow control learns."""

from __future__ import annotations

from typing import Any

import pytest

from gossipmonger.protocol.conversations import Conversations
from gossipmonger.state import Header, Kind

from .steps import NOW, a_config


def conversations(**config: Any) -> Conversations:
    return Conversations(a_config(**config), NOW)


def replies(to: Conversations, kind: Kind, brings: bool, count: int = 200, now: float = NOW) -> int:
    return sum(to.may_reply(now, "b", kind, brings) for _ in range(count))


@pytest.mark.parametrize("kind", [Kind.ROUND, Kind.REPLY, Kind.RUMOR])
def test_whoever_brings_something_is_always_replied_to(kind: Kind) -> None:
    assert replies(conversations(), kind, brings=True) == 200


@pytest.mark.parametrize(("kind", "allowed"), [(Kind.ROUND, 64), (Kind.RUMOR, 64), (Kind.REPLY, 32)])
def test_without_news_there_is_an_end_until_the_next_interval(kind: Kind, allowed: int) -> None:
    talk = conversations()
    assert replies(talk, kind, brings=False) == allowed  # a reply is one of theirs, answered by one of ours
    assert replies(talk, kind, brings=True) == 200
    assert replies(talk, kind, brings=False, now=NOW + 999) == 0
    assert talk.may_reply(NOW, "c", kind, brings=False)
    assert replies(talk, kind, brings=False, now=NOW + 1_000) == allowed
    assert replies(talk, kind, brings=False, now=NOW - 1) == allowed  # the clock was set back


@pytest.mark.parametrize("brings", [False, True])
@pytest.mark.parametrize("most", [0, 1, 5])
def test_a_bound_that_is_set_counts_whatever_comes(most: int, brings: bool) -> None:
    assert replies(conversations(max_exchanges_per_gossip=most), Kind.ROUND, brings) == most


def test_flow_control_begins_with_what_can_be_told_in_an_interval() -> None:
    def tau(**config: Any) -> float:
        flow = conversations(flow_control=True, **config).flow
        assert flow is not None
        return flow.tau

    assert tau(max_deltas_per_gossip=5, max_exchanges_per_gossip=64) == 320
    assert tau(max_deltas_per_gossip=5, max_exchanges_per_gossip=0) == 5
    assert tau() == tau(max_deltas_per_gossip=5) == tau(max_exchanges_per_gossip=64) == 100_000
    assert conversations().flow is None


def a_flow(rate: float) -> tuple[Conversations, Any]:
    talk = conversations(flow_control=True)
    flow = talk.flow
    assert flow is not None
    flow.meet(10)
    flow._rate = rate
    return talk, flow


def test_a_conversation_that_comes_to_its_end_before_the_round_has_not_overflowed() -> None:
    talk, flow = a_flow(5)
    for _ in range(10):
        for cut in (True, True, False):
            talk.answer("b", cut)
        talk.begin_round()
    assert flow.tau == pytest.approx(10.2)


def test_one_that_is_still_open_has() -> None:
    talk, flow = a_flow(5)
    for _ in range(2):
        for _ in range(9):
            talk.answer("b", cut=True)
        assert flow.tau == 10
        talk.begin_round()
    assert flow.tau == 3
    talk.begin_round()
    talk.begin_round()
    assert flow.tau == 3  # it has been counted


def test_without_flow_control_there_are_no_rates() -> None:
    talk = conversations()
    talk.answer("b", cut=True)
    talk.begin_round()
    talk.answer("b", cut=False)
    assert talk.read_flow(Header([5.0, 0.5])) is None
    flowing, _ = a_flow(5)
    assert flowing.read_flow(Header()) is None
    assert flowing.read_flow(Header([5.0, 0.5])) is not None
