"""The receiving half of TCP: what is handed on, what is refused, who holds up whom, and how it ends."""

from __future__ import annotations

import errno
import queue
import threading
from itertools import chain, repeat
from typing import Any
from unittest import mock

import pytest

from gossipmonger.errors import MessageError
from tests.transport.tcp.serving import LONG, Connect, Slow, Start, parked, say, until

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_message_is_what_came_up_to_the_fin(start: Start, connect: Connect, size: int) -> None:
    server = start(max_message_size=size)  # just as much as is allowed
    client = connect(server, b"x" * size)
    assert server.messages.empty()
    client.end()
    assert server.messages.get(timeout=10) == (b"x" * size, client.source)
    assert client.closed()
    assert server.quiet()


def test_a_message_may_come_in_pieces_with_pauses(start: Start, connect: Connect) -> None:
    server = start()
    client = connect(server, b"in")
    parked(server, 2)  # it waits for more, on no thread
    client.socket.sendall(b"piec")
    parked(server, 6)
    client.socket.sendall(b"es")
    client.end()
    assert server.message() == b"inpieces"


def test_a_connection_without_a_byte_is_no_message_and_no_error(start: Start, connect: Connect) -> None:
    server = start(readers=1)
    connect(server).end()
    connect(server).reset()
    say(connect, server, b"m")
    assert server.message() == b"m"
    until(lambda: len(server.loop._open) == 0)
    assert server.quiet()


def test_silent_and_half_sent_connections_hold_up_nobody(start: Start, connect: Connect) -> None:
    server = start(readers=1)
    silent = [connect(server, data) for data in (b"", b"half ") for _ in range(10)]
    until(lambda: len(server.loop._parked) == 20)
    say(connect, server, b"whole")
    assert server.message() == b"whole"
    silent[-1].socket.sendall(b"sent")
    silent[-1].end()
    assert server.message() == b"half sent"
    assert len(server.loop._parked) == 19


@pytest.mark.parametrize(("data", "timeout"), [(b"x" * 11, 10), (b"", 0.06), (b"half", 0.06)])
def test_what_is_too_large_or_too_slow_is_refused(start: Start, connect: Connect, data: bytes, timeout: float) -> None:
    server = start(max_message_size=10, receive_timeout=timeout)
    client = connect(server, data)
    reason = "more than 10 bytes" if len(data) > 10 else "incomplete after 0.06 s"
    error: Any = server.failure()
    assert (type(error), error.source) == (MessageError, client.source)
    assert str(error) == f"message from {client.source} refused: {reason}"
    assert client.closed()
    assert server.quiet()


def test_time_counts_from_the_accept_and_not_from_the_last_byte(start: Start, connect: Connect, now: list[float]) -> None:
    server = start(receive_timeout=10)
    client = connect(server)
    parked(server, 0)
    for size, now[0] in ((1, 4.0), (2, 8.0)):
        client.socket.sendall(b"x")
        parked(server, size)
    assert server.quiet()
    now[0] = 12.0
    client.socket.sendall(b"x")
    assert "incomplete" in str(server.failure())


def test_of_too_many_connections_the_one_that_has_been_slow_for_longest_is_closed(start: Start, connect: Connect) -> None:
    server = start(max_connections=2)
    first = connect(server)
    parked(server, 0)
    second = connect(server)
    parked(server, 0, 0)
    first.socket.sendall(b"x")
    parked(server, 0, 1)  # what it sends makes it none the younger
    third = connect(server)
    assert str(server.failure()) == f"message from {first.source} refused: the slowest of more than 2 connections"
    assert first.closed()
    until(lambda: [parked.source for parked in list(server.loop._parked)] == [second.source, third.source])
    assert server.quiet()


def test_eviction_of_one_that_sends_more_ends_nothing(start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    server, hold = start(max_connections=1), Slow()
    first = connect(server)
    parked(server, 0)
    monkeypatch.setattr(server.loop, "_take_over", hold)
    server.loop._wake()
    assert hold.begun.wait(10)
    connect(server, b"of another")
    first.socket.sendall(b"x")
    hold.go_on.set()  # now the acceptor finds both at once
    assert str(server.failure()) == f"message from {first.source} refused: the slowest of more than 1 connections"
    parked(server, 10)


def test_where_all_connections_wait_for_a_reader_the_new_one_is_closed(start: Start, connect: Connect) -> None:
    slow = Slow()
    server = start(readers=1, max_connections=2, received=slow)
    say(connect, server, LONG)
    assert slow.begun.wait(10)
    say(connect, server, LONG)
    until(lambda: len(server.loop._open) == 2)
    third = connect(server)
    assert str(server.failure()) == f"message from {third.source} refused: the readers are busy with 2 connections"
    assert third.closed()
    slow.go_on.set()
    until(lambda: slow.ended == [True, True])


def test_a_connection_that_is_done_makes_room_for_another(start: Start, connect: Connect) -> None:
    server = start(max_connections=2)
    slow = connect(server)
    parked(server, 0)
    for _ in range(5):
        say(connect, server, b"m")
        assert server.message() == b"m"
        until(lambda: len(server.loop._open) == 1)
    slow.socket.sendall(b"at last")
    slow.end()
    assert server.message() == b"at last"
    assert server.quiet()


def test_a_message_that_is_cut_off_is_refused(start: Start, connect: Connect) -> None:
    server = start()
    client = connect(server, b"half")
    parked(server, 4)
    client.reset()
    assert str(server.failure()).startswith(f"message from {client.source} refused: cut off: ")
    assert server.quiet()


@pytest.mark.parametrize(("number", "left"), [(errno.EMFILE, 0), (errno.ENFILE, 0), (errno.ECONNABORTED, 1)])
def test_an_accept_without_descriptors_is_told_and_makes_room(start: Start, connect: Connect, number: int, left: int) -> None:
    server = start()
    connect(server)
    parked(server, 0)
    failures = chain([OSError(number, "no more")] * 2, repeat(mock.DEFAULT))  # the second time nobody is left to make room
    with mock.patch.object(server.acceptor, "accept", wraps=server.acceptor.accept, side_effect=failures):
        say(connect, server, b"m")
        assert "no more" in str(server.failure())
        assert server.message() == b"m"  # it goes on
    assert len(server.loop._parked) == left


def test_out_of_descriptors_it_is_a_while_until_the_next_accept(start: Start, connect: Connect) -> None:
    server, error = start(), OSError(errno.EMFILE, "no more")
    with mock.patch.object(server.acceptor, "accept", side_effect=error) as accept:
        with mock.patch("gossipmonger.transport.tcp.loop._PAUSE", 3_600):
            connect(server)
            assert server.failure() is error
            server.close()  # does not wait for that
    assert accept.call_count == 1


def test_a_connection_that_no_reader_can_be_started_for_is_refused(start: Start, connect: Connect) -> None:
    server = start()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        client = connect(server, LONG)
        client.end()
        assert str(server.failure()) == f"message from {client.source} refused: no thread"
        assert client.closed()
    say(connect, server, LONG)
    assert server.message() == LONG


def test_a_message_is_handed_on_once_even_to_a_listener_that_exits(start: Start, connect: Connect) -> None:
    received = mock.Mock(side_effect=SystemExit)
    with mock.patch.object(threading, "excepthook") as reported:
        client = connect(start(received=received), b"m")
        client.end()
        assert client.closed()
        until(lambda: reported.called)
    received.assert_called_once_with(b"m", client.source)


def test_stop_closes_every_connection_and_the_port_and_can_be_called_again(start: Start, connect: Connect) -> None:
    server = start()
    clients = [connect(server, data) for data in (b"", b"half", b"")]
    until(lambda: len(server.loop._parked) == 3)
    server.close()
    server.close()
    assert all(client.closed() for client in clients)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


# The end


@pytest.mark.parametrize("data", [b"small", LONG])
def test_stop_waits_for_the_message_that_is_handled(start: Start, connect: Connect, data: bytes) -> None:
    slow = Slow()
    server = start(readers=1, received=slow)
    say(connect, server, data)
    assert slow.begun.wait(10)
    say(connect, server, b"dropped, or never accepted")
    threading.Timer(0.05, slow.go_on.set).start()
    server.close()
    assert slow.ended[0] is True


@pytest.mark.parametrize("thread", ["gossipmonger-tcp", "gossipmonger-tcp-reader"])
@pytest.mark.parametrize("fails", [True, False])
def test_stop_may_be_called_from_its_own_threads(start: Start, connect: Connect, thread: str, fails: bool) -> None:
    threads: queue.Queue[threading.Thread] = queue.Queue()

    def stop(*_: Any) -> None:
        server.close()
        threads.put(threading.current_thread())

    small = thread == "gossipmonger-tcp"
    server = start(received=stop, failed=stop, max_connections=2 if fails and small else 3)
    silent = [connect(server) for _ in range(2)]
    parked(server, 0, 0)
    if fails and small:
        connect(server)  # one too many
    else:
        server.loop._received = (lambda _: server.loop._failed(OSError())) if fails else server.receive
        say(connect, server, b"m" if small else LONG)
    caller = threads.get(timeout=10)
    assert (caller.name, caller.daemon) == (thread, True)
    assert all(client.closed() for client in silent)
