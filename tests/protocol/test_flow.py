"""Flow control: what waits, what is shared, what is learned from overflow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.protocol import Protocol
from gossipmonger.state import Flow, Header, Kind, Peer
from gossipmonger.state.values import TOMBSTONE

from .steps import NOW, a_peer, a_protocol, digest_of, entry, sends, step

RATES = st.floats(0.05, 5)


def a_flow(tau: float, interval: float = 1000, deltas: int = 5) -> Flow:
    flow = Flow(interval, deltas, 0)
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
    one, other = a_flow(tau, deltas=100), a_flow(other_tau, deltas=100)
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
    flow = Flow(1000, 320, 0)
    assert flow.tau == 5 * 64
    flow.meet(1.5)
    assert flow.tau == 1.5
    flow.meet(0.5)
    assert flow.tau == 1.5


# In the protocol


def slow(*peers: Peer) -> tuple[Protocol, Peer]:
    """A node that may make two updates a second."""
    protocol, local, _ = a_protocol(*peers, flow_control=True)
    step(protocol, entries=[], header=Header([0.0, 2.0]))
    return protocol, local


def rounds(protocol: Protocol, first: int, count: int) -> None:
    for second in range(first, first + count):
        protocol.round(NOW + 1_000 * second)


def test_the_owner_sees_what_waits_and_others_what_was_admitted() -> None:
    protocol, local = slow()
    for n in range(10):
        assert protocol.update(NOW, f"k{n}", n) is True
    assert protocol.update(NOW, "k9", 9) is False
    assert protocol.update(NOW, "k9", "nine") is True
    assert protocol.newest("k9") == "nine"
    assert 1 <= len(local.data) <= 2
    assert len(local.data) + len(protocol.waiting) == 10
    rounds(protocol, 1, 10)
    assert not protocol.waiting
    assert {key: value for key, (value, _) in local.data.items()} == {**{f"k{n}": n for n in range(9)}, "k9": "nine"}


def test_deletes_wait_too() -> None:
    protocol, local = slow()
    for n in range(4):
        protocol.update(NOW, f"k{n}", n)
    rounds(protocol, 1, 10)
    for n in range(4):
        assert protocol.delete(NOW + 10_000, f"k{n}") is True
        assert protocol.delete(NOW + 10_000, f"k{n}") is False
    assert TOMBSTONE in protocol.waiting.values()
    assert protocol.newest("k3", "gone") == "gone"
    assert local.data
    rounds(protocol, 11, 10)
    assert local.data == {}


def test_a_key_that_is_set_back_while_it_waits_is_as_it_was_and_is_not_written_again() -> None:
    protocol, local = slow()
    protocol.update(NOW, "k", 1)
    for value in (2, 3, 4, 1):
        protocol.update(NOW, "k", value)
    written = local.max_version_seen
    rounds(protocol, 1, 5)
    assert protocol.newest("k") == 1
    assert (local.max_version_seen, written) == (1, 1)


def test_a_round_tells_the_rates_and_a_reply_the_grant() -> None:
    protocol, _ = slow(a_peer("b", ours=True))
    for _ in range(3):
        (send,) = sends(protocol.round(NOW + 1_000))
        header = digest_of(send).header
        assert header is not None
        assert header.flow is not None
        assert len(header.flow) == 2
    output = step(protocol, entries=[entry("a"), entry("b", heartbeat=3)], header=Header([5.0, 0.5]), now=NOW + 1_100)
    (send,) = sends(output)
    digest = digest_of(send)
    assert digest.kind is Kind.REPLY
    assert digest.header is not None
    rho, tau, grant = digest.header.flow or ()
    assert rho == 0
    assert tau == pytest.approx(0.05)
    assert grant == pytest.approx(2, abs=0.05)


def test_a_grant_is_taken_and_not_answered() -> None:
    protocol, _ = slow(a_peer("b", ours=True))
    before = told_rate(protocol)
    assert sends(step(protocol, entries=[entry("b", heartbeat=2)], kind=Kind.REPLY, header=Header([0.0, 1.0, 0.75]))) == []
    assert told_rate(protocol) == pytest.approx(before + 0.75)


def told_rate(protocol: Protocol) -> float:
    (send,) = sends(protocol.round(NOW))
    header = digest_of(send).header
    assert header is not None
    assert header.flow is not None
    return header.flow[1]
