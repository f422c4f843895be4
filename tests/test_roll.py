"""The roll: who agrees on it, what it says, and what a node does that does not agree."""

from __future__ import annotations

from typing import Any

import pytest

from gossipmonger import Gossipmonger, MemoryStorage, Peer
from gossipmonger.entry import Entry
from gossipmonger.output import Output
from gossipmonger.peer import MAX_VERSION
from gossipmonger.protocol import Protocol
from gossipmonger.roll import Roll
from gossipmonger.simulation import Simulation

from .protocols import NOW, B, a_peer, a_protocol, changed, entry, events, sends

SECOND = 1_000


def three(**changes: Any) -> list[Peer]:
    return [Peer(id, **{"floor": 100, "max_version_seen": 105, "heartbeat": 100, **changes}) for id in "bca"]


# Alone


def test_who_tells_the_same_of_the_same_peers_has_the_same_basis_whatever_their_order_heartbeats_and_versions() -> None:
    peers = three()
    basis = Roll(peers).basis
    assert Roll(reversed(three(heartbeat=7, max_version_seen=300))).basis == basis
    peers[0].transport = {"host": "h", "port": 1}
    moved = Roll(peers).basis
    peers[0].transport = {"port": 1, "host": "h"}
    assert Roll(peers).basis == moved != basis
    assert Roll(three(floor=101)).basis != basis
    assert Roll(three(left=True)).basis != basis
    assert Roll(three()[:2]).basis != basis


def test_it_holds_until_something_of_it_changes() -> None:
    peers = three()
    roll = Roll(peers)
    peers[0].heartbeat, peers[1].max_version_seen = 300, 300
    assert roll.holds(list(peers))
    for change in ({"floor": 101}, {"left": True}, {"transport": "moved"}):
        roll = Roll(peers)
        for name, value in change.items():
            setattr(peers[0], name, value)
        assert not roll.holds(peers)
    assert not Roll(peers).holds(peers[:2])


def test_what_is_called_is_read_by_whoever_has_the_same_roll_and_by_nobody_else() -> None:
    peers = three()
    peers[0].heartbeat, peers[2].max_version_seen = -1, 900
    numbers = Roll(peers).call()
    assert Roll(three()).read(numbers) == ([100, -1, 100], [900, 105, 105])  # a, b, c
    assert Roll(three(floor=99)).read(numbers) is None
    assert Roll(three()).read(numbers[:-2]) is None
    assert Roll(three()).read([numbers[0] + 1, *numbers[1:]]) is None


@pytest.mark.parametrize(("place", "number"), [(1, -102), (1, MAX_VERSION), (2, -101), (2, MAX_VERSION)])
def test_numbers_that_no_heartbeat_or_version_can_be_are_not_read(place: int, number: int) -> None:
    roll = Roll(three())
    numbers = roll.call()
    numbers[place] = number
    assert roll.read(numbers) is None


# Between two nodes


def at_rest(*peers: Peer, **options: Any) -> tuple[Protocol, Peer, MemoryStorage]:
    protocol, local, storage = a_protocol(*peers, **options)
    for second in range(4):
        protocol.round(NOW + second * SECOND)
    return protocol, local, storage


def call_of(protocol: Protocol) -> Entry:
    """B's own entry with a call of the roll that the node has too."""
    roll = protocol.membership.roll(protocol.membership.told_of(NOW, *protocol.membership.others()))
    return entry("b", heartbeat=1).marked(roll=roll.call())


def answer(output: Output) -> list[Entry]:
    (send,) = sends(output)
    return send.digest or []


def test_at_rest_live_kin_are_called_and_others_are_told_entries() -> None:
    kin, plain = a_peer("b", heartbeat=1, ours=True), a_peer("p", ours=False)
    protocol, _, _ = a_protocol(kin, plain, gossip_fanout=2)
    seen = {}
    for second in range(5):
        for peer in (kin, plain):
            peer.last_time = NOW + second * SECOND
        sent = {send.remote_peer.id: send.digest or [] for send in sends(protocol.round(NOW + second * SECOND))}
        seen[second] = {id: (len(digest), digest[-1].roll is not None) for id, digest in sent.items()}
    assert seen[0] == seen[1] == {"b": (3, False), "p": (3, False)}
    assert seen[3] == seen[4] == {"b": (1, True), "p": (3, False)}


def test_who_is_new_ends_the_rest() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True))
    assert sends(protocol.round(NOW + 4 * SECOND))[0].digest[-1].roll  # type: ignore[index]
    protocol.receive_digest(NOW, B, [entry("c", 5, heartbeat=1), entry("b", heartbeat=2)])
    assert len(sends(protocol.round(NOW + 5 * SECOND))[0].digest or []) == 3


def test_a_call_is_read_like_the_entries_that_it_stands_for() -> None:
    kin = a_peer("b", heartbeat=1, ours=True)
    protocol, _, storage = at_rest(kin, a_peer("c", heartbeat=5), a_peer("d", heartbeat=5, data={"k": (1, 3)}))
    own = call_of(protocol)
    assert own.roll is not None
    own.roll[1 + 2 * 2] = 9  # of a, b, c, d: c's heartbeat, d's version
    own.roll[2 + 2 * 3] = 2
    (send,) = sends(protocol.receive_digest(NOW, B, [own]))
    assert storage.get("c").heartbeat == 9  # type: ignore[union-attr]
    assert send.deltas == [["d", "k", 1, 3, 2]]


def test_what_is_missing_by_a_call_is_asked_for() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), *(a_peer(f"c{n:02}", heartbeat=5) for n in range(30)))
    own = call_of(protocol)
    assert own.roll is not None
    own.roll[2 + 2 * 2] = 7
    digest = answer(protocol.receive_digest(NOW, B, [own]))
    assert [each.id for each in digest] == ["c00", "a"]
    assert digest[-1].reply


def test_many_later_heartbeats_are_replied_in_a_call_and_few_in_entries() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), *(a_peer(f"c{n:02}", heartbeat=5) for n in range(30)))
    for behind, entries in ((range(2, 4), ["c00", "c01", "a"]), (range(2, 32), ["a"])):
        own = call_of(protocol)
        assert own.roll is not None
        for n in behind:
            own.roll[1 + 2 * n] = 4
        digest = answer(protocol.receive_digest(NOW, B, [own]))
        assert [each.id for each in digest] == entries
        assert digest[-1].reply
        assert bool(digest[-1].roll) == (len(entries) == 1)


def test_whom_we_are_behind_with_has_an_entry_beside_the_call() -> None:
    c = a_peer("c", heartbeat=5, max_version_seen=3, ours=True)
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c)
    protocol.receive_digest(NOW, B, [entry("c", 3, heartbeat=5, heard=9), entry("b", heartbeat=2)])
    digest = sends(protocol.round(NOW + 4 * SECOND))[0].digest or []
    assert [(each.id, each.heard) for each in digest] == [("c", 9), ("a", 0)]
    assert digest[-1].roll


@pytest.mark.parametrize("exchanges", [1, 64])
def test_a_call_of_another_roll_is_answered_with_all_entries_and_changes_nothing(exchanges: int) -> None:
    protocol, _, storage = at_rest(
        a_peer("b", heartbeat=1, ours=True), a_peer("c", heartbeat=5), max_exchanges_per_gossip=exchanges
    )
    own = call_of(protocol)
    assert own.roll is not None
    own.roll[0] += 1
    own.roll[1 + 2 * 2] = 9
    now = NOW + 10 * SECOND
    answers = [sends(protocol.receive_digest(now, B, [own])) for _ in range(exchanges + 1)]
    assert [[each.id for each in send.digest or []] for send in answers[0]] == [["b", "c", "a"]]
    assert not (answers[0][0].digest or [])[-1].reply
    assert answers[-1] == []
    assert storage.get("c").heartbeat == 5  # type: ignore[union-attr]


def test_a_heartbeat_or_version_of_ours_that_we_never_had_is_gone_above() -> None:
    protocol, local, _ = at_rest(a_peer("b", heartbeat=1, ours=True))
    own = call_of(protocol)
    assert own.roll is not None
    own.roll[1] += 1_000
    own.roll[2] += 1_000
    before = local.heartbeat
    protocol.receive_digest(NOW, B, [own])
    assert local.heartbeat > before + 2**20
    assert local.floor > 1_000


def test_an_entry_counts_before_the_call() -> None:
    protocol, _, storage = at_rest(a_peer("b", heartbeat=1, ours=True), a_peer("c", heartbeat=5))
    own = call_of(protocol)
    assert own.roll is not None
    own.roll[2 + 2 * 2] = 4
    output = protocol.receive_digest(NOW, B, [entry("c", 7, heartbeat=5), changed(own, heartbeat=2)])
    assert [each.id for each in answer(output)] == ["c", "a"]
    assert storage.get("c").heard == 7  # type: ignore[union-attr]
    assert events(output, "error") == []


# Whole clusters


def test_a_cluster_at_rest_sends_a_fraction_of_the_bytes_and_still_has_every_update(seed: int) -> None:
    sim = Simulation(seed)
    nodes = [sim.add(f"n{n}", seeds=["n0"], rumor_fanout=0, compress_above=None) for n in range(30)]
    sim.run(3 * SECOND)
    busy = sim.bytes
    sim.run(3 * SECOND)
    forming = sim.bytes - busy
    sim.run(20 * SECOND)
    before = sim.bytes
    sim.run(3 * SECOND)
    assert sim.bytes - before < forming / 4
    for number, node in enumerate(nodes):
        node.update("k", number)
    sim.run_until(lambda: all(has_all(node, nodes) for node in nodes), limit=20 * SECOND, every=100)


def has_all(node: Gossipmonger, owners: list[Gossipmonger]) -> bool:
    return all(node.get(owner.local_peer.id, "k") == number for number, owner in enumerate(owners))


@pytest.fixture
def seed(rng: Any) -> int:
    return int(rng.randrange(10**6))
