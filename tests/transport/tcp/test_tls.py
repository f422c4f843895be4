"""Contexts and sockets of TLS: what is asked of them, the handshake, what is sent and read, and how it ends."""

from __future__ import annotations

import os
import select
import socket
import ssl
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gossipmonger import TcpTransport, UdpTransport
from gossipmonger.transport.tcp import tls as tls_module
from gossipmonger.transport.tcp.handshake import TlsFailure
from gossipmonger.transport.tcp.tls import Tls, TlsSocket
from tests.certificates import Certificates
from tests.forks import in_child

#: More than sockets take at once.
HUGE = b"0123456789abcdef" * 100_000

Ends = Callable[..., "Pair"]


class Pair:
    """Both ends of a connection, and a relay in between, which the test drives."""

    def __init__(self, stack: ExitStack, client: TlsSocket, server: TlsSocket, wires: tuple[socket.socket, ...]) -> None:
        self.client, self.server = client, server
        self.wires = [stack.enter_context(wire) for wire in wires]
        stack.enter_context(client)
        stack.enter_context(server)

    def relay(self, count: int = 1 << 15) -> int:
        """Carry up to so many bytes each way; return how many that were."""
        carried = 0
        for one, other in (self.wires, self.wires[::-1]):
            if select.select([one], [], [], 0)[0]:
                data = one.recv(count)
                other.sendall(data)
                carried += len(data)
        return carried

    def shake(self, count: int = 1 << 20) -> int:
        """Shake hands; return how many times something was carried."""
        done, times = [False, False], 0
        while not all(done):
            done = [done[0] or self.client.shake_hands(), done[1] or self.server.shake_hands()]
            times += 1
            carried = self.relay(count)
            assert carried or all(done), "both wait"
        return times


@pytest.fixture
def ends(certificates: Certificates) -> Iterator[Ends]:
    """Makes a connection: the client's context, the server's, the name that is dialled, and whether ids are checked."""
    with ExitStack() as stack:

        def ends(client: Any = None, server: Any = None, name: str = "localhost", check_id: bool = False) -> Pair:
            tls = Tls(server or certificates.server(), client or certificates.client("c"), check_id)
            (one, first), (other, second) = socket.socketpair(), socket.socketpair()
            return Pair(stack, tls.dial(one, name), tls.accept(other), (first, second))

        yield ends


def read(end: TlsSocket) -> bytes | None:
    try:
        return end.recv(1 << 16)
    except BlockingIOError:
        return None


def read_all(pair: Pair, end: TlsSocket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        pair.relay()
        data += read(end) or b""
    return bytes(data)


# Options


def test_a_context_that_does_not_do_is_named(certificates: Certificates) -> None:
    server, client = certificates.server(), certificates.client()
    trusting = certificates.server()
    trusting.verify_mode = ssl.CERT_NONE
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"tls_server": server}, ValueError, "tls_server and tls_client must be given together: a node is dialled, and dials"),
        ({"tls_check_id": True}, ValueError, "tls_server and tls_client must be given together: a node is dialled, and dials"),
        ({"tls_server": server, "tls_client": "x"}, TypeError, "tls_client must be an ssl.SSLContext, got 'x'"),
        (
            {"tls_server": server, "tls_client": client, "tls_check_id": 1},
            TypeError,
            "tls_check_id must be True or False, got 1",
        ),
        (
            {"tls_server": client, "tls_client": client},
            ValueError,
            "tls_server must be a context for its side, got one made with PROTOCOL_TLS_CLIENT",
        ),
        (
            {"tls_server": server, "tls_client": server},
            ValueError,
            "tls_client must be a context for its side, got one made with PROTOCOL_TLS_SERVER",
        ),
        (
            {"tls_server": trusting, "tls_client": client},
            ValueError,
            "tls_server must have the verify_mode ssl.CERT_REQUIRED, or anybody could take part",
        ),
    ]
    for options, error, words in cases:
        with pytest.raises(error) as caught:
            TcpTransport(**options)
        assert str(caught.value) == words


def test_udp_has_no_tls_and_says_what_to_do(certificates: Certificates) -> None:
    with pytest.raises(
        ValueError, match="tls_server is for TcpTransport: TLS does not encrypt datagrams, which a Keyring does"
    ):
        UdpTransport(**certificates.both())


@pytest.mark.parametrize("host", ["", ".x", "a\0b", "x" * 300])
def test_no_certificate_can_name_such_a_host(certificates: Certificates, host: str) -> None:
    tls, (one, other) = Tls(certificates.server(), certificates.client()), socket.socketpair()
    with one, other:
        with pytest.raises((TypeError, ValueError)):
            tls.dial(one, host)
        assert one.fileno() >= 0  # it is the caller's still


# The handshake


@pytest.mark.parametrize("count", [1, 7, 1 << 20])
def test_a_handshake_may_come_in_any_pieces(ends: Ends, count: int) -> None:
    pair = ends()
    assert pair.shake(count) >= 3
    assert pair.client.send(b"hello") == 5
    assert read_all(pair, pair.server, 5) == b"hello"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_any_version_of_tls_that_the_contexts_allow(ends: Ends, certificates: Certificates, version: ssl.TLSVersion) -> None:
    client = certificates.client("c")
    client.maximum_version = client.minimum_version = version
    pair = ends(client)
    pair.shake()
    for one, other in ((pair.client, pair.server), (pair.server, pair.client)):
        assert one.send(HUGE[:100_000]) == 100_000
        assert read_all(pair, other, 100_000) == HUGE[:100_000]


@pytest.mark.parametrize("name", ["localhost", "localhost.", "127.0.0.1", "[::1]", "::1%lo"])
def test_the_certificate_names_the_host_that_was_dialled(ends: Ends, name: str) -> None:
    assert ends(name=name).shake() >= 3


def failure(pair: Pair) -> list[str]:
    """What both sides say of a handshake, or of what follows it."""
    said: dict[TlsSocket, str] = {}
    for _ in range(5):
        for end in (pair.client, pair.server):
            try:
                if end not in said and end.shake_hands():
                    read(end)
            except TlsFailure as error:
                said[end] = str(error)
            pair.relay()
    return [*said.values()]


def test_what_a_handshake_fails_of_is_told_to_both(ends: Ends, certificates: Certificates, strangers: Certificates) -> None:
    expired: dict[str, Any] = {"id": "old", "life": -60}
    old = certificates.client()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    new = certificates.server()
    new.minimum_version = ssl.TLSVersion.TLSv1_3
    refused, mine = "its certificate is refused: ", "it refuses this node's certificate: "
    cases: list[tuple[Pair, list[str]]] = [
        (
            ends(name="elsewhere.example"),
            [refused + "Hostname mismatch, certificate is not valid for 'elsewhere.example'", mine + "bad certificate"],
        ),
        (ends(server=strangers.server(ca=certificates.ca)), [refused + "unable to get local issuer", mine + "unknown ca"]),
        (ends(strangers.client(ca=certificates.ca)), [refused + "unable to get local issuer", mine + "unknown ca"]),
        (ends(server=certificates.server(**expired)), [refused + "certificate has expired", mine + "certificate expired"]),
        (ends(certificates.client(**expired)), [refused + "certificate has expired", mine + "certificate expired"]),
        (
            ends(certificates.client(certificate=False)),
            [
                "it has shown no certificate; does its tls_client have one?",
                "it wants a certificate; does this node's tls_client have one?",
            ],
        ),
        (
            ends(server=certificates.server(certificate=False)),
            ["no cipher suits both; does this node's", "it refuses the handshake; does its tls_server have a certificate?"],
        ),
        (ends(old, new), ["no version of TLS suits both"] * 2),
    ]
    for pair, expected in cases:
        said = failure(pair)
        assert len(said) == len(expected), said
        for text, begins in zip(sorted(said), sorted(expected), strict=True):
            assert text.startswith(begins), said


def test_what_begins_without_tls_is_told_so_in_tls(ends: Ends) -> None:
    pair = ends()
    pair.wires[1].sendall(b'{"hello":')
    with pytest.raises(TlsFailure, match="it begins without TLS, and this node takes nothing else; does it have tls_server"):
        pair.server.shake_hands()
    assert pair.server.touched
    assert pair.wires[1].recv(100) == b"\x15\x03\x01\x00\x02\x02\x46"
    pair.client.shake_hands()
    pair.wires[0].sendall(b'{"hello":{}}')
    with pytest.raises(TlsFailure, match="it answers without TLS"):
        pair.client.shake_hands()


def test_an_end_within_the_handshake_is_told(ends: Ends) -> None:
    pair = ends()
    pair.wires[0].close()
    with pytest.raises(BrokenPipeError):
        pair.client.shake_hands()
    pair.wires[1].close()
    with pytest.raises(ConnectionError, match="it ended within the TLS handshake"):
        pair.server.shake_hands()
    assert not pair.server.touched


def test_the_ids_are_the_names_of_hosts_and_the_uris_of_a_certificate(ends: Ends, certificates: Certificates) -> None:
    pair = ends(certificates.client("spiffe://x/a"), certificates.server("b", hosts=("10.0.0.1", "localhost")), check_id=True)
    pair.shake()
    assert pair.server.ids is not None
    assert {*pair.server.ids} == {"spiffe://x/a", "localhost"}
    assert pair.client.ids is not None
    assert {*pair.client.ids} == {"b", "localhost"}
    pair = ends()
    pair.shake()
    assert pair.client.ids is None


# Sending and reading


def test_all_that_came_is_read_at_once_so_the_selector_tells_all(ends: Ends) -> None:
    pair = ends()
    pair.shake()
    for number in range(50):
        pair.client.send(b"%03d" % number)
    pair.relay()
    assert pair.server.recv(1 << 16) == b"".join(b"%03d" % number for number in range(50))
    assert read(pair.server) is None


def test_what_came_with_the_end_of_the_handshake_is_read(ends: Ends) -> None:
    pair = ends()
    while not pair.client.shake_hands():
        pair.relay()
        pair.server.shake_hands()
        pair.relay()
    pair.client.send(b"hello")
    pair.relay()
    assert pair.server.shake_hands()
    assert select.select([pair.server], [], [], 0)[0] == []  # the system has no more
    assert pair.server.recv(1 << 16) == b"hello"


def test_a_part_of_a_record_is_nothing_yet(ends: Ends) -> None:
    pair = ends()
    pair.shake()
    pair.client.send(b"whole")
    for _ in range(26):
        pair.relay(1)
        assert read(pair.server) is None
    pair.relay(1)
    assert read(pair.server) == b"whole"


def test_what_the_system_has_no_room_for_waits_encrypted_and_is_sent_again(ends: Ends) -> None:
    pair = ends()
    pair.shake()
    left, read_so_far = HUGE, bytearray()
    first = pair.client.send(left)
    assert 0 < first < len(HUGE)
    assert pair.client.unsent
    left = left[first:]
    with pytest.raises(BlockingIOError):
        pair.client.send(left)
    while left:
        pair.relay()
        read_so_far += read(pair.server) or b""
        try:
            left = left[pair.client.send(bytearray(left)) :]  # the same bytes, somewhere else
        except BlockingIOError:
            pass
    read_so_far += read_all(pair, pair.server, len(HUGE) - len(read_so_far))
    assert read_so_far == HUGE


def test_what_was_altered_is_refused(ends: Ends) -> None:
    pair = ends()
    pair.shake()
    pair.relay()
    pair.client.send(b"hello")
    data = bytearray(pair.wires[0].recv(1_000))
    data[-1] ^= 1
    pair.wires[1].sendall(data)
    with pytest.raises(TlsFailure, match="TLS fails: decryption failed or bad record mac"):
        pair.server.recv(1 << 16)
    pair.relay()
    with pytest.raises(TlsFailure, match="it gives TLS up: bad record mac"):
        pair.client.recv(1 << 16)


@pytest.mark.parametrize("most", [1 << 18, -1])
def test_what_tls_answers_by_itself_is_written_and_bounded(
    ends: Ends, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    client = certificates.client("c")
    client.post_handshake_auth = True
    pair = ends(client)
    pair.shake()
    monkeypatch.setattr(tls_module, "_MOST_UNSENT", most)
    pair.server._tls.verify_client_post_handshake()
    pair.server.send(b"show your certificate again")
    pair.relay()
    if most < 0:
        with pytest.raises(TlsFailure, match="it makes this node answer, and does not read"):
            pair.client.recv(1 << 16)
    else:
        assert pair.client.recv(1 << 16) == b"show your certificate again"
        assert pair.relay() > 500
        assert read(pair.server) is None


def test_a_certificate_that_expires_ends_the_connection(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = ends()
    pair.shake()
    now = pair.server.expires - 1
    monkeypatch.setattr(tls_module, "time", lambda: now)
    assert read(pair.server) is None
    now += 2
    with pytest.raises(TlsFailure, match="its certificate has expired since the handshake"):
        pair.server.recv(1 << 16)


# The end


def test_an_end_is_told_one_way_and_the_other_way_goes_on(ends: Ends) -> None:
    pair = ends()
    pair.shake()
    pair.client.send(b"last")
    pair.client.shutdown(socket.SHUT_WR)
    pair.relay()
    assert [read(pair.server), read(pair.server)] == [b"last", b""]
    assert pair.server.send(b"answer") == 6
    pair.server.shutdown(socket.SHUT_WR)
    assert read_all(pair, pair.client, 6) == b"answer"
    pair.relay()
    assert read(pair.client) == b""
    with pytest.raises(TlsFailure, match="protocol is shutdown"):
        pair.client.send(b"more")


def test_an_end_that_tls_is_not_told_of_is_an_end(ends: Ends) -> None:
    pair = ends()
    pair.shake()
    pair.server.send(b"last")
    pair.relay()
    pair.wires[0].close()
    assert read(pair.client) == b"last"
    assert read(pair.client) == b""


def test_who_is_closed_holds_nothing_and_says_so(ends: Ends) -> None:
    pair = ends()
    pair.shake()
    assert pair.client.send(HUGE) < len(HUGE)
    assert pair.client.unsent
    tls = weakref.ref(pair.client._tls)
    pair.client.close()
    assert (tls(), pair.client.unsent) == (None, 0)
    with pytest.raises(ConnectionError, match="the connection is closed"):
        pair.client.send(b"x")
    assert pair.client.recv(1) == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_closes_it_and_frees_nothing(ends: Ends) -> None:
    pair = ends()
    pair.shake()
    assert in_child(lambda: (pair.client.fileno(), type(pair.client._tls).__name__)) == "(-1, 'SSLObject')"


def test_one_may_end_before_hands_are_shaken(ends: Ends) -> None:
    pair = ends()
    pair.client.shutdown(socket.SHUT_WR)
    pair.server.shutdown(socket.SHUT_RDWR)
    assert pair.wires[0].recv(10) == pair.wires[1].recv(10) == b""
