"""The seed's own behaviours, asked of the protocol room alone: no thread, no socket, no clock."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gossipmonger import MemoryStorage, Options, Peer, RemotePeer
from gossipmonger.protocol import Event, Output, Protocol, Send, choose_deltas, choose_partners

NOW = 1_700_000_000_000.0
B = RemotePeer("b", "at b")


def a_protocol(*peers: Peer, seed: int = 0, **options: Any) -> tuple[Protocol, Peer, MemoryStorage]:
    storage = MemoryStorage()
    local = Peer("a", transport="at a")
    for peer in (local, *peers):
        storage.put(peer.id, peer)
    options.setdefault("random", random.Random(seed))
    return Protocol(local, storage, Options.parse(None, options)), local, storage


def a_peer(id: str, silent: float = 0, **attributes: Any) -> Peer:
    return Peer(id, transport=f"at {id}", last_time=NOW - silent, **attributes)


def entry(id: str, version: int) -> dict[str, Any]:
    return {"id": id, "maxVersionSeen": version, "transport": f"at {id}"}


def events(output: Output, name: str) -> list[tuple[Any, ...]]:
    return [item.args for item in output if isinstance(item, Event) and item.name == name]


def sends(output: Output) -> list[Send]:
    return [item for item in output if isinstance(item, Send)]


# Partners


def drawn(live: int, dead: int, seeds: tuple[str, ...] = (), rounds: int = 3_000, **options: Any) -> list[list[str]]:
    lives, deads = [a_peer(f"live{n}") for n in range(live)], [a_peer(f"dead{n}", live=False) for n in range(dead)]
    given = Options.parse(None, {**options, "seeds": [RemotePeer(id, f"at {id}") for id in seeds]})
    chance = random.Random(5)
    return [[partner.id for partner in choose_partners(lives, deads, given.seeds, "a", given, chance)] for _ in range(rounds)]


def test_each_round_goes_to_one_live_peer_drawn_evenly() -> None:
    partners = drawn(live=3, dead=0)
    assert all(len(ids) == 1 for ids in partners)
    for n in range(3):
        assert 900 < sum(ids == [f"live{n}"] for ids in partners) < 1100


@pytest.mark.parametrize(("live", "dead"), [(1, 1), (3, 1), (9, 2), (1, 5)])
def test_a_dead_peer_is_tried_with_the_probability_dead_over_live_and_one(live: int, dead: int) -> None:
    share = sum(any(id.startswith("dead") for id in ids) for ids in drawn(live, dead)) / 3_000
    assert share == pytest.approx(min(1, dead / (live + 1)), abs=0.04)


def test_a_dead_peer_is_tried_for_sure_when_none_is_live() -> None:
    assert all(len(ids) == 1 and ids[0].startswith("dead") for ids in drawn(live=0, dead=2))


def test_a_seed_is_asked_when_live_peers_are_below_the_minimum() -> None:
    assert all(ids[-1] in ("s", "t") for ids in drawn(live=1, dead=0, seeds=("s", "t"), minimum_live_peers=2))
    assert not any("s" in ids for ids in drawn(live=2, dead=0, seeds=("s",), minimum_live_peers=2))


def test_no_partner_is_the_node_itself() -> None:
    assert drawn(live=0, dead=0, seeds=("a",), rounds=1) == [[]]
    protocol, _, _ = a_protocol(seeds=[RemotePeer("a", "at a")])
    assert all(protocol.round(NOW) == [] for _ in range(50))  # it stands in the storage, among the live


# The round


def test_a_round_sends_one_digest_of_the_live_and_of_itself() -> None:
    protocol, local, _ = a_protocol(a_peer("b", max_version_seen=7), a_peer("c", live=False, silent=10**9))
    local.update_local("key", 1)
    output = protocol.round(NOW)
    digest = [entry("b", 7), entry("a", 1)]
    assert Send(B, "digest", digest) in output
    assert events(output, "digest send")[0] == (B, digest)
    assert output.index(Event("digest send", (B, digest))) < output.index(Send(B, "digest", digest))


def test_a_silent_peer_dies_and_is_live_again_after_contact() -> None:
    peer = a_peer("b", silent=0)
    protocol, _, storage = a_protocol(peer)
    assert events(protocol.round(NOW + 13_800), "peer dead") == []  # 18.4 intervals of 750 ms
    assert events(protocol.round(NOW + 13_900), "peer dead") == [(B,)]
    assert [dead.id for dead in storage.dead_peers()] == ["b"]
    assert events(protocol.round(NOW + 14_000), "peer dead") == []
    protocol.receive_digest(NOW + 14_100, B, [])
    assert [dead.id for dead in storage.dead_peers()] == ["b"]  # judged in rounds only
    assert events(protocol.round(NOW + 14_200), "peer live") == [(B,)]
    assert "b" in [live.id for live in storage.live_peers()]


def test_liveness_comes_from_deltas_too() -> None:
    peer = a_peer("b", silent=20_000)
    protocol, _, _ = a_protocol(peer)
    protocol.receive_deltas(NOW, B, [])
    assert events(protocol.round(NOW), "peer dead") == []
    assert peer.last_time == NOW
    assert peer.intervals == [750, 20_000]


def test_a_peer_never_met_is_judged_from_when_it_was_heard_of() -> None:
    protocol, _, _ = a_protocol()
    protocol.receive_digest(NOW, B, [entry("c", 5)])
    dead = events(protocol.round(NOW + 60_000), "peer dead")
    assert sorted(peer.id for (peer,) in dead) == ["b", "c"]


# Digests


def test_peers_are_learned_from_senders_and_from_digests_with_version_0() -> None:
    protocol, _, storage = a_protocol()
    output = protocol.receive_digest(NOW, B, [entry("c", 99), entry("b", 12)])
    assert events(output, "new peer") == [(B,), (RemotePeer("c", "at c"),)]
    for id in "bc":
        peer = storage.get(id)
        assert peer is not None
        assert (peer.max_version_seen, peer.live, peer.transport) == (0, True, f"at {id}")
    assert events(protocol.receive_digest(NOW, B, [entry("c", 99)]), "new peer") == []


def test_a_sender_of_deltas_is_learned() -> None:
    protocol, _, storage = a_protocol()
    assert events(protocol.receive_deltas(NOW, B, []), "new peer") == [(B,)]
    assert storage.get("b") is not None


def test_it_is_never_a_peer_of_its_own() -> None:
    protocol, local, storage = a_protocol()
    me = RemotePeer("a", "at a")
    for output in (
        protocol.receive_digest(NOW, me, [entry("a", 10**6)]),
        protocol.receive_deltas(NOW, me, [["a", "key", "forged", 10**6]]),
    ):
        assert events(output, "new peer") == []
        assert events(output, "update") == []
    assert storage.live_peers() == [local]
    assert local.data == {}


def test_a_digest_is_answered_with_what_its_sender_lacks() -> None:
    protocol, local, _ = a_protocol(a_peer("c", data={"x": (1, 4), "y": (2, 6)}))
    local.update_local("own", "news")
    output = protocol.receive_digest(NOW, B, [entry("c", 4), entry("a", 0)])
    assert sends(output) == [Send(B, "deltas", [["c", "y", 2, 6], ["a", "own", "news", 1]])]
    assert len(events(output, "deltas send")) == 1


def test_a_digest_in_sync_or_ahead_is_not_answered() -> None:
    protocol, local, _ = a_protocol(a_peer("c", data={"x": (1, 4)}))
    local.update_local("own", 1)
    assert sends(protocol.receive_digest(NOW, B, [entry("c", 4), entry("a", 1)])) == []
    assert sends(protocol.receive_digest(NOW, B, [entry("c", 9)])) == []


def test_deltas_go_in_depth_order_cut_at_the_limit() -> None:
    many = Peer("many", data={f"k{n}": (n, n + 1) for n in range(4)})
    few = Peer("few", data={"x": (0, 8), "y": (0, 9)})
    assert choose_deltas([(few, 0), (many, 1)], 10) == [
        ["many", "k1", 1, 2],
        ["many", "k2", 2, 3],
        ["many", "k3", 3, 4],
        ["few", "x", 0, 8],
        ["few", "y", 0, 9],
    ]
    assert choose_deltas([(few, 0), (many, 1)], 4)[3:] == [["few", "x", 0, 8]]
    protocol, _, _ = a_protocol(many, max_deltas_per_gossip=2)
    assert sends(protocol.receive_digest(NOW, B, [entry("many", 0)]))[0].payload == [["many", "k0", 0, 1], ["many", "k1", 1, 2]]


# Deltas


def test_deltas_are_written_once_and_only_upwards() -> None:
    protocol, _, storage = a_protocol(a_peer("c"))
    news: list[list[Any]] = [["c", "x", "new", 5], ["c", "y", None, 6]]
    output = protocol.receive_deltas(NOW, B, news)
    assert events(output, "deltas receive") == [(B, news)]
    assert events(output, "update") == [("c", "x", "new"), ("c", "y", None)]
    assert events(protocol.receive_deltas(NOW, B, [*news, ["c", "x", "old", 3]]), "update") == []
    peer = storage.get("c")
    assert peer is not None
    assert peer.data == {"x": ("new", 5), "y": (None, 6)}


def test_deltas_of_an_unknown_peer_are_told_and_nothing_more() -> None:
    protocol, _, storage = a_protocol()
    output = protocol.receive_deltas(NOW, B, [["who", "x", 1, 5], ["b", "x", 1, 5]])
    assert events(output, "unknown peer") == [("who",)]
    assert events(output, "update") == [("b", "x", 1)]
    assert storage.get("who") is None


def test_the_same_calls_give_the_same_output() -> None:
    def run() -> list[Output]:
        protocol, local, _ = a_protocol(*(a_peer(f"p{n}", silent=n * 3_000) for n in range(9)), seed=3)
        local.update_local("x", 1)
        return [protocol.round(NOW + n * 1_000) for n in range(20)]

    assert run() == run()
