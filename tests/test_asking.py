"""Asking: what is on its way is not asked for again."""

from __future__ import annotations

import pytest

from gossipmonger import RemotePeer
from gossipmonger.asking import Asking
from gossipmonger.output import Output, Send
from gossipmonger.peer import Kin, Peer
from gossipmonger.simulation import Simulation
from tests.protocols import NOW, a_peer, a_protocol, entry, sends


def behind(id: str, by: int = 11) -> Peer:
    peer = Peer(id, max_version_seen=5)
    peer.hear_of(5 + by, 0, False)
    return peer


def test_what_one_message_can_bring_is_not_waited_for() -> None:
    asking, peer = Asking(50, 10), behind("p", 10)
    asking.ask(0, "a", [peer])
    assert not asking.awaits(0, peer)


def test_who_has_asked_waits_for_an_answer_and_asks_again_when_it_has_come_or_is_late() -> None:
    asking, peer, other = Asking(50, 10), behind("p"), Peer("o")
    assert asking.unasked(0, [peer, other]) == [peer, other]
    asking.ask(0, "a", [peer])
    assert asking.unasked(49, [peer, other]) == [other]
    assert asking.unasked(50, [peer, other]) == [peer, other]
    asking.ask(100, "a", [peer])
    assert not asking.awaits(99, peer)  # the clock was set back
    asking.ask(100, "a", [peer])
    asking.answered(101, "b")
    assert asking.awaits(101, peer)
    peer.max_version_seen = 6
    assert not asking.awaits(101, peer)


def test_what_an_answer_could_not_tell_is_free_to_be_asked_for_again() -> None:
    asking, peers = Asking(50, 10), [behind(f"p{n}") for n in range(3)]
    asking.ask(0, "a", peers[:2])
    asking.ask(1, "b", peers[1:])
    asking.answered(2, "a")
    assert asking.unasked(2, peers) == peers[:1]  # the second one, another was asked for later
    asking.ask(3, "b", [])
    assert asking.unasked(3, peers) == peers


def test_the_wait_is_as_long_as_answers_take() -> None:
    asking, peer = Asking(50, 10), behind("p")
    asking.ask(0, "a", [peer])
    asking.answered(1_000, "a")
    assert not asking.awaits(1_000, peer)
    asking.ask(2_000, "a", [peer])
    assert asking.awaits(5_999, peer)
    assert not asking.awaits(6_000, peer)
    for _ in range(100):
        asking.ask(10_000, "a", [peer])
        asking.answered(10_001, "a")
    asking.ask(20_000, "a", [peer])
    assert asking.awaits(20_049, peer)
    assert not asking.awaits(20_050, peer)


def wanted(output: Output) -> list[str]:
    """Whom a reply asks about."""
    return [named.id for item in output if isinstance(item, Send) for named in item.digest or () if named.id != "a"]


def test_of_many_who_tell_of_a_write_one_is_asked() -> None:
    protocol, _, storage = a_protocol(Peer("p", max_version_seen=5, heartbeat=9))

    def tells(id: str, now: float) -> list[str]:
        told = [entry("p", 17, heartbeat=9), entry(id, heartbeat=1)]
        return wanted(protocol.receive(now, Kin(id, f"at {id}"), digest=told))

    assert "p" in tells("b", NOW)
    assert "p" not in tells("c", NOW + 1)
    protocol.receive(NOW + 2, RemotePeer("b", "at b"), [["p", "k", "v", 6, 5]], None)
    assert [peer.max_version_seen for peer in storage.live_peers() if peer.id == "p"] == [6]
    assert "p" in tells("d", NOW + 3)
    assert "p" not in tells("e", NOW + 4)
    assert "p" in tells("f", NOW + 1_000)


def test_a_digest_leaves_out_whom_another_was_asked_for_and_says_so() -> None:
    b = a_peer("b", ours=True)
    protocol, _, _ = a_protocol(Peer("p", max_version_seen=5, heartbeat=9, last_time=NOW, transport="at p"), b, gossip_fanout=2)
    told = [entry("p", 17, heartbeat=9), entry("b", heartbeat=1)]
    assert "p" in wanted(protocol.receive(NOW, Kin("b", "at b"), digest=told))
    for now, part in ((NOW + 1, True), (NOW + 1_000, False)):
        digests = [send.digest for send in sends(protocol.round(now)) if send.digest is not None]
        assert len(digests) == 2
        for digest in digests:
            assert ("p" not in [each.id for each in digest]) is digest[-1].part is part


@pytest.mark.untraced
def test_a_flood_is_sent_to_each_node_less_than_twice() -> None:
    sim = Simulation(1)
    nodes = [sim.add(f"n{n}", seeds=["n0"], max_deltas_per_gossip=100) for n in range(10)]
    sim.run(5_000)
    received = {node.local_peer.id: 0 for node in nodes}
    for node in nodes:

        def count(_: object, deltas: list[object], id: str = node.local_peer.id) -> None:
            received[id] += len(deltas)

        node.on("deltas receive", count)
    for key in range(2_000):
        nodes[0].update(f"k{key}", key)
    sim.run_until(lambda: all(node.get("n0", "k1999") == 1999 for node in nodes), limit=10_000)
    assert sum(received.values()) < 2 * 9 * 2_000


@pytest.mark.untraced
def test_who_catches_up_with_many_goes_on_with_the_one_it_has_asked() -> None:
    sim = Simulation(1)
    nodes = [sim.add(f"n{n}", seeds=["n0"], max_deltas_per_gossip=20) for n in range(60)]
    for node in nodes:
        for key in range(10):
            node.update(f"k{key}", key)
    ids = [node.local_peer.id for node in nodes]
    sim.run_until(lambda: all(node.get(id, "k9") == 9 for node in nodes for id in ids), limit=8_000)
