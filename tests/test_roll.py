"""The roll: who agrees on it, what it says, and what a node does that does not agree."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger import Gossipmonger, MemoryStorage, Peer
from gossipmonger.entry import Entry
from gossipmonger.output import Output
from gossipmonger.peer import MAX_VERSION
from gossipmonger.protocol import Protocol
from gossipmonger.roll import Roll, is_call
from gossipmonger.simulation import Simulation

from .protocols import NOW, B, a_peer, a_protocol, changed, entry, events, sends

SECOND = 1_000


def three(**changes: Any) -> list[Peer]:
    return [Peer(id, **{"floor": 100, "max_version_seen": 105, "heartbeat": 100, **changes}) for id in "bca"]


def numbers_of(roll: Roll) -> tuple[str, list[int]]:
    """The width in which a roll is called, as `struct` has it; the heartbeats, then the versions, less the floors."""
    packed = base64.b64decode(roll.call()[8:])
    width = {2: "h", 4: "i", 8: "q"}[len(packed) // (2 * len(roll))]
    return width, list(struct.unpack(f"<{2 * len(roll)}{width}", packed))


def call_with(roll: Roll, width: str = "", **changed: int) -> str:
    """Return a call with other numbers: h2=9 is the heartbeat of the third, v0=1 the version of the first."""
    own_width, numbers = numbers_of(roll)
    for name, number in changed.items():
        numbers[int(name[1:]) + (len(roll) if name[0] == "v" else 0)] = number
    return roll.basis + base64.b64encode(struct.pack(f"<{len(numbers)}{width or own_width}", *numbers)).decode()


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
        roll.note(peers[0])
        assert not roll.holds(peers)
    assert not Roll(peers).holds(peers[:2])


def test_numbers_that_change_are_noted_and_what_the_basis_is_made_of_makes_another_roll() -> None:
    peers = three()
    roll = Roll(peers)
    peers[0].heartbeat, peers[1].max_version_seen, peers[1].heard = 300, 400, 401
    for peer in (*peers, Peer("of no concern")):
        roll.note(peer)
    assert roll.call() == Roll(peers).call()
    assert numbers_of(roll) == ("h", [0, 200, 0, 5, 5, 300])  # a, b, c
    assert roll.behind == {"c": peers[1]}
    peers[1].max_version_seen = 401
    roll.note(peers[1])
    assert roll.behind == {}
    assert roll.holds(peers)


@pytest.mark.parametrize(("number", "width"), [(2**15 - 1, "h"), (2**15, "i"), (2**31 - 1, "i"), (2**31, "q")])
def test_a_number_that_takes_more_room_is_told_and_read_all_the_same(number: int, width: str) -> None:
    peers = three()
    noting, reading, made = Roll(peers), Roll(three()), Roll(three(heartbeat=100 + number))
    for peer in peers:
        peer.heartbeat = 100 + number
        noting.note(peer)
    assert noting.holds(peers)
    assert numbers_of(noting) == numbers_of(made) == (width, [number] * 3 + [5] * 3)
    for roll, other, heartbeat in ((reading, made, number), (reading, made, number), (made, Roll(three()), 0)):
        called = roll.read(other.call())
        assert called is not None
        assert [list(numbers) for numbers in called] == [[heartbeat] * 3, [5] * 3]


def test_what_is_called_is_read_by_whoever_has_the_same_roll_and_by_nobody_else() -> None:
    peers = three()
    peers[0].heartbeat, peers[2].max_version_seen = -1, 900
    call = Roll(peers).call()
    called = Roll(three()).read(call)
    assert called is not None
    assert [list(numbers) for numbers in called] == [[0, -101, 0], [800, 5, 5]]  # a, b, c, less their floors
    assert Roll(three(floor=99)).read(call) is None
    assert Roll(three()).read(call[:8] + base64.b64encode(bytes(16)).decode()) is None
    assert Roll(three()).read(call[:8]) is None
    assert Roll(three()).read("x" + call[1:]) is None


@given(st.lists(st.tuples(st.integers(-1, 2**34), st.integers(0, 2**34), st.integers(0, 2**34)), min_size=1, max_size=5))
def test_whatever_it_says_is_read_as_it_is_meant(numbers: list[tuple[int, int, int]]) -> None:
    peers = [
        Peer(f"n{n}", heartbeat=heartbeat, max_version_seen=max(version, floor), floor=floor)
        for n, (heartbeat, version, floor) in enumerate(numbers)
    ]
    call = Roll(peers).call()
    assert is_call(call)
    heartbeats, versions = Roll(peers).read(call)  # type: ignore[misc]
    floors = [peer.floor for peer in peers]
    assert [sum(pair) for pair in zip(heartbeats, floors, strict=True)] == [peer.heartbeat for peer in peers]
    assert [sum(pair) for pair in zip(versions, floors, strict=True)] == [peer.max_version_seen for peer in peers]


@pytest.mark.parametrize("number", ["h0", "v2"])
def test_a_number_that_no_heartbeat_or_version_can_be_is_not_read(number: str) -> None:
    last = MAX_VERSION - 9
    roll = Roll(three(floor=last, heartbeat=last, max_version_seen=last))
    for width in "hq":
        assert roll.read(call_with(roll, width, **{number: 9}))
        assert roll.read(call_with(roll, width, **{number: 10})) is None


@pytest.mark.parametrize(
    "call", [None, 7, [7], "", "AAAAAAA", "AAAAAAA=", "AAAAAAAAAAAA", "AAAA AAAA", "AAAAAAAé", "AAAAAAAACQAAAAEAAAB="]
)
def test_what_is_no_call_is_seen_to_be_none(call: Any) -> None:
    assert is_call("AAAAAAAACQAAAAEAAAA=")
    assert not is_call(call)


# Between two nodes


def at_rest(*peers: Peer, **options: Any) -> tuple[Protocol, Peer, MemoryStorage]:
    protocol, local, storage = a_protocol(*peers, **options)
    for second in range(4):
        protocol.round(NOW + second * SECOND)
    return protocol, local, storage


def roll_of(protocol: Protocol) -> Roll:
    return protocol.membership.roll(protocol.membership.told_of(NOW, *protocol.membership.others()))


def call_of(protocol: Protocol, **changed: int) -> Entry:
    """B's own entry with a call of the roll that the node has too, but for these numbers."""
    return entry("b", heartbeat=1).marked(roll=call_with(roll_of(protocol), "", **changed))


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
    assert seen[0] == {"b": (3, False), "p": (3, False)}
    assert seen[1] == seen[4] == {"b": (1, True), "p": (3, False)}


def test_who_is_new_ends_the_rest() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True))
    assert sends(protocol.round(NOW + 4 * SECOND))[0].digest[-1].roll  # type: ignore[index]
    protocol.receive(NOW, B, digest=[entry("c", 5, heartbeat=1), entry("b", heartbeat=2)])
    assert len(sends(protocol.round(NOW + 5 * SECOND))[0].digest or []) == 3


def test_a_call_is_read_like_the_entries_that_it_stands_for() -> None:
    kin = a_peer("b", heartbeat=1, ours=True)
    protocol, _, storage = at_rest(kin, a_peer("c", heartbeat=5), a_peer("d", heartbeat=5, data={"k": (1, 3)}))
    own = call_of(protocol, h2=9, v3=2)  # of a, b, c, d: c's heartbeat, d's version
    (send,) = sends(protocol.receive(NOW, B, digest=[own]))
    assert storage.get("c").heartbeat == 9  # type: ignore[union-attr]
    assert send.deltas == [["d", "k", 1, 3, 2]]


def test_what_is_missing_by_a_call_is_asked_for() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), *(a_peer(f"c{n:02}", heartbeat=5) for n in range(30)))
    own = call_of(protocol, v2=7)
    digest = answer(protocol.receive(NOW, B, digest=[own]))
    assert [each.id for each in digest] == ["c00", "a"]
    assert digest[-1].reply


def test_many_later_heartbeats_are_replied_in_a_call_and_few_in_entries() -> None:
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), *(a_peer(f"c{n:02}", heartbeat=5) for n in range(30)))
    for behind, entries in ((range(2, 4), ["c00", "c01", "a"]), (range(2, 32), ["a"])):
        own = call_of(protocol, **{f"h{n}": 4 for n in behind})
        digest = answer(protocol.receive(NOW, B, digest=[own]))
        assert [each.id for each in digest] == entries
        assert digest[-1].reply
        assert bool(digest[-1].roll) == (len(entries) == 1)


def test_whom_we_are_behind_with_has_an_entry_beside_the_call() -> None:
    c = a_peer("c", heartbeat=5, max_version_seen=3, ours=True)
    protocol, _, _ = at_rest(a_peer("b", heartbeat=1, ours=True), c)
    protocol.receive(NOW, B, digest=[entry("c", 3, heartbeat=5, heard=9), entry("b", heartbeat=2)])
    digest = sends(protocol.round(NOW + 4 * SECOND))[0].digest or []
    assert [(each.id, each.heard) for each in digest] == [("c", 9), ("a", 0)]
    assert digest[-1].roll


@pytest.mark.parametrize("exchanges", [1, 64])
def test_a_call_of_another_roll_is_answered_with_all_entries_and_changes_nothing(exchanges: int) -> None:
    protocol, _, storage = at_rest(
        a_peer("b", heartbeat=1, ours=True), a_peer("c", heartbeat=5), max_exchanges_per_gossip=exchanges
    )
    own = entry("b", heartbeat=1).marked(roll="another/" + call_with(roll_of(protocol), h2=9)[8:])
    now = NOW + 10 * SECOND
    answers = [sends(protocol.receive(now, B, digest=[own])) for _ in range(exchanges + 1)]
    assert [[each.id for each in send.digest or []] for send in answers[0]] == [["b", "c", "a"]]
    assert not (answers[0][0].digest or [])[-1].reply
    assert answers[-1] == []
    assert storage.get("c").heartbeat == 5  # type: ignore[union-attr]


def test_who_calls_from_below_its_former_life_is_told_what_that_said() -> None:
    dead = a_peer("b", heartbeat=1_000, ours=True, live=False, silent=100_000)
    protocol, _, _ = at_rest(a_peer("c", heartbeat=5, ours=True), dead)
    own = entry("b", heartbeat=7).marked(roll=call_with(roll_of(protocol)).replace(roll_of(protocol).basis, "another/"))
    digest = answer(protocol.receive(NOW, B, digest=[own]))
    assert [(each.id, each.heartbeat) for each in digest[:-1]] == [("c", 5), ("b", 1_000)]


def test_a_heartbeat_or_version_of_ours_that_we_never_had_is_gone_above() -> None:
    protocol, local, _ = at_rest(a_peer("b", heartbeat=1, ours=True))
    _, (heartbeat, _, version, _) = numbers_of(roll_of(protocol))
    own = call_of(protocol, h0=heartbeat + 1_000, v0=version + 1_000)
    before = local.heartbeat
    protocol.receive(NOW, B, digest=[own])
    assert local.heartbeat > before + 2**20
    assert local.floor > 1_000


def test_an_entry_counts_before_the_call() -> None:
    protocol, _, storage = at_rest(a_peer("b", heartbeat=1, ours=True), a_peer("c", heartbeat=5))
    own = call_of(protocol, v2=4)
    output = protocol.receive(NOW, B, digest=[entry("c", 7, heartbeat=5), changed(own, heartbeat=2)])
    assert [each.id for each in answer(output)] == ["c", "a"]
    assert storage.get("c").heard == 7  # type: ignore[union-attr]
    assert events(output, "error") == []


# Whole clusters


def test_a_cluster_at_rest_sends_a_fraction_of_the_bytes_and_still_has_every_update(seed: int) -> None:
    sim = Simulation(seed)
    nodes = [sim.add(f"n{n}", seeds=["n0"], rumor_fanout=0, compress_above=None) for n in range(30)]
    sim.run(1 * SECOND)
    busy = sim.bytes
    sim.run(2 * SECOND)
    forming = sim.bytes - busy
    sim.run(20 * SECOND)
    before = sim.bytes
    sim.run(2 * SECOND)
    assert sim.bytes - before < forming / 4
    for number, node in enumerate(nodes):
        node.update("k", number)
    sim.run_until(lambda: all(has_all(node, nodes) for node in nodes), limit=20 * SECOND, every=100)


def has_all(node: Gossipmonger, owners: list[Gossipmonger]) -> bool:
    return all(node.get(owner.local_peer.id, "k") == number for number, owner in enumerate(owners))


@pytest.fixture
def seed(rng: Any) -> int:
    return int(rng.randrange(10**6))
