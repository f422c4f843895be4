"""Partners: how they are drawn, and whether one is a seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

from gossipmonger.state import RemotePeer

__all__ = ["draw", "is_at"]

T = TypeVar("T")


def draw(items: Sequence[T], count: int, random: Random) -> list[T]:
    """Return `count` of the items, or all if there are fewer, each as likely as any, in an order that is drawn too."""
    left = list(items)
    drawn = []
    for _ in range(min(count, len(left))):
        index = int(random.random() * len(left))
        left[index], left[-1] = left[-1], left[index]
        drawn.append(left.pop())
    return drawn


def is_at(seed: RemotePeer, transport: Any) -> bool:
    """Whether a peer's transport is the seed's, which may leave out what the peer itself adds."""
    if isinstance(seed.transport, dict) and isinstance(transport, dict):
        return seed.transport.items() <= transport.items()
    return bool(seed.transport == transport)
