"""One link: what is written at once, what waits, what is dropped, and its end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from unittest import mock

import pytest

from gossipmonger.state import ExtendedPeer, RemotePeer
from gossipmonger.transport.tcp import link as link_module
from gossipmonger.transport.tcp.caller import Caller, source_of
from gossipmonger.transport.tcp.link import Link
from tests.transport.tcp.net import SENDER

#: More than sockets take at once.
HUGE = b"x" * 10_000_000


@pytest.fixture
def ends() -> Iterator[tuple[Link, socket.socket]]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.settimeout(10)
    link = Link(one, "there", dialled=True, named=None, peer=SENDER, limit=1_000)
    with other:
        yield link, other
    link.close()


def read(other: socket.socket, link: Link, count: int) -> bytes:
    """Read so many bytes while the rest is being written."""
    data = bytearray()
    while len(data) < count:
        link.write_rest()
        data += other.recv(1 << 20)
    return bytes(data)


def test_a_caller_is_the_peer_itself_and_knows_the_way_back(ends: tuple[Link, socket.socket]) -> None:
    link, _ = ends
    assert isinstance(link.peer, Caller)
    assert isinstance(link.peer, ExtendedPeer)
    assert link.peer == SENDER == RemotePeer(*link.peer)
    assert link.peer.link is link
    assert link.source == "there"


def test_a_link_may_be_to_somebody_who_did_not_say_who_it_is() -> None:
    one, other = socket.socketpair()
    link = Link(one, "there", dialled=False, named=SENDER, peer=None, limit=1_000)
    assert (link.peer, link.named, link.dialled) == (None, SENDER, False)
    link.close()
    other.close()


def test_what_the_socket_takes_is_written_at_once(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    assert link.write(b"a") is False
    assert link.write(b"b") is False
    assert other.recv(10) == b"ab"
    assert (link.waiting, link.written) == (0, 2)


def test_the_rest_waits_and_later_frames_behind_it(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    assert link.write(HUGE) is True
    assert 0 < link.waiting < len(HUGE)
    waiting = link.waiting
    assert link.write_rest() is False  # the socket takes no more
    assert link.waiting == waiting
    data = read(other, link, len(HUGE) - 10)
    assert link.write(b"next") is False
    data += read(other, link, 14 if len(data) == len(HUGE) - 10 else len(HUGE) + 4 - len(data))
    assert data == HUGE + b"next"
    assert link.waiting == 0
    assert link.written == 2


def test_a_socket_that_takes_nothing_has_all_of_a_frame_wait(ends: tuple[Link, socket.socket]) -> None:
    link, _ = ends
    full = mock.Mock()
    full.send.side_effect = BlockingIOError
    real, link.socket = link.socket, full
    assert link.write(b"abc") is True
    assert link.waiting == 3
    link.socket = real


def test_beyond_what_may_wait_frames_are_dropped(ends: tuple[Link, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    link, other = ends
    monkeypatch.setattr(link_module, "_MAX_WAITING", 100)
    assert link.write(HUGE) is True
    assert link.write(b"dropped") is None
    assert link.written == 1
    assert read(other, link, len(HUGE)) == HUGE
    assert link.write(b"next") is False
    assert other.recv(10) == b"next"


def test_close_cancels_its_deadlines_and_frees_what_waits_and_what_has_come(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    assert [*link.splitter.frames(b'{"digest":')] == []
    assert len(link.splitter) == 10
    link.write(HUGE)
    link.late, link.stuck = mock.Mock(), mock.Mock()
    link.close()
    link.close()
    assert (link.closed, link.waiting, len(link.splitter), link.socket.fileno()) == (True, 0, 0, -1)
    assert link.late.cancel.called
    assert link.stuck.cancel.called
    with pytest.raises(ConnectionError, match="closed"):
        link.write(b"x")
    while other.recv(1 << 20):
        pass


def test_a_link_that_is_broken_raises(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    link.write(HUGE)
    other.close()
    with pytest.raises(OSError):  # noqa: PT011  # a broken pipe or a reset
        link.write_rest()


def test_frames_of_several_threads_are_not_mixed(ends: tuple[Link, socket.socket]) -> None:
    link, other = ends
    frames = [bytes((65 + number,)) * 5_000 for number in range(4)]
    writers = [threading.Thread(target=lambda frame=frame: [link.write(frame) for _ in range(50)]) for frame in frames]
    for writer in writers:
        writer.start()
    data = bytearray()
    while len(data) < 4 * 50 * 5_000:
        link.write_rest()
        data += other.recv(1 << 20)
    for writer in writers:
        writer.join(10)
    found = [bytes(data[at : at + 5_000]) for at in range(0, len(data), 5_000)]
    assert sorted(found) == sorted(frames * 50)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("10.0.0.1", 5), "10.0.0.1:5"),
        (("::1", 5, 0, 0), "[::1]:5"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1:5"),
        (("fe80::1%eth0", 5, 0, 3), "[fe80::1%eth0]:5"),
    ],
)
def test_an_address_is_shown_as_it_is_written(address: tuple[object, ...], shown: str) -> None:
    assert source_of(address) == shown
