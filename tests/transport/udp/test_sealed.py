"""UDP with shared keys: the contract, how long datagrams are, and what those who have no key get out of a node."""

from __future__ import annotations

import select
import threading
from typing import Any

import pytest

from gossipmonger import Keyring, MessageError, SealError, UdpTransport
from gossipmonger.state import Delta, Digest, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport.tcp.place import RETURN
from gossipmonger.wire import OVERHEAD, encode, inflate
from gossipmonger.wire.compression import deflate
from tests.transport.udp.net import HOST, SENDER, Net, Node, Wire
from tests.wire.test_sealing import ONE, TWO

RING = Keyring([ONE])
SIZE = 1_232


class TestContract(TransportContract):
    reports_unreachable = False

    def make_transport(self) -> UdpTransport:
        return UdpTransport(host=HOST, port=0, keyring=RING)


class TestContractOverTcp(TransportContract):
    def make_transport(self) -> UdpTransport:
        return UdpTransport(host=HOST, port=0, keyring=RING)

    def address_of(self, transport: Any) -> Any:
        return {"host": transport.host, "port": transport.port}


def round_of(peer: RemotePeer, others: int = 0, **header: Any) -> Message:
    entries = [Entry(f"{number:03}", 10**15 + number, {"host": f"10.0.0.{number}", "port": 9742}) for number in range(others)]
    return Message(peer, None, Digest(Kind.ROUND, Header(**header), [*entries, Entry(peer.id, 1, peer.transport, heartbeat=1)]))


def sealed(net: Net, *trusted: Wire, **options: Any) -> Node:
    node = net.node(keyring=RING, **options)
    node.transport.trust([wire.peer.transport for wire in trusted])  # as seeds' addresses
    return node


def named(node: Node) -> RemotePeer:
    return RemotePeer("a", node.transport.address)


def silent(wire: Wire) -> bool:
    return not select.select([wire.udp, wire.tcp], [], [], 0)[0]


# How long datagrams are


@pytest.mark.parametrize("size", [512, SIZE])
def test_datagrams_are_sealed_and_no_longer_than_they_may_be(net: Net, size: int) -> None:
    wire = net.wire()
    node = sealed(net, wire, max_datagram_size=size)
    for others in (0, 3, 60):
        message = round_of(named(node), others)
        node.transport.send(wire.peer, message)
        found: set[str] = set()
        while not found >= {entry.id for entry in message.digest.entries}:  # type: ignore[union-attr]
            datagram = wire.datagram()
            assert len(datagram) <= size
            plain = inflate(RING.open(datagram), 100_000)
            found |= {entry.id for entry in message.digest.entries if b'"%b"' % entry.id.encode() in plain}  # type: ignore[union-attr]
    assert node.errors == []


def test_the_seal_counts_when_a_message_is_fitted(net: Net) -> None:
    wire = net.wire()
    node = sealed(net, wire)
    empty = len(encode(Message(named(node), [Delta("a", "k", "", 1)])))
    for room, deflates in ((SIZE - OVERHEAD, False), (SIZE - OVERHEAD + 1, True)):
        node.transport.send(wire.peer, Message(named(node), [Delta("a", "k", "x" * (room - empty), 1)]))
        datagram = wire.datagram()
        assert (len(datagram) < SIZE) == deflates
        assert b"xxxx" in inflate(RING.open(datagram), 100_000)


def test_the_seal_counts_in_what_goes_to_an_address_that_has_shown_nothing(net: Net) -> None:
    node, wire = sealed(net), net.wire()
    heard: list[Message] = []
    came = threading.Event()
    node.transport.on("message", lambda message: (heard.append(message), came.set()))
    asked = RING.seal(encode(round_of(wire.peer)))
    wire.throw(node, asked)
    assert came.wait(10)
    room = RETURN * len(asked) - OVERHEAD - len(encode(Message(named(node), [Delta("a", "k", "", 1)])))
    for value in ("x" * room, "x" * 10):
        node.transport.send(heard[0].sender, Message(named(node), [Delta("a", "k", value, 1)]))
    assert len(wire.datagram()) == RETURN * len(asked)
    wire.tcp.accept()[0].close()  # the other has to show itself first
    assert silent(wire)


# Those who have no key


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encode(round_of(SENDER)), "the message is not sealed, and this node has a keyring"),
        (deflate(encode(round_of(SENDER))), "the message is not sealed, and this node has a keyring"),
        (b"", "the message is not sealed, and this node has a keyring"),
        (b"\4", "the message is sealed and cut short"),
        (Keyring([TWO]).seal(encode(round_of(SENDER))), f"the message is sealed with the key {Keyring(TWO).ids[0]}; this node"),
        (RING.seal(encode(round_of(SENDER)), "test"), "it was altered, or sealed for another cluster or connection"),
        (RING.seal(encode(round_of(SENDER)))[:-1], "it was altered"),
        (RING.seal(encode(round_of(SENDER)), None, b"hello"), "it was altered"),
    ],
)
def test_nothing_is_answered_to_what_does_not_open(net: Net, data: bytes, words: str) -> None:
    node, wire = sealed(net), net.wire()
    answer = round_of(named(node))
    node.transport.on("message", lambda message: node.transport.send(message.sender, answer))
    wire.throw(node, data)
    node.wait(errors=1)
    assert type(node.errors[0]) is SealError
    assert words in str(node.errors[0])
    wire.throw(node, RING.seal(encode(round_of(wire.peer))))
    wire.datagram()  # the answer to this one is the first
    assert silent(wire)
    assert len(node.errors) == 1
    assert wire.source.partition(":")[0] in str(node.errors[0])


def test_what_is_sealed_is_held_to_the_same_limits(net: Net) -> None:
    node, wire = sealed(net, max_message_size=1_000), net.wire()
    wire.throw(node, RING.seal(deflate(b" " * 100_000)))
    node.wait(errors=1)
    assert (type(node.errors[0]), "inflates to more than 1000 bytes" in str(node.errors[0])) == (MessageError, True)


def test_sealed_at_a_node_without_keys_is_an_error_that_says_so(net: Net) -> None:
    node, wire = net.node(), net.wire()
    wire.throw(node, RING.seal(encode(round_of(SENDER))))
    node.wait(errors=1)
    assert str(node.errors[0]) == (f"message from {wire.source} refused: the message is sealed and this node has no keyring")
    assert silent(wire)


def test_the_same_message_is_never_the_same_datagram(net: Net) -> None:
    wires = [net.wire(), net.wire()]
    node = sealed(net, *wires)
    message = Message(named(node), [Delta("a", "k", "v", 1)])
    for wire in wires:
        node.transport.send(wire.peer, message)
    one, two = [wire.datagram() for wire in wires]
    assert one[5:] != two[5:]
    assert RING.open(one) == RING.open(two)
