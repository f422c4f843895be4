"""Flow control: what waits, what is shared, what is learned from overflow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import Gossipmonger, Options
from gossipmonger.flow import Flow
from gossipmonger.simulation import Simulation

RATES = st.floats(0.05, 5)


def a_flow(tau: float, **options: object) -> Flow:
    flow = Flow(Options.parse(None, {"max_exchanges_per_gossip": 1, **options}), 0)
    flow.meet(tau)
    return flow


def test_updates_within_the_rate_are_admitted_at_once() -> None:
    flow = a_flow(2)
    assert all(flow.offer(n * 500, "k", n) for n in range(20))
    assert not flow.waiting


def test_what_is_above_the_rate_waits_and_is_admitted_round_by_round_in_its_order() -> None:
    flow = a_flow(2)
    admitted = [key for key in "abcdef" if flow.offer(0, key, 1)]
    assert admitted == ["a"]
    assert [[key for key, _ in flow.admit(1_000 * n)] for n in (1, 2, 3, 4)] == [["b", "c"], ["d", "e"], ["f"], []]


def test_a_later_value_takes_the_place_of_the_one_that_waits() -> None:
    flow = a_flow(1)
    for key, value in [("a", 0), ("b", 1), ("c", 2), ("b", 3)]:
        flow.offer(0, key, value)
    assert dict(flow.waiting) == {"b": 3, "c": 2}
    assert list(flow.admit(1_000)) == [("b", 3)]


def test_what_was_not_used_is_not_saved_up() -> None:
    flow = a_flow(2)
    assert sum(flow.offer(60_000, f"k{n}", n) for n in range(10)) == 2


def test_a_rate_below_one_in_an_interval_is_kept_over_many() -> None:
    flow = a_flow(0.9)
    for n in range(100):
        flow.offer(0, f"k{n}", n)
    admitted = [key for n in range(1, 101) for key, _ in flow.admit(1_000 * n)]
    assert 89 <= len(admitted) <= 90


@given(RATES, RATES, RATES, RATES)
def test_two_that_share_keep_the_sum_of_their_rates(tau: float, other_tau: float, want: float, other_want: float) -> None:
    one, other = a_flow(tau, max_deltas_per_gossip=100), a_flow(other_tau, max_deltas_per_gossip=100)
    one._rate, other._rate = want, other_want
    both = one.tau + other.tau
    rho, told = one.entry()
    *_, grant = other.give(other.grant_for(rho, told))
    one.take(grant)
    if one.tau > 0.06 and other.tau > 0.06:  # above the least that everyone has
        assert one.tau + other.tau == pytest.approx(both, abs=0.01)
    if want + other_want <= both - 0.01:
        assert one.tau - want == pytest.approx(other.tau - other_want, abs=0.01)  # what is left is shared evenly
    elif min(want, other_want) >= both / 2 + 0.01:
        assert one.tau == pytest.approx(other.tau, abs=0.01)
    elif want + other_want > both + 0.01 and min(want, other_want) < both / 2 - 0.01:
        assert min(abs(one.tau - want), abs(other.tau - other_want)) == pytest.approx(0, abs=0.01)  # the lesser wish is met


def test_two_overflows_in_a_row_shrink_the_rate_in_use_and_each_gossip_without_adds_to_it() -> None:
    flow = a_flow(2)
    flow._rate = 1.0
    flow.gossiped(True)
    flow.gossiped(False)
    assert flow.tau == pytest.approx(2.02)
    for _ in range(2):
        flow.gossiped(True)
    assert flow.tau == pytest.approx(0.6)
    for _ in range(5):
        flow.gossiped(False)
        flow.take(1)
    assert flow.tau == pytest.approx(0.6)  # others have not noticed yet
    flow._rate = 5.0
    for _ in range(4):
        flow.gossiped(True)
    assert flow.tau == pytest.approx(0.6**3)


def test_the_rate_has_a_least_and_a_most() -> None:
    flow = a_flow(2)
    for _ in range(100):
        flow.gossiped(True)
    assert flow.tau == 0.05
    for _ in range(300):
        flow.gossiped(False)
    assert flow.tau == 5  # what one message carries


def test_alone_there_is_no_limit_but_that_of_messages_and_who_comes_new_takes_the_rate_of_others() -> None:
    flow = Flow(Options.parse(None, {}), 0)
    assert flow.tau == 5 * 64
    flow.meet(1.5)
    assert flow.tau == 1.5
    flow.meet(0.5)
    assert flow.tau == 1.5


# In an endpoint


def slow_pair() -> tuple[Simulation, Gossipmonger, Gossipmonger]:
    sim = Simulation(seed=3)
    a, b = (sim.add(id, seeds=["a"], flow_control=True) for id in "ab")
    sim.run(5_000)
    for node in (a, b):
        flow = node._protocol._flow
        assert flow is not None
        flow._set(2)
        flow._most = 2
    return sim, a, b


def test_the_owner_sees_what_waits_and_others_what_was_admitted() -> None:
    sim, a, b = slow_pair()
    for n in range(10):
        assert a.update(f"k{n}", n) is True
    assert a.update("k9", 9) is False
    assert a.update("k9", "nine") is True
    assert a.get("a", "k9") == "nine"
    assert len(a.peers()["a"].data) == 10
    sim.run(2_500)
    assert 3 <= len(b.peers()["a"].data) <= 7
    sim.run(10_000)
    assert b.peers()["a"].data == a.peers()["a"].data == {**{f"k{n}": n for n in range(9)}, "k9": "nine"}


def test_deletes_wait_too() -> None:
    sim, a, b = slow_pair()
    for n in range(4):
        a.update(f"k{n}", n)
    sim.run(10_000)
    for n in range(4):
        assert a.delete(f"k{n}") is True
        assert a.delete(f"k{n}") is False
    assert a.peers()["a"].data == {}
    assert a.get("a", "k3", "gone") == "gone"
    sim.run(10_000)
    assert b.peers()["a"].data == {}


def test_a_key_that_is_set_back_while_it_waits_is_as_it_was() -> None:
    sim, a, b = slow_pair()
    a.update("k", 1)
    sim.run(5_000)
    for value in (2, 3, 1):
        a.update("k", value)
    sim.run(5_000)
    assert b.get("a", "k") == 1


def test_rates_are_shared_over_the_network() -> None:
    sim, a, b = slow_pair()
    for _ in range(20):
        for n in range(5):
            a.update(f"k{n}", sim.now)
        sim.run(1_000)
    rates = [node._protocol._flow.tau for node in (a, b) if node._protocol._flow is not None]
    assert len(rates) == 2
    digests = []
    b.on("digest receive", lambda peer, digest: digests.append(digest[-1]))
    sim.run(2_000)
    assert all(len(own["flow"]) >= 2 for own in digests if not own.keys() & {"reply", "rumor"})
