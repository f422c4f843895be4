"""Forgetting by hand: the order, who obeys it, and who comes back."""

from __future__ import annotations

from typing import Any

import pytest

from gossipmonger.protocol import Output, Protocol
from gossipmonger.state import MAX_VERSION, Digest, ExtendedPeer, Header, Kind, Peer
from gossipmonger.storage import MemoryStorage

from .steps import NOW, B, Copying, a_peer, a_protocol, digest_of, entry, events, sends, step

C = ExtendedPeer("c", "at c")
DEAD: dict[str, Any] = {"heartbeat": 10, "live": False, "silent": 60_000}


def order(protocol: Protocol, *orders: tuple[str, int], now: float = NOW) -> Output:
    """Let b tell these orders."""
    own = entry("b", 5, heartbeat=int(now - NOW) // 10 + 1)
    return step(protocol, now=now, entries=[own], header=Header(forget=[[*each] for each in orders]))


def forget(protocol: Protocol, id: str, now: float = NOW) -> tuple[bool, Output]:
    output: Output = []
    return protocol.orders.give(now, id, output), output


def told(digest: Digest) -> list[tuple[str, int]]:
    assert digest.header is not None
    return [(id, heartbeat) for id, heartbeat in digest.header.forget or ()]


def forgotten(output: Output) -> list[str]:
    return [peer.id for (peer,) in events(output, "peer forgotten")]


# Giving an order


@pytest.mark.parametrize("left", [False, True])
def test_who_is_dead_or_has_left_is_dropped_and_few_are_told_at_once(left: bool) -> None:
    others = [a_peer(f"p{number}", ours=True) for number in range(9)]
    protocol, _, storage = a_protocol(a_peer("c", left=left, **DEAD), *others)
    known, output = forget(protocol, "c")
    assert (known, forgotten(output), storage.get("c")) == (True, ["c"], None)
    assert {digest_of(send).kind for send in sends(output)} == {Kind.RUMOR}
    assert len({send.to.id for send in sends(output)}) == 4
    assert [told(digest_of(send)) for send in sends(output)] == [[("c", 10)]] * 4


def test_an_unknown_peer_is_not_known_and_nobody_is_told() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True))
    assert forget(protocol, "c") == (False, [])


def test_a_live_peer_and_the_node_itself_are_refused_with_advice() -> None:
    protocol, _, storage = a_protocol(a_peer("c"))
    with pytest.raises(ValueError, match="peer 'c' is live; only a peer that is dead or has left"):
        forget(protocol, "c")
    with pytest.raises(ValueError, match="'a' is this node itself; leave"):
        forget(protocol, "a")
    assert storage.get("c") is not None


def test_a_storage_that_keeps_its_dead_is_named() -> None:
    class Least(MemoryStorage):
        def remove(self, id: str) -> None:
            raise NotImplementedError

    protocol, _, storage = a_protocol(a_peer("c", **DEAD), a_peer("b", ours=True), storage=Least())
    with pytest.raises(NotImplementedError, match="the storage has no remove"):
        forget(protocol, "c")
    output = order(protocol, ("c", 10)) + order(protocol, ("c", 10), now=NOW + 1) + protocol.round(NOW + 2)
    assert forgotten(output) == []
    assert storage.get("c") is not None
    assert told(digest_of(sends(protocol.round(NOW + 1_000))[0])) == [("c", 10)]  # it passes the order on all the same


def test_rounds_and_replies_tell_the_order_for_thirty_intervals() -> None:
    protocol, _, _ = a_protocol(a_peer("c", **DEAD), a_peer("b", ours=True))
    forget(protocol, "c")
    for second in range(1, 31):
        sent = sends(order(protocol, now=NOW + second * 1_000) + protocol.round(NOW + second * 1_000))
        assert {digest_of(send).kind for send in sent} == {Kind.ROUND, Kind.REPLY}
        assert [told(digest_of(send)) for send in sent] == [[("c", 10)]] * len(sent)
    protocol.round(NOW + 31_000)
    assert told(digest_of(sends(protocol.round(NOW + 32_000))[0])) == []


@pytest.mark.parametrize("how", ["new", "restarted", "back", "old news"])
def test_it_is_told_again_when_somebody_may_have_been_away(how: str) -> None:
    peers = [a_peer("c", **DEAD), a_peer("b", ours=True), a_peer("d", heartbeat=5, live=how != "back")]
    protocol, _, _ = a_protocol(*peers)
    forget(protocol, "c")
    later = NOW + 300_000
    for peer in peers[1:]:
        if peer.live:
            peer.last_time = later
    protocol.round(later)
    assert told(digest_of(sends(protocol.round(later + 1))[0])) == []
    news = {
        "new": entry("e"),
        "restarted": entry("d", heartbeat=10**12),
        "back": entry("d", heartbeat=6),
        "old news": entry("c"),
    }
    step(protocol, now=later + 2, entries=[news[how], entry("b", heartbeat=9)])
    protocol.round(later + 3)
    assert told(digest_of(sends(protocol.round(later + 4))[0])) == [("c", 10)]


def test_after_a_refusal_late_news_does_not_bring_it_back() -> None:
    protocol, _, storage = a_protocol(a_peer("c", **DEAD))
    protocol.membership.refused["c"] = 25
    forget(protocol, "c")
    step(protocol, entries=[entry("c", heartbeat=25)])
    assert storage.get("c") is None
    step(protocol, entries=[entry("c", heartbeat=26)])
    assert storage.get("c") is not None


# Obeying one


@pytest.mark.parametrize("storage", [MemoryStorage, Copying])
def test_who_is_told_drops_it_once_and_tells_others(storage: type[MemoryStorage]) -> None:
    protocol, _, peers = a_protocol(a_peer("c", **DEAD), a_peer("d", ours=True), storage=storage())
    output = order(protocol, ("c", 10))
    assert (forgotten(output), peers.get("c")) == (["c"], None)
    assert {send.to.id for send in sends(output) if digest_of(send).kind is Kind.RUMOR} == {"b", "d"}
    again = order(protocol, ("c", 10), now=NOW + 1)
    assert forgotten(again) == []
    assert all(digest_of(send).kind is Kind.REPLY for send in sends(again))
    step(protocol, now=NOW + 2, entries=[entry("c", heartbeat=10)])
    assert peers.get("c") is None


@pytest.mark.parametrize("heartbeat", [5, 10, 11, 10**12, MAX_VERSION])
def test_no_order_drops_a_live_peer(heartbeat: int) -> None:
    peer = a_peer("c", heartbeat=10)
    protocol, _, storage = a_protocol(peer)
    assert forgotten(order(protocol, ("c", heartbeat)) + protocol.round(NOW + 1_000)) == []
    assert storage.get("c") is peer
    assert peer.live


def test_who_dies_here_after_the_order_is_dropped_then() -> None:
    protocol, _, storage = a_protocol(a_peer("c", heartbeat=10))
    order(protocol, ("c", 10))
    assert forgotten(protocol.round(NOW + 1_000)) == []
    assert [peer.id for (peer,) in events(protocol.round(NOW + 1_900), "peer dead")] == []
    output = [protocol.round(NOW + 2_000 + second * 1_000) for second in range(20)]
    assert [forgotten(each) for each in output if each and forgotten(each)] == [["c"]]
    assert storage.get("c") is None


def test_who_is_heard_of_after_the_order_stays_when_it_dies() -> None:
    protocol, _, storage = a_protocol(a_peer("c", heartbeat=10))
    order(protocol, ("c", 10))
    step(protocol, now=NOW + 500, entries=[entry("c", heartbeat=11), entry("b", heartbeat=900)])
    for second in range(1, 30):
        assert forgotten(protocol.round(NOW + second * 1_000)) == []
    peer = storage.get("c")
    assert peer is not None
    assert peer.state == "dead"


def test_a_later_heartbeat_of_the_same_life_is_told_on() -> None:
    protocol, _, storage = a_protocol(a_peer("c", **{**DEAD, "heartbeat": 14}), a_peer("d", ours=True))
    output = order(protocol, ("c", 10))
    assert (forgotten(output), storage.get("c")) == (["c"], None)
    assert {told(digest_of(send))[0] for send in sends(output) if digest_of(send).kind is Kind.RUMOR} == {("c", 14)}


def test_another_life_is_not_dropped() -> None:
    protocol, _, storage = a_protocol(a_peer("c", **{**DEAD, "heartbeat": 10**12}))
    assert forgotten(order(protocol, ("c", 10)) + protocol.round(NOW + 1_000)) == []
    assert storage.get("c") is not None


def test_an_order_about_an_unknown_peer_is_passed_on_and_believed() -> None:
    protocol, _, storage = a_protocol(a_peer("b", ours=True))
    order(protocol, ("c", 10))
    assert told(digest_of(sends(protocol.round(NOW + 1))[0])) == [("c", 10)]
    step(protocol, now=NOW + 2, entries=[entry("c", heartbeat=10), entry("b", heartbeat=5)])
    assert storage.get("c") is None
    step(protocol, now=NOW + 3, entries=[entry("c", heartbeat=11), entry("b", heartbeat=6)])
    assert storage.get("c") is not None
    assert told(digest_of(sends(protocol.round(NOW + 4))[0])) == []


def test_a_number_beyond_the_bound_is_reported_and_not_obeyed() -> None:
    protocol, _, storage = a_protocol(a_peer("c", **DEAD))
    output = order(protocol, ("c", MAX_VERSION))
    assert len(events(output, "error")) == 1
    assert storage.get("c") is not None


def test_who_hears_an_order_about_itself_goes_above_it() -> None:
    protocol, local, _ = a_protocol()
    heartbeat = local.heartbeat
    order(protocol, ("a", heartbeat - 5))
    assert local.heartbeat == heartbeat
    order(protocol, ("a", heartbeat + 5))
    assert local.heartbeat > heartbeat + 5


def test_orders_are_few() -> None:
    protocol, _, _ = a_protocol(a_peer("b", ours=True))
    for number in range(100):
        order(protocol, (f"c{number}", 10), now=NOW + number)
    assert told(digest_of(sends(protocol.round(NOW + 200))[0])) == [(f"c{number}", 10) for number in range(36, 100)]


def test_an_old_order_is_told_no_more_and_its_peer_stays_forgotten() -> None:
    peer = a_peer("b", ours=True)
    protocol, _, storage = a_protocol(a_peer("c", **DEAD), peer, forget_dead_peers_after=100_000)
    forget(protocol, "c")
    peer.last_time = NOW + 100_001
    protocol.round(NOW + 100_001)
    order(protocol, ("c", 10), now=NOW + 100_002)
    step(protocol, now=NOW + 100_003, entries=[entry("new"), entry("c", heartbeat=10), entry("b", heartbeat=10**6)])
    assert told(digest_of(sends(protocol.round(NOW + 100_004))[0])) == []
    assert storage.get("c") is None


# Coming back


def test_it_returns_by_a_message_of_its_own_or_a_later_heartbeat_and_the_order_is_void() -> None:
    for output in (lambda protocol: step(protocol, C, now=NOW + 1, deltas=[]), heard_again):
        protocol, _, storage = a_protocol(a_peer("c", **DEAD), a_peer("b", ours=True))
        forget(protocol, "c")
        assert [peer.id for (peer,) in events(output(protocol), "new peer")] == ["c"]
        assert told(digest_of(sends(protocol.round(NOW + 2))[0])) == []
        peer = storage.get("c")
        assert isinstance(peer, Peer)
        assert peer.live


def heard_again(protocol: Protocol) -> Output:
    return step(protocol, B, now=NOW + 1, entries=[entry("c", heartbeat=11)])
