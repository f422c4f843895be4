"""TCP with shared keys: the contract, what is on the wire, and what those who have no key get out of a node: nothing."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from gossipmonger import Keyring, MessageError, SealError, TcpTransport
from gossipmonger.state import Message, RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport.tcp import dial as dial_module
from gossipmonger.transport.tcp.caller import Caller
from gossipmonger.wire import CLOSING, EMPTY, Records, hello
from gossipmonger.wire.greeting import SealedGreeter
from gossipmonger.wire.records import begins_sealed, end_of
from tests.transport.tcp.net import (
    HOST,
    SENDER,
    Connection,
    Net,
    Node,
    Peer,
    message,
    peer_at,
    refused,
    round_of,
    tells,
    text,
    until,
)
from tests.wire.test_sealing import ONE, TWO


class TestContract(TransportContract):
    def make_transport(self) -> TcpTransport:
        return TcpTransport(host=HOST, port=0, keyring=Keyring([ONE]))


class TestContractWithSeveralKeys(TransportContract):
    """Each transport seals with another key, as in the midst of a rotation, and none compresses."""

    def make_transport(self) -> TcpTransport:
        keys = [ONE, TWO] if len(self._nodes) % 2 else [TWO, ONE]
        return TcpTransport(host=HOST, port=0, compress_above=None, keyring=Keyring(keys))


class Sealed:
    """A raw connection on which the test plays one end of a sealed link, or an attacker.

    Attributes:
        said: All bytes that were sent.
    """

    def __init__(self, connection: Connection, keys: Any = ONE, dialled: bool = True, cluster: str | None = None) -> None:
        self.connection = connection
        self.greeter = SealedGreeter(Keyring(keys), cluster, dialled)
        self.said = b""
        self.heard = bytearray()

    def send(self, data: bytes) -> None:
        self.said += data
        self.connection.send(data)

    def raw(self) -> bytes:
        """Return the next record or `HELLO`, as it stands on the wire."""
        while not begins_sealed(self.heard):
            data = self.connection.socket.recv(1 << 16)
            assert data, "the other side has closed it"
            self.heard += data
        end = end_of(self.heard)
        found = bytes(self.heard[:end])
        del self.heard[:end]
        return found

    def greet(self, peer: RemotePeer | None = SENDER) -> None:
        """Dial a link: say `HELLO` and read the answer."""
        self.send(self.greeter.hello(peer))
        self.greeter.read(self.raw(), "")

    def answer(self, peer: RemotePeer | None) -> None:
        """Accept a link."""
        self.greeter.read(self.raw(), "")
        self.send(self.greeter.hello(peer))

    def write(self, data: bytes) -> None:
        assert self.greeter.records is not None
        self.send(self.greeter.records.seal(data))

    def read(self) -> bytes:
        assert self.greeter.records is not None
        return self.greeter.records.open(self.raw()[3:], "")


def sealed(net: Net, id: str = "a", keys: Any = ONE, **options: Any) -> Node:
    return net.named(id, keyring=Keyring(keys), **options)


def link(net: Net, node: Node, peer: RemotePeer | None = SENDER, **more: Any) -> Sealed:
    connection = Sealed(net.connect(node), **more)
    connection.greet(peer)
    return connection


# Options


@pytest.mark.parametrize("wrong", ["secret!", b"secret!", ["secret!"]])
def test_a_keyring_is_one(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"keyring must be a Keyring, as of Keyring\(\[key, \.\.\.\]\), got") as raised:
        TcpTransport(keyring=wrong)
    assert "secret" not in str(raised.value)


# On the wire


def test_all_that_is_on_the_wire_is_sealed_hellos_signs_of_life_and_farewells_too(net: Net) -> None:
    node = sealed(net)
    end = link(net, node)
    end.write(message("v", None))
    node.wait(values=1)
    node.transport.on("message", lambda got: node.transport.send(got.sender, tells("back", node.peer)))
    end.write(text(None, digest=[{"id": "z", "maxVersionSeen": 0, "transport": SENDER.transport, "heartbeat": 1}]))
    assert b'"back"' in end.read()
    node.transport.close()
    assert end.read() == CLOSING
    assert end.connection.closed()


def test_a_round_that_needs_no_answer_gets_a_sealed_sign_of_life(net: Net) -> None:
    a, b = sealed(net, "a"), sealed(net, "b")
    seen = []
    b.transport.on("message", lambda got: seen.append(got))
    a.transport.send(b.peer, round_of(RemotePeer("a", a.transport.address)))
    until(lambda: len(seen) == 1)
    (kept,) = a.transport._links.open_links
    until(lambda: kept.unanswered == 0)
    assert kept.sealed


def test_a_message_as_long_as_may_be_arrives_and_a_longer_one_does_not(net: Net) -> None:
    limit = 300_000
    a, b = sealed(net, "a", max_message_size=limit, compress_above=None), sealed(net, "b", max_message_size=limit)
    a.send(b.address, "x" * (limit - 200))
    b.wait(values=1)
    end = link(net, b)
    end.write(message("x" * (limit + 1), None))
    b.wait(errors=1)
    assert "more than 300000 bytes" in str(b.errors[0])
    assert end.connection.closed()


def test_a_link_survives_a_rotation_without_being_dialled_again(net: Net) -> None:
    a, b = sealed(net, "a"), sealed(net, "b")
    a.send(b.address, 0)
    b.wait(values=1)
    rings = [node.transport.keyring for node in (a, b)]
    for ring in rings:
        ring.add(TWO)
    for count, ring in enumerate([rings[0], rings[1], rings[1]], 1):
        ring.promote(TWO)
        a.send(b.address, count)
        b.wait(values=count + 1)
    for ring in rings:
        ring.remove(ONE)
    a.send(b.address, "last")
    b.wait(values=5)
    assert (b.values, a.links_open(), b.links_open()) == ([0, 1, 2, 3, "last"], 1, 1)
    assert (a.errors, b.errors) == ([], [])


# Those who have no key


@pytest.mark.parametrize(
    "data",
    [
        hello(SENDER),
        message(),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\3\1\2\0",
        CLOSING,
        EMPTY,
        b"\4\0\0",
        b"\4\0\x05short",
        b"\4\0\x30" + bytes(0x30),
        b"\4\0\x60" + Keyring([ONE]).first.id + bytes(0x5C),
        SealedGreeter(Keyring([TWO]), None, True).hello(SENDER),
        SealedGreeter(Keyring([ONE]), "test", True).hello(SENDER),
        SealedGreeter(Keyring([ONE]), None, False).hello(SENDER),
    ],
)
def test_nothing_is_answered_to_what_does_not_open(net: Net, data: bytes) -> None:
    node = sealed(net)
    connection = net.connect(node, data)
    assert connection.closed()
    node.wait(errors=1)
    assert [type(error) for error in node.errors] == [SealError]
    assert str(node.errors[0]).startswith(refused(connection))
    assert (node.values, node.links, node.links_open()) == ([], [], 0)


def test_a_hello_that_never_ends_is_cut_off_and_takes_no_memory(net: Net) -> None:
    node = sealed(net, receive_timeout=0.05)
    connection = net.connect(node, b"\4\xff\xff" + bytes(0xFFFE))
    assert connection.closed()
    node.wait(errors=1)
    assert "incomplete after 0.05 s" in str(node.errors[0])


def test_sealed_at_a_node_without_keys_is_one_error_that_says_so(net: Net) -> None:
    node = net.node()
    connection = net.connect(node, SealedGreeter(Keyring([ONE]), None, True).hello(SENDER))
    assert connection.closed()
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [
        f"message from {connection.source} refused: the message is sealed and this node has no keyring"
    ]


@pytest.mark.parametrize(("one", "other"), [(ONE, TWO), (ONE, None), (None, ONE)])
def test_nodes_of_different_keys_say_so_and_hear_nothing_of_each_other(
    net: Net, one: str | None, other: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.2)
    a = net.named("a", keyring=None if one is None else Keyring([one]))
    b = net.named("b", keyring=None if other is None else Keyring([other]))
    a.send(b.address, "v")
    b.wait(errors=1)
    assert type(b.errors[0]) is SealError
    if one is not None:
        a.wait(errors=1)
        assert str(a.errors[0]).endswith("it answers no HELLO, as each node with keys does")
    until(lambda: "silent" in [what for _, what in a.links])
    assert b.values == []


def test_who_answers_in_plain_is_no_node_of_this_cluster(net: Net) -> None:
    node, peer = sealed(net), Peer(net)
    node.send(peer.address, "v")
    connection = peer.accept()
    assert connection.read(1) == b"\4"
    connection.send(hello(peer.peer))
    node.wait(errors=2)
    assert b"hello" not in connection.rest()
    assert [type(error).__name__ for error in node.errors] == ["SealError", "SendError"]
    assert ("peer", "foreign") in node.links


# Replays: what was recorded on the way


def recorded(net: Net, node: Node) -> bytes:
    """Return all that a peer has sent on a link to a node."""
    end = link(net, node)
    end.write(message("recorded", None))
    end.write(CLOSING)
    node.wait(values=1)
    assert end.read() == CLOSING
    end.connection.close()
    until(lambda: node.links_open() == 0)
    return end.said


def test_a_recorded_link_gets_one_hello_of_its_own_length_and_changes_nothing(net: Net) -> None:
    node = sealed(net)
    said = recorded(net, node)
    attacker = net.connect(node, said)
    node.wait(errors=1)
    answer = b""
    try:
        while data := attacker.socket.recv(1 << 16):
            answer += data
    except ConnectionError:
        pass
    assert len(answer) <= len(said)
    assert "no key opens what comes on the link" in str(node.errors[0])
    until(lambda: node.links_open() == 0)
    assert (node.values, node.links) == (["recorded"], [])


def test_a_recorded_hello_takes_nobody_s_place_and_is_let_go(net: Net) -> None:
    node = sealed(net, receive_timeout=0.3)
    genuine = link(net, node)
    genuine.write(message("first", None))
    node.wait(values=1)
    attacker = Sealed(net.connect(node, genuine.said[: end_of(genuine.said)]))
    attacker.raw()
    until(lambda: node.links_open() == 2)
    genuine.write(message("second", None))  # it was not asked to close
    node.wait(values=2)
    assert len(attacker.raw()) == len(Records(Keyring([ONE]), None, b"", True).seal(CLOSING))  # which it cannot open
    until(lambda: node.links_open() == 1)
    assert node.links == []
    later = link(net, node)  # but who proves to be there is the peer
    later.write(message("third", None))
    node.wait(values=3)
    assert genuine.read() == CLOSING


def test_a_hello_that_is_reflected_to_its_sender_is_no_sign_that_it_has_reached_itself(net: Net) -> None:
    node, peer = sealed(net), Peer(net)
    node.send(peer.address, "v")
    end = Sealed(peer.accept(), dialled=False)
    end.send(end.raw())
    node.wait(errors=2)
    assert "itself" not in [what for _, what in node.links]
    assert [type(error).__name__ for error in node.errors] == ["SealError", "SendError"]
    assert end.connection.closed()


def test_a_record_that_is_reflected_or_repeated_ends_the_link(net: Net) -> None:
    for repeat in (False, True):
        node = sealed(net)
        end = link(net, node)
        end.write(message("v", None))
        node.wait(values=1)
        if repeat:
            end.send(end.said[end_of(end.said) :])
        else:
            node.transport.send(Caller.on(next(iter(node.transport._links.open_links)), SENDER), tells("back", node.peer))
            end.send(end.raw())
        node.wait(errors=1)
        assert end.connection.closed()
        assert [type(error) for error in node.errors] == [SealError]
        assert node.values == ["v"]


def test_a_recorded_answer_is_no_answer(net: Net) -> None:
    node, peer = sealed(net), Peer(net)
    node.send(peer.address, "v")
    first = Sealed(peer.accept(), dialled=False)
    first.answer(peer.peer)
    assert b'"v"' in first.read()
    first.connection.reset()
    until(lambda: node.links_open() == 0)
    node.send(peer.address, "w")
    second = Sealed(peer.accept(), dialled=False)
    second.raw()
    second.send(first.said)
    node.wait(errors=1)
    assert type(node.errors[0]) is SealError
    assert second.connection.closed()


# Floods


def test_a_flood_of_what_does_not_open_leaves_nothing_behind(net: Net) -> None:
    node = sealed(net, max_connections=8)
    junk = b"\4\1\0" + Keyring([ONE]).first.id + bytes(252)
    for _ in range(50):
        connection = socket.create_connection((HOST, node.address[1]), timeout=10)
        connection.sendall(junk)
        assert Connection(connection).closed()
        connection.close()
    node.wait(errors=50)
    assert {type(error) for error in node.errors} <= {SealError, MessageError}
    until(lambda: (node.links_open(), len(node.transport._acceptor._incoming)) == (0, 0))
    end = link(net, node)
    end.write(message("v", None))
    node.wait(values=1)


def test_a_node_without_a_name_greets_too(net: Net) -> None:
    node = net.node(keyring=Keyring([ONE]))
    other = net.node(keyring=Keyring([ONE]))
    other.transport.send(peer_at(node.address), Message(SENDER, tells("v").deltas))
    node.wait(values=1)
