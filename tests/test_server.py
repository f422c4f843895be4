"""The receiving half of TCP: what is handed on, what is refused, who is in whose way, and how it ends."""

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

from gossipmonger import MessageError
from gossipmonger.transport.server import Server, _Connection


class Serving(Server):
    def __init__(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        self.messages: queue.Queue[tuple[bytes, str]] = queue.Queue()
        self.failures: queue.Queue[Exception] = queue.Queue()
        options = {"readers": 2, "max_connections": 100, "max_message_size": 1_000_000, "receive_timeout": 10_000, **options}
        received = options.pop("received", lambda data, source: self.messages.put((bytes(data), source)))
        super().__init__(host, port, received, options.pop("failed", self.failures.put), **options)
        self.start()

    def message(self) -> bytes:
        return self.messages.get(timeout=10)[0]

    def failure(self) -> Exception:
        return self.failures.get(timeout=10)

    def quiet(self) -> bool:
        return self.messages.empty() and self.failures.empty()

    close = Server.stop


class Client:
    def __init__(self, server: Server, data: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.server_address[1]), 10)
        self.source = "{}:{}".format(*self.socket.getsockname()[:2])
        self.close = self.socket.close
        self.socket.sendall(data)

    def end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

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
        yield lambda *address, **options: stack.enter_context(closing(Serving(*address, **options)))


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(closing(Client(*arguments)))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("gossipmonger.transport.server.monotonic", lambda: now[0])
    return now


def until(condition: Callable[[], bool]) -> None:
    end, pause = monotonic() + 10, threading.Event()
    while not condition():
        assert monotonic() < end
        pause.wait(0.002)


def parked(server: Server, *sizes: int) -> None:  # the slow, in the acceptor's hands, by how much each has sent
    until(lambda: [len(connection.data) for connection in list(server._parked.values())] == list(sizes))


def say(connect: Connect, server: Server, data: bytes) -> None:
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
    until(lambda: server._open == 0)
    assert server.quiet()


@pytest.mark.parametrize(("host", "source"), [("fe80::1", "[fe80::1]:5"), ("::ffff:10.0.0.1", "10.0.0.1:5")])
def test_a_source_of_ipv6_stands_in_brackets_and_one_of_ipv4_never_does(start: Start, host: str, source: str) -> None:
    server = start()
    ours, theirs = socket.socketpair()
    ours.sendall(b"m")
    ours.close()
    server.process_request(theirs, (host, 5, 0, 2))
    assert server.messages.get(timeout=10) == (b"m", source)


def test_silent_and_half_sent_connections_hold_up_nobody(start: Start, connect: Connect) -> None:
    server = start(readers=1)
    silent = [connect(server, data) for data in (b"", b"half ") for _ in range(10)]
    until(lambda: len(server._parked) == 20)
    say(connect, server, b"whole")
    assert server.message() == b"whole"
    silent[-1].socket.sendall(b"sent")
    silent[-1].end()
    assert server.message() == b"half sent"
    assert len(server._parked) == 19


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


def test_who_waits_for_a_reader_for_too_long_is_refused(start: Start, connect: Connect, now: list[float]) -> None:
    slow = Slow()
    server = start(readers=1, received=slow)
    say(connect, server, b"slow to be handled")
    assert slow.begun.wait(10)
    say(connect, server, b"m")
    until(lambda: server._open == 2)
    now[0] = 10.5
    slow.go_on.set()
    assert "not all there after 10000 ms" in str(server.failure())
    assert slow.ended == [True]


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


def test_a_reader_goes_on_to_others_while_one_sends_byte_by_byte(start: Start, now: list[float]) -> None:
    def recv(_: int) -> bytes:
        now[0] += 0.005  # sooner than the patience with one silence ends
        return b"x"

    connection = _Connection(mock.Mock(recv=recv), "somebody", 10.0)
    assert start()._receive(connection) is False
    assert 1 <= len(connection.data) < 10


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
    until(lambda: [parked.source for parked in list(server._parked.values())] == [second.source, third.source])
    assert server.quiet()


def test_eviction_of_one_that_sends_more_ends_nothing(start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    server, hold = start(max_connections=1), Slow()
    first = connect(server)
    parked(server, 0)
    monkeypatch.setattr(server, "_expire", hold)
    server._wake()
    assert hold.begun.wait(10)
    connect(server, b"of another")
    first.socket.sendall(b"x")
    hold.go_on.set()  # now the acceptor finds both at once
    assert str(server.failure()) == f"message from {first.source} refused: slower than 1 others"
    parked(server, 10)


def test_where_all_connections_wait_for_a_reader_the_new_one_is_closed(start: Start, connect: Connect) -> None:
    slow = Slow()
    server = start(readers=1, max_connections=2, received=slow)
    say(connect, server, b"slow to be handled")
    assert slow.begun.wait(10)
    say(connect, server, b"handled later")
    until(lambda: server._open == 2)
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
        until(lambda: server._open == 1)
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
    with mock.patch.object(server, "get_request", wraps=server.get_request, side_effect=failures):
        say(connect, server, b"m")
        assert "no more" in str(server.failure())
        assert server.message() == b"m"  # it goes on
    assert len(server._parked) == left


def test_out_of_descriptors_it_is_a_while_until_the_next_accept(start: Start, connect: Connect) -> None:
    server, error = start(), OSError(errno.EMFILE, "no more")
    with mock.patch.object(server, "get_request", side_effect=error) as accept:
        with mock.patch("gossipmonger.transport.server._PAUSE", 3_600):
            connect(server)
            assert server.failure() is error
            server.stop()  # does not wait for that
    assert accept.call_count == 1


def test_a_connection_that_no_reader_can_be_started_for_is_refused(start: Start, connect: Connect) -> None:
    server = start()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        client = connect(server)
        assert str(server.failure()) == f"message from {client.source} refused: no thread"
        assert client.closed()
    say(connect, server, b"m")
    assert server.message() == b"m"


def test_a_message_is_handed_on_once_even_to_a_listener_that_exits(start: Start, connect: Connect) -> None:
    received = mock.Mock(side_effect=SystemExit)
    with mock.patch.object(threading, "excepthook") as reported:
        client = connect(start(received=received), b"m")
        client.end()
        assert client.closed()
        until(lambda: reported.called)
    received.assert_called_once_with(b"m", client.source)


@pytest.mark.parametrize("ours", [False, True])
def test_a_name_is_its_first_address_of_ours_even_if_in_use(start: Start, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    taken = start().server_address
    found = [taken if ours else ("192.0.2.1", 0), ("127.0.0.1", 0)]  # the former of the two is nobody's
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    if ours:
        with pytest.raises(OSError, match="can't listen at name:1: ") as caught:
            start("name", 1)
        assert caught.value.errno == errno.EADDRINUSE
    else:
        assert start("name", 1).server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("dual_stack", [socket.has_dualstack_ipv6(), False])
def test_no_host_is_every_address(start: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch, dual_stack: bool) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dual_stack)
    server = start("")
    say(connect, server, b"m")
    assert server.message() == b"m"
    assert server.address_family == (socket.AF_INET6 if dual_stack else socket.AF_INET)


def test_a_port_can_be_bound_again_at_once(start: Start, connect: Connect) -> None:
    first = start()
    client = connect(first)
    parked(first, 0)
    first.stop()  # the server ends the connection first, and so is the one to keep its address for a while
    assert client.closed()
    client.socket.close()
    assert start(*first.server_address).server_address == first.server_address


def test_stop_closes_every_connection_and_the_port_and_can_be_called_again(start: Start, connect: Connect) -> None:
    server = start()
    clients = [connect(server, data) for data in (b"", b"half", b"")]
    until(lambda: len(server._parked) == 3)
    server.stop()
    server.stop()
    assert all(client.closed() for client in clients)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_stop_waits_for_the_message_that_is_handled(start: Start, connect: Connect) -> None:
    slow = Slow()
    server = start(readers=1, received=slow)
    say(connect, server, b"handled")
    say(connect, server, b"dropped, as is what no reader has begun with")
    assert slow.begun.wait(10)
    until(lambda: server._open == 2)
    threading.Timer(0.05, slow.go_on.set).start()
    server.stop()
    assert slow.ended == [True]


@pytest.mark.parametrize("thread", ["gossipmonger-tcp", "gossipmonger-tcp-reader"])
def test_stop_may_be_called_from_its_own_threads(start: Start, connect: Connect, thread: str) -> None:
    threads: queue.Queue[threading.Thread] = queue.Queue()

    def stop(*_: Any) -> None:
        server.stop()
        threads.put(threading.current_thread())

    crowded = thread == "gossipmonger-tcp"
    server = start(received=stop, failed=stop, max_connections=1 if crowded else 2)
    silent = connect(server)
    parked(server, 0)
    other = connect(server)
    if not crowded:
        other.socket.sendall(b"m")
        other.end()
    caller = threads.get(timeout=10)
    assert (caller.name, caller.daemon) == (thread, True)
    assert silent.closed()
