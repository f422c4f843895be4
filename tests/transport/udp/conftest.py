"""UDP transports and their peers, closed at the end of each test; and sockets with faults."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from gossipmonger.transport.udp import transport
from tests.transport.udp.net import Net, Socket


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as net:
        yield net


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Socket, str], None]]:
    def a_socket(family: int) -> Socket:
        made = Socket(family, socket.SOCK_DGRAM)
        made.setblocking(False)
        return made

    monkeypatch.setattr(transport, "_socket", a_socket)
    monkeypatch.setattr(Socket, "faults", [])
    monkeypatch.setattr(Socket, "chance", None)
    monkeypatch.setattr(Socket, "held", [])
    monkeypatch.setattr(Socket, "sent", 0)
    return Socket.faults
