"""TCP transports and their peers, closed at the end of each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.transport.tcp.net import Net


@pytest.fixture
def net() -> Iterator[Net]:
    with Net() as net:
        yield net
