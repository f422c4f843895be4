"""The listening socket: which addresses it is bound to."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from gossipmonger.transport.tcp.connection import wait_for
from gossipmonger.transport.tcp.server import Server

Bind = Callable[..., Server]


@pytest.fixture
def bind() -> Iterator[Bind]:
    with ExitStack() as stack:

        def bind(host: str = "127.0.0.1", port: int = 0) -> Server:
            server = Server(host, port)
            stack.callback(server.server_close)
            return server

        yield bind


def reached(server: Server, host: str = "127.0.0.1") -> str:
    """Connect; return what the server takes for the other side's address."""
    with closing(socket.create_connection((host, server.server_address[1]), 10)) as client:
        assert wait_for(server.socket, writing=False, seconds=10)
        connection = server.accept()
        connection.socket.close()
        own = client.getsockname()
        assert connection.source in ("{}:{}".format(*own), "[{}]:{}".format(*own))
        return connection.source


def test_nobody_is_waited_for(bind: Bind) -> None:
    with pytest.raises(BlockingIOError):
        bind().accept()


@pytest.mark.parametrize("ours", [False, True])
def test_a_name_is_its_first_address_of_ours_even_if_in_use(bind: Bind, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    taken = bind().server_address
    found = [taken if ours else ("192.0.2.1", 0), ("127.0.0.1", 0)]  # the former of the two is nobody's
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    if ours:
        with pytest.raises(OSError, match="can't listen at name:1: ") as caught:
            bind("name", 1)
        assert caught.value.errno == errno.EADDRINUSE
    else:
        assert bind("name", 1).server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("dual_stack", [socket.has_dualstack_ipv6(), False])
def test_no_host_is_every_address(bind: Bind, monkeypatch: pytest.MonkeyPatch, dual_stack: bool) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: dual_stack)
    server = bind("")
    assert reached(server).startswith("127.0.0.1:")  # and not ::ffff:127.0.0.1
    assert server.address_family == (socket.AF_INET6 if dual_stack else socket.AF_INET)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_an_address_of_ipv6_stands_in_brackets(bind: Bind) -> None:
    assert reached(bind("::1"), "::1").startswith("[::1]:")


def test_a_port_can_be_bound_again_at_once(bind: Bind) -> None:
    first = bind()
    address: Any = first.server_address
    with closing(socket.create_connection(address, 10)) as client:
        assert wait_for(first.socket, writing=False, seconds=10)
        first.accept().socket.close()  # who ends a connection first keeps its address for a while
        first.server_close()
        assert client.recv(1) == b""
    assert bind(*address).server_address == address
