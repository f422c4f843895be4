"""The receiving half of TCP: what is handed on, what is refused, who is in whose way, what is answered, and how it ends."""

from __future__ import annotations

import errno
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from glob import glob
from itertools import chain, repeat
from time import monotonic
from typing import Any
from unittest import mock

import pytest

from gossipmonger import MessageError, SendError
from gossipmonger.transport.connection import Connection
from gossipmonger.transport.server import Server
from gossipmonger.transport.watcher import Watcher

#: So long that a reader handles it.
LONG = b"x" * 70_000

#: More than sockets take at once.
HUGE = b"x" * 30_000_000


class Serving:
    """A watcher with a listening socket, which keeps what comes and answers with `reply`, if there is one."""

    def __init__(self, **options: Any) -> None:
        self.messages: queue.Queue[tuple[bytes, str]] = queue.Queue()
        self.failures: queue.Queue[Exception] = queue.Queue()
        self.received = options.pop("received", lambda data, source: self.messages.put((data, source)))
        self.reply: bytes | None = options.pop("reply", None)
        self.answered: list[bool] = []
        limits = {"readers": 2, "max_connections": 100, "max_message_size": 1_000_000}
        timeouts = {"receive_timeout": 10_000, "send_timeout": 10_000}
        failed = options.pop("failed", self.failures.put)
        self.acceptor = Server("127.0.0.1", 0)
        self.address = self.acceptor.server_address
        self.watcher = Watcher(self.receive, failed, **{**limits, **timeouts, **options})
        self.watcher.accept_from(self.acceptor)

    def receive(self, connection: Connection) -> None:
        try:
            self.received(connection.data, connection.source)
        finally:
            if self.reply is None or connection.dialled:
                self.watcher.close(connection)
            else:
                self.answered.append(self.watcher.answer(connection, self.reply))

    def message(self) -> bytes:
        return self.messages.get(timeout=10)[0]

    def failure(self) -> Exception:
        return self.failures.get(timeout=10)

    def quiet(self) -> bool:
        return self.messages.empty() and self.failures.empty()

    def close(self) -> None:
        self.watcher.stop()


class Client:
    def __init__(self, server: Serving, data: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.address[1]), 10)
        self.source = "{}:{}".format(*self.socket.getsockname()[:2])
        self.close = self.socket.close
        self.socket.sendall(data)

    def end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> bytes:
        return b"".join(iter(lambda: self.socket.recv(1 << 20), b""))

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def closed(self) -> bool:  # waits for it
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


class Slow:
    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.ended: list[bool] = []

    def __call__(self, *_: Any) -> None:
        self.begun.set()
        self.ended.append(self.go_on.wait(10))


Start = Callable[..., Serving]
Connect = Callable[..., Client]


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    before = len(glob("/proc/self/fd/*"))
    yield
    until(lambda: len(glob("/proc/self/fd/*")) == before)


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(Serving(**options)))


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(Client(*arguments)))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("gossipmonger.transport.watcher.monotonic", lambda: now[0])
    return now


def until(condition: Callable[[], bool]) -> None:
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


def parked(server: Serving, *sizes: int) -> None:  # the slow, in the acceptor's hands, by how much each has sent
    until(lambda: [connection.size for connection in list(server.watcher._parked)] == list(sizes))


def unread(server: Serving) -> None:  # an answer, that is more than the sockets take
    until(lambda: [bool(connection.outgoing) for connection in list(server.watcher._parked)] == [True])


def say(connect: Connect, server: Serving, data: bytes) -> None:
    connect(server, data).end()


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
    until(lambda: len(server.watcher._open) == 0)
    assert server.quiet()


def test_silent_and_half_sent_connections_hold_up_nobody(start: Start, connect: Connect) -> None:
    server = start(readers=1)
    silent = [connect(server, data) for data in (b"", b"half ") for _ in range(10)]
    until(lambda: len(server.watcher._parked) == 20)
    say(connect, server, b"whole")
    assert server.message() == b"whole"
    silent[-1].socket.sendall(b"sent")
    silent[-1].end()
    assert server.message() == b"half sent"
    assert len(server.watcher._parked) == 19


@pytest.mark.parametrize(("data", "timeout"), [(b"x" * 11, 10_000), (b"", 60), (b"half", 60)])
def test_what_is_too_large_or_too_slow_is_refused(start: Start, connect: Connect, data: bytes, timeout: int) -> None:
    server = start(max_message_size=10, receive_timeout=timeout)
    client = connect(server, data)
    reason = "more than 10 bytes" if len(data) > 10 else "not all there after 60 ms"
    error: Any = server.failure()
    assert (type(error), error.source) == (MessageError, client.source)
    assert str(error) == f"message from {client.source} refused: {reason}"
    assert client.closed()
    assert server.quiet()


def test_time_counts_from_the_accept_and_not_from_the_last_byte(start: Start, connect: Connect, now: list[float]) -> None:
    server = start(receive_timeout=10_000)
    client = connect(server)
    parked(server, 0)
    for size, now[0] in ((1, 4.0), (2, 8.0)):
        client.socket.sendall(b"x")
        parked(server, size)
    assert server.quiet()
    now[0] = 12.0
    client.socket.sendall(b"x")
    assert "not all there" in str(server.failure())


def test_of_too_many_connections_the_one_that_has_been_slow_for_longest_is_closed(start: Start, connect: Connect) -> None:
    server = start(max_connections=2)
    first = connect(server)
    parked(server, 0)
    second = connect(server)
    parked(server, 0, 0)
    first.socket.sendall(b"x")
    parked(server, 0, 1)  # what it sends makes it none the younger
    third = connect(server)
    assert str(server.failure()) == f"message from {first.source} refused: slower than 2 others"
    assert first.closed()
    until(lambda: [parked.source for parked in list(server.watcher._parked)] == [second.source, third.source])
    assert server.quiet()


def test_eviction_of_one_that_sends_more_ends_nothing(start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    server, hold = start(max_connections=1), Slow()
    first = connect(server)
    parked(server, 0)
    monkeypatch.setattr(server.watcher, "_take_over", hold)
    server.watcher._wake()
    assert hold.begun.wait(10)
    connect(server, b"of another")
    first.socket.sendall(b"x")
    hold.go_on.set()  # now the acceptor finds both at once
    assert str(server.failure()) == f"message from {first.source} refused: slower than 1 others"
    parked(server, 10)


def test_where_all_connections_wait_for_a_reader_the_new_one_is_closed(start: Start, connect: Connect) -> None:
    slow = Slow()
    server = start(readers=1, max_connections=2, received=slow)
    say(connect, server, LONG)
    assert slow.begun.wait(10)
    say(connect, server, LONG)
    until(lambda: len(server.watcher._open) == 2)
    third = connect(server)
    assert str(server.failure()) == f"message from {third.source} refused: there are 2 connections already"
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
        until(lambda: len(server.watcher._open) == 1)
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
    assert len(server.watcher._parked) == left


def test_out_of_descriptors_it_is_a_while_until_the_next_accept(start: Start, connect: Connect) -> None:
    server, error = start(), OSError(errno.EMFILE, "no more")
    with mock.patch.object(server.acceptor, "accept", side_effect=error) as accept:
        with mock.patch("gossipmonger.transport.watcher._PAUSE", 3_600):
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
    until(lambda: len(server.watcher._parked) == 3)
    server.close()
    server.close()
    assert all(client.closed() for client in clients)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


# Answers to who has sent a message


def test_an_answer_goes_on_the_connection_that_asked(start: Start, connect: Connect) -> None:
    for data in (b"small", LONG):
        server = start(reply=b"answer")
        client = connect(server, data)
        client.end()
        assert client.read() == b"answer"
        until(lambda server=server: server.answered == [True])  # type: ignore[misc]
        until(lambda server=server: not server.watcher._open)  # type: ignore[misc]


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
    server = start(reply=HUGE, send_timeout=10_000 if resets else 60)
    client = connect(server, b"m")
    client.end()
    if resets:
        unread(server)
        client.reset()
    error = server.failure()
    assert isinstance(error, SendError)
    reason = "" if resets else "not all there after 60 ms"
    assert str(error).startswith(f"can't send all of the answer to {client.source}: {reason}")
    until(lambda: not server.watcher._open)


def test_who_has_gone_gets_no_answer(start: Start, connect: Connect) -> None:
    slow = Slow()
    server = start(reply=b"answer", received=slow)
    client = connect(server, b"m")
    client.end()
    assert slow.begun.wait(10)
    client.reset()
    slow.go_on.set()
    until(lambda: server.answered == [False])
    until(lambda: not server.watcher._open)


# Answers to what was sent from here


class Call:
    """A connection that a watcher opened, and its other end. The message is written, and ended by FIN."""

    def __init__(self) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            address = listening.getsockname()
            connected = socket.create_connection(address)
            self.peer, _ = listening.accept()
        self.peer.settimeout(10)
        connected.shutdown(socket.SHUT_WR)
        self.source = "{}:{}".format(*address)
        self.connection = Connection(connected, address, dialled=True)

    def close(self) -> None:
        self.peer.close()

    def closed(self) -> bool:
        """Whether the watcher has closed its end; waits for it."""
        assert self.peer.recv(1) == b""  # its FIN
        try:
            while True:
                self.peer.send(b"x")
        except OSError:
            return True


@pytest.fixture
def call() -> Iterator[Callable[[], Call]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Call()))


@pytest.fixture
def silent(start: Start) -> Serving:
    """A watcher that has never had anything to do, without a socket that listens."""
    made = start()
    made.watcher.stop()
    made.watcher = Watcher(
        made.receive, made.failures.put, readers=1, max_connections=2, max_message_size=10, receive_timeout=10_000,
        send_timeout=10_000,
    )  # fmt: skip
    return made


MakeCall = Callable[[], Call]


def test_an_answer_that_comes_at_once_is_taken_by_who_asked(silent: Serving, call: MakeCall) -> None:
    asked = call()
    asked.peer.sendall(b"answer")
    asked.peer.close()
    silent.watcher.hear(asked.connection)
    assert silent.messages.get_nowait() == (b"answer", asked.source)
    assert silent.watcher._thread is None  # nothing was handed on
    assert silent.failures.empty()


def test_who_answers_late_costs_who_asked_a_moment_only(silent: Serving, call: MakeCall) -> None:
    asked, other = call(), call()
    for each in (asked, other):
        silent.watcher.hear(each.connection)  # returns though nobody has answered
    parked(silent, 0, 0)
    asked.peer.sendall(b"ans")
    parked(silent, 0, 3)
    asked.peer.sendall(b"wer")
    asked.peer.close()
    assert silent.messages.get(timeout=10) == (b"answer", asked.source)
    other.peer.close()  # it has nothing to say
    until(lambda: not silent.watcher._open)
    assert silent.quiet()
    silent.watcher.stop()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("data", "reason"), [(b"x" * 11, "more than 10 bytes"), (b"half", "cut off: ")])
def test_a_wrong_answer_is_refused(silent: Serving, call: MakeCall, at_once: bool, data: bytes, reason: str) -> None:
    asked = call()
    if not at_once:
        silent.watcher.hear(asked.connection)
        parked(silent, 0)
    asked.peer.sendall(data)
    if at_once:
        threading.Timer(0, silent.watcher.hear, [asked.connection]).start()
    if data == b"half":
        parked(silent, 4)
        asked.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        asked.peer.close()
    assert str(silent.failure()).startswith(f"message from {asked.source} refused: {reason}")
    assert silent.messages.empty()
    until(lambda: not silent.watcher._open)
    silent.watcher.stop()


@pytest.mark.parametrize("said", [b"", b"half"])
def test_who_never_answers_is_given_up_and_that_is_news_only_if_it_began_to(
    silent: Serving, call: MakeCall, now: list[float], said: bytes
) -> None:
    asked = call()
    asked.peer.sendall(said)
    with mock.patch("gossipmonger.transport.watcher._PATIENCE", -1):
        silent.watcher.hear(asked.connection)
    parked(silent, 0 if not said else 4)
    now[0] = 10.5
    silent.watcher._wake()
    until(lambda: not silent.watcher._open)
    assert asked.closed()
    if said:
        assert str(silent.failure()) == f"message from {asked.source} refused: not all there after 10000 ms"
    assert silent.quiet()
    silent.watcher.stop()


def test_who_does_not_answer_counts_as_a_connection(silent: Serving, call: MakeCall) -> None:
    calls = [call() for _ in range(3)]
    for each in calls:
        silent.watcher.hear(each.connection)
    assert calls[0].closed()  # the one that has been slow for longest
    parked(silent, 0, 0)
    assert silent.quiet()
    silent.watcher.stop()
    assert all(each.closed() for each in calls[1:])


def test_after_stop_no_answer_is_waited_for(silent: Serving, call: MakeCall) -> None:
    silent.watcher.stop()
    asked = call()
    silent.watcher.hear(asked.connection)
    assert asked.closed()
    assert silent.watcher._thread is None


def test_stop_ends_what_waits_for_an_answer(silent: Serving, call: MakeCall) -> None:
    asked = call()
    silent.watcher.hear(asked.connection)
    parked(silent, 0)
    silent.watcher.stop()
    assert asked.closed()


def test_who_asked_before_may_listen_after(silent: Serving, call: MakeCall, connect: Connect) -> None:
    asked = call()
    silent.watcher.hear(asked.connection)
    parked(silent, 0)
    silent.acceptor = Server("127.0.0.1", 0)
    silent.address = silent.acceptor.server_address
    silent.watcher.accept_from(silent.acceptor)
    say(connect, silent, b"m")
    assert silent.message() == b"m"
    silent.watcher.stop()


def test_without_a_thread_to_watch_with_nothing_is_left_open_and_it_is_tried_again(silent: Serving, call: MakeCall) -> None:
    asked, acceptor = call(), Server("127.0.0.1", 0)
    descriptors = len(glob("/proc/self/fd/*"))
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        with pytest.raises(RuntimeError, match="no thread"):
            silent.watcher.accept_from(acceptor)
        silent.watcher.hear(asked.connection)
    assert str(silent.failure()) == "no thread"
    assert asked.closed()
    assert len(glob("/proc/self/fd/*")) == descriptors - 2  # the two that were handed in
    again = call()
    silent.watcher.hear(again.connection)
    parked(silent, 0)
    silent.watcher.stop()


def test_what_the_system_does_not_watch_is_refused(start: Start, connect: Connect) -> None:
    server = start()
    until(lambda: len(server.watcher._selector.get_map()) == 2)
    with mock.patch.object(server.watcher._selector, "register", side_effect=OSError("no more")):
        client = connect(server)
        assert str(server.failure()) == f"message from {client.source} refused: no more"
        assert client.closed()
    say(connect, server, b"m")
    assert server.message() == b"m"


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
        server.watcher._received = (lambda _: server.watcher._failed(OSError())) if fails else server.receive
        say(connect, server, b"m" if small else LONG)
    caller = threads.get(timeout=10)
    assert (caller.name, caller.daemon) == (thread, True)
    assert all(client.closed() for client in silent)
