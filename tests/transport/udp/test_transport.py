"""UDP: the transport contract, options, listening and closing."""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest

from gossipmonger.state import RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import UdpTransport
from gossipmonger.transport.udp import transport
from tests.transport.udp.net import HOST, LOOPBACKS, Net, Socket, is_free, peer_of, text


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


# Options


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_datagram_size": 511}, ValueError, "max_datagram_size must be from 512 to 65507, got 511"),
        ({"max_datagram_size": 65_508}, ValueError, "max_datagram_size must be from 512 to 65507, got 65508"),
        ({"max_datagram_size": None}, TypeError, "max_datagram_size must be an integer from 512 to 65507, got None"),
        ({"prot": 1}, TypeError, "unknown option 'prot'; did you mean 'port'?"),
        ({"max_message_size": 0}, ValueError, "max_message_size must be at least 1, got 0"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    for arguments, keywords in (((options,), {}), ((), options)):
        with pytest.raises(error) as caught:
            UdpTransport(*arguments, **keywords)
        assert str(caught.value) == words


def test_options_may_be_a_mapping_or_keywords_and_reach_both_sides(net: Net) -> None:
    transport = UdpTransport({"host": HOST, "port": 0, "max_datagram_size": 600}, max_message_size=70_000, max_links=1)
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
    bind = transport._bind

    def unlucky(host: str, port: int, bound: list[socket.socket]) -> None:
        bind(host, port, bound)
        tried.append(bound[0].getsockname()[1])
        if len(tried) <= taken:
            with suppress(OSError):  # somebody else was first
                net.enter_context(socket.create_server((HOST, tried[-1])))

    monkeypatch.setattr(transport, "_bind", unlucky)
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
    for wrong, words in (
        ({"hots": HOST}, "did you mean 'host'"),
        ({"host": 5}, "host must be a string, got 5"),
        ({"port": "1"}, "port must be an integer from 0 to 65535, got '1'"),
    ):
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
    node.transport._to_close.insert(-1, closing.set)  # before the sockets are closed
    sender = threading.Thread(target=node.send, args=(wire.peer, "last"))
    node.transport.on("deltas", lambda *_: node.transport.close())
    sender.start()
    assert sending.wait(10)
    wire.throw(node, text(deltas=[]))
    sender.join(10)
    assert states == [True]  # its socket was open
    assert b"last" in wire.datagram()
    node.transport.loop._thread.join(10)
    assert is_free(socket.SOCK_DGRAM, node.transport.port)
    node.send(wire.peer, "too late")
    assert node.errors == []


def test_after_close_nothing_is_opened_or_sent_or_told(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    wire, node = net.wire(), net.node(listen=False)
    node.transport.close()
    monkeypatch.setattr(transport, "_socket", lambda family: pytest.fail("opened a socket"))
    node.send(wire.peer)
    node.transport.digest(wire.peer, RemotePeer("z", {"host": {1}}), [])
    assert (node.heard, node.errors) == ([], [])


# The TCP side


def test_what_the_system_says_of_an_address_and_timers_are_the_tcp_sides(net: Net) -> None:
    node, other, threads = net.node(), net.node(), list[str]()
    told: list[tuple[RemotePeer, str]] = []
    done = threading.Event()
    node.transport.on("link", lambda peer, what: (told.append((peer, what)), done.set()))
    node.transport.dial(peer_of(other))
    assert done.wait(10)
    assert told == [(peer_of(other), "accepted")]
    done.clear()
    node.transport.timer(0, lambda: (threads.append(threading.current_thread().name), done.set())).start()
    assert done.wait(10)
    assert threads == ["gossipmonger-tcp"]
