"""One connection: reading and writing without waiting, and the way back to a caller."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gossipmonger.errors import MessageError
from gossipmonger.state.message import ExtendedPeer, RemotePeer
from gossipmonger.transport.tcp.connection import Caller, Connection, wait_for


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours, ("10.0.0.1", 5)), theirs


Pair = tuple[Connection, socket.socket]


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (("10.0.0.1", 5), "10.0.0.1:5"),
        (("fe80::1", 5, 0, 2), "[fe80::1]:5"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1:5"),
    ],
)
def test_a_source_of_ipv6_stands_in_brackets_and_one_of_ipv4_never_does(pair: Pair, address: Any, source: str) -> None:
    assert Connection(pair[1], address).source == source


def test_what_has_come_is_read_and_nothing_waited_for(pair: Pair) -> None:
    connection, peer = pair
    assert connection.read(10) is False
    for part in (b"in", b"pieces"):
        peer.sendall(part)
        assert connection.read(10) is False
    assert (connection.data, connection.size) == (b"inpieces", 8)
    peer.close()
    assert connection.read(10) is True
    assert connection.data == b"inpieces"


def test_the_limit_holds_while_it_arrives(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"x" * 10)
    assert connection.read(10) is False
    peer.sendall(b"x")
    with pytest.raises(MessageError, match="more than 10 bytes"):
        connection.read(10)


def test_a_turn_ends_though_more_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(socket.socket):
        def recv(self, *_: Any) -> bytes:
            return b"x"

    with Endless() as endless:
        connection = Connection(endless, ("10.0.0.1", 5))
        assert connection.read(1_000) is False
        assert 1 <= connection.size < 100


def test_what_does_not_go_at_once_is_kept(pair: Pair) -> None:
    connection, peer = pair
    data, arrived = bytes(range(256)) * 40_000, bytearray()
    done = connection.write(data)
    assert not done
    while not done:
        arrived += peer.recv(len(connection.outgoing))
        done = connection.write(connection.outgoing)
    connection.socket.close()
    arrived += b"".join(iter(lambda: peer.recv(1 << 20), b""))
    assert arrived == data
    assert connection.outgoing == b""


def test_a_broken_connection_raises(pair: Pair) -> None:
    connection, peer = pair
    peer.close()
    with pytest.raises(OSError, match="Broken pipe"):
        connection.write(b"x")


def test_a_caller_speaks_extensions_and_its_way_back_is_there_once(pair: Pair) -> None:
    caller = Caller("a", {"host": "h", "port": 1})
    caller.way_back = pair[0]
    assert isinstance(caller, ExtendedPeer)
    assert caller.speaks_extensions
    assert caller == RemotePeer("a", {"host": "h", "port": 1})
    assert caller.take() is pair[0]
    assert caller.take() is None
    assert caller.way_back is None


def test_waiting_ends_when_there_is_something_to_read_or_time_is_up(pair: Pair) -> None:
    connection, peer = pair
    assert wait_for(connection.socket, writing=True, seconds=0)
    assert not wait_for(connection.socket, writing=False, seconds=0)
    peer.sendall(b"x")
    assert wait_for(connection.socket, writing=False, seconds=10)
