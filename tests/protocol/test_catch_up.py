"""Catch-up: what is on its way is not asked for again, and a conversation goes on for as long as it brings something."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from gossipmonger.protocol import Output, Protocol, Send
from gossipmonger.protocol.catch_up import CatchUp
from gossipmonger.simulation import Simulation
from gossipmonger.state import Delta, ExtendedPeer, Header, Kind, Message, Peer, RemotePeer
from gossipmonger.wire import encode

from .steps import NOW, Copying, a_peer, a_protocol, digest_of, entry, ids, sends, step


def behind(id: str, by: int = 11) -> Peer:
    peer = Peer(id, max_version_seen=5)
    peer.hear_of(5 + by, 0, False)
    return peer


def ask(catch_up: CatchUp, now: float, id: str, peers: list[Peer], cut: bool = True) -> None:
    catch_up.ask(now, id, peers, [], [peer.id for peer in peers] if cut else [])


def awaits(catch_up: CatchUp, now: float, peer: Peer) -> bool:
    return catch_up.unasked(now, [peer]) == []


def test_until_an_answer_was_cut_others_are_asked_too() -> None:
    catch_up, peer = CatchUp(50), behind("p")
    ask(catch_up, 0, "a", [peer], cut=False)
    assert not awaits(catch_up, 0, peer)
    catch_up.answered(1, "a")
    ask(catch_up, 1, "a", [peer])
    assert awaits(catch_up, 1, peer)


def test_who_has_asked_waits_for_an_answer_and_asks_again_when_it_has_come_or_is_late() -> None:
    catch_up, peer, other = CatchUp(50), behind("p"), Peer("o")
    assert catch_up.unasked(0, [peer, other]) == [peer, other]
    ask(catch_up, 0, "a", [peer])
    assert catch_up.unasked(49, [peer, other]) == [other]
    assert catch_up.unasked(50, [peer, other]) == [peer, other]
    ask(catch_up, 100, "a", [peer])
    assert not awaits(catch_up, 99, peer)  # the clock was set back
    ask(catch_up, 100, "a", [peer])
    catch_up.answered(101, "b")
    assert awaits(catch_up, 101, peer)
    peer.max_version_seen = 6
    assert not awaits(catch_up, 101, peer)


def test_what_an_answer_could_not_tell_is_free_to_be_asked_for_again() -> None:
    catch_up, peers = CatchUp(50), [behind(f"p{n}") for n in range(3)]
    ask(catch_up, 0, "a", peers[:2])
    ask(catch_up, 1, "b", peers[1:])
    catch_up.answered(2, "a")
    assert catch_up.unasked(2, peers) == peers[:1]  # the second one, another was asked for later
    ask(catch_up, 3, "b", [])
    assert catch_up.unasked(3, peers) == peers


def test_the_wait_is_as_long_as_answers_take() -> None:
    catch_up, peer = CatchUp(50), behind("p")
    ask(catch_up, 0, "a", [peer])
    catch_up.answered(1_000, "a")
    catch_up.answered(9_000, "a")  # this is none
    assert not awaits(catch_up, 1_000, peer)
    ask(catch_up, 2_000, "a", [peer])
    assert awaits(catch_up, 5_999, peer)
    assert not awaits(catch_up, 6_000, peer)
    for _ in range(100):
        ask(catch_up, 10_000, "a", [peer])
        catch_up.answered(10_001, "a")
    ask(catch_up, 20_000, "a", [peer])
    assert awaits(catch_up, 20_049, peer)
    assert not awaits(catch_up, 20_050, peer)


class Chosen:
    """What `choose` makes of many peers."""

    def __init__(self, count: int, by: int) -> None:
        self.catch_up = CatchUp(50)
        self.peers = [behind(f"p{n:03}", by) for n in range(count)]
        self.find = {peer.id: peer for peer in self.peers}.get

    def __call__(self, lacking: Iterable[Peer], reply: bool = True, news: bool = True) -> tuple[list[Peer], list[str]]:
        asked, later = self.catch_up.choose(0, "a", lacking, self.find, reply, news)
        self.catch_up.ask(0, "a", asked, later)
        self.catch_up.answered(0, "a")
        return asked, later


@pytest.mark.parametrize(("by", "asked"), [(1, 100), (20, 50), (1_000, 32)])
def test_a_reply_asks_for_about_what_an_answer_can_bring_and_for_the_others_when_it_has_come(by: int, asked: int) -> None:
    choose = Chosen(150, by)
    turns = [choose(choose.peers, reply=False)]
    while turns[-1][0]:
        for peer in turns[-1][0]:
            peer.max_version_seen = peer.heard
        turns.append(choose([]))
    assert len(turns[0][0]) == asked
    assert [peer for turn in turns for peer in turn[0]] == choose.peers
    assert turns[0][1] == [peer.id for peer in choose.peers[asked:]]
    assert turns[-1] == ([], [])


def test_what_others_have_brought_or_are_being_asked_for_is_not_asked_for_later() -> None:
    choose = Chosen(100, 1_000)
    first, later = choose(choose.peers, reply=False)
    assert len(later) == 68
    choose.peers[50].max_version_seen = choose.peers[50].heard
    ask(choose.catch_up, 0, "b", [choose.peers[51]])
    next_, _ = choose([], reply=True)
    assert [peer.id for peer in next_] == [f"p{n:03}" for n in range(32, 66) if n not in (50, 51)]
    assert choose([], reply=False) == ([], [])  # another conversation
    assert first == choose.peers[:32]


def test_an_answer_that_brought_nothing_is_not_followed_by_the_same_question() -> None:
    choose = Chosen(2, 10)
    assert choose(choose.peers, reply=False)[0] == choose.peers
    choose.peers[0].max_version_seen += 1
    assert choose(choose.peers, news=False)[0] == choose.peers[:1]
    assert choose(choose.peers, news=True)[0] == choose.peers
    assert choose(choose.peers, news=False)[0] == []
    assert choose(choose.peers, reply=False)[0] == choose.peers


def test_conversations_that_are_over_are_forgotten() -> None:
    catch_up = CatchUp(50)
    for n in range(10):
        ask(catch_up, n * 1_000, f"node {n}", [behind(f"p{n}")])
        if n == 8:
            catch_up.answered(8_001, "node 8")
    catch_up.tidy(9_001, 1_000)
    assert catch_up._asks.keys() == {"node 9"}
    assert catch_up._alone.keys() == {"p9"}


# In the protocol


def asks_for(output: Output) -> list[str]:
    """Whom a reply asks about."""
    told = [id for send in sends(output) if send.message.digest is not None for id in ids(send.message.digest)]
    return [id for id in told if id != "a"]


def test_of_many_who_tell_of_a_flood_one_is_asked() -> None:
    p = Peer("p", max_version_seen=5, heartbeat=9)
    protocol, _, _ = a_protocol(p)

    def tells(id: str, now: float, some: bool = True) -> list[str]:
        news = [entry("p", 17, heartbeat=9)]
        first = [Delta("p", "k", "v", p.max_version_seen + 1, p.max_version_seen)] if some else None
        sender = ExtendedPeer(id, f"at {id}")
        return asks_for(step(protocol, sender, now=now, deltas=first, entries=news, kind=Kind.RUMOR))

    assert "p" in tells("b", NOW)
    assert "p" not in tells("c", NOW + 1, some=False)
    step(protocol, now=NOW + 2, deltas=[Delta("p", "l", "v", 7, 6)])
    assert p.max_version_seen == 7
    assert "p" in tells("d", NOW + 3)
    assert "p" not in tells("e", NOW + 4, some=False)
    assert "p" in tells("f", NOW + 1_000)


def test_of_many_who_tell_of_what_they_did_not_begin_to_tell_all_are_asked() -> None:
    """One message may hold it all, and another one's answer may be lost."""
    protocol, _, _ = a_protocol(Peer("p", max_version_seen=5, heartbeat=9))
    for id in "bcd":
        for kind in (Kind.ROUND, Kind.RUMOR):
            deltas = [Delta("p", "k", "v", 17, 16)]  # they can't be applied
            news = [entry("p", 17, heartbeat=9)]
            output = step(protocol, ExtendedPeer(id, f"at {id}"), deltas=deltas, entries=news, kind=kind)
            assert "p" in asks_for(output)


def test_a_reply_is_an_answer_and_a_round_s_digest_is_none() -> None:
    for kind in (Kind.ROUND, Kind.REPLY):
        protocol, local, _ = a_protocol(Peer("p", max_version_seen=5, heartbeat=9))
        news, first = entry("p", 17, heartbeat=9), [Delta("p", "k", "v", 6, 5)]
        assert asks_for(step(protocol, deltas=first, entries=[news])) == ["p"]
        in_sync = [entry("p", 6, heartbeat=9), entry("a", heartbeat=local.heartbeat)]
        assert sends(step(protocol, now=NOW + 1, entries=in_sync, kind=kind)) == []
        c = ExtendedPeer("c", "at c")
        assert ("p" in asks_for(step(protocol, c, now=NOW + 2, entries=[news]))) == (kind is Kind.REPLY)


def a_catch_up(*others: Peer) -> tuple[Protocol, Peer]:
    """A node that b has told of a flood of p, but not all of it."""
    p = Peer("p", max_version_seen=5, heartbeat=9, last_time=NOW, transport="at p")
    protocol, _, _ = a_protocol(p, *others, gossip_fanout=2)
    return protocol, p


FLOOD: dict[str, Any] = {"deltas": [Delta("p", "k", "v", 6, 5)], "entries": [entry("p", 17, heartbeat=9)]}


def test_a_digest_leaves_out_whom_another_was_asked_for_and_says_so() -> None:
    protocol, _ = a_catch_up(a_peer("b", ours=True))
    assert asks_for(step(protocol, **FLOOD)) == ["p"]
    for now, part in ((NOW + 1, True), (NOW + 1_000, False)):
        digests = [digest_of(send) for send in sends(protocol.round(now))]
        assert len(digests) == 2
        for digest in digests:
            assert digest.kind is (Kind.PART if part else Kind.ROUND)
            assert ("p" not in ids(digest)) is part


def test_a_part_is_not_told_as_numbers() -> None:
    b = a_peer("b", ours=True)
    protocol, p = a_catch_up(b)
    for second in range(3):
        for peer in (p, b):
            peer.last_time = NOW + second * 1_000
        protocol.round(NOW + second * 1_000)
    step(protocol, now=NOW + 2_500, **FLOOD)
    headers = {digest_of(send).header for n in range(9) for send in sends(protocol.round(NOW + 2_501 + n))}
    assert headers == {Header()}


# Conversations


def talk(one: Protocol, other: Protocol, first: Iterable[Send], now: float = NOW) -> list[Message]:
    """Let two nodes answer each other until there is nothing more to say; return their messages."""
    said: list[Message] = []
    pending = [(other, send.message) for send in first]
    while pending:
        assert len(said) < 5_000, "they never come to an end"
        to, message = pending.pop(0)
        said.append(message)
        answers = sends(to.step(now, message))
        pending += [(one if to is other else other, send.message) for send in answers]
    return said


def two(*peers: Peer, storage: Callable[[], Any] = lambda: None, **options: Any) -> tuple[Protocol, Protocol, Any]:
    """A node that knows these peers, one that knows nobody, and the storage of that one."""
    for peer in peers:
        peer.transport, peer.last_time = f"at {peer.id}", NOW
    knows, _, _ = a_protocol(*peers, seed=1, storage=storage(), **options)
    seeds = [RemotePeer("a", "at a")]
    asks, _, kept = a_protocol(local=Peer("j", transport="at j"), seeds=seeds, seed=2, storage=storage(), **options)
    return knows, asks, kept


def many_keys(id: str, keys: int) -> Peer:
    floor = 1_700_000_000_000_000
    data = {f"key{n}": ("v" * 100, floor + 1 + n) for n in range(keys)}
    return Peer(id, data=data, floor=floor, heartbeat=floor)


def size(message: Message) -> int:
    return len(encode(message))


@pytest.mark.parametrize(("peers", "keys"), [(1, 10_000), (50, 200), (1_000, 10)])
@pytest.mark.parametrize("order", ["depth", "breadth"])
def test_one_conversation_brings_ten_thousand_keys_in_messages_of_some_60_kilobytes(peers: int, keys: int, order: str) -> None:
    owners = [many_keys(f"p{n:03}", keys) for n in range(peers)]
    knows, asks, kept = two(*owners, delta_order=order)
    said = talk(asks, knows, sends(asks.round(NOW)))
    assert all(kept.get(owner.id).max_version_seen == owner.max_version_seen for owner in owners)
    first, second, *others = sorted(said, key=size, reverse=True)
    if peers == 1_000:  # the digest that tells of everybody
        assert [len(first.digest.entries), len(first.deltas or ())] == [1_001, 0]  # type: ignore[union-attr]
        others.append(second)
    assert all(size(message) < 73_000 for message in others)
    assert sum(size(message) for message in others) < 1.5 * 10_000 * 180
    assert len(said) < 80


def test_most_messages_of_a_conversation_stay_within_64_kilobytes() -> None:
    knows, asks, _ = two(*(many_keys(f"p{n:03}", 500) for n in range(100)))
    sizes = sorted(size(message) for message in talk(asks, knows, sends(asks.round(NOW))))
    assert sizes[-1] < 65_536


def test_the_conversation_ends_when_a_storage_hands_out_copies_too() -> None:
    knows, asks, kept = two(*(many_keys(f"p{n:02}", 20) for n in range(60)), storage=Copying)
    talk(asks, knows, sends(asks.round(NOW)))
    assert all(len(kept.get(f"p{n:02}").log) == 20 for n in range(60))


def test_a_limit_on_replies_counts_still() -> None:
    knows, asks, kept = two(many_keys("p", 1_000), max_exchanges_per_gossip=4, max_deltas_per_gossip=5)
    said = talk(asks, knows, sends(asks.round(NOW)))
    assert len(said) <= 6
    assert 0 < len(kept.get("p").log) <= 20


# Nothing goes on without progress


def test_a_reply_that_brings_nothing_is_answered_once() -> None:
    protocol, _, _ = a_protocol(Peer("p", max_version_seen=5, heartbeat=9))
    news = [entry("p", 17, heartbeat=9)]
    assert asks_for(step(protocol, entries=news, kind=Kind.REPLY)) == ["p"]
    for deltas in (None, [Delta("p", "k", "v", 17, 16)], [Delta("p", "k", "v", 4, 3)], []):
        assert sends(step(protocol, deltas=deltas, entries=news, kind=Kind.REPLY)) == []
    assert asks_for(step(protocol, deltas=[Delta("p", "k", "v", 6, 5)], entries=news, kind=Kind.REPLY)) == ["p"]
    assert sends(step(protocol, entries=news, kind=Kind.REPLY)) == []
    assert asks_for(step(protocol, entries=news)) == ["p"]  # the next round's conversation


def refusing(protocol: Protocol) -> Protocol:
    """A node that can apply no delta, whatever the reason."""
    step_ = protocol.step

    def without(now: float, message: Message) -> Output:
        beyond = [delta._replace(after=delta.version - 1) for delta in message.deltas or ()][1:]
        return step_(now, message._replace(deltas=beyond or None))

    protocol.step = without  # type: ignore[method-assign]
    return protocol


@pytest.mark.parametrize("flow_control", [False, True])
@pytest.mark.parametrize("order", ["depth", "breadth"])
def test_two_that_can_not_agree_fall_silent_until_the_next_round(flow_control: bool, order: str) -> None:
    one, other, _ = two(many_keys("p", 2_000), flow_control=flow_control, delta_order=order)
    other.membership.put(many_keys("q", 2_000))
    for key in range(1_000):
        one.update(NOW, f"k{key}", key)
        other.update(NOW, f"k{key}", key)
    refusing(one)
    refusing(other)
    for second in range(5):
        now = NOW + second * 1_000
        assert len(talk(other, one, sends(other.round(now)), now)) < 12


def test_whatever_a_peer_claims_it_gets_at_most_one_message_for_each_of_its_own() -> None:
    protocol, _, _ = a_protocol(many_keys("p", 3_000), flow_control=True)
    claims = [
        [entry("p")],
        [entry("p", 2**52, heard=2**53 - 1)],
        [entry("p", heartbeat=2**60, floor=2**53 - 1)],
        [entry(f"ghost {n}", 9, heartbeat=1) for n in range(50)],
        [entry("a", 2**52, heartbeat=2**52)],
    ]
    for kind in (Kind.ROUND, Kind.REPLY, Kind.PART, Kind.RUMOR):
        for n, told in enumerate(claims * 5):
            assert len(sends(step(protocol, now=NOW + n, entries=told, kind=kind, header=Header([9.0, 1.0])))) <= 1


def test_who_tells_of_nobody_new_gets_so_many_replies_in_an_interval_and_no_more() -> None:
    protocol, _, _ = a_protocol(*(a_peer(f"p{n}", heartbeat=9) for n in range(9)))
    answers = [sends(step(protocol, now=NOW + n, entries=[])) for n in range(100)]
    assert sum(map(bool, answers)) == 64


def test_a_cluster_of_nodes_that_all_lack_something_comes_to_rest() -> None:
    sim = Simulation(3, latency=(1, 5))
    nodes = [sim.add(f"n{n}", seeds=["n0"]) for n in range(8)]
    for node in nodes:
        for key in range(500):
            node.update(f"k{key}", "v" * 100)
    sim.run(6_000)
    assert all(len(node.get(f"n{n}", "k499") or "") == 100 for node in nodes for n in range(8))
    before = sim.messages
    sim.run(10_000)
    assert sim.messages - before < 10 * 8 * 3 * 2  # three digests a round, each with an answer


def test_who_is_asked_on_answers_with_the_next_ones() -> None:
    """When all that was asked for has come without a digest, what was left for later is asked for."""
    asks, _, _ = a_protocol(local=Peer("j", transport="at j"))
    told = [entry(f"p{n:03}", 1_000, heartbeat=1) for n in range(40)]
    (send,) = sends(step(asks, entries=told, kind=Kind.REPLY))
    asked = [each for each in ids(digest_of(send)) if each != "j"]
    assert len(asked) == 32
    deltas = [Delta(id, "k", "v", 1_000, 0) for id in asked]
    (send,) = sends(step(asks, deltas=deltas))
    assert digest_of(send).kind is Kind.REPLY
    rest = [each for each in ids(digest_of(send)) if each != "j"]
    assert sorted(asked + rest) == [each.id for each in told]
    assert sends(step(asks, deltas=deltas)) == []


def test_deltas_alone_of_a_node_that_was_not_asked_are_not_answered() -> None:
    protocol, _, _ = a_protocol(behind("p"))
    assert sends(step(protocol, deltas=[Delta("p", "k", "v", 6, 5)])) == []
