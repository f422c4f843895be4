"""The listening socket: which addresses it is bound to, how it accepts, and how its thread ends."""

from __future__ import annotations

import errno
import queue
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from gossipmonger.errors import Reporter
from gossipmonger.transport.tcp import server as server_module
from gossipmonger.transport.tcp.caller import source_of
from gossipmonger.transport.tcp.server import Server
from tests.transport.tcp.net import until


class Serving:
    """A server, and what it accepts and fails at."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.accepted: queue.Queue[tuple[socket.socket, Any]] = queue.Queue()
        self.failures: queue.Queue[Exception] = queue.Queue()
        self.server = Server(host, port, lambda *args: self.accepted.put(args), self.failures.put)
        self.address: Any = self.server.server_address

    def reached(self, host: str = "127.0.0.1") -> str:
        """Connect; return what the server takes for the other side's address."""
        with closing(socket.create_connection((host, self.address[1]), 10)) as client:
            connected, address = self.accepted.get(timeout=10)
            with connected:
                assert connected.getblocking() is False
                own = client.getsockname()
                assert source_of(address) in ("{}:{}".format(*own), "[{}]:{}".format(*own))
                return source_of(address)

    def close(self) -> None:
        self.server.close()
        while not self.accepted.empty():
            self.accepted.get()[0].close()


Serve = Callable[..., Serving]


@pytest.fixture
def bind() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda *args: stack.enter_context(closing(Serving(*args)))


@pytest.fixture
def serve(bind: Serve) -> Serve:
    def serve(*args: Any) -> Serving:
        serving = bind(*args)
        serving.server.start()
        return serving

    return serve


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> queue.Queue[BaseException]:
    seen: queue.Queue[BaseException] = queue.Queue()
    monkeypatch.setattr(Reporter, "report", lambda _, error: seen.put(error))
    return seen


# Where it is bound


@pytest.mark.parametrize("ours", [False, True])
def test_a_name_is_its_first_address_of_ours_even_if_in_use(bind: Serve, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    taken = bind().address
    found = [taken if ours else ("192.0.2.1", 0), ("127.0.0.1", 0)]  # the former of the two is nobody's
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    if ours:
        with pytest.raises(OSError, match="can't listen at name:1: ") as caught:
            bind("name", 1)
        assert caught.value.errno == errno.EADDRINUSE
    else:
        assert bind("name", 1).address[0] == "127.0.0.1"


def test_without_a_descriptor_for_the_socket_it_raises(bind: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(socket, "socket", nothing)
    with pytest.raises(OSError, match="too many open files"):
        bind()


@pytest.mark.parametrize("dual_stack", [socket.has_dualstack_ipv6(), False])
def test_no_host_is_every_address(serve: Serve, monkeypatch: pytest.MonkeyPatch, dual_stack: bool) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dual_stack)
    serving = serve("")
    assert serving.reached().startswith("127.0.0.1:")  # and not ::ffff:127.0.0.1
    assert serving.server.address_family == (socket.AF_INET6 if dual_stack else socket.AF_INET)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_an_address_of_ipv6_stands_in_brackets(serve: Serve) -> None:
    assert serve("::1").reached("::1").startswith("[::1]:")


def test_a_port_can_be_bound_again_at_once(serve: Serve) -> None:
    first = serve()
    with closing(socket.create_connection(first.address, 10)) as client:
        first.accepted.get(timeout=10)[0].close()  # who ends a connection first keeps its address for a while
        first.close()
        assert client.recv(1) == b""
    assert serve(*first.address).address == first.address


# How it accepts


def test_it_accepts_on_one_daemon_thread_that_is_named(bind: Serve) -> None:
    serving, threads = bind(), []
    serving.server._accepted = lambda connected, _: (connected.close(), threads.append(threading.current_thread()))
    serving.server.start()
    for _ in range(2):
        with closing(socket.create_connection(serving.address, 10)) as client:
            assert client.recv(1) == b""
    serving.close()
    assert len(set(threads)) == 1
    assert (threads[0].name, threads[0].daemon, threads[0].is_alive()) == ("gossipmonger-tcp-accept", True, False)


def test_errors_of_accepting_are_told_and_it_goes_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_PAUSE", 0.001)
    serving = serve()
    numbers = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EAGAIN]
    errors = [OSError(number, "odd") for number in numbers]
    real = serving.server.socket

    class Faulty:
        def accept(self) -> Any:
            if errors:
                raise errors.pop(0)
            return real.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    serving.server.socket = Faulty()  # type: ignore[assignment]
    serving.reached()
    told = [serving.failures.get(timeout=10) for _ in numbers[:-1]]
    assert [error.errno for error in told if isinstance(error, OSError)] == numbers[:-1]
    assert serving.failures.empty()  # that nobody is there any more is no failure


def test_it_accepts_no_more_while_too_many_are_not_taken(serve: Serve) -> None:
    serving, looks = serve(), []
    waiting = [63, 64, 64, 63]

    def look() -> int:
        looks.append(serving.accepted.qsize())
        return waiting[min(len(looks), len(waiting)) - 1]

    serving.server._waiting = look
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(socket.create_connection(serving.address, 10)))
        until(lambda: len(looks) == 5)
    assert looks == [1, 2, 2, 2, 3]
    serving.server._waiting = lambda: 64
    with closing(socket.create_connection(serving.address, 10)):
        serving.close()  # which waits for nobody to take any


def test_what_takes_a_connection_may_raise_which_is_reported(serve: Serve, reported: queue.Queue[BaseException]) -> None:
    serving = serve()
    accepted, serving.server._accepted = serving.server._accepted, lambda *_: 1 / 0
    with closing(socket.create_connection(serving.address, 10)) as client:
        assert isinstance(reported.get(timeout=10), ZeroDivisionError)
        assert client.recv(1) == b""
    serving.server._accepted = accepted
    serving.reached()


def test_handling_an_error_that_is_none_reports_nothing(bind: Serve, reported: queue.Queue[BaseException]) -> None:
    bind().server.handle_error(None, None)
    assert reported.empty()


def test_nothing_ends_the_thread_but_close(
    bind: Serve, reported: queue.Queue[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_PAUSE", 0.001)
    errors: list[BaseException] = [OSError("odd"), SystemExit(1)]
    serve_forever = socketserver.TCPServer.serve_forever

    def fail_first(self: Any, poll_interval: Any) -> None:
        if errors:
            raise errors.pop(0)
        serve_forever(self, poll_interval)

    monkeypatch.setattr(socketserver.TCPServer, "serve_forever", fail_first)
    serving = bind()
    serving.server.start()
    serving.reached()
    assert [type(reported.get(timeout=10)) for _ in range(2)] == [OSError, SystemExit]


# How it ends


def test_close_ends_the_thread_at_once_and_refuses_whoever_comes(serve: Serve) -> None:
    serving = serve()
    serving.reached()
    serving.close()
    assert not serving.server._thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(serving.address, 10)
    serving.close()
    assert serving.failures.empty()


def test_close_frees_the_port_of_one_that_was_never_started(bind: Serve) -> None:
    serving = bind()
    serving.close()
    assert bind(*serving.address).address == serving.address


def test_close_from_its_own_thread_ends_it(bind: Serve) -> None:
    serving = bind()
    serving.server._accepted = lambda connected, _: (connected.close(), serving.server.close())
    serving.server.start()
    with closing(socket.create_connection(serving.address, 10)) as client:
        assert client.recv(1) == b""
    serving.server._thread.join(10)
    assert not serving.server._thread.is_alive()


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_where_shutdown_does_not_wake_the_thread_a_connection_does(serve: Serve, host: str) -> None:
    serving = serve(host)
    serving.reached()
    real = serving.server.socket

    class NotConnected:
        def shutdown(self, how: int) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    serving.server.socket = NotConnected()  # type: ignore[assignment]
    serving.close()
    assert not serving.server._thread.is_alive()
    assert real.fileno() == -1
    assert serving.failures.empty()
