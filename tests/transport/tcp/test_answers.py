"""Answers over TCP: on the connection that asked, on one of their own, or not at all."""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest

from gossipmonger import Gossipmonger
from gossipmonger.errors import MessageError
from gossipmonger.state import Delta, ExtendedPeer, Message, RemotePeer
from gossipmonger.wire.compression import deflate, inflate
from tests.transport.tcp.net import HOST, SENDER, Fake, Net, Node, delta, message, own_digest, peer_at, reset, text, until


def answering(node: Node, *values: Any) -> None:
    """Let it answer each digest with a message for each value, to the very object that came with it."""

    def answer(remote: RemotePeer, _: Any) -> None:
        for value in values:
            node.transport.deltas(remote, SENDER, delta(value))

    node.transport.on("digest", answer)


def ask(connection: socket.socket, sender: RemotePeer = SENDER, digest: list[Any] | None = None) -> bytes:
    """Send a digest; return the answer."""
    connection.sendall(text(sender, digest=own_digest(sender) if digest is None else digest))
    connection.shutdown(socket.SHUT_WR)
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_an_answer_comes_on_the_connection_that_asked_even_to_who_cannot_be_reached(net: Net) -> None:
    a, b = net.node(listen=False), net.node()
    answering(b, "answer")
    for count in (1, 2):
        a.transport.digest(peer_at(b.address), SENDER, own_digest())  # SENDER's own address is nobody's
        a.wait(values=count)
    assert a.values == ["answer"] * 2
    assert a.heard[0][1] == SENDER
    assert isinstance(a.heard[0][1], ExtendedPeer)
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


@pytest.mark.parametrize("digest", [[], own_digest(), [{"id": "peer", "maxVersionSeen": 0, "transport": SENDER.transport}]])
def test_who_reads_no_answer_is_dialled_and_its_connection_ends_before_the_handlers_have(net: Net, digest: list[Any]) -> None:
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
        assert inflate(dialled.accept()[0], 1_000) == text(deltas=[each])


def test_an_answer_that_cannot_be_encoded_is_an_error_and_ends_the_connection(net: Net) -> None:
    node, unsendable = net.node(), Message(SENDER, [Delta("z", "k", object(), 1)])
    node.transport.on("digest", lambda remote, _: node.transport.send(remote, unsendable))
    assert ask(net.connect(node)) == b""
    node.wait(errors=1)
    assert [type(error) for error in node.errors] == [TypeError]


def test_an_answer_to_who_has_gone_is_dialled(net: Net) -> None:
    node, dialled, gone = net.node(), Fake(net), threading.Event()
    node.transport.on("digest", lambda *_: gone.wait(10))
    answering(node, "answer")
    connection = net.connect(node, text(dialled.peer, digest=own_digest(dialled.peer)))
    connection.shutdown(socket.SHUT_WR)
    until(lambda: node.transport._loop._open != set())
    reset(connection)
    gone.set()
    assert dialled.accept()[0] == message("answer")


def test_who_ends_without_reading_its_answer_is_no_error(net: Net) -> None:
    node = net.node()
    answering(node, "answer")
    net.connect(node, text(digest=own_digest())).close()
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
                to = remote if node is b else peer_at(b.address, ExtendedPeer)
                node.transport.exchange(to, SENDER, delta(deltas[0][2] + 1), own_digest())

        node.transport.on("exchange", count)
    processed = mock.patch.object(b.transport._loop, "_received", wraps=b.transport._received)
    received = net.enter_context(processed)
    a.transport.exchange(peer_at(b.address), SENDER, delta(1), own_digest())
    until(lambda: len(counted[a]) == 10)
    assert (counted[b], counted[a]) == ([*range(1, 21, 2)], [*range(2, 21, 2)])
    assert [call.args[0].dialled for call in received.call_args_list] == [False] * 10


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"garbage", "message must be JSON in UTF-8"),
        (b"{}", "sender must be an object, got None"),
        (message("x" * 1_000), "more than 1000 bytes"),
        (deflate(message("x" * 1_000)), "inflates to more than 1000 bytes"),
        (message()[:-9], "message must be JSON in UTF-8"),
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
    a, b, stopped = net.node(senders=1, receive_timeout=0.3), net.node(), Fake(net)
    a.send(stopped.listening.getsockname(), *range(5))
    a.send(b.address, "v")
    b.wait(values=1)
    connections = [stopped.accept()[1] for _ in range(5)]
    a.transport._senders._answering.join(10)
    until(lambda: a.transport._loop._open == set())  # given up, by the receive timeout
    for connection in connections:
        with suppress(OSError):
            while True:
                connection.send(b"x")  # until it hears that nobody is there
    assert a.errors == []


def test_close_ends_what_waits_for_an_answer(net: Net) -> None:
    node, fake = net.node(listen=False), Fake(net)
    node.send(fake.listening.getsockname(), "v")
    connection = fake.accept()[1]
    until(lambda: node.transport._loop._open != set())
    node.transport.close()
    connection.sendall(message())
    with suppress(OSError):
        while True:
            connection.send(b"x")
    assert (node.heard, node.errors) == ([], [])
    assert node.transport._loop._open == set()


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
    a.transport.digest(peer_at(b.address), SENDER, own_digest())
    assert closed.wait(10)
    assert (a.errors, b.errors) == ([], [])
