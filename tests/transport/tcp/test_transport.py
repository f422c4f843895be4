"""TCP: the transport contract, and what is TCP's own. Raw sockets play the peers that misbehave."""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from gossipmonger.errors import MessageError, SendError
from gossipmonger.state import ExtendedPeer, RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import TcpTransport
from gossipmonger.transport.tcp import senders
from gossipmonger.wire.compression import deflate
from tests.transport.tcp.net import HOST, LOOPBACKS, MOVING, SENDER, Net, delta, message, refused, reset, text


class TestContract(TransportContract):
    def make_transport(self) -> TcpTransport:
        return TcpTransport(host=HOST, port=0)


class Resolver:
    """Stands in for getaddrinfo: its next answer is a list of ports on loopback, None for none, or waits to be none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.answers = list(answers)
        self.original = socket.getaddrinfo
        self.begun, self.go_on = threading.Event(), threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if not host.endswith(".example"):
            return self.original(host, port, *args, **options)
        answer = self.answers.pop(0)
        if answer == "wait":
            self.begun.set()
            self.go_on.wait(10)
        if type(answer) is not list:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port)) for port in answer]


OUT_OF_REACH: list[Any] = [
    *(None, [], "z.example:1", {"host": "z"}, {"port": 1}, {"host": None, "port": 1}, {"host": "", "port": 1}),
    *({"host": "z", "port": port} for port in (0, 65_536, -1, 1.5, None, True, "", "x", "0", "70000", "\u0661")),
]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prot": 1}, TypeError, "unknown option 'prot'; did you mean 'port'?"),
        ({"host": 5}, TypeError, "host must be a string, got 5"),
        ({"host": ""}, ValueError, "host must be a name or an address that peers can connect to, got ''"),
        ({"port": 65536}, ValueError, "port must be from 0 to 65535, got 65536"),
        ({"max_message_size": 0}, ValueError, "max_message_size must be at least 1, got 0"),
        ({"max_connections": 1.5}, TypeError, "max_connections must be an integer at least 1, got 1.5"),
        ({"compress_above": -1}, ValueError, "compress_above must be at least 0, got -1"),
        ({"compress_above": 1.5}, TypeError, "compress_above must be an integer at least 0, got 1.5"),
        ({"readers": 0}, ValueError, "readers must be at least 1, got 0"),
        ({"senders": None}, TypeError, "senders must be an integer at least 1, got None"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout must be from 0.001 to 3600 seconds, got 0"),
        ({"send_timeout": "1"}, TypeError, "send_timeout must be a number from 0.001 to 3600 seconds, got '1'"),
        ({"receive_timeout": float("nan")}, ValueError, "receive_timeout must be from 0.001 to 3600 seconds, got nan"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        TcpTransport(options)
    assert str(caught.value) == words


def test_port_0_takes_a_free_port_and_that_is_what_peers_are_told(net: Net) -> None:
    node = net.node(listen=False)
    assert (node.transport.address, node.address) == (None, None)
    node.transport.listen()
    port = node.address[1]
    assert port > 0
    assert (node.transport.port, node.transport.address) == (port, {"host": HOST, "port": port})
    net.node().send((HOST, port), "v")
    node.wait(values=1)


def test_listen_can_bind_another_address_than_peers_are_told(net: Net) -> None:
    node = net.node(listen=False, host="a.example", port=9000)
    with pytest.raises(TypeError, match="unknown option 'hots'; did you mean 'host'"):
        node.transport.listen({"hots": HOST})
    node.transport.listen({"host": HOST, "port": 0})
    with pytest.raises(RuntimeError, match=f"listens already, at .*{node.address[1]}"):
        node.transport.listen({"host": HOST, "port": 0})
    assert node.address[0] == HOST
    assert node.address[1] not in (0, 9000)
    assert node.transport.address == {"host": "a.example", "port": 9000}
    net.node().send((HOST, str(node.address[1])), "v")  # Node takes digits for a port, so do we
    node.wait(values=1)


@pytest.mark.parametrize("host", [*LOOPBACKS, ""])
def test_both_versions_of_ip_work_and_an_empty_host_is_both(net: Net, host: str) -> None:
    node, other = net.node(listen=False), net.node()
    node.transport.listen({"host": host})
    for count, reached in enumerate([host] if host else LOOPBACKS, 1):
        other.send((reached, node.address[1]), reached)
        node.wait(values=count)
        assert node.values[-1] == reached
        probe = net.connect(node, b"x", reached)
        probe.shutdown(socket.SHUT_WR)
        node.wait(errors=count)
        assert str(node.errors[-1]).startswith(refused(probe) if host else "message from ")


def test_a_taken_port_raises_to_the_caller_who_may_try_another(net: Net) -> None:
    port = net.node().address[1]
    node = net.node(listen=False, port=port)
    with pytest.raises(OSError, match=f"can't listen at {HOST}:{port}: ") as caught:
        node.transport.listen()
    assert caught.value.errno == errno.EADDRINUSE
    node.transport.listen({"port": 0})
    assert node.address[1] != port


def test_names_are_resolved_at_each_connect_and_each_address_is_tried(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    a, before, gone, after = net.node(), net.node(), net.node(), net.node()
    gone.transport.close()
    resolver = Resolver(monkeypatch, [before.transport.port], [gone.transport.port, after.transport.port])
    a.send(MOVING, "before")
    before.wait(values=1)
    a.send(MOVING, "after")
    after.wait(values=1)
    assert (before.values, after.values, a.errors, resolver.answers) == (["before"], ["after"], [], [])


def test_a_character_that_is_cut_between_chunks_arrives_whole(net: Net) -> None:
    node = net.node(readers=1)
    data = message("é😀")
    cut = data.index("😀".encode()) + 2  # short messages are not escaped
    connection = net.connect(node, data[:cut])
    net.settle(node)  # the reader has taken the first half, and left the connection to the acceptor
    connection.sendall(data[cut:])
    connection.close()
    node.wait(values=2)
    assert node.heard[1] == ("deltas", SENDER, delta("é😀"))


def test_a_message_above_the_limit_is_refused_while_it_arrives(net: Net) -> None:
    node = net.node(max_message_size=1_000)
    connection = net.connect(node, b"x" * 1_001)  # and no FIN
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [refused(connection) + "more than 1000 bytes"]
    assert connection.recv(1) == b""  # nobody takes more
    net.connect(node, message("x" * (1_000 - len(message(""))))).close()  # just the limit
    node.wait(values=1)
    assert len(node.errors) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\r\n", "message must be JSON in UTF-8"),
        (message()[:-10], "message must be JSON in UTF-8"),
        (message() * 2, "message must be JSON in UTF-8: Extra data"),
        (message("é").replace("é".encode(), b"\xff"), "message must be JSON in UTF-8: 'utf-8' codec"),
        (b"[" * 100_000, "message must not be nested more than 100 deep"),
        (b"[]", "message must be an object, got []"),
        (deflate(message())[:-1], "deflated and cut short"),
        (deflate(message()) + b"x", "1 bytes after the end of what is deflated"),
        (deflate(bytes(20_000_000)), "inflates to more than 16777216 bytes"),
        (b"{}", "sender must be an object, got None"),
        (b'{"digest": []}', "sender must be an object, got None"),
        (message().replace(b"[[", b"[").replace(b"]]", b"]"), "deltas[0] must be [peer_id, key, value, version, ...], got 'z'"),
        (text(deltas=[["z", "k", 1, 1], ["z", "k", 1, -1]]), "deltas[1][3] must be an integer from 0 to"),
        (text(digest=[{"id": "y", "maxVersionSeen": "1"}]), "digest[0].maxVersionSeen must be an integer from 0 to"),
        (text(digest=[{"id": "y", "maxVersionSeen": 1}]), "digest[0].transport must be an address"),
        *((text(RemotePeer("z", transport), digest=[]), "sender.transport must be an address") for transport in OUT_OF_REACH),
    ],
)
def test_a_malformed_message_is_one_error_that_names_its_source_and_nothing_else(net: Net, data: bytes, words: str) -> None:
    node = net.node(readers=1)
    connection = net.connect(node, data)
    connection.shutdown(socket.SHUT_WR)
    node.wait(errors=1)
    net.settle(node)
    (error,) = node.errors
    assert isinstance(error, MessageError)
    assert error.source == "{}:{}".format(*connection.getsockname())
    assert str(error).startswith(refused(connection) + words)
    assert node.heard == [("deltas", SENDER, delta("settled"))]


@pytest.mark.parametrize("kin", [True, False])
@pytest.mark.parametrize("above", [100, 10_000, None])
def test_a_message_above_the_threshold_goes_deflated_to_one_of_our_kind_and_all_read_both(
    net: Net, kin: bool, above: int | None
) -> None:
    a, b, wire = net.node(compress_above=above), net.node(), net.enter_context(socket.create_server((HOST, 0)))
    for address in (wire.getsockname(), b.address):
        there = dict(zip(("host", "port"), address, strict=True))
        a.transport.deltas((ExtendedPeer if kin else RemotePeer)("peer", there), SENDER, delta("v" * 1_000))
    connection, _ = wire.accept()
    with connection:
        data = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert data == (deflate(message("v" * 1_000)) if kin and above == 100 else message("v" * 1_000))
    b.wait(values=1)
    assert (b.values, b.errors) == (["v" * 1_000], [])


@pytest.mark.parametrize("trickle", [False, True])
def test_a_message_has_a_deadline_from_accept_to_fin(net: Net, trickle: bool) -> None:
    node = net.node(receive_timeout=0.1)
    connection = net.connect(node, b"{")
    with node.changed:
        while trickle and not node.errors:  # bytes that keep coming win it no time
            with suppress(ConnectionError):
                connection.send(b" ")
            node.changed.wait(0.01)
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [refused(connection) + "incomplete after 0.1 s"]


def test_300_idle_connections_do_not_keep_a_message_from_arriving(net: Net) -> None:
    node = net.node(max_connections=1_000)
    for _ in range(300):
        net.connect(node)
    net.node().send(node.address, "v")
    node.wait(values=1)
    assert node.errors == []


def test_beyond_max_connections_the_oldest_is_closed(net: Net) -> None:
    node = net.node(max_connections=3, readers=1)
    idle = [net.connect(node), net.connect(node)]
    net.settle(node)  # the reader has left both to the acceptor
    while not node.errors and len(idle) < 20:  # one more is enough, unless the acceptor has not taken those up yet
        idle.append(net.connect(node))
        net.settle(node)
    node.wait(errors=1)
    assert str(node.errors[0]) == refused(idle[0]) + "the slowest of more than 3 connections"
    assert idle[0].recv(1) == b""


def test_a_connection_that_ends_early_is_an_error_only_if_it_has_sent_something(net: Net) -> None:
    node = net.node(readers=1)
    net.connect(node).close()  # as who looks whether the port is open
    reset(net.connect(node))
    connection = net.connect(node, message()[:20])
    net.settle(node)
    assert node.errors == []
    complaint = refused(connection) + "cut off: "
    reset(connection)
    node.wait(errors=1)
    net.settle(node)
    assert [error.startswith(complaint) for error in map(str, node.errors)] == [True]


@pytest.mark.parametrize("answers", [True, False])
def test_a_peer_that_never_reads_or_answers_delays_nobody_else(net: Net, answers: bool) -> None:
    stuck = net.enter_context(socket.create_server((HOST, 0), backlog=0))
    for _ in range(0 if answers else 3):  # its backlog is full then, and who connects hears nothing
        filler = net.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(stuck.getsockname())
    a, b = net.node(senders=2, connect_timeout=30), net.node()
    a.send(stuck.getsockname(), *["x" * 12_000_000] * 5)  # more than there are senders, each more than the buffers take
    a.send(b.address, "v")
    b.wait(values=1)
    assert a.errors == []  # it was not by giving up on the other that the message got through
    stuck.close()


def test_peers_that_failed_wait_for_each_other_and_for_nobody_else(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = net.node(senders=1), net.node()
    resolver = Resolver(monkeypatch, *[None] * 4, *["wait"] * 4)
    for _ in range(2):
        for id in "stuv":
            a.send((f"{id}.example", 1), "v")
        a.wait(errors=4)
    a.send(b.address, "v")
    b.wait(values=1)
    assert len(a.errors) == 4
    resolver.go_on.set()
    a.wait(errors=8)
    assert isinstance(a.errors[0], SendError)
    assert isinstance(a.errors[0].__cause__, socket.gaierror)
    assert "can't send to peer 'peer' at s.example:1: no such name" in map(str, a.errors)


def test_of_what_waits_a_digest_replaces_a_digest_and_the_oldest_goes(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "_MAX_WAITING", 3)
    a, b = net.node(), net.node(readers=1)
    resolver = Resolver(monkeypatch, "wait", *[[b.transport.port]] * 3)
    a.send(MOVING, "on its way")
    assert resolver.begun.wait(10)
    a.send(MOVING, "oldest")
    for version in (1, 2):
        entry = {"id": "z", "maxVersionSeen": version, "transport": SENDER.transport}
        a.transport.digest(RemotePeer("peer", {"host": MOVING[0], "port": 1}), SENDER, [entry])
    a.send(MOVING, "newer", "newest")
    (dropped,) = a.errors
    assert str(dropped) == "peer 'peer' at moving.example:1 takes messages slower than they come: one dropped"
    resolver.go_on.set()
    b.wait(values=2)
    assert b.heard == [("digest", SENDER, [entry]), ("deltas", SENDER, delta("newer")), ("deltas", SENDER, delta("newest"))]


def test_close_sends_what_waits_and_frees_the_port(net: Net) -> None:
    a, b = net.node(), net.node()
    net.connect(a)
    net.settle(a)  # its end of the other connection, which it closes first, keeps the port in use
    a.send(b.address, *range(20))
    port = a.transport.port
    a.transport.close()
    b.wait(values=20)
    again = net.node(port=port)
    b.send(again.address, "v")
    again.wait(values=1)


def test_no_error_is_lost_neither_a_handlers_nor_one_that_nobody_listens_for(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    reported = threading.Event()

    def hook(args: threading.ExceptHookArgs) -> None:
        seen.append(args.exc_value)
        reported.set()

    monkeypatch.setattr(threading, "excepthook", hook)
    node = net.node(readers=1)
    node.transport.once("deltas", lambda *_: 1 / 0)
    net.settle(node)
    node.wait(errors=1)
    node.transport.remove_all_listeners("error")
    net.connect(node, b"x").close()
    assert reported.wait(10)
    assert [type(error) for error in (*node.errors, *seen)] == [ZeroDivisionError, MessageError]


def test_without_a_thread_to_send_on_a_message_is_an_error_and_later_ones_are_sent(net: Net) -> None:
    a, b = net.node(listen=False), net.node()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        a.send(b.address, "lost")
    assert [str(error) for error in a.errors] == ["no thread"]
    a.send(b.address, "v")
    b.wait(values=1)
    assert b.values == ["v"]


@pytest.mark.parametrize("at", OUT_OF_REACH)
def test_an_address_that_is_none_is_an_error_that_names_the_peer(net: Net, at: Any) -> None:
    node = net.node(listen=False)
    node.transport.digest(RemotePeer("lost", at), SENDER, [])
    (error,) = node.errors
    assert isinstance(error, SendError)
    assert error.remote_peer == RemotePeer("lost", at)
    assert str(error) == f"can't send to peer 'lost': its transport must be a mapping with a host and a port, got {at!r}"


def test_timeouts_may_be_timedeltas(net: Net) -> None:
    node = net.node(receive_timeout=timedelta(milliseconds=100))
    connection = net.connect(node, b"{")
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [refused(connection) + "incomplete after 0.1 s"]
