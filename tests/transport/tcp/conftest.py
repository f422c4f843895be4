"""Loops, their clients and their peers, closed at the end of each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from glob import glob

import pytest

from gossipmonger.transport.tcp.loop import Loop
from tests.transport.tcp.net import Net
from tests.transport.tcp.serving import Call, Client, Connect, Serving, Start, until


@pytest.fixture
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
    monkeypatch.setattr("gossipmonger.transport.tcp.loop.monotonic", lambda: now[0])
    return now


@pytest.fixture
def call() -> Iterator[Callable[[], Call]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Call()))


@pytest.fixture
def silent(start: Start) -> Serving:
    """A loop that has never had anything to do, without a socket that listens."""
    made = start()
    made.loop.stop()
    made.loop = Loop(
        made.receive, made.failures.put, readers=1, max_connections=2, max_message_size=10, receive_timeout=10,
        send_timeout=10,
    )  # fmt: skip
    return made


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as net:
        yield net
