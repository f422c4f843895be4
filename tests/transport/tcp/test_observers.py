"""Observers over TCP: what they say and to whom, and that the other side keeps nothing of them."""

from __future__ import annotations

import re
import socket
from functools import partial

import pytest

from gossipmonger.errors import ClusterError, SendError
from gossipmonger.state.message import Digest, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.transport.tcp import dial as dial_module
from gossipmonger.transport.tcp.acceptor import keep_alive
from gossipmonger.wire import CLOSING, decode, encode, hello
from tests.traces import traces
from tests.transport.tcp.net import SENDER, Net, Node, Peer, until

SPY = RemotePeer("spy", {"host": "observer.invalid", "port": 9742})
QUESTION = Message(SPY, None, Digest(Kind.ROUND, Header(observer=True), [Entry("spy", 0, SPY.transport, heartbeat=1)]))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no `HELLO`."""
    monkeypatch.setattr(dial_module, "_HELLO_TIMEOUT", 0.01)


def observer(net: Net) -> Node:
    node = net.node(listen=False)
    node.transport.observer = True
    node.transport.local = SPY  # as an endpoint says; no `HELLO` does
    return node


def plain(said: bytes) -> bytes:
    """What was said without the random `life` in its `HELLO`, and without `you`, where the port is random."""
    return re.sub(rb',"(life|you)":"[^"]+"', b"", said)


def test_it_binds_no_port_and_says_that_it_listens(net: Net) -> None:
    node, called = observer(net), []
    node.transport.on("listening", lambda: called.append("listening"))
    node.transport.listen(lambda: called.append("callback"))
    node.transport.listen()
    assert called == ["listening", "callback", "listening"]
    assert node.transport.bound is None


def test_its_hello_does_not_say_who_it_is_and_its_messages_do(net: Net) -> None:
    node, peer = observer(net), Peer(net)
    node.transport.send(peer.peer, QUESTION)
    connection = peer.accept()
    assert plain(connection.line()) == hello(None)
    connection.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        connection.socket.recv(1)
    connection.socket.settimeout(10)
    connection.send(hello(peer.peer))
    assert connection.socket.recv(1000) == encode(QUESTION)


@pytest.mark.usefixtures("quick")
def test_who_answers_no_hello_is_sent_nothing_else_and_that_is_one_error_until_it_does(net: Net) -> None:
    node, peer = observer(net), Peer(net)
    for turn in range(3):
        node.transport.send(peer.peer, QUESTION)
        assert plain(peer.accept().rest()) == hello(None)
        node.wait(links=2 * turn + 2)
        until(node.transport._dialler._is_settled)
    assert node.links == [("peer", "accepted"), ("peer", "silent")] * 3
    assert [type(error) for error in node.errors] == [SendError]
    assert str(node.errors[0]).endswith("it answers no HELLO, and a Node.js node would take an observer for a peer")
    node.transport.send(peer.peer, QUESTION)
    connection = peer.link()
    assert connection.line() == encode(QUESTION)
    connection.close()
    until(lambda: node.links_open() == 0)
    node.transport.send(peer.peer, QUESTION)
    peer.accept().rest()
    node.wait(errors=2)


def test_two_observers_of_one_id_do_not_end_each_other_s_links(net: Net) -> None:
    node = net.node()
    links = [net.link(node, None) for _ in range(2)]
    for link in links:
        link.send(encode(QUESTION))
    node.until(lambda: len(node.heard) == 2)
    named = net.link(node, RemotePeer("spy", SENDER.transport))
    node.transport.send(node.heard[0][1], QUESTION)
    node.transport.send(node.heard[1][1], QUESTION)
    for link in links:
        assert link.read() == b"\3"  # the round needs no answer
        assert decode(link.line(), speaker=SENDER).sender == SPY
    assert named.socket.fileno() >= 0
    until(lambda: node.links_open() == 3)


def has_link(node: Node, anonymous: bool) -> bool:
    return any((link.peer is None) is anonymous for link in node.transport._links.open_links)


@pytest.mark.parametrize("ending", ["closed", "reset"])
def test_nothing_is_left_of_a_link_whose_end_had_no_name(net: Net, ending: str) -> None:
    node = net.named("ours")
    link = net.link(node, None).send(encode(QUESTION))
    node.until(lambda: len(node.heard) == 1)
    caller = node.heard.pop()[1]
    assert link.read() == b"\3"
    if ending == "closed":
        link.close()
    else:
        link.reset()
    until(lambda: node.links_open() == 0)
    node.transport.send(caller, Message(SENDER, None, QUESTION.digest))  # the answer is late
    until(node.transport._dialler._is_settled)
    assert (node.errors, node.links) == ([], [])
    assert not node.transport._places
    node.transport._links._framer._last = None  # the test's own message
    del caller
    assert traces(node.transport, "spy", stop=(Node,)) == []
    assert traces(node.transport, "observer.invalid", stop=(Node,)) == []


def test_the_system_finds_out_that_its_host_has_vanished(net: Net) -> None:
    node = net.node()
    for peer, alive in [(None, 1), (SENDER, 0)]:
        net.link(node, peer).send(encode(QUESTION))
        until(partial(has_link, node, peer is None))
        (link,) = [link for link in node.transport._links.open_links if (link.peer is None) is (peer is None)]
        assert link.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == alive


def test_keepalive_takes_two_minutes_where_the_system_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as kept:
        keep_alive(kept)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
            assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
    monkeypatch.delattr(socket, "TCP_KEEPIDLE", raising=False)
    with socket.socket() as kept:
        keep_alive(kept)
        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_one_of_another_cluster_is_one_error_whatever_its_ports_are(net: Net) -> None:
    node = net.node()
    node.transport.cluster = "prod"
    for _ in range(3):
        connection = net.connect(node, hello(None, cluster="test"))
        assert plain(connection.line()) == hello(None, cluster="prod")
        assert connection.closed()
    assert [type(error) for error in node.errors] == [ClusterError]
    assert str(node.errors[0]).startswith("message from 127.0.0.1 refused: it is of the cluster 'test'")


def test_its_link_is_the_first_to_go_where_connections_are_short(net: Net) -> None:
    node = net.node(max_connections=2)
    named, spy = net.link(node), net.link(node, None)
    until(lambda: node.links_open() == 2)
    net.connect(node, b"{")
    assert spy.read() == CLOSING
    named.send(encode(QUESTION))
    assert named.read() == b"\3"
