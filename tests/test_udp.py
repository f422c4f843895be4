"""UDP: the transport contract, and what is UDP's own. Raw sockets play those who send rubbish, and see what is sent where."""

from __future__ import annotations

import errno
import json
import random
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, ClassVar

import pytest

from gossipmonger import ClosedError, Gossipmonger, MessageError, RemotePeer, SendError, UdpTransport
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import messages, udp
from gossipmonger.transport.addresses import Address
from tests.cluster import Cluster, Here
from tests.ear import Ear

HOST = "127.0.0.1"
LOOPBACKS = [HOST]
with suppress(OSError):  # some machines have no IPv6
    socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    LOOPBACKS.append("::1")

SENDER = RemotePeer("z", {"host": "z.example", "port": 9742})


class TestContract(TransportContract):
    reports_unreachable = False  # nobody tells the sender of a datagram what became of it

    def make_transport(self) -> UdpTransport:
        return UdpTransport(host=HOST, port=0)


class TestContractOverTcp(TransportContract):
    """By its address a node takes no datagrams, so everything goes over the TCP side."""

    def make_transport(self) -> UdpTransport:
        return UdpTransport(host=HOST, port=0)

    def address_of(self, transport: Any) -> Any:
        return {"host": transport.host, "port": transport.port}


class Node(Ear):
    """A transport of either kind, and what it emits."""

    def wait(self, heard: int = 0, errors: int = 0) -> None:
        self.until(lambda: len(self.heard) >= heard and len(self.errors) >= errors)

    def send(self, peer: RemotePeer, value: Any = "v") -> None:
        self.transport.deltas(peer, SENDER, [["z", "k", value, 1]])


class Wire:
    """A raw peer: a UDP socket, and a TCP one on the same port."""

    def __init__(self, host: str = HOST) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        while True:
            self.tcp = socket.create_server((host, 0), family=family)
            self.udp = socket.socket(family, socket.SOCK_DGRAM)
            self.port = self.tcp.getsockname()[1]
            try:
                self.udp.bind((host, self.port))
                break
            except OSError:
                self.close()
        self.tcp.settimeout(10)
        self.udp.settimeout(10)
        self.peer = RemotePeer("wire", {"host": host, "port": self.port, "udp": True})

    def datagram(self) -> bytes:
        return self.udp.recv(65_535)

    def datagrams(self, count: int) -> list[bytes]:
        return [self.datagram() for _ in range(count)]

    def message(self) -> bytes:
        """The next one over TCP."""
        connection, _ = self.tcp.accept()
        with connection, connection.makefile("rb") as stream:
            return stream.read()

    def throw(self, node: Node, data: bytes) -> None:
        self.udp.sendto(data, (HOST, node.transport.port))

    @property
    def source(self) -> str:
        return f"{HOST}:{self.port}"

    def close(self) -> None:
        self.tcp.close()
        self.udp.close()


class Socket(socket.socket):
    """A socket that does what `faults` say before it does what it is told, and loses and swaps some of what it sends."""

    faults: ClassVar[list[Callable[[Socket, str], None]]] = []
    chance: ClassVar[random.Random | None] = None
    held: ClassVar[list[tuple[Any, ...]]] = []
    sent = 0

    def recvfrom(self, *args: Any) -> Any:
        self.fail("recvfrom")
        return super().recvfrom(*args)

    def sendto(self, *args: Any) -> Any:
        self.fail("sendto")
        Socket.sent += 1
        if self.chance is not None:
            fate = self.chance.random()
            if fate < 0.2:
                return len(args[0])
            if fate < 0.4:
                self.held.append(args)
                return len(args[0])
        sent = super().sendto(*args)
        with suppress(IndexError):
            while True:
                super().sendto(*self.held.pop())
        return sent

    def fail(self, doing: str) -> None:
        for fault in list(self.faults):
            fault(self, doing)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Socket, str], None]]:
    def a_socket(family: int) -> Socket:
        made = Socket(family, socket.SOCK_DGRAM)
        made.setblocking(False)
        return made

    monkeypatch.setattr(udp, "_socket", a_socket)
    monkeypatch.setattr(Socket, "faults", [])
    monkeypatch.setattr(Socket, "chance", None)
    monkeypatch.setattr(Socket, "held", [])
    monkeypatch.setattr(Socket, "sent", 0)
    return Socket.faults


class Net(ExitStack):
    """Makes nodes and raw peers, and closes them."""

    def node(self, listen: bool = True, kind: type[Any] = UdpTransport, **options: Any) -> Node:
        transport = kind(**{"host": HOST, "port": 0, **options})
        self.callback(transport.close)
        node = Node(transport)
        if listen:
            transport.listen()
        return node

    def wire(self, host: str = HOST) -> Wire:
        wire = Wire(host)
        self.callback(wire.close)
        return wire


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as net:
        yield net


def peer_of(node: Node, **fields: Any) -> RemotePeer:
    return RemotePeer("peer", {**node.transport.address, **fields})


def is_free(kind: int, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


# Options


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_datagram_size": 511}, ValueError, "max_datagram_size: 511 is not between 512 and 65507"),
        ({"max_datagram_size": 65_508}, ValueError, "max_datagram_size: 65508 is not between 512 and 65507"),
        ({"max_datagram_size": None}, TypeError, "max_datagram_size: None is no integer"),
        ({"prot": 1}, TypeError, "unknown option 'prot'; did you mean 'port'?"),
        ({"max_message_size": 0}, ValueError, "max_message_size: 0 is not between 1 and inf"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    for arguments, keywords in (((options,), {}), ((), options)):
        with pytest.raises(error) as caught:
            UdpTransport(*arguments, **keywords)
        assert str(caught.value) == words


def test_options_may_be_a_mapping_or_keywords_and_reach_both_sides(net: Net) -> None:
    transport = UdpTransport({"host": HOST, "port": 0, "max_datagram_size": 600}, max_message_size=70_000, readers=1)
    net.callback(transport.close)
    assert (transport.host, transport.port, transport.max_datagram_size) == (HOST, 0, 600)
    assert transport.max_message_size == 70_000


# Listening


def test_port_0_takes_one_port_that_is_free_for_both_protocols_and_peers_are_told(net: Net) -> None:
    node = net.node(listen=False)
    assert (node.transport.address, node.transport.bound) == (None, None)
    node.transport.listen()
    port = node.transport.port
    assert node.transport.bound == (HOST, port)
    assert node.transport.address == {"host": HOST, "port": port, "udp": True}
    assert not is_free(socket.SOCK_DGRAM, port)
    assert not is_free(socket.SOCK_STREAM, port)
    node.transport.close()
    assert is_free(socket.SOCK_DGRAM, port)
    assert is_free(socket.SOCK_STREAM, port)


def test_port_0_tries_other_ports_when_the_one_for_udp_is_taken_for_tcp(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    taken = 3
    bind = udp._bind

    def unlucky(host: str, port: int, bound: list[socket.socket]) -> None:
        bind(host, port, bound)
        tried.append(bound[0].getsockname()[1])
        if len(tried) <= taken:
            with suppress(OSError):  # somebody else was first
                net.enter_context(socket.create_server((HOST, tried[-1])))

    monkeypatch.setattr(udp, "_bind", unlucky)
    node = net.node()
    assert len(tried) > taken
    assert node.transport.bound == (HOST, tried[-1])
    assert all(is_free(socket.SOCK_DGRAM, port) for port in set(tried[:-1]))
    taken, tried[:] = 1_000, []
    with pytest.raises(OSError, match="can't listen at"):
        net.node()
    assert len(tried) == 100


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_is_taken_for_either_raises_and_neither_is_kept(net: Net, kind: int) -> None:
    wire = net.wire()
    (wire.udp if kind == socket.SOCK_STREAM else wire.tcp).close()
    node = net.node(listen=False, port=wire.port)
    with pytest.raises(OSError, match=f"can't listen at {HOST}:{wire.port}") as caught:
        node.transport.listen()
    assert caught.value.errno == errno.EADDRINUSE
    assert node.transport.bound is None
    wire.close()
    assert is_free(socket.SOCK_STREAM, wire.port)
    assert is_free(socket.SOCK_DGRAM, wire.port)
    node.transport.listen()  # the caller may try again
    net.node().send(peer_of(node))
    node.wait(heard=1)


def test_listen_can_bind_another_address_than_peers_are_told_and_checks_it(net: Net) -> None:
    node = net.node(listen=False, host="a.example", port=9000)
    for wrong, words in (({"hots": HOST}, "did you mean 'host'"), ({"host": 5}, "host: 5"), ({"port": "1"}, "port: '1'")):
        with pytest.raises(TypeError, match=words):
            node.transport.listen(wrong)
    node.transport.listen({"host": HOST, "port": 0})
    with pytest.raises(RuntimeError, match=f"listens already, at .*{node.transport.bound[1]}"):
        node.transport.listen({"host": HOST, "port": node.transport.bound[1]})
    assert node.transport.address == {"host": "a.example", "port": 9000, "udp": True}
    host, port = node.transport.bound
    net.node().send(RemotePeer("peer", {"host": host, "port": str(port), "udp": True}))  # Node takes digits for a port
    node.wait(heard=1)


@pytest.mark.parametrize("host", [*LOOPBACKS, ""])
def test_both_versions_of_ip_work_and_an_empty_host_is_both(net: Net, host: str) -> None:
    node, other = net.node(listen=False), net.node()
    node.transport.listen({"host": host})
    for count, reached in enumerate([host] if host else LOOPBACKS, 1):
        other.send(RemotePeer("peer", {"host": reached, "port": node.transport.port, "udp": True}), reached)
        node.wait(heard=count)
        assert node.values[-1] == reached
        family = socket.AF_INET6 if ":" in reached else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((reached, 0))
            source = probe.getsockname()
            probe.sendto(b"x", (reached, node.transport.port))
            node.wait(errors=count)
        source = f"[{reached}]:{source[1]}" if family == socket.AF_INET6 else f"{reached}:{source[1]}"
        assert getattr(node.errors[-1], "source", None) == source
        socket.create_connection((reached, node.transport.port), timeout=10).close()  # and TCP is there
    assert other.errors == []


def test_datagrams_come_from_the_port_that_listens_so_that_a_firewall_lets_the_answers_in(net: Net) -> None:
    wire = net.wire()
    before, after = net.node(listen=False), net.node()
    after.send(wire.peer)
    assert wire.udp.recvfrom(65_535)[1] == (HOST, after.transport.port)
    before.send(wire.peer)  # who does not listen can send
    assert wire.udp.recvfrom(65_535)[1] != (HOST, 0)
    before.transport.listen()
    before.send(wire.peer)
    assert wire.udp.recvfrom(65_535)[1] == (HOST, before.transport.port)


# What goes how


def test_what_fits_is_one_datagram_and_is_what_tcp_would_carry(net: Net) -> None:
    wire, node = net.wire(), net.node()
    deltas, digest = [["z", "k", "v", 1]], [{"id": "z", "maxVersionSeen": 1, "transport": SENDER.transport}]
    node.transport.deltas(wire.peer, SENDER, deltas)
    node.transport.digest(wire.peer, SENDER, digest)
    node.transport.exchange(wire.peer, SENDER, deltas, digest)
    assert wire.datagrams(3) == [
        messages.encode(SENDER, deltas=deltas),
        messages.encode(SENDER, digest=digest),
        messages.encode(SENDER, deltas=deltas, digest=digest),
    ]


def test_a_long_digest_arrives_in_parts_that_together_are_the_whole(net: Net, faults: list[Any]) -> None:
    a, b = net.node(), net.node()
    rng = random.Random(7)
    digest = [
        {"id": f"n{n}", "maxVersionSeen": rng.randrange(2**50), "transport": {"host": f"n{n}.example", "port": 1, "udp": True}}
        for n in range(200)
    ]
    digest.insert(77, {"id": "z", "maxVersionSeen": 1, "transport": SENDER.transport, "heartbeat": 9, "reply": True})
    deltas = [["n1", f"k{version}", rng.randrange(2**50), version, version - 1] for version in range(1, 200)]
    a.transport.exchange(peer_of(b), SENDER, deltas, digest)
    b.until(lambda: len({e["id"] for k, _, d in b.heard if k == "digest" for e in d}) == 201)
    parts = [payload for kind, _, payload in b.heard if kind == "digest"]
    assert len(b.heard) == Socket.sent > len(parts) > 1
    assert [entry for part in parts for entry in part if entry["id"] != "z"] == digest[:77] + digest[78:]
    assert [entry for part in parts for entry in part if entry["id"] == "z"] == [{**digest[77], "part": True}] * len(parts)
    assert [delta for kind, _, payload in b.heard if kind == "deltas" for delta in payload] == deltas
    assert [kind for kind, _, _ in b.heard] == ["deltas"] * (len(b.heard) - len(parts)) + ["digest"] * len(parts)
    assert all(remote == SENDER for _, remote, _ in b.heard)
    assert "part" not in digest[77]  # it is the protocol's own
    assert (a.errors, b.errors) == ([], [])


def test_what_does_not_fit_goes_over_tcp_on_the_same_port_whole_and_unmarked(net: Net) -> None:
    wire, node = net.wire(), net.node()
    noise = random.Random(7).randbytes(1_000).hex()
    deltas = [["z", "small", 1, 1], ["z", "large", noise, 2, 1], ["z", "small again", 1, 3, 2]]
    entries = [{"id": name, "maxVersionSeen": 1, "transport": SENDER.transport} for name in ("z", noise)]
    many = [["z", f"k{version}", random.Random(version).random(), version] for version in range(3_000)]

    def goes_over_tcp(**sent: Any) -> None:
        arrived = json.loads(wire.message())
        del arrived["sender"]
        assert arrived == sent

    node.transport.deltas(wire.peer, SENDER, deltas)
    goes_over_tcp(deltas=deltas)
    node.transport.digest(wire.peer, SENDER, entries)
    goes_over_tcp(digest=entries)
    node.transport.exchange(wire.peer, SENDER, deltas, entries[:1])
    goes_over_tcp(deltas=deltas, digest=entries[:1])
    node.transport.deltas(wire.peer, SENDER, many)
    goes_over_tcp(deltas=many)
    node.send(wire.peer, "next")
    assert b"next" in wire.datagram()  # and none came before
    assert node.errors == []


def test_what_inflates_beyond_max_message_size_is_not_sent(net: Net) -> None:
    a, b = net.node(max_datagram_size=9_000, max_message_size=5_000), net.node(max_message_size=5_000)
    deltas = [["z", f"k{version}", "x" * 1_000, version] for version in range(20)]
    a.transport.deltas(peer_of(b), SENDER, deltas)
    b.until(lambda: len(b.values) == 20 or bool(b.errors))
    assert (a.errors, b.errors) == ([], [])
    assert len(b.heard) >= 5


@pytest.mark.parametrize("udp_field", [{}, {"udp": False}, {"udp": 1}, {"udp": "true"}, {"udp": None}, {"udp": {}}])
def test_only_who_says_so_gets_datagrams(net: Net, udp_field: dict[str, Any]) -> None:
    wire, node = net.wire(), net.node()
    node.send(RemotePeer("wire", {"host": HOST, "port": wire.port, **udp_field}))
    assert json.loads(wire.message())["deltas"] == [["z", "k", "v", 1]]


def test_a_name_is_not_waited_for_it_goes_over_tcp_until_it_is_resolved(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, node = net.wire(), net.node()
    asked, answer, answered = threading.Event(), threading.Event(), threading.Event()
    threads: list[str] = []
    getaddrinfo = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host != "wire.example":
            return getaddrinfo(host, port, *args, **options)
        if options.get("flags") == socket.AI_NUMERICHOST:  # which asks nobody
            raise socket.gaierror("no number")
        threads.append(threading.current_thread().name)
        if options["type"] == socket.SOCK_DGRAM:
            asked.set()
            answer.wait(10)
        return getaddrinfo(HOST, port, *args, **options)

    keep = node.transport._addresses._keep

    def kept(*args: Any) -> None:
        keep(*args)
        answered.set()

    monkeypatch.setattr(node.transport._addresses, "_keep", kept)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    peer = RemotePeer("wire", {"host": "wire.example", "port": wire.port, "udp": True})
    node.send(peer, "first")
    assert asked.wait(10)
    assert b"first" in wire.message()
    answer.set()
    assert answered.wait(10)
    node.send(peer, "second")
    assert b"second" in wire.datagram()
    assert all(name.startswith("gossipmonger-") for name in threads), threads


# What comes


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON"),
        (b"rubbish", "no JSON"),
        (messages.encode(SENDER, deltas=[])[:-5], "no JSON"),
        (messages.encode(RemotePeer("z", {"host": "z", "port": 0}), deltas=[]), "sender.transport"),
        (zlib.compress(messages.encode(SENDER, deltas=[]))[:-1], "cut short"),
        (b"\x78rubbish", "not deflated right"),
        (zlib.compress(messages.encode(SENDER, deltas=[["z", "k", "x" * 100_001, 1]])), "more than 100000 bytes"),
    ],
)
def test_rubbish_is_one_error_that_names_its_source_and_nothing_else(net: Net, data: bytes, words: str) -> None:
    wire, node = net.wire(), net.node(max_message_size=100_000)
    wire.throw(node, data)
    wire.throw(node, messages.encode(SENDER, deltas=[["z", "k", "v", 1]]))
    node.wait(heard=1)
    (error,) = node.errors
    assert isinstance(error, MessageError)
    assert error.source == wire.source
    assert words in str(error)
    assert node.heard == [("deltas", SENDER, [["z", "k", "v", 1]])]


def test_a_handler_that_raises_is_an_error_and_ends_no_thread(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
    wire, node = net.wire(), net.node()
    raised = [ValueError("a handler's"), SystemExit("a handler's")]
    node.transport.on("digest", lambda *_: (_ for _ in ()).throw(raised[len(node.heard) - 1]))
    for _ in raised:
        wire.throw(node, messages.encode(SENDER, digest=[]))
    wire.throw(node, messages.encode(SENDER, deltas=[]))
    node.wait(heard=3)
    assert (node.errors, reported) == (raised[:1], raised[1:])
    node.transport.remove_all_listeners("error")
    wire.throw(node, b"rubbish")
    wire.throw(node, messages.encode(SENDER, deltas=[]))
    node.wait(heard=4)
    assert [type(error) for error in reported] == [SystemExit, MessageError]


def failing(doing: str, *numbers: int) -> Callable[[Socket, str], None]:
    left = list(numbers)

    def fault(_: Socket, done: str) -> None:
        if done == doing and left:
            number = left.pop(0)
            raise OSError(number, errno.errorcode[number])

    return fault


def test_no_error_of_the_system_ends_the_thread(net: Net, faults: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "_PAUSE", 0.001)
    faults.append(failing("recvfrom", errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOBUFS, errno.ENOMEM))
    wire, node = net.wire(), net.node()
    wire.throw(node, messages.encode(SENDER, deltas=[]))
    node.wait(heard=1)
    assert [getattr(error, "errno", None) for error in node.errors] == [errno.ENOBUFS, errno.ENOMEM]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS, errno.ENETUNREACH, errno.EPERM])
def test_a_datagram_that_can_not_leave_is_lost_and_is_one_error(net: Net, faults: list[Any], number: int) -> None:
    wire, node = net.wire(), net.node()
    faults.append(failing("sendto", number))
    node.send(wire.peer, "lost")
    node.send(wire.peer, "next")
    assert b"next" in wire.datagram()
    (error,) = node.errors
    assert isinstance(error, SendError)
    assert error.remote_peer == wire.peer
    assert f"can't send to peer 'wire' at {wire.source}: [Errno {number}]" in str(error)


def test_what_the_system_finds_too_long_goes_over_tcp(net: Net, faults: list[Any]) -> None:
    wire, node = net.wire(), net.node()
    faults.append(failing("sendto", errno.EMSGSIZE))
    node.send(wire.peer)
    assert json.loads(wire.message())["deltas"] == [["z", "k", "v", 1]]
    assert node.errors == []


def test_a_message_that_can_not_be_encoded_is_an_error(net: Net) -> None:
    wire, node = net.wire(), net.node()
    node.transport.digest(wire.peer, RemotePeer("z", {"host": {1}}), [])
    (error,) = node.errors
    assert isinstance(error, TypeError)


def test_a_family_that_the_machine_has_not_is_an_error(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node = net.node()
    monkeypatch.setattr(node.transport._addresses, "find", lambda host, port: Address(12345, (host, port)))
    node.send(net.wire().peer)
    assert isinstance(node.errors[0], SendError)


# Closing


def test_close_waits_for_who_sends_and_not_for_the_handler_that_calls_it(net: Net, faults: list[Any]) -> None:
    wire, node = net.wire(), net.node()
    sending, closing = threading.Event(), threading.Event()
    states: list[bool] = []

    def slow(sender: Socket, doing: str) -> None:
        if doing == "sendto":
            sending.set()
            assert closing.wait(10)
            states.append(sender.fileno() >= 0)

    faults.append(slow)
    wait_for = node.transport._sent.wait_for

    def wait(condition: Callable[[], bool]) -> None:
        closing.set()
        wait_for(condition)

    node.transport._sent.wait_for = wait
    sender = threading.Thread(target=node.send, args=(wire.peer, "last"))
    node.transport.on("deltas", lambda *_: node.transport.close())
    sender.start()
    assert sending.wait(10)
    wire.throw(node, messages.encode(SENDER, deltas=[]))
    sender.join(10)
    assert states == [True]  # its socket was open
    assert b"last" in wire.datagram()
    node.transport._thread.join(10)
    assert is_free(socket.SOCK_DGRAM, node.transport.port)
    node.send(wire.peer, "too late")
    assert node.errors == []


def test_after_close_nothing_is_opened_or_sent_or_told(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, node = net.wire(), net.node(listen=False)
    node.transport.close()
    monkeypatch.setattr(udp, "_socket", lambda family: pytest.fail("opened a socket"))
    node.send(wire.peer)
    node.transport.digest(wire.peer, RemotePeer("z", {"host": {1}}), [])
    assert (node.heard, node.errors) == ([], [])


def test_close_while_it_begins_to_listen_leaves_nothing(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node = net.node(listen=False)
    listen = node.transport._tcp.listen
    monkeypatch.setattr(node.transport._tcp, "listen", lambda options: (listen(options), node.transport.close()))
    with pytest.raises(ClosedError):
        node.transport.listen()
    assert is_free(socket.SOCK_DGRAM, node.transport.port)
    assert is_free(socket.SOCK_STREAM, node.transport.port)


# Endpoints


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
        forger.throw(node, messages.encode(sender, digest=[lacking, own]))
        answer = messages.decode(wire.datagram())
        assert answer.sender == RemotePeer("a", {"host": HOST, "port": transport.port, "udp": True})
        assert answer.deltas is not None
        assert answer.deltas[0][:3] == ["a", "foo", "bar"]


def test_who_asks_over_tcp_is_answered_there(net: Net) -> None:
    wire = net.wire()
    a = Gossipmonger({"id": "a"}, transport=UdpTransport(host=HOST, port=0))
    net.callback(a.close)
    a.update("foo", "bar")
    a.transport.listen()
    own = {"id": "wire", "maxVersionSeen": 1, "transport": wire.peer.transport, "heartbeat": 1}
    lacking = {"id": "a", "maxVersionSeen": 0, "transport": a.transport.address}
    with socket.create_connection((HOST, a.transport.port), timeout=10) as connection, connection.makefile("rb") as stream:
        connection.sendall(messages.encode(wire.peer, digest=[lacking, own]))
        connection.shutdown(socket.SHUT_WR)
        answer = messages.decode(stream.read())
    assert answer.deltas is not None
    assert answer.deltas[0][:3] == ["a", "foo", "bar"]


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
