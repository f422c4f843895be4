"""UDP: what goes how, and what comes. Raw sockets play those who send rubbish, and see what is sent where."""

from __future__ import annotations

import errno
import json
import random
import socket
import threading
import zlib
from typing import Any

import pytest

from gossipmonger.errors import MessageError, Reporter, SendError
from gossipmonger.state import Message, RemotePeer
from gossipmonger.transport.address import Address
from gossipmonger.transport.udp import transport
from gossipmonger.wire import deflate
from tests.transport.udp.net import HOST, SENDER, Net, Socket, failing, peer_of, text

# What goes how


def test_what_fits_is_one_datagram_and_is_what_tcp_would_carry(net: Net) -> None:
    wire, node = net.wire(), net.node()
    node.transport.trust([wire.peer.transport])
    deltas, digest = [["z", "k", "v", 1]], [{"id": "z", "maxVersionSeen": 1, "transport": SENDER.transport}]
    node.transport.deltas(wire.peer, SENDER, deltas)
    node.transport.digest(wire.peer, SENDER, digest)
    node.transport.exchange(wire.peer, SENDER, deltas, digest)
    assert wire.datagrams(3) == [
        text(deltas=deltas),
        text(digest=digest),
        text(deltas=deltas, digest=digest),
    ]


@pytest.mark.parametrize(("given", "arrives"), [({}, {"part": True}), ({"reply": True}, {"reply": True})])
def test_a_long_digest_arrives_in_parts_that_together_are_the_whole(
    net: Net, faults: list[Any], given: dict[str, Any], arrives: dict[str, Any]
) -> None:
    a, b = net.node(), net.node()
    rng = random.Random(7)
    digest = [
        {"id": f"n{n}", "maxVersionSeen": rng.randrange(2**50), "transport": {"host": f"n{n}.example", "port": 1, "udp": True}}
        for n in range(200)
    ]
    digest.insert(77, {"id": "z", "maxVersionSeen": 1, "transport": SENDER.transport, "heartbeat": 9, **given})
    deltas = [["n1", f"k{version}", rng.randrange(2**50), version, version - 1] for version in range(1, 200)]
    a.transport.trust([peer_of(b).transport])
    a.transport.exchange(peer_of(b), SENDER, deltas, digest)
    b.until(lambda: len({e["id"] for k, _, d in b.heard if k == "digest" for e in d}) == 201)
    parts = [payload for kind, _, payload in b.heard if kind == "digest"]
    assert Socket.sent >= len(b.heard)  # parts that came at the same time are handed out together
    assert Socket.sent > 5
    if given:
        assert len(b.heard) == Socket.sent > len(parts) > 1
    assert [entry for part in parts for entry in part if entry["id"] != "z"] == digest[:77] + digest[78:]
    assert [part[-1] for part in parts] == [{**digest[77], **arrives}] * len(parts)
    assert all(entry in (part[-1], digest[77]) for part in parts for entry in part if entry["id"] == "z")
    assert [delta for kind, _, payload in b.heard if kind == "deltas" for delta in payload] == deltas
    assert [kind for kind, _, _ in b.heard] == ["deltas"] * (len(b.heard) - len(parts)) + ["digest"] * len(parts)
    assert all(remote == SENDER for _, remote, _ in b.heard)
    assert "part" not in digest[77]  # it is the protocol's own
    assert (a.errors, b.errors) == ([], [])


def test_what_does_not_fit_goes_over_tcp_on_the_same_port_whole_and_unmarked(net: Net) -> None:
    wire, node = net.wire(), net.node(max_datagram_size=512)
    node.transport.trust([wire.peer.transport])
    noise = random.Random(7).randbytes(1_000).hex()
    deltas = [["z", "small", 1, 1], ["z", "large", noise, 2, 1], ["z", "small again", 1, 3, 2]]
    far = {**SENDER.transport, "zone": noise[:900]}
    entries = [{"id": id, "maxVersionSeen": 1, "transport": at} for id, at in (("z", SENDER.transport), (noise[:250], far))]
    many = [["z", f"k{version}", random.Random(version).random(), version] for version in range(2_000)]

    def goes_over_tcp(**sent: Any) -> None:
        arrived = json.loads(wire.message())
        arrived.pop("sender", None)  # the link has named it
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
    asked, answer = threading.Event(), threading.Event()
    threads: list[str] = []
    getaddrinfo = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **options: Any) -> Any:
        if host != "wire.example":
            return getaddrinfo(host, port, *args, **options)
        threads.append(threading.current_thread().name)
        asked.set()
        answer.wait(10)
        return getaddrinfo(HOST, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    peer = RemotePeer("wire", {"host": "wire.example", "port": wire.port, "udp": True})
    node.send(peer, "first")
    assert asked.wait(10)
    node.send(peer, "second")
    answer.set()
    assert b"first" in wire.message()
    assert b"second" in wire.message()
    node.send(peer, "third")
    assert b"third" in wire.datagram()
    assert {*threads} == {"gossipmonger-resolver"}


def test_of_several_addresses_it_is_the_first_that_there_is_a_way_to(
    net: Net, faults: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, node = net.wire(), net.node()
    addresses = [Address(socket.AF_INET, (HOST, 1)), Address(socket.AF_INET, (HOST, wire.port))]
    monkeypatch.setattr(node.transport.resolver, "known", lambda host, port: addresses)
    faults.append(failing("sendto", errno.ENETUNREACH))
    node.send(wire.peer, "v")
    assert b'"v"' in wire.datagram()
    assert node.errors == []


# What comes


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "must be JSON"),
        (b"rubbish", "must be JSON"),
        (text(deltas=[])[:-5], "must be JSON"),
        (text(RemotePeer("z", {"host": "z", "port": 0}), deltas=[]), "sender.transport"),
        (zlib.compress(text(deltas=[]))[:-1], "cut short"),
        (b"\x78rubbish", "not deflated right"),
        (zlib.compress(text(deltas=[["z", "k", "x" * 100_001, 1]])), "more than 8192 bytes, 10 times its own"),
        (deflate(text(deltas=[["z", "k", "x" * 100_001, 1]])), "more than 100000 bytes"),
    ],
)
def test_rubbish_is_one_error_that_names_its_source_and_nothing_else(net: Net, data: bytes, words: str) -> None:
    wire, node = net.wire(), net.node(max_message_size=100_000)
    wire.throw(node, data)
    wire.throw(node, text(deltas=[["z", "k", "v", 1]]))
    node.wait(heard=1)
    (error,) = node.errors
    assert isinstance(error, MessageError)
    assert error.source == wire.source
    assert words in str(error)
    assert node.heard == [("deltas", SENDER, [["z", "k", "v", 1]])]


def held(net: Net, node: Any) -> threading.Event:
    """Keep a node's thread from its sockets until the event is set."""
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(10)

    net.callback(go_on.set)
    node.transport.loop.call(hold)
    assert begun.wait(10)
    return go_on


def part(id: str, moved: bool = False, **fields: Any) -> bytes:
    sender = RemotePeer("z", {"host": "moved.example", "port": 1}) if moved else SENDER
    own = {"id": "z", "maxVersionSeen": 1, "transport": sender.transport, "part": True, "heartbeat": 1}
    return text(sender, digest=[{**own, "id": id, "part": False}, {**own, **fields}])


def test_parts_of_a_digest_that_have_come_are_handed_out_together_and_behind_whatever_is_whole(net: Net) -> None:
    wire, node = net.wire(), net.node()
    go_on = held(net, node)
    for data in (part("a"), text(deltas=[["z", "k", "v", 1]]), part("b"), part("c"), text(digest=[]), part("d", moved=True)):
        wire.throw(node, data)
    go_on.set()
    node.until(lambda: any(entry["id"] == "d" for kind, _, digest in node.heard if kind == "digest" for entry in digest))
    kinds = [(kind, [entry["id"] for entry in payload] if kind == "digest" else payload) for kind, _, payload in node.heard]
    assert kinds == [
        ("deltas", [["z", "k", "v", 1]]),
        ("digest", []),
        ("digest", ["a", "z", "b", "z", "c", "z"]),
        ("digest", ["d", "z"]),
    ]


def test_parts_are_kept_together_for_each_sender(net: Net) -> None:
    wire, node = net.wire(), net.node()
    go_on = held(net, node)
    for data in (part("a"), part("b"), part("c")):
        wire.throw(node, data)
    go_on.set()
    node.wait(heard=1)
    assert [[entry["id"] for entry in digest] for _, _, digest in node.heard] == [["a", "z", "b", "z", "c", "z"]]


def test_a_handler_that_closes_is_the_last_that_is_called(net: Net) -> None:
    wire, node = net.wire(), net.node()
    go_on = held(net, node)
    node.transport.on("deltas", lambda *_: node.transport.close())
    for data in (part("a"), text(deltas=[]), text(deltas=[])):
        wire.throw(node, data)
    go_on.set()
    node.wait(heard=1)
    node.transport.loop._thread.join(10)
    assert [kind for kind, _, _ in node.heard] == ["deltas"]


def test_a_handler_that_raises_is_an_error_and_ends_no_thread(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(Reporter, "report", lambda _, error: reported.append(error))
    wire, node = net.wire(), net.node()
    raised = [ValueError("a handler's"), SystemExit("a handler's")]
    node.transport.on("digest", lambda *_: (_ for _ in ()).throw(raised[len(node.heard) - 1]))
    for _ in raised:
        wire.throw(node, text(digest=[]))
    wire.throw(node, text(deltas=[]))
    node.wait(heard=3)
    assert (node.errors, reported) == (raised[:1], raised[1:])
    node.transport.remove_all_listeners("error")
    wire.throw(node, b"rubbish")
    wire.throw(node, text(deltas=[]))
    node.wait(heard=4)
    assert [type(error) for error in reported] == [SystemExit, MessageError]


def test_no_error_of_the_system_ends_the_thread(net: Net, faults: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_PAUSE", 0.001)
    faults.append(failing("recvfrom", errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOBUFS, errno.ENOMEM))
    wire, node = net.wire(), net.node()
    wire.throw(node, text(deltas=[]))
    node.wait(heard=1)
    assert [getattr(error, "errno", None) for error in node.errors] == [errno.ENOBUFS, errno.ENOMEM]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS, errno.ENETUNREACH, errno.EPERM])
def test_a_datagram_that_cannot_leave_is_lost_and_is_one_error(net: Net, faults: list[Any], number: int) -> None:
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


def test_a_message_that_cannot_be_encoded_is_an_error(net: Net) -> None:
    wire, node = net.wire(), net.node()
    node.transport.send(wire.peer, Message(RemotePeer("z", {"host": {1}}), []))
    (error,) = node.errors
    assert isinstance(error, TypeError)


def test_a_family_that_the_machine_has_not_is_an_error(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    node = net.node()
    monkeypatch.setattr(node.transport.resolver, "known", lambda host, port: [Address(12345, (host, port))])
    node.send(net.wire().peer)
    assert isinstance(node.errors[0], SendError)
