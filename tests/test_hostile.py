"""What ended or swelled the Node.js original, over TCP and UDP: the node keeps serving, and holds no more than it may."""

from __future__ import annotations

import json
import os
import socket
import time
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from gossipmonger import Gossipmonger, MessageError, TcpTransport, UdpTransport
from gossipmonger.state import MAX_VERSION
from gossipmonger.wire import hello
from tests.hostile import KINDS, measure

HOST = "127.0.0.1"
LIMIT = 4 << 20

Both = tuple[Gossipmonger, Gossipmonger, list[Exception]]


@pytest.fixture(params=["tcp", "udp"])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    """Two nodes that know each other, and the errors of the first, which is attacked."""
    make: type[TcpTransport] = TcpTransport if request.param == "tcp" else UdpTransport
    transports = [make(host=HOST, port=0, max_message_size=LIMIT) for _ in "ab"]
    errors: list[Exception] = []
    with Gossipmonger({"id": "a"}, transport=transports[0], gossip_interval=100) as a:
        a.on("error", errors.append)
        seeds = [f"{HOST}:{transports[0].port}"]
        with Gossipmonger({"id": "b"}, transport=transports[1], gossip_interval=100, seeds=seeds) as b:
            b.on("error", lambda error: None)
            assert a.wait_for_peers(1, timeout=10)
            assert b.wait_for_peers(1, timeout=10)
            yield a, b, errors


def say(a: Gossipmonger, data: bytes) -> None:
    """Say these bytes to a node in each way there is: alone, on a link, deflated, and as a datagram."""
    port = a.transport.port
    for sent in (data, zlib.compress(data), hello(None) + data + b"\r\n"):
        with socket.create_connection((HOST, port), timeout=10) as connection:
            connection.sendall(sent)
    if isinstance(a.transport, UdpTransport) and len(data) < 65_000:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(data, (HOST, port))


def _has(node: Gossipmonger, id: str, value: float) -> bool:
    return bool(node.get(id, "k") == value)


def serves(a: Gossipmonger, b: Gossipmonger) -> None:
    """Assert that news goes both ways."""
    value = time.monotonic()
    for one, other in ((a, b), (b, a)):
        one.update("k", value)
        assert other.wait_for(partial(_has, other, one.local_peer.id, value), timeout=10)
        assert [peer.state for peer in other.peers().values() if peer.id in ("a", "b")] == ["live", "live"]


def _is_as_long(errors: list[Exception], length: int) -> bool:
    return len(errors) >= length


def message(**parts: Any) -> bytes:
    return json.dumps(parts).encode()


AT = {"host": HOST, "port": 9}
SENDER = {"id": "x", "transport": AT}
MALFORMED = [
    message(deltas=5),
    message(digest=[None], sender={}),
    message(digest=[], sender=None),
    b"null",
    message(deltas=[["__proto__", "k", 1, 1]], sender=SENDER),
    message(digest=[{"id": "__proto__", "maxVersionSeen": 1, "transport": AT}], sender=SENDER),
    message(digest=[], sender={"id": "__proto__", "transport": AT}),
    message(digest=[], sender={"id": "x", "transport": {"host": HOST, "port": 70_000}}),
    message(digest=[{"id": "y", "maxVersionSeen": 1, "transport": {"host": HOST, "port": 70_000}}], sender=SENDER),
    message(digest=[], sender={"id": "x" * 5_000_000, "transport": AT}),
    message(digest=[{"id": "y" * 300, "maxVersionSeen": 1, "transport": AT}], sender=SENDER),
    message(deltas=[["b", "k" * 2_000, 1, 1]], sender=SENDER),
    b"[" * 100_000,
    b'{"digest":[],"sender":{"id":"x","transport":{"host":"' + b"\xff" * 10 + b'","port":9}}}',
]


@pytest.mark.untraced
def test_no_malformed_message_ends_a_node_or_is_taken(both: Both) -> None:
    a, b, errors = both
    for data in MALFORMED:
        expected = len(errors) + 3
        say(a, data)
        a.wait_for(partial(_is_as_long, errors, expected), timeout=10)
    assert {type(error) for error in errors} == {MessageError}
    assert set(a.peers()) == {"a", "b"}
    serves(a, b)


@pytest.mark.untraced
def test_intervals_in_an_entry_which_ended_the_original_are_ignored(both: Both) -> None:
    a, b, _ = both
    say(a, message(digest=[{"id": "y", "maxVersionSeen": 1, "transport": AT, "intervals": 5, "data": 7}], sender=SENDER))
    assert a.wait_for(lambda: a.peer("y") is not None, timeout=10)
    assert a.get("y", "k") is None
    serves(a, b)


def rss() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.untraced
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not tell how much memory a process has")
@pytest.mark.parametrize("first", [b'{"digest":[', hello(None) + b'{"deltas":[', hello(None) + b"\1\x00\x3f\xff\xff"])
def test_two_hundred_megabytes_on_a_connection_are_cut_off_at_the_limit(both: Both, first: bytes) -> None:
    a, b, errors = both
    chunk, sent, before, most = bytes(1 << 20).replace(b"\0", b" "), 0, rss(), 0
    with socket.create_connection((HOST, a.transport.port), timeout=10) as connection:
        connection.sendall(first)
        try:
            while sent < 200:
                connection.sendall(chunk)
                sent += 1
                most = max(most, rss() - before)
        except OSError:
            pass
    assert sent < 60  # what sockets hold is sent too
    assert most < (4 if b"\1" in first else 1.5) * LIMIT  # a frame is complete: then there are its bytes and its text
    a.wait_for(lambda: bool(errors), timeout=10)
    assert any(isinstance(error, MessageError) for error in errors)
    serves(a, b)


@pytest.mark.untraced
def test_a_character_that_is_cut_between_two_chunks_arrives_whole(both: Both) -> None:
    a, b, _ = both
    data = json.dumps({"deltas": [["x", "k", "é" * 50, 5]], "sender": SENDER}, ensure_ascii=False).encode()
    say(a, message(digest=[{"id": "x", "maxVersionSeen": 5, "transport": AT}], sender=SENDER))
    assert a.wait_for(lambda: a.peer("x") is not None, timeout=10)
    with socket.create_connection((HOST, a.transport.port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 7):
            connection.sendall(data[start : start + 7])
    assert a.wait_for(lambda: a.get("x", "k") == "é" * 50, timeout=10)
    serves(a, b)


@pytest.mark.untraced
@pytest.mark.parametrize("version", [10**15, int(time.time() * 1e6) + 10**9, MAX_VERSION], ids=["past", "soon", "last"])
def test_a_forged_delta_blocks_no_keys(both: Both, version: int) -> None:
    a, b, _ = both
    say(a, message(deltas=[["b", "k", "forged", version]], sender=SENDER))
    serves(a, b)
    assert b.get("b", "k") == a.get("b", "k") != "forged"


@pytest.mark.untraced
def test_deflate_bombs_are_refused_at_once(both: Both) -> None:
    a, b, errors = both
    bombs = [
        zlib.compress(b" " * 100_000_000, 9),
        zlib.compress(b"[" * 16_000_000, 9),
        zlib.compress(zlib.compress(b" " * 10**8)),
    ]
    start, before = time.process_time(), rss()
    for bomb in bombs:
        for sent in (bomb, hello(None) + b"\1" + len(bomb).to_bytes(4, "big") + bomb):
            with socket.create_connection((HOST, a.transport.port), timeout=10) as connection:
                connection.sendall(sent)
    assert a.wait_for(lambda: len(errors) >= 6, timeout=10)
    assert time.process_time() - start < 2
    assert rss() - before < 2 * LIMIT
    serves(a, b)


@pytest.mark.untraced
@pytest.mark.parametrize("kind", KINDS)
def test_peers_that_are_slow_or_silent_are_dropped_at_their_deadline_and_delay_no_news(kind: str) -> None:
    figures = measure(kind, 100, udp=len(kind) % 2 == 0, deadline=0.7, updates=12)
    assert figures.left <= 2
    assert figures.during < max(2 * figures.before, 20)
