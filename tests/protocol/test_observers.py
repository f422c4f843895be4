"""Observers: what they are answered with, that nothing changes by that, and what an observer itself does."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from gossipmonger.errors import ClusterError
from gossipmonger.protocol import Output, Protocol
from gossipmonger.state import CompactDigest, Delta, Digest, Entry, ExtendedPeer, Header, Kind, Message, Peer, RemotePeer
from gossipmonger.state.message import Compact
from gossipmonger.storage import MemoryStorage
from tests.traces import traces

from . import steps
from .steps import NOW, OURS, B, a_config, a_peer, a_protocol, copy, digest_of, entry, events, ids, reply_to, sends, told_in

#: A sender that only asks, and the header of what it sends.
SPY = ExtendedPeer("spy", "at spy")
ASKS = Header(observer=True)


def ask(protocol: Protocol, *entries: Entry, kind: Kind = Kind.ROUND, header: Header = ASKS, **more: Any) -> Output:
    return steps.step(protocol, SPY, entries=[*entries, entry("spy", heartbeat=1)], kind=kind, header=header, **more)


def a_writer(id: str, keys: int, heartbeat: int = 7) -> Peer:
    """A live peer with so many keys, at versions from 1 on."""
    return a_peer(id, ours=True, heartbeat=heartbeat, data={f"k{n}": (n, n) for n in range(1, keys + 1)})


def an_observer(*peers: Peer, **config: Any) -> tuple[Protocol, Peer, MemoryStorage]:
    storage = MemoryStorage()
    for peer in peers:
        storage.put(peer.id, peer)
    local = Peer("spy", transport="at spy")
    return Protocol(local, storage, a_config(observer=True, **config), random.Random(1), NOW), local, storage


# What a node answers


def test_who_knows_nothing_is_told_who_there_is() -> None:
    protocol, local, _ = a_protocol(a_writer("b", 2), a_peer("gone", silent=60_000, left=True, live=False))
    local.heartbeat = 5
    output = ask(protocol)
    assert set(reply_to(output)) == {"a", "b"}
    assert told_in(output) == []
    assert [send.to for send in sends(output)] == [SPY]
    assert sends(output)[0].to is SPY  # so that it goes back on the same link


def test_who_says_what_it_knows_is_told_what_it_lacks_and_later_heartbeats() -> None:
    protocol, local, _ = a_protocol(a_writer("b", 3), a_writer("c", 1), a_writer("d", 0))
    named = [entry("b", 1, heartbeat=7), entry("c", 1, heartbeat=3), entry("d", heartbeat=9)]
    output = ask(protocol, *named, entry("a", heartbeat=local.heartbeat))
    assert [(delta.peer_id, delta.version, delta.after) for delta in told_in(output)] == [("b", 2, 1), ("b", 3, 2)]
    assert set(reply_to(output)) == {"a", "c"}


def test_a_part_says_nothing_about_who_is_absent() -> None:
    protocol, _, _ = a_protocol(a_writer("b", 1), a_writer("c", 1))
    output = ask(protocol, entry("b", 0, heartbeat=1), kind=Kind.PART)
    assert set(reply_to(output)) == {"a", "b"}
    assert [delta.peer_id for delta in told_in(output)] == ["b"]


def test_a_reply_asks_for_versions_alone() -> None:
    protocol, _, _ = a_protocol(a_writer("b", 1), a_writer("c", 1))
    output = ask(protocol, entry("b", 0, heartbeat=1), entry("c", 1, heartbeat=1), kind=Kind.REPLY)
    assert [delta.peer_id for delta in told_in(output)] == ["b"]
    assert reply_to(output) == {}
    assert sends(ask(protocol, entry("b", 1, heartbeat=1), kind=Kind.REPLY)) == []


def test_an_answer_says_of_whom_there_is_more_until_there_is_no_more() -> None:
    protocol, _, _ = a_protocol(a_writer("b", 5), max_deltas_per_gossip=2)
    version, kind, rounds = 0, Kind.ROUND, 0
    while version < 5:
        output = ask(protocol, entry("b", version, heartbeat=7), kind=kind)
        version, kind, rounds = told_in(output)[-1].version, Kind.REPLY, rounds + 1
        assert ("b" in reply_to(output)) is (version < 5)
    assert rounds == 3


def test_it_is_answered_however_few_replies_nodes_give_each_other() -> None:
    protocol, _, _ = a_protocol(a_writer("b", 5), max_deltas_per_gossip=2, max_exchanges_per_gossip=0)
    assert set(reply_to(ask(protocol))) == {"a", "b"}
    for version in (0, 2, 4):
        assert told_in(ask(protocol, entry("b", version, heartbeat=7), kind=Kind.REPLY))


def compact_of(protocol: Protocol, **heartbeats: int) -> Compact:
    """What an observer says that knows the same peers as this node, with these heartbeats."""
    told = [copy(peer) for peer in [*protocol.membership.others()[0], protocol._local]]
    for peer in told:
        peer.heartbeat = heartbeats.get(peer.id, peer.heartbeat)
    return CompactDigest(told).encode()


def test_a_compact_digest_does_without_the_observer() -> None:
    peers = [a_writer(f"p{n:02}", 0) for n in range(30)]
    protocol, _, _ = a_protocol(*peers)
    assert sends(ask(protocol, header=ASKS._replace(compact=compact_of(protocol)))) == []
    few = ask(protocol, header=ASKS._replace(compact=compact_of(protocol, p03=1)))
    assert set(reply_to(few)) == {"a", "p03"}
    many = ask(protocol, header=ASKS._replace(compact=compact_of(protocol, **{f"p{n:02}": 1 for n in range(30)})))
    digest = digest_of(sends(many)[0])
    assert (digest.kind, ids(digest)) == (Kind.REPLY, ["a"])
    assert digest.header is not None
    assert digest.header.compact == protocol.membership.compact(protocol.membership.others()[0]).encode()


def test_beside_a_compact_answer_stands_who_is_told_of_in_part_or_is_behind() -> None:
    peers = [a_writer(f"p{n}", 3) for n in range(4)]
    protocol, _, _ = a_protocol(*peers, max_deltas_per_gossip=2)
    compact = compact_of(protocol, p0=1, p1=1)
    peers[2].hear_of(9, 0, False)
    output = ask(protocol, entry("p3", 0, heartbeat=7), header=ASKS._replace(compact=compact))
    assert [delta.peer_id for delta in told_in(output)] == ["p3", "p3"]
    assert set(reply_to(output)) == {"a", "p2", "p3"}


def test_who_knows_others_than_this_node_is_told_who_there_is_here() -> None:
    protocol, _, _ = a_protocol(a_writer("b", 1))
    digest = digest_of(sends(ask(protocol, header=ASKS._replace(compact=Compact("another.", b""))))[0])
    assert (digest.kind, ids(digest)) == (Kind.ROUND, ["b", "a"])


def test_who_is_new_asks_for_those_that_left() -> None:
    left = a_peer("left", silent=60_000, left=True, live=False, heartbeat=3)
    protocol, _, _ = a_protocol(a_writer("b", 1), left)
    assert set(reply_to(ask(protocol))) == {"a", "b"}
    answer = reply_to(ask(protocol, header=ASKS._replace(ask=True)))
    assert set(answer) == {"a", "b", "left"}
    assert (answer["left"].left, answer["left"].age) == (True, 60_000)
    assert "left" not in reply_to(ask(protocol, entry("left", heartbeat=3), header=ASKS._replace(ask=True)))


@pytest.mark.parametrize("kind", [Kind.RUMOR, Kind.FAREWELL])
def test_nothing_else_is_answered(kind: Kind) -> None:
    protocol, _, _ = a_protocol(a_writer("b", 1))
    assert ask(protocol, entry("b", heartbeat=9), kind=kind) == []


# What is left of it


def everything(entries: Iterable[Entry], **header: Any) -> list[Message]:
    """All that an observer could say, and some that it never would."""
    deltas = [Delta("spy", "k", "spy", 5), Delta("b", "k", "spy", 99)]
    own = entry("spy", 7, heartbeat=9_000)
    said = [
        Message(SPY, told, Digest(kind, ASKS._replace(**header), [*entries, own])) for kind in Kind for told in (None, deltas)
    ]
    hints = [["b", 7], ["spy", 1]]
    said.append(Message(SPY, None, Digest(Kind.RUMOR, ASKS._replace(hints=hints, forget=hints, ask=True, **header), [own])))
    return said


@pytest.mark.parametrize("cluster", [None, "prod"])
@pytest.mark.parametrize("id", ["spy", "b", "a"])
def test_a_node_is_the_same_after_whatever_an_observer_said(cluster: str | None, id: str) -> None:
    """Whichever id it says, that of a live node or the node's own among them."""
    protocol, local, storage = a_protocol(a_writer("b", 3), a_writer("c", 3), cluster=cluster, flow_control=True)
    before = [copy(peer) for peer in storage.live_peers()]
    chance = protocol._random.getstate()
    entries = [entry("b", 9, heartbeat=99), entry("c", 1, heartbeat=1), entry("new", 1, heartbeat=1, floor=1)]
    for message in everything(entries, cluster=cluster):
        digest = message.digest
        assert digest is not None
        sender = ExtendedPeer(id, "at spy")
        told = [each._replace(id=id) if each.id == "spy" else each for each in digest.entries]
        protocol.step(NOW + 5, Message(sender, message.deltas, digest._replace(entries=told)))
    assert [peer.entry() for peer in storage.live_peers()] == [peer.entry() for peer in before]
    assert [peer.data for peer in storage.live_peers()] == [peer.data for peer in before]
    assert protocol._random.getstate() == chance
    assert protocol.due is None
    assert traces(protocol, "spy") == []
    assert local.heartbeat == before[0].heartbeat


def test_one_of_another_cluster_is_refused_like_any_node() -> None:
    protocol, _, _ = a_protocol(a_writer("b", 1), cluster="prod")
    for header in (ASKS, ASKS._replace(cluster="test")):
        (error,) = events(ask(protocol, header=header), "error")[0]
        assert isinstance(error, ClusterError)
    assert sends(ask(protocol, header=ASKS._replace(cluster="prod"))) != []


def test_a_node_goes_above_what_an_observer_knows_of_its_former_life() -> None:
    protocol, local, storage = a_protocol(a_writer("b", 1))
    protocol.update(NOW, "k", "v")
    claimed = int(NOW * 1000) + 10**9
    output = ask(protocol, entry("a", claimed, heartbeat=claimed))
    assert local.max_version_seen > claimed
    assert local.heartbeat > claimed
    assert storage.get("a") is local
    assert [delta.key for delta in told_in(output)] == ["k"]
    compact = compact_of(protocol, a=local.heartbeat + 10)
    ask(protocol, header=ASKS._replace(compact=compact))
    assert local.heartbeat > compact_heartbeat(compact)
    before = local.heartbeat
    ask(protocol, entry("a", 2**53 - 1, heartbeat=2**53 - 1))  # beyond the ten-year bound
    assert local.heartbeat == before


def compact_heartbeat(compact: Compact) -> int:
    return int.from_bytes(compact.payload[:8], "little")


# The observer itself


def test_an_observer_is_in_no_storage_and_no_fingerprint() -> None:
    peers = [a_writer(f"p{n}", 1) for n in range(3)]
    protocol, local, storage = an_observer(*peers)
    protocol.begin(NOW, True)
    for n in range(8):
        output = protocol.round(NOW + 1000 * n)
        for send in sends(output):
            header = digest_of(send).header
            assert header is not None
            assert header.observer
            compact = header.compact
        told = [a_writer(peer.id, 1, peer.heartbeat + 3).entry() for peer in reversed(peers)]
        steps.step(protocol, ExtendedPeer("p0", "at p0"), now=NOW + 1000 * n + 5, entries=told, kind=Kind.REPLY)
    assert compact is not None
    assert compact.fingerprint == CompactDigest(peers).fingerprint
    assert storage.get("spy") is None
    assert {peer.id for peer in storage.live_peers()} == {"p0", "p1", "p2"}
    assert local.heartbeat > int(NOW * 1000)


def test_its_first_rounds_ask_for_those_that_left_in_entries() -> None:
    protocol, _, _ = an_observer(a_writer("b", 1), a_writer("c", 1))
    asked = []
    for n in range(8):
        for send in sends(protocol.round(NOW + 1000 * n)):
            header = digest_of(send).header
            assert header is not None
            asked.append((header.ask, header.compact is None))
        for id in ("b", "c"):
            own = [entry(id, 1, heartbeat=10 * n + 20)]
            steps.step(protocol, ExtendedPeer(id, f"at {id}"), now=NOW + 1000 * n, entries=own, kind=Kind.REPLY)
    assert asked[:4] == [(True, True)] * 4
    assert asked[-1] == (False, False)


def test_it_asks_for_what_it_lacks_and_tells_nothing() -> None:
    protocol, _, _ = an_observer(a_writer("b", 3), a_writer("c", 3))
    told = [entry("b", 1, heartbeat=1), entry("c", 5, heartbeat=9)]
    for kind in (Kind.ROUND, Kind.REPLY, Kind.RUMOR, Kind.PART):
        protocol, _, _ = an_observer(a_writer("b", 3), a_writer("c", 3))
        output = steps.step(protocol, ExtendedPeer("d", "at d"), entries=told, kind=kind)
        assert told_in(output) == []
        assert set(reply_to(output)) == {"c", "spy"}
    level = [entry("b", 1, heartbeat=1), entry("c", 3, heartbeat=1)]
    assert sends(steps.step(protocol, ExtendedPeer("d", "at d"), entries=level)) == []


def test_it_passes_no_rumours_hints_or_orders_on_and_says_no_goodbye() -> None:
    b = a_writer("b", 3)
    protocol, _, storage = an_observer(b, a_writer("c", 3), a_peer("dead", live=False, heartbeat=3), flow_control=True)
    rumor = [Delta("b", "k", "v", 4, 3)]
    header = Header(hints=[["c", 7]], forget=[["dead", 3]], flow=[1.0, 1.0])
    output = steps.step(protocol, B, deltas=rumor, entries=[entry("b", 4, heartbeat=8)], kind=Kind.RUMOR, header=header)
    assert storage.get("dead") is None  # it obeys
    assert b.get("k") == "v"
    output += protocol.spread(NOW + 1000, hurry=True)
    protocol.link(NOW, RemotePeer("c", "at c"), "accepted")
    output += protocol.link(NOW, RemotePeer("c", "at c"), "refused")
    output += protocol.spread(NOW + 500)
    output += protocol.leave(NOW + 500)
    assert sends(output) == []
    told = [entry("b", 4, heartbeat=9), entry("c", 3, heartbeat=8)]
    assert sends(steps.step(protocol, ExtendedPeer("c", "at c"), now=NOW + 600, entries=told)) == []  # which is suspected


def test_it_ignores_other_observers() -> None:
    protocol, _, storage = an_observer(a_writer("b", 1))
    assert steps.step(protocol, ExtendedPeer("other", "at other"), entries=[entry("c", 1, heartbeat=1)], header=ASKS) == []
    assert [peer.id for peer in storage.live_peers()] == ["b"]


def test_who_does_not_answer_its_hello_is_left_out_for_ten_rounds() -> None:
    protocol, _, _ = an_observer(a_writer("b", 1), a_writer("js", 1), dead_peer_phi=1000)
    protocol.link(NOW, RemotePeer("js", "at js"), "accepted")
    protocol.link(NOW, RemotePeer("js", "at js"), "silent")
    asked = [send.to.id for n in range(9) for send in sends(protocol.round(NOW + 1000 * n))]
    assert set(asked) == {"b"}
    asked = [send.to.id for n in range(11, 30) for send in sends(protocol.round(NOW + 1000 * n))]
    assert set(asked) == {"b", "js"}


def test_it_gives_peers_as_long_as_its_own_rounds_take() -> None:
    for interval, dead in [(1_000, True), (20_000, False)]:
        b = a_writer("b", 1)
        protocol, _, _ = an_observer(b, gossip_interval=interval, gossip_fanout=3)
        for n in range(5):
            protocol.round(NOW + interval * n)
            heartbeat = b.heartbeat + 3 * interval // 1000
            steps.step(protocol, B, now=NOW + interval * n + 5, entries=[entry("b", 1, heartbeat=heartbeat)], kind=Kind.REPLY)
            assert b.live
        output = protocol.round(NOW + interval * 4 + 20_000)
        assert bool(events(output, "peer dead")) is dead or protocol.membership.late


def test_a_refusal_counts_if_anybody_has_answered_since() -> None:
    peers = [a_writer(f"p{n}", 1) for n in range(4)]
    for answered in (True, False):
        protocol, _, storage = an_observer(*[copy(peer) for peer in peers])
        p0 = RemotePeer("p0", "at p0")
        protocol.link(NOW, p0, "accepted")
        protocol.link(NOW + 10, p0, "refused")
        now = NOW + 10
        while (due := protocol.due) is not None and now < NOW + 4000:
            now = max(now, due)
            if answered:
                steps.step(
                    protocol, ExtendedPeer("p1", "at p1"), now=now, entries=[entry("p1", 1, heartbeat=9)], kind=Kind.REPLY
                )
            output = protocol.spread(now)
            if output:  # the second dial
                protocol.link(now + 10, p0, "refused")
                break
        assert ("p0" in [peer.id for peer in storage.live_peers()]) is not answered


def test_a_forgotten_peer_that_is_told_of_as_live_is_asked_itself() -> None:
    dead = a_peer("b", silent=60_000, live=False, heartbeat=50, ours=True)
    protocol, _, storage = an_observer(dead, a_writer("c", 1), forget_dead_peers_after=1_000)
    protocol.round(NOW)
    assert storage.get("b") is None
    told = [entry("b", heartbeat=10), entry("c", 1, heartbeat=9)]  # it lives on with a clock that was set back
    steps.step(protocol, ExtendedPeer("c", "at c"), now=NOW + 5, entries=told, kind=Kind.REPLY)
    assert storage.get("b") is None
    assert "b" in [send.to.id for send in sends(protocol.round(NOW + 1_000))]
    assert "b" not in [send.to.id for send in sends(protocol.round(NOW + 2_000))]
    steps.step(protocol, B, now=NOW + 2_005, entries=[entry("b", heartbeat=10)], kind=Kind.REPLY, header=OURS)
    assert "b" in [peer.id for peer in storage.live_peers()]
