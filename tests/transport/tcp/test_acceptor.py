"""The accepting half: what comes on connections that others dial, and the bounds on them. Raw sockets play the others."""

from __future__ import annotations

import errno
import socket
import threading
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest

from gossipmonger.errors import ClusterError, MessageError
from gossipmonger.state.message import ExtendedPeer, RemotePeer
from gossipmonger.transport.loop import Loop
from gossipmonger.transport.tcp import acceptor as acceptor_module
from gossipmonger.transport.tcp import links as links_module
from gossipmonger.transport.tcp.link import Link
from gossipmonger.wire import CLOSING, EMPTY, hello
from gossipmonger.wire.compression import deflate
from tests.transport.tcp.net import (
    HOST,
    SENDER,
    Connection,
    Net,
    delta,
    message,
    own_digest,
    peer_at,
    refused,
    tells,
    text,
    until,
)

OUT_OF_REACH: list[Any] = [
    *(None, [], "z.example:1", {"host": "z"}, {"port": 1}, {"host": None, "port": 1}, {"host": "", "port": 1}),
    *({"host": "z", "port": port} for port in (0, 65_536, -1, 1.5, None, True, "", "x", "0", "70000", "\u0661")),
]


def peer(id: str) -> RemotePeer:
    return RemotePeer(id, {"host": f"{id}.example", "port": 1})


# A link


def test_a_hello_is_answered_with_ours_and_messages_follow(net: Net) -> None:
    node = net.named("n")
    connection = net.connect(node, hello(SENDER))
    assert connection.line() == hello(node.transport.local, node.transport.life, you=connection.source)
    connection.send(message(1, None) + message(2, None))
    node.wait(values=2)
    assert node.heard == [("deltas", SENDER, delta(1)), ("deltas", SENDER, delta(2))]
    assert (node.errors, node.links) == ([], [])


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_hello_and_what_follows_may_come_in_any_pieces(net: Net, size: int) -> None:
    node = net.node()
    connection, data = net.connect(node), hello(SENDER) + message(1, None) + message(2, None)
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(data), size):
        connection.send(data[at : at + size])
    node.wait(values=2)
    assert connection.line() == hello(None, node.transport.life, you=connection.source)
    assert (node.values, node.errors) == ([1, 2], [])


def test_a_hello_without_a_name_makes_a_link_on_which_senders_are_named(net: Net) -> None:
    node = net.node()
    connection = net.link(node, None)
    connection.send(message(1))
    node.wait(values=1)
    connection.close()
    until(lambda: node.links_open() == 0)
    assert (node.errors, node.links) == ([], [])  # nobody is known to have ended


def test_a_malformed_hello_is_one_error_and_no_link(net: Net) -> None:
    node = net.node()
    connection = net.connect(node, b'{"hello":{"version":0}}\r\n')
    assert connection.closed()
    node.wait(errors=1)
    assert str(node.errors[0]).startswith(refused(connection) + "hello must be an object with a version of at least 1")
    assert node.links_open() == 0


def test_an_answer_goes_on_the_link_that_asked_and_is_dialled_once_that_is_gone(net: Net) -> None:
    node, asking = net.named("n"), net.named("asking")
    callers: list[Any] = []
    node.transport.on("message", lambda message: callers.append(message.sender))
    connection = net.link(node, asking.transport.local)
    connection.send(message(1, None))
    node.wait(values=1)
    node.transport.send(callers[0], tells("answer", node.transport.local))
    assert connection.line() == message("answer", None)
    connection.close()
    node.wait(links=1)
    assert node.links == [("asking", "ended")]
    node.transport.send(callers[0], tells("later", node.transport.local))
    asking.wait(values=1)
    assert asking.values == ["later"]
    assert node.links == [("asking", "ended"), ("asking", "accepted")]


def test_a_peer_that_dials_again_is_asked_to_close_its_former_link(net: Net) -> None:
    node = net.named("n")
    first, other = net.link(node, peer("p")), net.link(node, peer("q"))
    second = net.link(node, peer("p"))
    assert first.read(1) == CLOSING
    first.send(message("on its way", None) + CLOSING)
    node.wait(values=1)
    assert first.rest() == b""
    second.send(message(2, None))
    other.send(message(3, None))
    node.wait(values=3)
    assert node.links_open() == 2
    assert (node.errors, node.links) == ([], [])
    third = net.link(node, peer("p"))
    assert second.read(1) == CLOSING
    third.close()
    node.wait(links=1)
    assert node.links == [("p", "ended")]


def test_who_is_gone_before_its_hello_is_answered_is_no_link(net: Net) -> None:
    node = net.node()
    with mock.patch.object(Link, "write", side_effect=BrokenPipeError):
        connection = net.connect(node, hello(SENDER))
        assert connection.closed()
    net.settle(node)
    assert node.links_open() == 0
    assert node.transport._acceptor._incoming == {}
    assert node.errors == []


def test_what_is_no_frame_ends_the_link_and_is_told(net: Net) -> None:
    node = net.node(max_message_size=1_000, receive_timeout=0.05)
    for data, words in (
        (b"x", "a frame begins with"),
        (b"{" + b"x" * 2_000, "more than 1000"),
        (b"{", "incomplete after 0.05"),
    ):
        connection = net.link(node).send(data)
        assert connection.closed()
        node.wait(errors=1, links=1)
        assert str(node.errors.pop()).startswith(refused(connection) + words)
        assert node.links.pop() == ("z", "ended")


# One message


def test_a_message_that_is_ended_by_fin_is_taken_deflated_or_not(net: Net) -> None:
    node = net.node()
    for number, data in enumerate(
        (message(0), message(1)[:-2], b" " + message(2), deflate(message(3)), message(4)[:-2] + b"\n")
    ):
        connection = net.connect(node, data)
        connection.end()
        assert connection.closed()
        node.wait(values=number + 1)
    assert node.values == [*range(5)]
    assert (node.errors, node.links) == ([], [])


def test_who_sends_a_digest_with_a_header_speaks_our_extensions(net: Net) -> None:
    node, senders = net.node(), list[Any]()
    node.transport.on("message", lambda message: senders.append(message.sender))
    net.connect(node, text(digest=own_digest())).close()
    net.connect(node, text(peer("other"), digest=[])).close()
    node.until(lambda: len(node.heard) == 2)
    assert [(sender, type(sender)) for sender in sorted(senders, reverse=True)] == [
        (SENDER, ExtendedPeer),
        (peer("other"), RemotePeer),
    ]


def test_a_character_that_is_cut_between_chunks_arrives_whole(net: Net) -> None:
    node, data = net.node(), message("é😀")
    cut = data.index("😀".encode()) + 2  # short messages are not escaped
    connection = net.connect(node, data[:cut])
    net.settle(node)
    connection.send(data[cut:])
    connection.close()
    node.wait(values=2)
    assert node.heard[1] == ("deltas", SENDER, delta("é😀"))


def test_a_message_above_the_limit_is_refused_while_it_arrives(net: Net) -> None:
    node = net.node(max_message_size=1_000)
    connection = net.connect(node, b"x" * 1_001)  # and no FIN
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [refused(connection) + "more than 1000 bytes"]
    assert connection.closed()  # nobody takes more
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
        (b'{"hello":{"version":1}}', "sender must be an object, got None"),  # a HELLO is a line
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
    node = net.node()
    connection = net.connect(node, data)
    connection.end()
    node.wait(errors=1)
    net.settle(node)
    (error,) = node.errors
    assert isinstance(error, MessageError)
    assert error.source == connection.source
    assert str(error).startswith(refused(connection) + words)
    assert node.heard == [("deltas", SENDER, delta("settled"))]


@pytest.mark.parametrize("trickle", [False, True])
@pytest.mark.parametrize("begin", [b'{"del', b'{"hello":', b""])
def test_a_connection_has_a_deadline_to_show_what_it_is(net: Net, begin: bytes, trickle: bool) -> None:
    node = net.node(receive_timeout=0.1)
    connection = net.connect(node, begin)
    with node.changed:
        while trickle and not node.errors:  # bytes that keep coming win it no time
            with suppress(ConnectionError):
                connection.socket.send(b" ")
            node.changed.wait(0.01)
    node.wait(errors=1)
    assert [str(error) for error in node.errors] == [refused(connection) + "incomplete after 0.1 s"]
    assert connection.closed()


def test_a_connection_that_ends_early_is_an_error_only_if_it_has_sent_something(net: Net) -> None:
    node = net.node()
    net.connect(node).close()  # as who looks whether the port is open
    net.connect(node).reset()
    connection = net.connect(node, message()[:20])
    net.settle(node)
    assert node.errors == []
    complaint = refused(connection) + "cut off: "
    connection.reset()
    node.wait(errors=1)
    net.settle(node)
    assert [error.startswith(complaint) for error in map(str, node.errors)] == [True]


def test_who_sends_without_pause_holds_up_no_other(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor_module, "CHUNK", 10)
    monkeypatch.setattr(acceptor_module, "READS_PER_TURN", 2)
    node = net.node()
    long = net.connect(node, message("x" * 20_000))
    net.settle(node)
    long.close()
    node.wait(values=2)
    assert node.errors == []


def test_a_handler_that_raises_is_one_error(net: Net) -> None:
    node = net.node()
    node.transport.once("deltas", lambda *_: 1 / 0)
    net.settle(node)
    node.wait(errors=1)
    net.settle(node)
    assert [type(error) for error in node.errors] == [ZeroDivisionError]


# The bound on connections


def test_of_too_many_connections_the_slowest_is_closed(net: Net) -> None:
    node = net.node(max_connections=3)
    idle = [net.connect(node) for _ in range(3)]
    until(lambda: len(node.transport._acceptor._incoming) == 3)
    net.settle(node)
    assert [str(error) for error in node.errors] == [refused(idle[0]) + "the slowest of more than 3 connections"]
    assert idle[0].closed()


def test_where_all_are_links_the_least_recently_used_is_asked_to_close(net: Net) -> None:
    node = net.node(max_connections=3)
    links = [net.link(node, peer(f"p{number}")) for number in range(3)]
    for number in (1, 2, 0):
        links[number].send(message(number, None))
        node.wait(values=1 + (1, 2, 0).index(number))
    waiting = net.connect(node)
    assert links[1].read(1) == CLOSING
    until(lambda: len(node.transport._acceptor._incoming) == 1)
    links[1].send(message("on its way", None) + CLOSING)
    node.wait(values=4)
    assert links[1].rest() == b""
    assert (node.errors, node.links) == ([], [])
    net.connect(node)
    node.wait(errors=1)  # one that has shown nothing goes before a link does
    assert str(node.errors[0]) == refused(waiting) + "the slowest of more than 3 connections"
    assert node.links_open() == 2


def test_where_all_are_being_closed_nobody_else_gets_in(net: Net) -> None:
    node = net.node(max_connections=1)
    links = [net.link(node, peer(id)) for id in "pqr"]
    assert [link.read(1) for link in links[:2]] == [CLOSING] * 2  # each by the next one; none of them obeys
    waiting = net.connect(node)
    assert links[2].read(1) == CLOSING
    waiting.send(hello(peer("s")))
    assert waiting.line() == hello(None, node.transport.life, you=waiting.source)
    net.connect(node).close()
    assert waiting.read(1) == CLOSING
    late = net.connect(node)
    assert late.closed()
    node.wait(errors=1)
    assert str(node.errors[-1]) == refused(late) + "1 connections are busy"
    assert node.links == []


def test_links_that_were_dialled_from_here_do_not_count(net: Net) -> None:
    node, others = net.named("n", max_connections=1), [net.named(f"o{number}") for number in range(3)]
    for other in others:
        node.transport.send(other.peer, tells(1, node.transport.local))
        other.wait(values=1)
    link = net.link(node)
    link.send(message(1, None))
    node.wait(values=1)
    assert node.links_open() == 4
    assert node.errors == []


# What fails


def test_when_no_more_sockets_can_be_watched_it_is_one_error(net: Net) -> None:
    node = net.node()
    with mock.patch.object(Loop, "watch", side_effect=OSError(errno.ENOSPC, "too many")):
        connection = net.connect(node, message(1))
        assert connection.closed()
        node.wait(errors=1)
    assert str(node.errors[0]) == refused(connection) + f"[Errno {errno.ENOSPC}] too many"
    net.settle(node)
    assert len(node.errors) == 1


def test_when_a_new_link_cannot_be_watched_it_is_ended(net: Net) -> None:
    node = net.node()
    with mock.patch.object(links_module.Links, "open", side_effect=OSError(errno.ENOSPC, "too many")):
        assert net.link(node).closed()
    net.settle(node)
    assert node.links_open() == 0


@pytest.mark.parametrize("name", ["gossipmonger-tcp", "gossipmonger-tcp-accept"])
def test_a_thread_that_cannot_be_started_raises_to_who_listens_and_frees_the_port(net: Net, name: str) -> None:
    node, start = net.node(listen=False), threading.Thread.start

    def none(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("no thread")
        start(thread)

    with socket.socket() as held:
        held.bind((HOST, 0))
        port = held.getsockname()[1]
    with mock.patch.object(threading.Thread, "start", none), pytest.raises(RuntimeError, match="no thread"):
        node.transport.listen({"port": port})
    assert node.address is None
    node.transport.listen({"port": port})
    net.settle(node)


def test_what_is_accepted_while_it_closes_is_closed(net: Net) -> None:
    node = net.node()
    node.transport.loop.stop()
    assert net.connect(node).closed()
    node.transport.close()


def test_close_ends_what_is_no_link_yet(net: Net) -> None:
    node = net.node()
    connections: list[Connection] = [net.connect(node), net.connect(node, b"half a mess"), net.connect(node, b'{"hello":')]
    until(lambda: len(node.transport._acceptor._incoming) == 3)
    node.transport.close()
    assert all(connection.closed() for connection in connections)
    assert node.errors == []


def test_a_round_is_answered_by_a_sign_of_life_if_by_nothing_else(net: Net) -> None:
    node = net.named("n")
    connection = net.link(node, peer_at((HOST, 1), "z"))
    connection.send(text(None, digest=own_digest()))
    assert connection.read(1) == EMPTY


# Clusters


@pytest.mark.parametrize(("ours", "theirs"), [("prod", "test"), ("prod", None), (None, "test")])
def test_a_hello_of_another_cluster_is_answered_and_turned_away(net: Net, ours: str | None, theirs: str | None) -> None:
    node = net.named("n")
    node.transport.cluster = ours
    for _ in range(3):
        connection = net.connect(node, hello(SENDER, cluster=theirs))
        assert connection.line() == hello(node.transport.local, node.transport.life, ours, you=connection.source)
        assert connection.closed()
    node.wait(errors=1)
    (error,) = node.errors
    assert isinstance(error, ClusterError)
    assert str(error).startswith("message from 'z' at z.example:9742 refused: it ")
    assert (node.heard, node.links, node.links_open()) == ([], [], 0)


def test_a_hello_of_the_same_cluster_makes_a_link_that_vouches_for_its_messages(net: Net) -> None:
    node = net.named("n")
    node.transport.cluster = "prod"
    vouched: list[str | None] = []
    node.transport.on("message", lambda message: vouched.append(message.sender.vouched))
    connection = net.connect(node, hello(SENDER, cluster="prod"))
    assert connection.line() == hello(node.transport.local, node.transport.life, "prod", you=connection.source)
    connection.send(message(1, None))
    node.wait(values=1)
    net.settle(node)  # alone on its connection, so nobody vouches for it
    assert (vouched, node.errors) == (["prod", None], [])
