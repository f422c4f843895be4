"""TCP: the transport contract, options, listening, two nodes and more, and the end of it all."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from gossipmonger.errors import ClosedError, MessageError, Reporter, SendError
from gossipmonger.state import Message, RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import TcpTransport
from gossipmonger.transport import loop as loop_module
from gossipmonger.transport.tcp import link as link_module
from gossipmonger.transport.tcp import transport as transport_module
from gossipmonger.transport.tcp.caller import Caller
from gossipmonger.wire import CLOSING
from tests.transport.tcp.net import (
    HOST,
    LOOPBACKS,
    SENDER,
    Net,
    Peer,
    descriptors,
    message,
    refused,
    round_of,
    tells,
    until,
)
from tests.transport.tcp.test_acceptor import OUT_OF_REACH


class TestContract(TransportContract):
    def make_transport(self) -> TcpTransport:
        return TcpTransport(host=HOST, port=0)


# Options


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prot": 1}, TypeError, "unknown option 'prot'; did you mean 'port'?"),
        ({"host": 5}, TypeError, "host must be a string, got 5"),
        ({"host": ""}, ValueError, "host must be a name or an address that peers can connect to, got ''"),
        ({"port": 65536}, ValueError, "port must be from 0 to 65535, got 65536"),
        ({"max_message_size": 0}, ValueError, "max_message_size must be at least 1, got 0"),
        ({"max_connections": 1.5}, TypeError, "max_connections must be an integer at least 1, got 1.5"),
        ({"max_links": 0}, ValueError, "max_links must be at least 1, got 0"),
        ({"max_links": None}, TypeError, "max_links must be an integer at least 1, got None"),
        ({"compress_above": -1}, ValueError, "compress_above must be at least 0, got -1"),
        ({"compress_above": 1.5}, TypeError, "compress_above must be an integer at least 0, got 1.5"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout must be from 0.001 to 3600 seconds, got 0"),
        ({"send_timeout": "1"}, TypeError, "send_timeout must be a number from 0.001 to 3600 seconds, got '1'"),
        ({"receive_timeout": float("nan")}, ValueError, "receive_timeout must be from 0.001 to 3600 seconds, got nan"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        TcpTransport(options)
    assert str(caught.value) == words


def test_timeouts_may_be_timedeltas(net: Net) -> None:
    node = net.node(receive_timeout=timedelta(milliseconds=100))
    connection = net.connect(node, b"{")
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [refused(connection) + "incomplete after 0.1 s"]


@pytest.mark.parametrize("at", OUT_OF_REACH)
def test_an_address_that_is_none_is_an_error_that_names_the_peer(net: Net, at: Any) -> None:
    node = net.node(listen=False)
    node.transport.digest(RemotePeer("lost", at), SENDER, [])
    (error,) = node.errors
    assert isinstance(error, SendError)
    assert error.remote_peer == RemotePeer("lost", at)
    assert str(error) == f"can't send to peer 'lost': its transport must be a mapping with a host and a port, got {at!r}"
    node.transport.dial(RemotePeer("lost", at))
    assert len(node.errors) == 1


# Listening


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
        probe.end()
        node.wait(errors=count)
        assert str(node.errors[-1]).startswith(refused(probe))
    assert other.errors == []


def test_a_taken_port_raises_to_the_caller_who_may_try_another(net: Net) -> None:
    port = net.node().address[1]
    node = net.node(listen=False, port=port)
    with pytest.raises(OSError, match=f"can't listen at {HOST}:{port}: ") as caught:
        node.transport.listen()
    assert caught.value.errno == errno.EADDRINUSE
    node.transport.listen({"port": 0})
    assert node.address[1] != port


# Between nodes


def test_two_nodes_exchange_a_thousand_messages_on_one_connection_for_each_direction(net: Net) -> None:
    a, b = net.named("a"), net.named("b")
    for one, other in ((a, b), (b, a)):
        for number in range(1_000):
            one.transport.send(other.peer, tells(number, one.transport.local))
            if number % 50 == 0:
                other.wait(values=number)  # more than so many do not wait
    for node in (a, b):
        node.wait(values=1_000)
        assert node.values == [*range(1_000)]
        assert node.links_open() == 2
        assert node.errors == []
    assert [what for _, what in a.links + b.links] == ["accepted"] * 2


def test_what_comes_on_a_link_is_answered_on_it(net: Net) -> None:
    a, b = net.named("a"), net.named("b")

    def answer(message: Any) -> None:
        assert isinstance(message.sender, Caller)
        b.transport.send(message.sender, tells("answer", b.transport.local))

    b.transport.on("message", answer)
    for number in range(20):
        a.transport.send(b.peer, tells(number, a.transport.local))
    a.wait(values=20)
    assert a.values == ["answer"] * 20
    assert (a.links_open(), b.links_open(), b.links) == (1, 1, [])
    assert (a.errors, b.errors) == ([], [])


def test_rounds_that_nobody_answers_keep_their_link_for_as_long_as_somebody_is_there(net: Net) -> None:
    a, b = net.named("a"), net.named("b")
    for number in range(10):
        a.transport.send(b.peer, round_of(a.transport.local))
        b.until(partial(lambda count: len(b.heard) == count, number + 1))
        until(lambda: all(link.unanswered == 0 for link in a.transport._links.open_links))
    assert [what for _, what in a.links] == ["accepted"]
    assert a.errors == b.errors == []


def test_a_peer_that_vanishes_is_left_after_three_rounds_without_a_frame(net: Net) -> None:
    node, peer = net.named("n"), Peer(net)
    node.transport.send(peer.peer, round_of(node.transport.local))
    first = peer.link()
    first.line()
    until(lambda: node.transport._dialler._is_settled())
    for _ in range(3):
        node.transport.send(peer.peer, round_of(node.transport.local))
    second = peer.link()
    assert first.rest().count(b"\n") == 2  # three with the first
    assert second.line().startswith(b'{"digest"')
    assert (node.links, node.errors) == ([("peer", "accepted")] * 2, [])


def test_a_peer_that_stops_reading_costs_so_much_memory_one_error_each_and_delays_nobody(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "_MAX_WAITING", 100_000)
    node, other, peer = net.node(send_timeout=0.5, compress_above=None), net.node(), Peer(net)
    node.send(peer.address, "first")
    stuck = peer.link()
    assert stuck.line() == message("first", None)
    until(node.transport._dialler._is_settled)
    for _ in range(200):
        node.send(peer.address, "x" * 100_000)
        if node.errors:
            break
    (link,) = (link for link in node.transport._links.open_links if link.waiting)
    assert link.waiting < 300_000
    for number in range(100):
        node.send(other.address, number)
        other.wait(values=number + 1)
    assert str(node.errors[0]) == f"peer 'peer' at {peer.source} takes messages slower than they come: one dropped"
    node.wait(errors=2)
    assert str(node.errors[1]) == f"can't send to peer 'peer' at {peer.source}: not read within 0.5 s"
    assert len(node.errors) == 2
    until(lambda: link.closed)
    assert [what for id, what in node.links if what != "accepted"] == []


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows cannot stop a process")
def test_a_process_that_is_stopped_is_left_and_one_that_goes_on_is_reached_again(net: Net) -> None:
    program = """if True:
        import sys
        from gossipmonger import TcpTransport
        transport = TcpTransport(host="127.0.0.1", port=0)
        transport.on("deltas", lambda _, deltas: print(len(deltas[0][2]), flush=True))
        transport.on("link", lambda peer, what: print(what, flush=True))
        transport.on("error", lambda error: None)
        transport.listen()
        print(transport.port, flush=True)
        sys.stdin.read()
        transport.close()
    """
    node = net.node(send_timeout=0.3, compress_above=None)
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as child:
        try:
            assert child.stdout is not None
            address = (HOST, int(child.stdout.readline()))
            node.send(address, "x")
            assert child.stdout.readline() == "1\n"
            child.send_signal(signal.SIGSTOP)
            os.waitpid(child.pid, os.WUNTRACED)
            with node.changed:
                while not any("not read within 0.3 s" in str(error) for error in node.errors):
                    node.send(address, "x" * 1_000_000)  # until no buffer takes any more
                    node.changed.wait(0.01)
            child.send_signal(signal.SIGCONT)
            node.send(address, "xx")
            assert "2\n" in iter(child.stdout.readline, "")
        finally:
            child.kill()
    assert ("peer", "refused") not in node.links


def test_a_node_that_restarts_on_its_port_is_reached_at_once(net: Net) -> None:
    node, other = net.named("n"), net.named("o")
    peer = other.peer
    node.transport.send(peer, tells(1, node.transport.local))
    other.wait(values=1)
    other.transport.close()
    until(lambda: node.links_open() == 0)
    assert [what for _, what in node.links] == ["accepted"]  # it has said that it closes
    node.transport.send(peer, tells(2, node.transport.local))
    node.wait(errors=1, links=2)
    again = net.node(port=peer.transport["port"])
    node.transport.send(peer, tells(3, node.transport.local))
    again.wait(values=1)
    assert again.values == [3]
    assert [what for _, what in node.links] == ["accepted", "refused", "accepted"]


@pytest.mark.parametrize("above", [100, 10_000, None])
def test_a_message_above_the_threshold_is_deflated_on_a_link_and_never_to_a_node_js_node(net: Net, above: int | None) -> None:
    a, b, peer = net.node(compress_above=above), net.node(), Peer(net)
    a.send(peer.address, "v" * 1_000)
    a.send(b.address, "v" * 1_000)
    assert (peer.link().read(1) == b"\1") is (above == 100)
    b.wait(values=1)
    assert (b.values, b.errors) == (["v" * 1_000], [])
    alone = Peer(net)
    a.transport._places.learn(alone.peer, node_js=True)
    a.send(alone.address, "v" * 1_000)
    assert alone.alone() == message("v" * 1_000)


def test_no_error_is_lost_neither_a_handlers_nor_one_that_nobody_listens_for(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    reported = threading.Event()

    def report(_: object, error: BaseException) -> None:
        seen.append(error)
        reported.set()

    monkeypatch.setattr(Reporter, "report", report)
    node = net.node()
    node.transport.once("deltas", lambda *_: 1 / 0)
    net.settle(node)
    node.wait(errors=1)
    node.transport.remove_all_listeners("error")
    net.connect(node, b"x").close()
    assert reported.wait(10)
    assert [type(error) for error in (*node.errors, *seen)] == [ZeroDivisionError, MessageError]


def test_messages_and_links_are_told_on_the_loops_thread_and_timers_run_there(net: Net) -> None:
    node, other, threads = net.node(), net.node(), list[str]()
    ran = threading.Event()

    def note(*_: Any) -> None:
        threads.append(threading.current_thread().name)

    for event in ("message", "link"):
        node.transport.on(event, note)
    node.transport.dial(other.peer)
    net.settle(node)
    node.wait(links=1)
    node.transport.timer(0, lambda: (note(), ran.set())).start()
    assert ran.wait(10)
    assert threads == ["gossipmonger-tcp"] * 3
    cancelled = node.transport.timer(0, note)
    cancelled.cancel()
    cancelled.start()
    net.settle(node)
    assert len(threads) == 4


# The end


def test_close_sends_what_waits_and_frees_the_port(net: Net) -> None:
    a, b = net.node(compress_above=None), net.node()
    net.connect(a)
    net.settle(a)  # its end of the other connection, which it closes first, keeps the port in use
    a.send(b.address, *range(20), "x" * 5_000_000)
    port = a.transport.port
    a.transport.close()
    b.wait(values=21)
    again = net.node(port=port)
    b.send(again.address, "v")
    again.wait(values=1)
    assert b.errors == []


@pytest.mark.parametrize("stuck", ["silent", "no hello", "no reader"])
def test_close_waits_for_what_cannot_leave_only_so_long(net: Net, monkeypatch: pytest.MonkeyPatch, stuck: str) -> None:
    monkeypatch.setattr(transport_module, "_FLUSH_TIMEOUT", 0.05)
    node, peer = net.node(compress_above=None), Peer(net)
    address = net.silent() if stuck == "silent" else peer.address
    node.send(address, 1)
    if stuck == "no hello":
        peer.accept().line()
    elif stuck == "no reader":
        link = peer.link()
        link.line()
        until(node.transport._dialler._is_settled)
        node.send(address, "x" * 10_000_000)
    node.transport.close()
    assert node.errors == []


def test_close_says_so_on_its_links_so_that_nobody_takes_it_for_dead(net: Net) -> None:
    node, dialled = net.named("n"), Peer(net)
    accepted = net.link(node)
    node.send(dialled.address, 1)
    link = dialled.link()
    link.line()
    until(lambda: node.links_open() == 2)
    node.transport.close()
    assert (accepted.rest(), link.rest()) == (CLOSING, CLOSING)


@pytest.mark.parametrize("event", ["message", "error", "link"])
def test_close_from_a_handler_ends_all_and_no_other_is_called(net: Net, event: str) -> None:
    node, peer = net.node(), Peer(net)
    before = {*threading.enumerate()}
    called: list[str] = []

    def close(*_: Any) -> None:
        node.transport.close()
        node.transport.close()
        called.append(threading.current_thread().name)

    node.transport.on(event, close)
    if event == "message":
        net.link(node).send(message(1, None) + message(2, None))
    elif event == "error":
        net.connect(node, b"x").end()
    else:
        node.send(peer.address, 1)
    until(lambda: called != [])
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("gossipmonger")])
    assert called == ["gossipmonger-tcp"]
    assert {*threading.enumerate()} <= before
    assert node.address is not None
    with pytest.raises(ConnectionRefusedError):
        net.connect(node)


def test_close_leaves_no_thread_and_no_descriptor(net: Net) -> None:
    before, threads = descriptors(), threading.active_count()
    for _ in range(20):
        with Net() as inner:
            a, b = inner.named("a"), inner.named("b")
            a.transport.send(b.peer, tells(1, a.transport.local))
            b.transport.send(a.peer, tells(1, b.transport.local))
            a.transport.send(RemotePeer("n", {"host": "localhost", "port": a.address[1]}), tells(2, SENDER))
            a.wait(values=1)
            b.wait(values=1)
    until(lambda: threading.active_count() == threads)  # the resolvers end by themselves
    until(lambda: descriptors() == before)


def test_what_is_closed_does_nothing_more(net: Net) -> None:
    node, peer = net.node(), Peer(net)
    node.transport.close()
    node.send(peer.address, 1)
    node.transport.dial(peer.peer)
    node.transport.send(RemotePeer("lost", None), tells(1))
    node.transport._received(tells(1))
    node.transport._told(peer.peer, "accepted")
    node.transport.timer(0, lambda: pytest.fail("called")).start()
    with pytest.raises(ClosedError):
        node.transport.listen()
    assert peer.nobody_came()
    assert (node.heard, node.errors, node.links) == ([], [], [])


# A fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
@pytest.mark.parametrize("kind", ["TcpTransport", "UdpTransport"])
def test_a_forked_child_closes_its_copies_and_the_parent_goes_on_and_can_restart(kind: str) -> None:
    program = f"""if True:
        import os, socket, threading
        from gossipmonger import {kind} as Transport, RemotePeer

        def make(port=0):
            transport = Transport(host="127.0.0.1", port=port)
            transport.on("deltas", lambda _, deltas: (heard.append(deltas[0][2]), came.release()))
            transport.on("error", lambda error: print(repr(error)))
            transport.listen()
            return transport

        def tell(one, other, value):
            for _ in range(100):  # what is written before the end of a link is noticed is lost
                one.deltas(RemotePeer("other", other.address), RemotePeer("one", one.address), [["z", "k", value, 1]])
                if came.acquire(timeout=0.5):
                    return

        heard, came = [], threading.Semaphore(0)
        a, b = make(), make()
        tell(a, b, 1)
        tell(b, a, 2)
        held, hold = os.pipe()
        told, tell_parent = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(hold)
            for each in (a, b):
                each.deltas(RemotePeer("other", a.address), RemotePeer("one", b.address), [["z", "k", "child", 1]])
                each.dial(RemotePeer("other", a.address))
                each.close()
            sockets = 0
            for n in os.listdir("/proc/self/fd"):
                try:
                    sockets += os.readlink(f"/proc/self/fd/{{n}}").startswith(("socket:", "anon_inode"))
                except OSError:
                    pass
            os.write(tell_parent, bytes((sockets,)))
            os.read(held, 1)
            os._exit(0)
        assert os.read(told, 1) == b"\\0", "the child has copies"
        before = sum(os.times()[:2])
        threading.Event().wait(0.5)  # for nothing: the time in which it has to be idle
        assert sum(os.times()[:2]) - before < 0.2, "the parent is busy"
        tell(a, b, 3)
        tell(b, a, 4)
        port = a.port
        a.close()
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
            print("somebody accepts what the parent closed")
        except ConnectionRefusedError:
            pass
        again = make(port)
        tell(b, again, 5)
        os.close(hold)
        os.waitpid(child, 0)
        b.close()
        again.close()
        print(sorted({{*heard}}))
    """
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "[1, 2, 3, 4, 5]\n"


@pytest.mark.parametrize("host", ["evil\n\x1b[2Jhost", "h" * 1_000_000, "\ud800", "a b"])
def test_what_a_forged_address_holds_is_one_short_line_in_an_error(net: Net, host: str) -> None:
    node = net.node()
    node.transport.send(RemotePeer(host, {"host": host, "port": 1}), Message(RemotePeer("a", {"host": "h", "port": 1}), []))
    node.transport.send(RemotePeer(host, host), Message(RemotePeer("a", {"host": "h", "port": 1}), []))
    node.wait(errors=2)
    for error in node.errors:
        assert isinstance(error, SendError)
        assert str(error).isprintable()
        assert len(str(error)) < 1_000
        assert type(error.remote_peer) is RemotePeer


def test_a_transport_shows_what_it_does(net: Net) -> None:
    transport = TcpTransport(host="localhost", port=0)
    assert repr(transport) == "TcpTransport(localhost:0, not listening)"
    transport.listen({"host": "127.0.0.1"})
    port = transport.port
    assert repr(transport) == f"TcpTransport(localhost:{port}, listening at 127.0.0.1:{port})"
    transport.close()
    assert repr(transport) == f"TcpTransport(localhost:{port}, closed)"


def test_a_loop_that_the_system_runs_late_leaves_no_socket(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_STOP_TIMEOUT", 0.0)
    transport = TcpTransport(host=HOST, port=0)
    transport.listen()
    begun, gate = threading.Event(), threading.Event()
    one, other = socket.socketpair()
    one.setblocking(False)

    def late() -> None:
        begun.set()
        gate.wait(10)
        transport._acceptor._take(one, "late")

    transport.loop.call(late)
    assert begun.wait(10)
    transport.close()
    gate.set()
    with other:
        other.settimeout(10)
        assert other.recv(1) == b""
    until(lambda: one.fileno() == -1)
