"""The protocol alone, one message at a time: the Node.js package's behaviours first, then what is ours."""

from __future__ import annotations

import pytest

from gossipmonger.protocol import Event, Output, Protocol, Send
from gossipmonger.state import Delta, Digest, ExtendedPeer, Header, Kind, Message, Peer, RemotePeer
from gossipmonger.state.values import TOMBSTONE

from .steps import (
    B_NODE_JS,
    NOW,
    B,
    a_peer,
    a_protocol,
    entry,
    events,
    ids,
    reply_to,
    sends,
    step,
    told_in,
)

# Rounds


def test_a_round_sends_one_digest_of_the_live_and_of_itself() -> None:
    protocol, local, _ = a_protocol(a_peer("b", max_version_seen=7), a_peer("c", live=False, silent=10**6))
    local.update_local("key", 1)
    output = protocol.round(NOW)
    digest = Digest(Kind.ROUND, Header(), [entry("b", 7), entry("a", 1, heartbeat=local.heartbeat)])
    assert output == [Event("digest send", (B, digest)), Send(B, Message(local.remote, None, digest))]


def test_heartbeats_start_at_the_clock_and_count_digests_of_rounds() -> None:
    protocol, local, _ = a_protocol(*(a_peer(f"p{n}") for n in range(5)), gossip_fanout=3)
    assert local.heartbeat == NOW * 1000
    protocol.round(NOW)
    assert local.heartbeat == NOW * 1000 + 3
    step(protocol, entries=[entry("c", 5, heartbeat=1)])  # a reply is no digest of a round
    assert local.heartbeat == NOW * 1000 + 3


def test_a_new_life_on_an_old_storage_counts_on() -> None:
    _, local, _ = a_protocol(local=Peer("a", heartbeat=10**17))
    assert local.heartbeat == 10**17 + 1


def test_no_partner_is_the_node_itself() -> None:
    for seed in (RemotePeer("a", "elsewhere"), RemotePeer("seed", "at a")):
        protocol, _, _ = a_protocol(seeds=[seed])
        assert all(protocol.round(NOW + n) == [] for n in range(50))  # it stands in the storage, among the live


def test_a_seed_is_known_by_its_address_though_the_peer_s_own_says_more() -> None:
    full = {"host": "there", "port": 1, "udp": True}
    for known, tried in (({"host": "there", "port": 1}, False), ({"host": "there", "port": 2}, True)):
        peer = Peer("p", transport=full, last_time=NOW)
        protocol, _, _ = a_protocol(peer, seeds=[RemotePeer("s", known)])
        asked = {send.to.id for n in range(50) for send in sends(protocol.round(NOW + n))}
        assert ("s" in asked) == tried
        assert (
            bool(a_protocol(local=Peer("a", transport=full), seeds=[RemotePeer("s", known)])[0].membership.seeds.others(NOW))
            == tried
        )


def test_a_seed_that_nobody_is_is_tried_like_a_dead_peer() -> None:
    protocol, _, _ = a_protocol(*(a_peer(f"p{n}") for n in range(3)), seeds=[RemotePeer("s", "at s")])
    tried = sum(any(send.to.id == "s" for send in sends(protocol.round(NOW))) for _ in range(2_000))
    assert tried / 2_000 == pytest.approx(1 / 4, abs=0.04)
    protocol, _, _ = a_protocol(a_peer("p"), seeds=[RemotePeer("s", "at p")])
    assert all([send.to.id for send in sends(protocol.round(NOW))] == ["p"] for _ in range(50))


# Digests


def test_a_digest_is_answered_with_what_its_sender_lacks() -> None:
    protocol, local, _ = a_protocol(a_peer("c", data={"x": (1, 4), "y": (2, 6)}))
    local.update_local("own", "news")
    output = step(protocol, B_NODE_JS, entries=[entry("c", 4), entry("a", 0)], header=None)
    (sent,) = sends(output)
    assert (sent.to, sent.message.sender, sent.message.digest) == (B_NODE_JS, local.remote, None)
    assert sorted(told_in(output)) == [Delta("a", "own", "news", 1, 0), Delta("c", "y", 2, 6, 4)]
    assert len(events(output, "deltas send")) == 1


def test_a_node_js_digest_in_sync_or_ahead_is_not_answered() -> None:
    protocol, local, _ = a_protocol(a_peer("c", data={"x": (1, 4)}))
    local.update_local("own", 1)
    assert sends(step(protocol, B_NODE_JS, entries=[entry("c", 4), entry("a", 1)], header=None)) == []
    assert sends(step(protocol, B_NODE_JS, entries=[entry("c", 9)], header=None)) == []


def test_it_is_never_a_peer_of_its_own() -> None:
    protocol, local, storage = a_protocol()
    me = RemotePeer("a", "at a")
    for output in (
        step(protocol, me, entries=[entry("a", 0)], header=None),
        step(protocol, me, entries=[entry("a", 0)]),
        step(protocol, me, deltas=[Delta("a", "key", "forged", 10**6)]),
    ):
        assert events(output, "new peer") == []
        assert events(output, "update") == []
    assert storage.live_peers() == [local]
    assert local.data == {}


# Deltas


def test_deltas_are_written_once_and_only_upwards() -> None:
    protocol, _, storage = a_protocol(a_peer("c"))
    news = [Delta("c", "x", "new", 5), Delta("c", "y", None, 6)]
    output = step(protocol, deltas=news)
    assert events(output, "deltas receive") == [(B, news)]
    assert events(output, "update") == [("c", "x", "new"), ("c", "y", None)]
    assert events(step(protocol, deltas=[*news, Delta("c", "x", "old", 3)]), "update") == []
    peer = storage.get("c")
    assert peer is not None
    assert peer.data == {"x": ("new", 5), "y": (None, 6)}


def test_a_delta_behind_a_gap_is_not_written() -> None:
    peer = a_peer("c", data={"x": (1, 4)})
    protocol, _, _ = a_protocol(peer)
    assert events(step(protocol, deltas=[Delta("c", "y", 2, 9, 5), Delta("c", "z", 3, 10, 9)]), "update") == []
    assert peer.max_version_seen == 4
    assert len(events(step(protocol, deltas=[Delta("c", "y", 2, 9, 4), Delta("c", "z", 3, 10, 9)]), "update")) == 2


def test_a_value_that_is_issued_again_is_no_update() -> None:
    protocol, _, _ = a_protocol(a_peer("c", data={"x": ([1], 4)}))
    assert events(step(protocol, deltas=[Delta("c", "x", [1], 9, 4)]), "update") == []
    assert events(step(protocol, deltas=[Delta("c", "x", [True], 10, 9)]), "update") == [("c", "x", [True])]


def test_a_tombstone_is_a_delete_of_a_key_that_was_there_and_no_update() -> None:
    peer = a_peer("c", data={"x": (1, 4)})
    protocol, _, _ = a_protocol(peer)
    output = step(protocol, deltas=[Delta("c", "x", TOMBSTONE, 5, 4), Delta("c", "never there", TOMBSTONE, 6, 5)])
    assert events(output, "delete") == [("c", "x")]
    assert events(output, "update") == []
    assert peer.data == {}
    assert peer.count_after_version(4) == 2  # others have to hear of it


def test_deltas_of_an_unknown_peer_are_told_and_nothing_more() -> None:
    protocol, _, storage = a_protocol()
    output = step(protocol, deltas=[Delta("who", "x", 1, 5), Delta("b", "x", 1, 5)])
    assert events(output, "unknown peer") == [("who",)]
    assert events(output, "update") == [("b", "x", 1)]
    assert storage.get("who") is None


# Conversations


def test_a_reply_has_the_peers_of_which_versions_are_missing_and_goes_with_the_deltas() -> None:
    protocol, local, _ = a_protocol(a_peer("c", data={"x": (1, 4)}), a_peer("d", max_version_seen=2), a_peer("e"))
    local.update_local("own", 1)
    output = step(protocol, entries=[entry("c", 3), entry("d", 9), entry("e")])
    (send,) = sends(output)
    assert send.message.deltas == [Delta("c", "x", 1, 4, 3)]
    assert reply_to(output).keys() == {"d", "a"}
    assert [ids(digest) for _, digest in events(output, "digest send")] == [["d", "a"]]


def test_a_reply_has_the_peers_whose_deltas_were_cut_short() -> None:
    protocol, _, _ = a_protocol(a_peer("c", data={"x": (1, 4), "y": (1, 5)}), max_deltas_per_gossip=1)
    output = step(protocol, entries=[entry("c", 3), entry("a")])
    assert reply_to(output).keys() == {"c", "a"}


@pytest.mark.parametrize("kind", [Kind.ROUND, Kind.REPLY])
def test_later_heartbeats_and_peers_unheard_of_are_told_in_a_first_reply_only(kind: Kind) -> None:
    protocol, local, _ = a_protocol(a_peer("c", heartbeat=9), a_peer("d", heartbeat=4), a_peer("e", heartbeat=1))
    told = [entry("c", heartbeat=8), entry("d", heartbeat=4), entry("a", heartbeat=local.heartbeat)]
    output = step(protocol, entries=told, kind=kind)
    assert reply_to(output).keys() == ({"c", "e", "a"} if kind is Kind.ROUND else set())


@pytest.mark.parametrize("kind", [Kind.ROUND, Kind.PART])
def test_who_is_missing_in_a_part_of_a_digest_is_not_taken_for_unheard_of(kind: Kind) -> None:
    protocol, local, _ = a_protocol(a_peer("c", heartbeat=9), a_peer("e", heartbeat=1))
    told = [entry("c", heartbeat=8), entry("a", heartbeat=local.heartbeat)]
    output = step(protocol, entries=told, kind=kind)
    assert reply_to(output).keys() == ({"c", "a"} if kind is Kind.PART else {"c", "e", "a"})


def test_in_sync_there_is_nothing_to_reply() -> None:
    protocol, local, _ = a_protocol(a_peer("c", heartbeat=9))
    assert sends(step(protocol, entries=[entry("c", heartbeat=9), entry("a", heartbeat=local.heartbeat)])) == []


def test_the_answer_goes_to_the_very_object_that_the_message_came_from() -> None:
    protocol, local, _ = a_protocol()
    local.update_local("own", 1)
    b = ExtendedPeer("b", "at b")
    (send,) = sends(step(protocol, b, entries=[entry("a")]))
    assert send.to is b


def test_replies_end_at_the_limit_and_begin_again_in_the_next_interval() -> None:
    protocol, _, _ = a_protocol(max_exchanges_per_gossip=5)

    def replies(now: float, kind: Kind) -> int:
        asks = [[entry(f"news {n} at {now}", 5, heartbeat=1)] for n in range(9)]
        return sum(bool(reply_to(step(protocol, now=now, entries=ask, kind=kind))) for ask in asks)

    assert replies(NOW, Kind.ROUND) == 5
    assert replies(NOW + 999, Kind.ROUND) == 0
    assert replies(NOW + 1_000, Kind.REPLY) == 2  # each was one of theirs, answered by one of ours
    assert reply_to(step(protocol, ExtendedPeer("c", "at c"), now=NOW + 1_000, entries=[entry("d", 5, heartbeat=1)]))


def test_one_exchange_is_the_textbook_s_three_messages() -> None:
    a, local, _ = a_protocol(max_exchanges_per_gossip=1, max_deltas_per_gossip=1)
    b, remote, _ = a_protocol(local=Peer("b", transport="at b"), max_exchanges_per_gossip=1, max_deltas_per_gossip=1)
    for n in range(5):
        local.update_local(f"k{n}", n)
        remote.update_local(f"k{n}", n)
    step(a, entries=b.membership.digest([]))
    (first,) = sends(a.round(NOW + 1_000))
    (second,) = sends(b.step(NOW + 1_000, first.message))
    assert second.message.deltas
    assert second.message.digest is not None
    (third,) = sends(a.step(NOW + 1_000, second.message))
    assert third.message.deltas
    assert third.message.digest is not None  # only to say that there would be more
    assert sends(b.step(NOW + 1_000, third.message)) == []


def test_who_says_good_bye_is_not_answered() -> None:
    protocol, local, _ = a_protocol(a_peer("b", ours=True))
    local.update_local("own", 1)
    output = step(protocol, entries=[entry("b", heartbeat=1, left=True)], kind=Kind.FAREWELL)
    assert sends(output) == []
    assert events(output, "peer left") == [(B,)]


@pytest.mark.parametrize("order", ["depth", "breadth"])
def test_a_backlog_that_never_ends_does_not_shut_out_the_others(order: str) -> None:
    flood = a_peer("flood", data={f"k{n}": (n, n + 1) for n in range(1_000)})
    protocol, _, _ = a_protocol(flood, a_peer("small", data={"x": (1, 1)}), delta_order=order)
    told = set()
    for _ in range(60):
        told |= {delta.peer_id for delta in told_in(step(protocol, entries=[entry("flood"), entry("small")]))}
    assert told == {"flood", "small"}


# Compaction


def keys_and_deletes(keys: int, deletes: int, *peers: Peer) -> tuple[Protocol, Peer]:
    protocol, local, _ = a_protocol(*peers)
    for n in range(keys):
        protocol.update(NOW, f"k{n}", n)
    protocol.round(NOW + 1_000)
    for n in range(deletes):
        assert protocol.delete(NOW + 1_000, f"k{n}")
    return protocol, local


def test_once_tombstones_outnumber_keys_the_keys_are_issued_again_and_the_tombstones_gone() -> None:
    _, local = keys_and_deletes(6, 3)
    assert (local.floor, local.max_version_seen, local.count_after_version(0)) == (0, 9, 6)
    _, local = keys_and_deletes(6, 4)
    assert (local.floor, local.max_version_seen) == (10, 12)
    assert local.deltas_after_version(0) == [("k4", 4, 11), ("k5", 5, 12)]


def test_while_a_node_js_node_is_there_tombstones_are_kept_until_it_must_have_seen_them() -> None:
    protocol, local = keys_and_deletes(4, 4, a_peer("b", ours=False))
    assert (local.floor, local.count_after_version(0)) == (0, 4)
    for second in range(30):
        step(protocol, B_NODE_JS, now=NOW + second * 1_000, entries=[], header=None)
        protocol.round(NOW + second * 1_000)
    assert local.floor == 0
    protocol.round(NOW + 31_000)
    assert (local.floor, local.count_after_version(0)) == (8, 0)


def test_the_same_calls_give_the_same_output() -> None:
    def run() -> list[Output]:
        protocol, local, _ = a_protocol(*(a_peer(f"p{n}", silent=n * 3_000) for n in range(9)), seed=3)
        local.update_local("x", 1)
        return [protocol.round(NOW + n * 1_000) for n in range(20)]

    assert run() == run()
