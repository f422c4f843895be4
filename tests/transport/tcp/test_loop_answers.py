"""The receiving half of TCP: answers to what came, and answers to what was sent."""

from __future__ import annotations

import socket
import struct
import threading
from glob import glob
from unittest import mock

import pytest

from gossipmonger.errors import SendError
from gossipmonger.transport.tcp.server import Server
from tests.transport.tcp.serving import HUGE, LONG, Connect, MakeCall, Serving, Slow, Start, parked, say, unread, until

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


# Answers to who has sent a message


def test_an_answer_goes_on_the_connection_that_asked(start: Start, connect: Connect) -> None:
    for data in (b"small", LONG):
        server = start(reply=b"answer")
        client = connect(server, data)
        client.end()
        assert client.read() == b"answer"
        until(lambda server=server: server.answered == [True])  # type: ignore[misc]
        until(lambda server=server: not server.loop._open)  # type: ignore[misc]


def test_an_answer_that_is_read_slowly_costs_no_thread(start: Start, connect: Connect) -> None:
    server = start(readers=1, reply=HUGE)
    slow = connect(server, b"m")
    slow.end()
    unread(server)
    for data in (b"m", LONG):
        other = connect(server, data)
        other.end()
        assert other.read() == HUGE
    assert slow.read() == HUGE
    assert server.answered == [True] * 3
    assert server.failures.empty()


@pytest.mark.parametrize("resets", [True, False])
def test_an_answer_that_is_not_read_to_its_end_is_told(start: Start, connect: Connect, resets: bool) -> None:
    server = start(reply=HUGE, send_timeout=10 if resets else 0.06)
    client = connect(server, b"m")
    client.end()
    if resets:
        unread(server)
        client.reset()
    error = server.failure()
    assert isinstance(error, SendError)
    reason = "" if resets else "incomplete after 0.06 s"
    assert str(error).startswith(f"can't send the answer to {client.source}: {reason}")
    until(lambda: not server.loop._open)


def test_who_has_gone_gets_no_answer(start: Start, connect: Connect) -> None:
    slow = Slow()
    server = start(reply=b"answer", received=slow)
    client = connect(server, b"m")
    client.end()
    assert slow.begun.wait(10)
    client.reset()
    slow.go_on.set()
    until(lambda: server.answered == [False])
    until(lambda: not server.loop._open)


# Answers to what was sent from here


def test_an_answer_that_comes_at_once_is_taken_by_who_asked(silent: Serving, call: MakeCall) -> None:
    asked = call()
    asked.peer.sendall(b"answer")
    asked.peer.close()
    silent.loop.hear(asked.connection)
    assert silent.messages.get_nowait() == (b"answer", asked.source)
    assert silent.loop._thread is None  # nothing was handed on
    assert silent.failures.empty()


def test_who_answers_late_costs_who_asked_a_moment_only(silent: Serving, call: MakeCall) -> None:
    asked, other = call(), call()
    for each in (asked, other):
        silent.loop.hear(each.connection)  # returns though nobody has answered
    parked(silent, 0, 0)
    asked.peer.sendall(b"ans")
    parked(silent, 0, 3)
    asked.peer.sendall(b"wer")
    asked.peer.close()
    assert silent.messages.get(timeout=10) == (b"answer", asked.source)
    other.peer.close()  # it has nothing to say
    until(lambda: not silent.loop._open)
    assert silent.quiet()
    silent.loop.stop()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("data", "reason"), [(b"x" * 11, "more than 10 bytes"), (b"half", "cut off: ")])
def test_a_wrong_answer_is_refused(silent: Serving, call: MakeCall, at_once: bool, data: bytes, reason: str) -> None:
    asked = call()
    if not at_once:
        silent.loop.hear(asked.connection)
        parked(silent, 0)
    asked.peer.sendall(data)
    if at_once:
        threading.Timer(0, silent.loop.hear, [asked.connection]).start()
    if data == b"half":
        parked(silent, 4)
        asked.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        asked.peer.close()
    assert str(silent.failure()).startswith(f"message from {asked.source} refused: {reason}")
    assert silent.messages.empty()
    until(lambda: not silent.loop._open)
    silent.loop.stop()


@pytest.mark.parametrize("said", [b"", b"half"])
def test_who_never_answers_is_given_up_and_that_is_news_only_if_it_began_to(
    silent: Serving, call: MakeCall, now: list[float], said: bytes
) -> None:
    asked = call()
    asked.peer.sendall(said)
    with mock.patch("gossipmonger.transport.tcp.loop._PATIENCE", -1):
        silent.loop.hear(asked.connection)
    parked(silent, 0 if not said else 4)
    now[0] = 10.5
    silent.loop._wake()
    until(lambda: not silent.loop._open)
    assert asked.closed()
    if said:
        assert str(silent.failure()) == f"message from {asked.source} refused: incomplete after 10 s"
    assert silent.quiet()
    silent.loop.stop()


def test_who_does_not_answer_counts_as_a_connection(silent: Serving, call: MakeCall) -> None:
    calls = [call() for _ in range(3)]
    for each in calls:
        silent.loop.hear(each.connection)
    assert calls[0].closed()  # the one that has been slow for longest
    parked(silent, 0, 0)
    assert silent.quiet()
    silent.loop.stop()
    assert all(each.closed() for each in calls[1:])


def test_after_stop_no_answer_is_waited_for(silent: Serving, call: MakeCall) -> None:
    silent.loop.stop()
    asked = call()
    silent.loop.hear(asked.connection)
    assert asked.closed()
    assert silent.loop._thread is None


def test_stop_ends_what_waits_for_an_answer(silent: Serving, call: MakeCall) -> None:
    asked = call()
    silent.loop.hear(asked.connection)
    parked(silent, 0)
    silent.loop.stop()
    assert asked.closed()


def test_who_asked_before_may_listen_after(silent: Serving, call: MakeCall, connect: Connect) -> None:
    asked = call()
    silent.loop.hear(asked.connection)
    parked(silent, 0)
    silent.acceptor = Server("127.0.0.1", 0)
    silent.address = silent.acceptor.server_address
    silent.loop.accept_from(silent.acceptor)
    say(connect, silent, b"m")
    assert silent.message() == b"m"
    silent.loop.stop()


def test_without_a_thread_to_watch_with_nothing_is_left_open_and_it_is_tried_again(silent: Serving, call: MakeCall) -> None:
    asked, acceptor = call(), Server("127.0.0.1", 0)
    descriptors = len(glob("/proc/self/fd/*"))
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        with pytest.raises(RuntimeError, match="no thread"):
            silent.loop.accept_from(acceptor)
        silent.loop.hear(asked.connection)
    assert str(silent.failure()) == "no thread"
    assert asked.closed()
    assert len(glob("/proc/self/fd/*")) == descriptors - 2  # the two that were handed in
    again = call()
    silent.loop.hear(again.connection)
    parked(silent, 0)
    silent.loop.stop()


def test_what_the_system_does_not_watch_is_refused(start: Start, connect: Connect) -> None:
    server = start()
    until(lambda: len(server.loop._selector.get_map()) == 2)
    with mock.patch.object(server.loop._selector, "register", side_effect=OSError("no more")):
        client = connect(server)
        assert str(server.failure()) == f"message from {client.source} refused: no more"
        assert client.closed()
    say(connect, server, b"m")
    assert server.message() == b"m"
