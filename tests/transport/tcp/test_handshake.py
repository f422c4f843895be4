"""Handshakes between transports, and with those that have no TLS: what becomes a link, what is an error, and how often."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

import pytest

from gossipmonger import TlsError
from gossipmonger.errors import SendError
from gossipmonger.process import here, marked
from gossipmonger.state.message import Delta, Message, RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import TcpTransport
from gossipmonger.transport.tcp import dial as dial_module
from gossipmonger.transport.tcp import handshake as handshake_module
from gossipmonger.transport.tcp.handshake import REFUSAL, Notices, TlsFailure
from gossipmonger.wire import CLOSING, hello
from tests.certificates import Certificates
from tests.transport.tcp.net import HOST, SENDER, Connection, Net, Node, Peer, delta, message, peer_at, refused, tells, until

#: More than sockets take at once, and many records.
HUGE = "x" * 12_000_000


class TestContract(TransportContract):
    @pytest.fixture(autouse=True)
    def _certificates(self, certificates: Certificates) -> None:
        self.certificates = certificates

    def make_transport(self) -> TcpTransport:
        return TcpTransport(host=HOST, port=0, **self.certificates.both())


@pytest.fixture
def make(net: Net, certificates: Certificates) -> Callable[..., Node]:
    """Makes a node with TLS, by its id."""
    return lambda id="n", **options: net.named(id, **{**certificates.both(id), **options})


def secured(net: Net, node: Node, context: ssl.SSLContext, data: bytes = b"") -> Connection:
    """A raw connection with TLS."""
    connected = socket.create_connection((HOST, node.address[1]), timeout=10)
    return net.own(context.wrap_socket(connected, server_hostname="localhost")).send(data)


def linked(net: Net, node: Node, context: ssl.SSLContext, peer: RemotePeer | None = SENDER) -> Connection:
    connection = secured(net, node, context, hello(peer))
    assert connection.line().startswith(b'{"hello":')
    return connection


class TlsPeer(Peer):
    """A listening socket with TLS on which the test plays a node."""

    def __init__(self, net: Net, context: ssl.SSLContext, id: str = "peer") -> None:
        super().__init__(net, id)
        self.context = context

    def accept(self) -> Connection:
        connected = self.listening.accept()[0]
        connected.settimeout(10)
        return self.net.own(self.context.wrap_socket(connected, server_side=True))


def told(node: Node) -> list[str]:
    """What its errors say, without where."""
    assert {type(error) for error in node.errors} <= {TlsError}
    return [str(error).partition(" refused: ")[2] for error in node.errors]


# Links


def test_one_handshake_per_link_and_hello_comes_first_in_it(net: Net, make: Callable[..., Node]) -> None:
    node, other = make("a"), make("b")
    for value in range(20):
        node.transport.send(peer_at(other.address), tells(value, node.transport.local))
    other.wait(values=20)
    assert (node.links_open(), other.links_open()) == (1, 1)
    assert other.values == [*range(20)]
    assert node.links == [("peer", "accepted")]
    assert (node.errors, other.errors) == ([], [])


def test_a_raw_client_with_a_certificate_is_answered(net: Net, make: Callable[..., Node], certificates: Certificates) -> None:
    node = make()
    connection = secured(net, node, certificates.client("z"), hello(SENDER) + message(1, None))
    assert connection.line() == hello(node.transport.local, node.transport.life, None, connection.source)
    node.wait(values=1)
    connection.send(CLOSING)
    assert connection.read(1) == CLOSING
    connection.close()
    until(lambda: node.links_open() == 0)
    assert (node.errors, node.links) == ([], [])


def test_answers_and_long_messages_go_both_ways(make: Callable[..., Node]) -> None:
    node, other = make("a"), make("b")
    other.transport.on(
        "message", lambda heard: other.transport.send(heard.sender, tells(heard.deltas[0].value, other.transport.local))
    )
    for value in (HUGE, "short"):
        node.transport.send(peer_at(other.address), tells(value, node.transport.local))
        node.wait(values=1 + (value == "short"))
    assert node.values == [HUGE, "short"]
    assert (node.links_open(), other.links_open()) == (1, 1)
    assert (node.errors, other.errors) == ([], [])


def test_a_handshake_that_comes_byte_by_byte_makes_a_link(
    net: Net, make: Callable[..., Node], certificates: Certificates
) -> None:
    node = make()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificates.client("z").wrap_bio(incoming, outgoing, server_hostname="localhost")
    raw = net.connect(node)
    raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def flush() -> None:
        for byte in outgoing.read():
            raw.send(bytes((byte,)))

    def do(call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                flush()
                incoming.write(raw.socket.recv(1 << 16))

    do(tls.do_handshake)
    tls.write(hello(SENDER) + message(1, None))
    flush()
    assert do(lambda: tls.read(1 << 14)).startswith(b'{"hello":')
    node.wait(values=1)
    assert node.errors == []


def test_the_host_is_the_one_that_was_typed(make: Callable[..., Node], certificates: Certificates) -> None:
    node, told_of = make("a"), list[Any]()
    node.transport.on("link", lambda peer, _: told_of.append(peer.transport))
    for hosts, works in ((("localhost",), True), (("127.0.0.1",), False)):
        other = make("b", tls_server=certificates.server("b", hosts=hosts))
        port = other.address[1]
        seed = {"host": "localhost", "port": port}
        until(partial(node.transport.addresses, seed, print, 30))
        at = next(at for at in node.transport.addresses(seed, print, 30) if at["host"] == HOST)
        assert at == {"host": HOST, "port": port, "tls_name": "localhost"}
        node.transport.send(RemotePeer("b", at), tells(1, node.transport.local))
        if works:
            other.wait(values=1)
            assert node.errors == []
        else:
            node.wait(errors=1)
            assert told(node) == [
                "its certificate is refused: Hostname mismatch, certificate is not valid for 'localhost'",
            ]
            node.transport.send(peer_at(other.address), tells(1, node.transport.local))  # as gossip tells of it
            other.wait(values=1)
        assert told_of.pop() == {"host": HOST, "port": port}  # as the peer itself tells it


def test_a_host_that_no_certificate_can_name_is_one_error(make: Callable[..., Node]) -> None:
    node, other = make("a"), make("b")
    at = {"host": HOST, "port": other.address[1], "tls_name": ".x"}
    node.transport.send(RemotePeer("b", at), tells(1, node.transport.local))
    node.wait(errors=1)
    assert told(node)[0].startswith("no certificate can name '.x': ")
    node.transport.send(RemotePeer("b", {**at, "tls_name": 5}), tells(1, node.transport.local))  # as nobody types it
    other.wait(values=1)


def test_links_are_bounded_as_ever(make: Callable[..., Node]) -> None:
    node, others = make("a", max_links=1), [make(id) for id in "bc"]
    for value in range(3):
        for other in others:
            node.transport.send(peer_at(other.address), tells(value, node.transport.local))
            other.wait(values=value + 1)
    assert [other.values for other in others] == [[0, 1, 2]] * 2
    until(lambda: node.links_open() == 1)
    assert all(node.errors == [] for node in (node, *others))


# Who has no TLS


def test_a_bare_dial_is_no_error(net: Net, make: Callable[..., Node], certificates: Certificates) -> None:
    node, other = make("a"), make("b")
    net.connect(node).close()
    net.connect(node).reset()
    other.transport.dial(peer_at(node.address))
    other.wait(links=1)
    assert other.links == [("peer", "accepted")]
    connection = linked(net, node, certificates.client("z"))
    connection.send(message(1, None))
    node.wait(values=1)
    assert (node.errors, other.errors) == ([], [])
    until(lambda: node.transport._acceptor._incoming == {})


@pytest.mark.parametrize("data", [hello(SENDER), message("v"), b"GET / HTTP/1.1\r\n\r\n"])
def test_what_comes_without_tls_is_one_error(net: Net, make: Callable[..., Node], data: bytes) -> None:
    node = make()
    for _ in range(3):
        connection = net.connect(node, data)
        assert connection.rest() == REFUSAL
        node.wait(errors=1)
    assert told(node) == ["it begins without TLS, and this node takes nothing else; does it have tls_server and tls_client?"]
    assert str(node.errors[0]).startswith(f"TLS with {HOST}:")
    assert node.links_open() == 0


def test_a_node_without_tls_and_one_with_say_so_once_whoever_dials(net: Net, make: Callable[..., Node]) -> None:
    plain, node = net.named("plain"), make()
    for count in range(3):
        plain.send(node.address, count)
        until(plain.transport._dialler._is_settled)
        node.wait(errors=1)
        plain.wait(errors=1)
    assert told(plain) == ["it takes nothing but TLS, and this node has no tls_server and tls_client"]
    assert told(node) == ["it begins without TLS, and this node takes nothing else; does it have tls_server and tls_client?"]
    assert str(plain.errors[0]).startswith(f"TLS with peer 'peer' at {HOST}:{node.address[1]} refused: ")
    plain.errors.clear()
    node.errors.clear()
    for count in range(3):
        node.send(plain.address, count)
        until(node.transport._dialler._is_settled)
        node.wait(errors=1)
        plain.wait(errors=1)
    assert told(plain) == ["it begins with TLS, and this node has no tls_server and tls_client"]
    assert told(node) == ["it answers without TLS"]
    assert [what for _, what in node.links] == ["accepted", "tls"] * 3
    assert (plain.heard, node.heard) == ([], [])


def test_what_answers_without_tls_is_one_error_and_gets_no_message(net: Net, make: Callable[..., Node]) -> None:
    node, peer = make(), Peer(net)
    for value in range(2):
        node.send(peer.address, value)
        connection = peer.accept()
        assert connection.read(1) == b"\x16"
        connection.send(hello(SENDER))
        until(node.transport._dialler._is_settled)
        connection.close()
    node.wait(errors=1)
    assert told(node) == ["it answers without TLS"]


def test_what_has_tls_and_says_no_hello_is_no_node_js_node(
    net: Net, make: Callable[..., Node], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial_module, "_TLS_TIMEOUT", 0.05)
    node, peer = make(), TlsPeer(net, certificates.server("p"))
    for value in (1, 2):
        node.send(peer.address, value)
        assert peer.accept().rest().startswith(b'{"hello":')
        node.wait(errors=value)
    assert {type(error) for error in node.errors} == {SendError}
    assert "it answers no HELLO, as each node with TLS does" in str(node.errors[0])


def test_what_comes_with_tls_and_without_a_hello_is_refused(
    net: Net, make: Callable[..., Node], certificates: Certificates
) -> None:
    node = make()
    connection = secured(net, node, certificates.client("z"), message(1))
    assert connection.closed()
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [
        refused(connection) + "it begins without a HELLO, which a connection with TLS must have"
    ]
    assert node.heard == []


# Certificates


def test_certificates_that_do_not_do_are_an_error_on_both_sides(
    make: Callable[..., Node], certificates: Certificates, strangers: Certificates
) -> None:
    good = make("good")
    refusal, mine = "its certificate is refused: ", "it refuses this node's certificate: "
    foreign = {
        "tls_server": strangers.server(ca=certificates.ca),
        "tls_client": strangers.client(ca=certificates.ca),
    }
    for options, ours, theirs in (
        (foreign, refusal + "unable to get local issuer certificate", mine + "unknown ca"),
        (certificates.both("x", life=-60), refusal + "certificate has expired", mine + "certificate expired"),
        (
            {"tls_client": certificates.client(certificate=False)},
            "it has shown no certificate; does its tls_client have one?",
            "it wants a certificate; does this node's tls_client have one?",
        ),
    ):
        bad = make("bad", **options)
        bad.send(good.address, 1)
        good.wait(errors=1)
        bad.wait(errors=1)
        assert (told(good), told(bad)) == ([ours], [theirs])
        if "tls_server" in options:
            bad.errors.clear()
            good.errors.clear()
            good.send(bad.address, 1)
            good.wait(errors=1)
            bad.wait(errors=1)
            assert (told(good), told(bad)) == ([ours], [theirs])
        good.errors.clear()
        assert (good.heard, bad.heard) == ([], [])


def test_an_id_that_the_certificate_does_not_name_makes_no_link(make: Callable[..., Node], certificates: Certificates) -> None:
    checks, lies = make("a", tls_check_id=True), make("liar", **certificates.both("b"))
    words = "it speaks as 'liar', but its certificate names 'b', 'localhost'"
    for value in range(2):
        lies.send(checks.address, value)
        until(lies.transport._dialler._is_settled)
        checks.send(lies.address, value)
        until(checks.transport._dialler._is_settled)
    checks.wait(errors=2)
    assert told(checks) == [words] * 2  # one for either way
    assert (checks.heard, lies.heard) == ([], [])
    true = make("b", tls_check_id=True)
    true.send(checks.address, "v")
    checks.wait(errors=3)
    assert checks.heard == []  # its sender is "z"
    true.transport.send(peer_at(checks.address), tells("v", true.transport.local))
    checks.wait(values=1)


def test_messages_of_an_id_that_the_certificate_does_not_name_are_dropped_with_one_error(
    net: Net, make: Callable[..., Node], certificates: Certificates
) -> None:
    node = make("a", tls_check_id=True)
    connection = linked(net, node, certificates.client("z"))
    other = RemotePeer("x", SENDER.transport)
    connection.send(message(1, other) * 2 + message(2, None))
    node.wait(values=1)
    assert node.heard == [("deltas", SENDER, delta(2))]
    assert told(node) == ["it speaks as 'x', but its certificate names 'localhost', 'z'"]
    about = Message(SENDER, [Delta("x", "k", "of another", 1)])
    node.transport.on("message", lambda heard: None)
    relayed = net.named("z", **certificates.both("z"))
    relayed.transport.send(peer_at(node.address), about)
    node.wait(values=2)
    assert node.values[-1] == "of another"  # what it tells of others may be told


# Who is slow


def test_handshakes_that_never_end_are_dropped(net: Net, make: Callable[..., Node]) -> None:
    node = make(receive_timeout=0.1)
    silent, begun = net.connect(node), net.connect(node, b"\x16\x03\x01\x02\x00\x01")
    assert silent.closed()
    assert begun.closed()
    node.wait(errors=2)
    assert sorted(str(error) for error in node.errors) == sorted(
        refused(each) + "incomplete after 0.1 s" for each in (silent, begun)
    )
    assert node.transport._acceptor._incoming == {}


def test_who_never_ends_a_handshake_that_was_dialled_is_one_error(net: Net, make: Callable[..., Node]) -> None:
    node, peer = make(connect_timeout=0.1), Peer(net)
    for value in range(2):
        node.send(peer.address, value)
        connection = peer.accept()
        until(node.transport._dialler._is_settled)
        assert connection.rest()
        node.wait(errors=1)
    assert told(node) == ["it has not finished a TLS handshake within 0.1 s; is it a node without TLS?"]


def test_who_never_reads_is_dropped(net: Net, make: Callable[..., Node], certificates: Certificates) -> None:
    node, peer = make(send_timeout=0.2, compress_above=None), TlsPeer(net, certificates.server("p"))
    peer.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    node.send(peer.address, HUGE)
    connection = peer.link()
    node.wait(errors=1)
    assert str(node.errors[0]).endswith("not read within 0.2 s")
    until(lambda: node.links_open() == 0)
    with suppress(OSError):
        while connection.socket.recv(1 << 16):
            pass


def test_a_thousand_connections_that_say_nothing_cost_nobody_else_a_link(net: Net, make: Callable[..., Node]) -> None:
    node, other = make("a", max_connections=20, receive_timeout=10), make("b")
    for _ in range(100):
        net.connect(node)
    other.transport.send(peer_at(node.address), tells(1, other.transport.local))
    node.wait(values=1)
    assert {str(error).partition(" refused: ")[2] for error in node.errors} == {"the slowest of more than 20 connections"}


# Renewal


def serial(connection: Connection) -> Any:
    assert isinstance(connection.socket, ssl.SSLSocket)
    certificate = connection.socket.getpeercert()
    assert certificate is not None
    return certificate["serialNumber"]


def test_new_certificates_hold_from_the_next_handshake_on(
    net: Net, make: Callable[..., Node], certificates: Certificates
) -> None:
    node = make()
    first = linked(net, node, certificates.client("z"))
    node.transport.renew(tls_server=certificates.server("n", life=7_200))
    assert first.read(1) == CLOSING
    second = linked(net, node, certificates.client("z"))
    assert serial(first) != serial(second)
    context = node.transport._tls.server
    context.load_cert_chain(*certificates.issue("n"))
    node.transport.renew()
    assert second.read(1) == CLOSING
    third = linked(net, node, certificates.client("z"))
    assert len({serial(each) for each in (first, second, third)}) == 3
    assert (node.errors, node.links) == ([], [])


def test_a_renewal_that_interrupts_a_call_waits_for_it(net: Net, make: Callable[..., Node], certificates: Certificates) -> None:
    node = make()
    connection = linked(net, node, certificates.client("z"))
    with marked():
        node.transport.renew()
        assert here().deferred
    here().settle()
    assert connection.read(1) == CLOSING


def test_no_message_is_lost_while_links_are_renewed(make: Callable[..., Node], certificates: Certificates) -> None:
    node, other = make("a"), make("b")
    for value in range(200):
        node.transport.send(peer_at(other.address), tells(value, node.transport.local))
        if value % 20 == 10:
            other.wait(values=value)
            each = (node, other)[value // 20 % 2]
            each.transport.renew(certificates.server(each.transport.local.id), certificates.client(each.transport.local.id))
    other.wait(values=200)
    assert sorted(other.values) == [*range(200)]
    assert (node.errors, other.errors) == ([], [])
    assert {what for _, what in node.links + other.links} == {"accepted"}


def test_what_cannot_be_renewed_says_why(net: Net, make: Callable[..., Node], certificates: Certificates) -> None:
    with pytest.raises(RuntimeError, match="renew: this transport has no TLS"):
        net.node().transport.renew()
    node = make()
    with pytest.raises(ValueError, match="tls_client must be a context for its side"):
        node.transport.renew(tls_client=certificates.server())
    idle = TcpTransport(host=HOST, port=0, **certificates.both())
    idle.renew()
    assert not idle.begun


def test_notices_come_once_a_minute_for_each_source_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    now, errors = 1_000.0, list[Exception]()
    monkeypatch.setattr(handshake_module, "monotonic", lambda: now)
    monkeypatch.setattr(handshake_module, "_CAPACITY", 3)
    notices = Notices(errors.append)
    for step in (0, 59, 1):
        now += step
        for source, reason in (("a", "x"), ("a", "y"), ("b", "x")):
            notices.tell(source, TlsFailure(reason))
    assert len(errors) == 6
    assert str(errors[0]) == "TLS with a refused: x"
    notices.tell("c:1", TlsFailure("x"), dialled=False)
    notices.tell("c:2", TlsFailure("x"), dialled=False)
    notices.tell("a", TlsFailure("x"))  # forgotten
    assert [str(error) for error in errors[6:]] == ["TLS with c:1 refused: x", "TLS with a refused: x"]


# The end of it


def test_closing_takes_no_longer_and_what_is_sent_before_arrives(net: Net, make: Callable[..., Node]) -> None:
    node, other, peer = make("a"), make("b"), Peer(net)
    node.send(peer.address, "never")  # a handshake that does not end
    peer.accept()
    node.transport.send(peer_at(other.address), tells(1, node.transport.local))
    began = monotonic()
    node.transport.close()
    assert monotonic() - began < 3
    other.wait(values=1)
    until(lambda: other.links_open() == 0)
    assert "ended" not in [what for _, what in other.links]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_leaves_the_link_alone(make: Callable[..., Node]) -> None:
    node, other = make("a"), make("b")
    node.transport.send(peer_at(other.address), tells(1, node.transport.local))
    other.wait(values=1)
    child = os.fork()
    if child == 0:
        node.transport.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    node.transport.send(peer_at(other.address), tells(2, node.transport.local))
    other.wait(values=2)
    assert other.links == []
    assert node.links == [("peer", "accepted")]
    assert (node.errors, other.errors) == ([], [])
