"""What histories have found: each as the seed that showed it, and as a story told by hand, which does without the seed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from gossipmonger.simulation import Simulation
from gossipmonger.state import MAX_VERSION
from tests.fragments import cut, is_compact, separate

from . import dense, simulated
from .nodes import NOW, Node, copied

SIMULATED = {
    301248282: "a live key vanishes",
    700008835: "a claim in a compact digest overflows",
    467184116: "an observer takes a node whose clock was set back for dead",
    467183017: "an observer takes its word for old news",
}
DENSE = {350: "a live key vanishes", 675: "a claim in a compact digest overflows", 2459: "a live key vanishes"}


@pytest.mark.parametrize("seed", SIMULATED, ids=lambda seed: f"{seed} {SIMULATED[seed]}")
def test_simulated_histories_that_were_found_keep_their_promises(seed: int) -> None:
    simulated.run(seed)


@pytest.mark.parametrize("seed", DENSE, ids=lambda seed: f"{seed} {DENSE[seed]}")
def test_dense_histories_that_were_found_keep_their_promises(seed: int) -> None:
    dense.run(seed)


class Table:
    """Nodes that sit at one table, where the test hands over their messages.

    Args:
        ids: Their ids.
        version: The version that they begin at; None for the clock's.
        **options: The endpoint's.
    """

    def __init__(self, *ids: str, version: int | None = None, **options: Any) -> None:
        self.options = {"gossip_fanout": 2, "rumor_fanout": 0, "dead_peer_phi": 1000, "seeds": ids, **options}
        self.nodes = [Node(id, NOW, version=version, **self.options) for id in ids]

    def hand(self, node: Node, messages: Iterable[bytes]) -> list[bytes]:
        """Hand messages to a node; return its answers."""
        return [answer.data for data in messages for answer in node.receive(NOW, data)]

    def ask(self, node: Node, other: Node) -> list[bytes]:
        """Hand a node's digest to another one; return the answers."""
        return self.hand(other, [node.digest()])

    def talk(self, node: Node, other: Node, messages: Iterable[bytes] = ()) -> None:
        """Let two nodes answer each other until there is nothing more to say; the first begins, by default with a digest."""
        messages = list(messages) or [node.digest()]
        while messages:
            node, other, messages = other, node, self.hand(other, messages)


def parts(message: bytes, size: int = 1) -> list[bytes]:
    return [json.dumps(part).encode() for part in cut(json.loads(message), lambda: size)]


def deltas_of(messages: Iterable[bytes]) -> list[bytes]:
    """What comes of messages whose deltas and digests travel by themselves, if the digests are late."""
    found = [part for message in messages for part in separate(json.loads(message)) if "deltas" in part]
    return [json.dumps(part).encode() for part in found]


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """An owner that has compacted, a teller that knows all of it, and a reader that knows nothing of it yet.

    The owner has deleted d and e (versions 4 and 5), so it has issued k again (6), with a floor of 5, and then written x (7).
    The teller has learned that and passes the floor on; the reader still knows k, d and e at versions 1 to 3.
    """
    table = Table("owner", "teller", "reader", version=0, **getattr(request, "param", {}))
    owner, teller, reader = table.nodes
    for value, key in enumerate("kde"):
        owner.update(NOW, key, value)
    for node, other in [(teller, owner), (reader, owner), (reader, teller), (owner, teller)]:
        table.talk(node, other)
    owner.delete(NOW, "d", "e")
    owner.update(NOW, "x", 3)
    table.talk(teller, owner)
    table.talk(owner, teller)
    assert (teller.peer("owner").floor, teller.peer("owner").max_version_seen) == (5, 7)
    assert (reader.peer("owner").floor, reader.peer("owner").max_version_seen) == (0, 3)
    return table


def assert_k_lives_on(table: Table, reader: Node | None = None) -> None:
    """k is at the reader as it has been all the time, and in the end all have the same."""
    owner = table.nodes[0]
    reader = table.nodes[2] if reader is None else reader
    assert "k" in reader.view("owner")
    assert ("delete", ("owner", "k")) not in reader.events
    for _ in range(2):
        table.talk(reader, owner)
        table.talk(owner, reader)
    assert reader.view("owner") == owner.data
    assert ("delete", ("owner", "k")) not in reader.events


one_delta = pytest.mark.parametrize("table", [{"max_deltas_per_gossip": 1}], ids=["one delta a message"], indirect=True)


def test_a_live_key_does_not_vanish_where_the_second_half_of_an_answer_is_late(table: Table) -> None:
    """The reader gets x (7) without k (8), and then the teller's floor: all that it was told of is at or below 7."""
    owner, teller, reader = table.nodes
    late = teller.digest()
    owner.update(NOW, "k", 4)  # 6 is a hole now
    (answer,) = table.ask(reader, owner)
    first, *rest = parts(answer)
    table.hand(reader, [first])
    assert reader.peer("owner").max_version_seen == 7
    assert rest
    table.hand(reader, [late])
    assert_k_lives_on(table)


@one_delta
def test_an_older_word_of_the_owner_does_not_take_back_how_far_the_teller_knew(table: Table) -> None:
    """No message is lost here: the owner's, from before it wrote k again, is overtaken by the teller's."""
    owner, teller, reader = table.nodes
    late = owner.digest()
    owner.update(NOW, "k", 4)
    table.hand(teller, deltas_of(table.ask(teller, owner)))
    assert teller.peer("owner").max_version_seen == 8
    table.hand(reader, table.ask(reader, teller))
    assert reader.peer("owner").max_version_seen == 7
    table.hand(reader, [late])
    assert_k_lives_on(table)


@one_delta
def test_a_replica_knows_how_far_the_owner_knew_when_it_comes_back_from_its_storage(table: Table) -> None:
    owner, teller, reader = table.nodes
    late = teller.digest()
    owner.update(NOW, "k", 4)
    table.hand(reader, table.ask(reader, owner))
    assert reader.peer("owner").max_version_seen == 7
    storage = copied(reader.storage, NOW, without="reader")
    again = Node("reader", NOW, storage=storage, **table.options)
    table.hand(again, [late])
    assert_k_lives_on(table, again)


@one_delta
def test_a_live_key_does_not_vanish_where_the_digest_that_goes_with_deltas_is_late(table: Table) -> None:
    """A transport without `exchange` sends them as two messages."""
    owner, teller, reader = table.nodes
    late = teller.digest()
    owner.update(NOW, "k", 4)
    table.hand(reader, deltas_of(table.ask(reader, owner)))
    assert reader.peer("owner").max_version_seen == 7
    table.hand(reader, [late])
    assert_k_lives_on(table)


def test_a_claim_in_a_compact_digest_is_answered_however_far_the_answer_leaps() -> None:
    """The claim is small enough for the compact digest's numbers, and what the node makes of it is not."""
    table = Table("owner", "teller")
    owner, teller = table.nodes
    now = NOW
    for _ in range(4):
        for node, other in [(owner, teller), (teller, owner)]:
            table.talk(node, other, [sent.data for sent in node.round(now)])
        now += 1000
    claimed, owner.heartbeat = owner.heartbeat, owner.heartbeat - 3  # a life that began from an older copy of its disk
    (digest,) = [sent.data for sent in teller.round(now)]
    assert is_compact(json.loads(digest))
    table.hand(owner, [digest])
    assert owner.heartbeat > claimed
    table.talk(owner, teller)
    table.talk(teller, owner)
    assert teller.view("owner") == owner.data
    assert teller.peer("owner").heartbeat == owner.heartbeat


def test_two_lives_that_begin_at_the_same_reading_of_the_clock_end_up_as_the_later_one() -> None:
    """The later life has other keys under the very versions of the former one, whose heartbeat gives it away."""
    with Simulation(seed=1) as sim:
        reader, owner = sim.add("reader"), sim.add("owner", seeds=["reader"])
        owner.update("k1", "former life")
        sim.run(10_000)
        assert reader.peer("owner").data == {"k1": "former life"}  # type: ignore[union-attr]
        owner = sim.restart("owner", ahead=-10_000)  # as far back as the former life took, and without its data
        owner.update("k2", "later life")
        sim.run(100_000)
        assert reader.peer("owner").data == {"k2": "later life"}  # type: ignore[union-attr]
        owner.update("k3", "more")
        sim.run(10_000)
        assert reader.peer("owner").data == {"k2": "later life", "k3": "more"}  # type: ignore[union-attr]


@pytest.mark.parametrize("heartbeat", [1, MAX_VERSION], ids=["early", "last"])
def test_a_forged_entry_with_the_last_version_there_is_empties_no_peer(heartbeat: int) -> None:
    with Simulation(seed=1) as sim:
        reader, owner = sim.add("reader"), sim.add("owner", seeds=["reader"])
        errors: list[Exception] = []
        for node in (reader, owner):
            node.on("error", errors.append)
        owner.update("k1", 1)
        sim.run(5_000)
        entries = [
            {"id": "owner", "maxVersionSeen": MAX_VERSION, "floor": MAX_VERSION, "heartbeat": heartbeat},
            {"id": "forger", "maxVersionSeen": 0, "heartbeat": 1},
        ]
        digest = [{**entry, "transport": {"host": entry["id"], "port": 9742}} for entry in entries]
        message = {"digest": digest, "sender": {"id": "forger", "transport": {"host": "forger", "port": 9742}}}
        sim.network.send("forger", "reader", json.dumps(message).encode())
        sim.run(20_000)
        assert reader.peer("owner").data == {"k1": 1}  # type: ignore[union-attr]
        assert len(errors) == 1
        assert str(MAX_VERSION) in str(errors[0])
        owner.update("k1", 2)
        sim.run(5_000)
        assert reader.peer("owner").data == {"k1": 2}  # type: ignore[union-attr]
