"""UDP under endpoints: answers, addresses, and clusters that lose datagrams."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gossipmonger import Gossipmonger
from gossipmonger.state import RemotePeer
from gossipmonger.transport import UdpTransport
from gossipmonger.transport.tcp.place import RETURN
from gossipmonger.wire import Splitter, decode, hello, read_hello
from tests.cluster import Cluster, Here
from tests.transport.udp.net import HOST, Net, Node, Socket, text


def test_an_answer_goes_where_the_sender_says_it_is_and_never_to_the_source(net: Net) -> None:
    claimed, forger = net.wire(), net.wire()
    transport = UdpTransport(host=HOST, port=0)
    a = Gossipmonger({"id": "a"}, transport=transport)
    net.callback(a.close)
    a.update("foo", "bar")
    transport.listen()
    node = Node(transport)
    for wire in (claimed, forger):
        sender = RemotePeer(f"at {wire.port}", wire.peer.transport)
        own = {"id": sender.id, "maxVersionSeen": 1, "transport": sender.transport, "heartbeat": 1}
        lacking = {"id": "a", "maxVersionSeen": 0, "transport": transport.address}
        forger.throw(node, text(sender, digest=[lacking, own]))
        answer = decode(wire.datagram())
        assert answer.sender == RemotePeer("a", {"host": HOST, "port": transport.port, "udp": True})
        assert answer.deltas is not None
        assert answer.deltas[0][:3] == ("a", "foo", "bar")


@pytest.mark.parametrize("others", [0, 200])
def test_who_has_shown_nothing_gets_a_few_times_what_came_in_its_name_and_the_rest_over_tcp(net: Net, others: int) -> None:
    wire = net.wire()
    transport = UdpTransport(host=HOST, port=0)
    a = Gossipmonger({"id": "a"}, transport=transport)
    a.on("error", lambda error: None)
    net.callback(a.close)
    transport.listen()
    node = Node(transport)
    for n in range(others):
        own = {
            "id": f"p{n}",
            "maxVersionSeen": 1,
            "transport": {"host": f"127.0.9.{n}", "port": 1},
            "heartbeat": 7**n % 2**50,
        }
        node.transport.emit("message", decode(text(RemotePeer(f"p{n}", own["transport"]), digest=[own])))
    start = 1_700_000_000_000_000
    at = {**wire.peer.transport, "udp": True}
    own = {"id": "z", "maxVersionSeen": start, "transport": at, "floor": start, "heartbeat": start}
    question = text(RemotePeer("z", at), digest=[own])
    wire.throw(node, question)
    answer = wire.message() if others else wire.datagram()
    assert (len(answer) <= RETURN * len(question)) == (not others)
    digest = decode(answer, speaker=a.local_peer.remote).digest
    assert digest is not None
    assert len(digest.entries) == 1 + others
    if others:  # it has answered a HELLO
        wire.throw(node, question)
        assert len(wire.datagrams(1)[0]) > 500


def test_who_asks_over_tcp_is_answered_there(net: Net) -> None:
    wire = net.wire()
    a = Gossipmonger({"id": "a"}, transport=UdpTransport(host=HOST, port=0))
    net.callback(a.close)
    a.update("foo", "bar")
    a.transport.listen()
    own = {"id": "wire", "maxVersionSeen": 1, "transport": wire.peer.transport, "heartbeat": 1}
    lacking = {"id": "a", "maxVersionSeen": 0, "transport": a.transport.address}
    splitter, frames = Splitter(1 << 20, a), list[bytes]()
    with socket.create_connection((HOST, a.transport.port), timeout=10) as connection:
        connection.sendall(hello(wire.peer) + text(wire.peer, digest=[lacking, own]))
        while len(frames) < 2:
            frames += splitter.frames(connection.recv(65_536))
    named = read_hello(frames[0], a).sender
    assert named == RemotePeer("a", a.transport.address)
    answer = decode(frames[1], speaker=named)
    assert answer.deltas is not None
    assert answer.deltas[0][:3] == ("a", "foo", "bar")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, {"host": "a.example", "port": 9000, "udp": True}),
        ({"host": "b.example"}, {"host": "b.example", "port": 9000, "udp": True}),
        ({"host": "b.example", "port": 1}, {"host": "b.example", "port": 1, "udp": True}),
        ({"host": "b.example", "port": 1, "udp": False}, {"host": "b.example", "port": 1, "udp": False}),
    ],
)
def test_peers_are_told_that_a_node_takes_datagrams_unless_its_peer_info_says_otherwise(
    net: Net, given: Any, told: Any
) -> None:
    info = {"id": "a"} if given is None else {"id": "a", "transport": given}
    a = Gossipmonger(info, transport=UdpTransport(host="a.example", port=9000))
    net.callback(a.close)
    assert a.local_peer.transport == told
    assert a.digest()[-1]["transport"] == told


@pytest.fixture
def cluster(faults: list[Any]) -> Iterator[Cluster]:
    cluster = Cluster(GOSSIP_INTERVAL=50, MAX_DELTAS_PER_GOSSIP=100)
    yield cluster
    cluster.close()


def everybody_has(cluster: Cluster, key: str) -> Callable[[], bool]:
    """Whether all know what all others have under `key`, which is their id."""
    nodes = cluster.nodes
    return lambda: all(node.data.get(id, {}).get(key) == id for node in nodes.values() for id in nodes.keys() - {node.id})


def everybody_is(cluster: Cluster, state: dict[str, dict[str, Any]]) -> Callable[[], bool]:
    """Whether all know this of all."""
    return lambda: all(node.state() == state for node in cluster.nodes.values())


def test_a_cluster_over_udp_meets_spreads_updates_and_sees_a_death(cluster: Cluster) -> None:
    for number in range(4):
        cluster.here(f"u{number}", udp=True)
    victim = cluster.apart("u4", udp=True)
    cluster.until(cluster.all_know_all)
    for node in cluster.nodes.values():
        node.update("id", node.id)
        node.update("noise", random.Random(node.id).randbytes(2_000).hex())  # too large for a datagram
    cluster.until(everybody_has(cluster, "id"))
    cluster.until(lambda: all(len(node.data.get("u4", {})) == 2 for node in cluster.nodes.values() if node is not victim))
    assert Socket.sent > 0
    assert all(node.errors == [] for node in cluster.nodes.values())
    del cluster.nodes["u4"]
    victim.kill()
    cluster.until(lambda: all(node.peers["u4"] == "dead" for node in cluster.nodes.values()), seconds=60)


@pytest.mark.untraced
def test_what_is_lost_or_comes_in_the_wrong_order_is_mended(cluster: Cluster, rng: random.Random) -> None:
    Socket.chance = rng
    for number in range(3):
        cluster.here(f"u{number}", udp=True)
    cluster.until(cluster.all_know_all)
    keys = {f"key {number}": rng.randbytes(30).hex() for number in range(100)}
    for count in (1, 2):
        for node in cluster.nodes.values():
            for key, value in keys.items():
                node.update(key, [node.id, count, value])
        wanted = {id: {key: [id, count, value] for key, value in keys.items()} for id in cluster.nodes}
        cluster.until(everybody_is(cluster, wanted))
    assert all(node.errors == [] for node in cluster.nodes.values())


def test_a_mixed_cluster_of_udp_and_tcp_is_one(cluster: Cluster) -> None:
    for id in ("t1", "u1", "t2", "u2"):
        cluster.here(id, udp=id.startswith("u"))
    cluster.until(cluster.all_know_all)
    for node in cluster.nodes.values():
        node.update("id", node.id)
    cluster.until(everybody_has(cluster, "id"))
    sent = Socket.sent
    with cluster.changed:
        assert cluster.changed.wait_for(lambda: Socket.sent > sent + 10, 10)  # the two of them still use datagrams
    for node in cluster.nodes.values():
        assert isinstance(node, Here)
        for id, peer in node.node.peers().items():
            assert (peer.transport.get("udp") is True) == id.startswith("u")  # which those of TCP have passed on
        assert node.errors == []
