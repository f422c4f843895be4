"""Nodes of one test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gossipmonger import Gossipmonger


@pytest.fixture
def make() -> Iterator[Callable[..., Gossipmonger]]:
    """Make nodes that nobody talks to; handlers run on threads unless the options say otherwise."""
    made: list[Gossipmonger] = []

    def make(**options: Any) -> Gossipmonger:
        made.append(Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}, **options))
        return made[-1]

    yield make
    for node in made:
        node.close()
