"""TCP: the transport contract, and what is TCP's own. Raw sockets play the peers that misbehave."""

from __future__ import annotations

import errno
import queue
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any
from unittest import mock

import pytest

from gossipmonger import Gossipmonger, MessageError, RemotePeer, SendError, TcpTransport
from gossipmonger.entry import Entry
from gossipmonger.peer import Kin
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import messages, senders
from gossipmonger.transport.compression import deflate, inflate
from tests.ear import Ear

HOST = "127.0.0.1"
SENDER = RemotePeer("z", {"host": "z.example", "port": 9742})
OURS = [Entry("z", 0, SENDER.transport, heartbeat=1)]  # a digest as one of our kind makes it
MOVING = ("moving.example", 1)
LOOPBACKS = [HOST]
with suppress(OSError):  # some machines have no IPv6
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    LOOPBACKS.append("::1")


class TestContract(TransportContract):
    def make_transport(self) -> TcpTransport:
        return TcpTransport(host=HOST, port=0)


class Node(Ear):
    """A TCP transport, and what it emits."""

    def wait(self, values: int = 0, errors: int = 0) -> None:
        self.until(lambda: len(self.values) >= values and len(self.errors) >= errors)

    @property
    def address(self) -> Any:
        return self.transport.bound

    def send(self, address: Any, *values: Any) -> None:
        for value in values:
            self.transport.deltas(RemotePeer("peer", dict(zip(("host", "port"), address, strict=True))), SENDER, delta(value))


class Net(ExitStack):
    """Makes nodes and raw connections on loopback, and closes them."""

    def node(self, listen: bool = True, **options: Any) -> Node:
        transport = TcpTransport(**{"host": HOST, "port": 0, **options})
        self.callback(transport.close)
        node = Node(transport)
        if listen:
            transport.listen()
        return node

    def connect(self, node: Node, data: bytes = b"", host: str = HOST) -> socket.socket:
        connection = self.enter_context(socket.create_connection((host, node.address[1]), timeout=10))
        connection.sendall(data)
        return connection

    def settle(self, node: Node) -> None:
        """Wait until all is read that was sent to a node before. It has one reader, which takes connections in their order."""
        count = len(node.values)
        self.connect(node, message("settled")).close()
        node.wait(values=count + 1)


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as net:
        yield net


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


def until(condition: Callable[[], bool]) -> None:
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


def delta(value: Any) -> list[list[Any]]:
    return [["z", "k", value, 1]]


def message(value: Any = "v") -> bytes:
    return messages.encode(SENDER, deltas=delta(value))


def refused(connection: socket.socket) -> str:
    """How the error begins that the other side emits."""
    host, port = connection.getsockname()[:2]
    return f"message from {f'[{host}]' if ':' in host else host}:{port} refused: "


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prot": 1}, TypeError, "unknown option 'prot'; did you mean 'port'?"),
        ({"host": 5}, TypeError, "host: 5 is no string"),
        ({"host": ""}, ValueError, "host: '' is nowhere for peers to connect to"),
        ({"port": 65536}, ValueError, "port: 65536 is not between 0 and 65535"),
        ({"max_message_size": 0}, ValueError, "max_message_size: 0 is not between 1 and inf"),
        ({"max_connections": 1.5}, TypeError, "max_connections: 1.5 is no integer"),
        ({"compress_above": -1}, ValueError, "compress_above: -1 is not between 0 and inf"),
        ({"compress_above": 1.5}, TypeError, "compress_above: 1.5 is no integer"),
        ({"readers": 0}, ValueError, "readers: 0 is not between 1 and inf"),
        ({"senders": None}, TypeError, "senders: None is no integer"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout: 0 is not between 1 and 3.6e+06"),
        ({"send_timeout": "1"}, TypeError, "send_timeout: '1' is no number"),
        ({"receive_timeout": float("nan")}, ValueError, "receive_timeout: nan is not between 1 and 3.6e+06"),
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
        (b"\r\n", "no JSON in UTF-8"),
        (message()[:-10], "no JSON in UTF-8"),
        (message() * 2, "no JSON in UTF-8: Extra data"),
        (message("é").replace("é".encode(), b"\xff"), "no JSON in UTF-8: 'utf-8' codec"),
        (b"[" * 100_000, "nested more than 100 deep"),
        (b"[]", "[] is no object"),
        (deflate(message())[:-1], "deflated and cut short"),
        (deflate(message()) + b"x", "1 bytes after the end of what is deflated"),
        (deflate(bytes(20_000_000)), "inflates to more than 16777216 bytes"),
        (b"{}", "neither deltas nor digest"),
        (b'{"digest": []}', "sender.id is None"),
        (message().replace(b"[[", b"[").replace(b"]]", b"]"), "deltas[0] is 'z', no [peer id"),
        (messages.encode(SENDER, deltas=[["z", "k", 1, 1], ["z", "k", 1, -1]]), "deltas[1][3] is -1"),
        (messages.encode(SENDER, digest=[{"id": "y", "maxVersionSeen": "1"}]), "digest[0].maxVersionSeen is '1'"),
        (messages.encode(SENDER, digest=[{"id": "y", "maxVersionSeen": 1}]), "digest[0].transport is None"),
        *((messages.encode(RemotePeer("z", transport), digest=[]), "sender.transport is ") for transport in OUT_OF_REACH),
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
        a.transport.deltas((Kin if kin else RemotePeer)("peer", there), SENDER, delta("v" * 1_000))
    connection, _ = wire.accept()
    with connection:
        data = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert data == (deflate(message("v" * 1_000)) if kin and above == 100 else message("v" * 1_000))
    b.wait(values=1)
    assert (b.values, b.errors) == (["v" * 1_000], [])


@pytest.mark.parametrize("trickle", [False, True])
def test_a_message_has_a_deadline_from_accept_to_fin(net: Net, trickle: bool) -> None:
    node = net.node(receive_timeout=100)
    connection = net.connect(node, b"{")
    with node.changed:
        while trickle and not node.errors:  # bytes that keep coming win it no time
            with suppress(ConnectionError):
                connection.send(b" ")
            node.changed.wait(0.01)
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [refused(connection) + "not all there after 100 ms"]


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
    assert str(node.errors[0]) == refused(idle[0]) + "slower than 3 others"
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
    a, b = net.node(senders=2, connect_timeout=30_000), net.node()
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
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    node = net.node(readers=1)
    node.transport.once("deltas", lambda *_: 1 / 0)
    net.settle(node)
    node.wait(errors=1)
    node.transport.remove_all_listeners("error")
    net.connect(node, b"x").close()
    net.settle(node)
    assert [type(error) for error in (*node.errors, *seen)] == [ZeroDivisionError, MessageError]


# Answers


class Fake:
    """A server that the test plays: `accept` gives what was sent, up to its FIN, and the connection."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.listening = net.enter_context(socket.create_server((HOST, 0)))
        self.listening.settimeout(10)
        self.peer = peer_at(self.listening.getsockname())
        self.source = "{}:{}".format(*self.listening.getsockname())

    def accept(self) -> tuple[bytes, socket.socket]:
        connection = self.net.enter_context(self.listening.accept()[0])
        connection.settimeout(10)
        return b"".join(iter(lambda: connection.recv(65_536), b"")), connection

    def nobody_came(self) -> bool:
        return not select.select([self.listening], [], [], 0)[0]


def peer_at(address: Any, of: type[RemotePeer] = RemotePeer) -> RemotePeer:
    return of("peer", {"host": address[0], "port": address[1]})


def answering(node: Node, *values: Any) -> None:
    """Let it answer each digest with a message for each value, to the very object that came with it."""

    def answer(remote: RemotePeer, _: Any) -> None:
        for value in values:
            node.transport.deltas(remote, SENDER, delta(value))

    node.transport.on("digest", answer)


def ask(connection: socket.socket, sender: RemotePeer = SENDER, digest: list[Entry] = OURS) -> bytes:
    """Send a digest; return the answer."""
    connection.sendall(messages.encode(sender, digest=digest))
    connection.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_an_answer_comes_on_the_connection_that_asked_even_to_who_can_not_be_reached(net: Net) -> None:
    a, b = net.node(listen=False), net.node()
    answering(b, "answer")
    for count in (1, 2):
        a.transport.digest(peer_at(b.address), SENDER, OURS)  # SENDER's own address is nobody's
        a.wait(values=count)
    assert a.values == ["answer"] * 2
    assert a.heard[0][1] == SENDER
    assert isinstance(a.heard[0][1], Kin)
    assert (a.errors, b.errors) == ([], [])


def test_only_the_first_message_in_the_handler_is_an_answer_and_others_are_dialled(net: Net) -> None:
    node, dialled = net.node(), Fake(net)
    answering(node, "first", "second")
    callers: list[RemotePeer] = []
    node.transport.on("digest", lambda remote, _: callers.append(remote))
    assert ask(net.connect(node), dialled.peer) == message("first")
    assert dialled.accept()[0] == message("second")
    node.transport.deltas(callers[0], SENDER, delta("third"))
    assert dialled.accept()[0] == message("third")
    assert node.errors == []


def test_without_an_answer_the_connection_ends_when_the_handlers_have(net: Net) -> None:
    node, dialled = net.node(), Fake(net)
    callers: list[RemotePeer] = []
    node.transport.on("digest", lambda remote, _: callers.append(remote))
    assert ask(net.connect(node), dialled.peer) == b""
    node.transport.deltas(callers[0], SENDER, delta("late"))
    assert dialled.accept()[0] == message("late")


@pytest.mark.parametrize("digest", [[], [Entry("z", 0, SENDER.transport)], [*OURS, Entry("y", 0, SENDER.transport)]])
def test_who_reads_no_answer_is_dialled_and_its_connection_ends_before_the_handlers_have(net: Net, digest: list[Entry]) -> None:
    node, dialled, ended = net.node(), Fake(net), threading.Event()
    node.transport.on("digest", lambda *_: ended.wait(10))
    answering(node, "dialled")
    assert ask(net.connect(node), dialled.peer, digest) == b""
    ended.set()
    assert dialled.accept()[0] == message("dialled")
    assert node.errors == []


def test_a_plain_remote_peer_is_dialled_though_a_connection_is_there(net: Net) -> None:
    node, dialled = net.node(), Fake(net)
    node.transport.on("digest", lambda remote, _: node.transport.deltas(RemotePeer(*remote), SENDER, delta("dialled")))
    assert ask(net.connect(node), dialled.peer) == b""
    assert dialled.accept()[0] == message("dialled")


def test_a_large_answer_is_deflated_and_one_of_several_messages_dialled(net: Net) -> None:
    node, dialled = net.node(compress_above=100, max_message_size=1_000), Fake(net)
    answering(node, "v" * 500)
    assert ask(net.connect(node), dialled.peer) == deflate(message("v" * 500))
    node.transport.remove_all_listeners("digest")
    two = [["z", "k", "v" * 600, version] for version in (1, 2)]
    node.transport.on("digest", lambda remote, _: node.transport.deltas(remote, SENDER, two))
    assert ask(net.connect(node), dialled.peer) == b""
    for each in two:
        assert inflate(dialled.accept()[0], 1_000) == messages.encode(SENDER, deltas=[each])


def test_an_answer_that_can_not_be_encoded_is_an_error_and_ends_the_connection(net: Net) -> None:
    node = net.node()
    node.transport.on("digest", lambda remote, _: node.transport.deltas(remote, SENDER, [["z", "k", object(), 1]]))
    assert ask(net.connect(node)) == b""
    node.wait(errors=1)
    assert [type(error) for error in node.errors] == [TypeError]


def test_an_answer_to_who_has_gone_is_dialled(net: Net) -> None:
    node, dialled, gone = net.node(), Fake(net), threading.Event()
    node.transport.on("digest", lambda *_: gone.wait(10))
    answering(node, "answer")
    connection = net.connect(node, messages.encode(dialled.peer, digest=OURS))
    connection.shutdown(socket.SHUT_WR)
    until(lambda: node.transport._watcher._open != set())
    reset(connection)
    gone.set()
    assert dialled.accept()[0] == message("answer")


def test_who_ends_without_reading_its_answer_is_no_error(net: Net) -> None:
    node = net.node()
    answering(node, "answer")
    net.connect(node, messages.encode(SENDER, digest=OURS)).close()
    net.connect(node, message("v")).close()
    node.wait(values=1)
    assert node.errors == []


def test_what_answers_an_answer_goes_on_a_connection_whose_answer_comes_back_on_it(net: Net) -> None:
    a, b = net.node(listen=False), net.node()
    counted: dict[Node, list[int]] = {a: [], b: []}
    for node in (a, b):  # they count up in turns

        def count(remote: RemotePeer, deltas: Any, _: Any, node: Node = node) -> None:
            counted[node].append(deltas[0][2])
            if deltas[0][2] < 20:
                to = remote if node is b else peer_at(b.address, Kin)
                node.transport.exchange(to, SENDER, delta(deltas[0][2] + 1), OURS)

        node.transport.on("exchange", count)
    processed = mock.patch.object(b.transport._watcher, "_received", wraps=b.transport._received)
    received = net.enter_context(processed)
    a.transport.exchange(peer_at(b.address), SENDER, delta(1), OURS)
    until(lambda: len(counted[a]) == 10)
    assert (counted[b], counted[a]) == ([*range(1, 21, 2)], [*range(2, 21, 2)])
    assert [call.args[0].dialled for call in received.call_args_list] == [False] * 10


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"garbage", "no JSON in UTF-8"),
        (b"{}", "neither deltas nor digest"),
        (message("x" * 1_000), "more than 1000 bytes"),
        (deflate(message("x" * 1_000)), "inflates to more than 1000 bytes"),
        (message()[:-9], "no JSON in UTF-8"),
    ],
)
def test_a_wrong_answer_is_one_error_that_names_the_peers_address(net: Net, data: bytes, words: str) -> None:
    node, fake = net.node(max_message_size=1_000), Fake(net)
    node.send(fake.listening.getsockname(), "v")
    sent, connection = fake.accept()
    assert sent == message("v")
    connection.sendall(data)
    connection.close()
    node.wait(errors=1)
    (error,) = node.errors
    assert isinstance(error, MessageError)
    assert str(error).startswith(f"message from {fake.source} refused: {words}")
    assert error.source == fake.source
    node.send(fake.listening.getsockname(), "again")  # it has not failed
    assert fake.accept()[0] == message("again")
    assert node.heard == []


def test_a_peer_that_accepts_and_says_nothing_delays_nobody_else_and_is_no_error(net: Net) -> None:
    a, b, stopped = net.node(senders=1, receive_timeout=300), net.node(), Fake(net)
    a.send(stopped.listening.getsockname(), *range(5))
    a.send(b.address, "v")
    b.wait(values=1)
    connections = [stopped.accept()[1] for _ in range(5)]
    a.transport._senders._answering.join(10_000)
    until(lambda: a.transport._watcher._open == set())  # given up, by the receive timeout
    for connection in connections:
        with suppress(OSError):
            while True:
                connection.send(b"x")  # until it hears that nobody is there
    assert a.errors == []


def test_close_ends_what_waits_for_an_answer(net: Net) -> None:
    node, fake = net.node(listen=False), Fake(net)
    node.send(fake.listening.getsockname(), "v")
    connection = fake.accept()[1]
    until(lambda: node.transport._watcher._open != set())
    node.transport.close()
    connection.sendall(message())
    with suppress(OSError):
        while True:
            connection.send(b"x")
    assert (node.heard, node.errors) == ([], [])
    assert node.transport._watcher._open == set()


def test_a_node_that_can_only_dial_out_learns_what_others_know_and_they_what_it_knows(net: Net) -> None:
    inside = Gossipmonger({"id": "inside", "transport": {"host": HOST, "port": 0}})
    net.callback(inside.close)
    inside.update("k", "inside")
    inside.transport.listen()
    seed = {"id": "inside", "transport": inside.local_peer.transport}
    outside = Gossipmonger({"id": "outside", "transport": {"host": "nobody.invalid", "port": 9}}, seeds=[seed])
    net.callback(outside.close)
    heard: queue.Queue[tuple[str, str, str]] = queue.Queue()
    errors: list[Exception] = []
    for node in (inside, outside):
        node.on("update", lambda *update: heard.put(update))
        node.on("error", errors.append)
    outside.update("k", "outside")
    outside.gossip()
    learned = {heard.get(timeout=10), heard.get(timeout=10)}
    assert learned == {("inside", "k", "inside"), ("outside", "k", "outside")}
    assert errors == []  # nobody has tried to reach it


@pytest.mark.parametrize("asked", [True, False])
def test_close_from_the_handler_of_an_answer_or_of_what_is_answered(net: Net, asked: bool) -> None:
    a, b = net.node(listen=False), net.node()
    answering(b, "answer")
    node, closed = (b, threading.Event()) if asked else (a, threading.Event())

    def close(*_: Any) -> None:
        node.transport.close()
        closed.set()

    node.transport.on("digest" if asked else "deltas", close)
    a.transport.digest(peer_at(b.address), SENDER, OURS)
    assert closed.wait(10)
    assert (a.errors, b.errors) == ([], [])
