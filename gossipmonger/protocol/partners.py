"""Partners: how they are drawn, and what tells that two are at one address."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

__all__ = ["address", "draw", "draw_first"]

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


def draw_first(preferred: Sequence[T], items: Sequence[T], count: int, random: Random) -> list[T]:
    """Return as many of the items, drawn in the same way, but first of all from those that are preferred."""
    drawn = draw(preferred, count, random)
    return drawn + draw([item for item in items if item not in drawn], count - len(drawn), random)


def address(transport: Any) -> Any:
    """Return what two transports have in common if they are one address, whatever else they say."""
    if isinstance(transport, dict):
        if "host" in transport:
            return transport["host"], str(transport.get("port"))
        return repr(transport)
    return repr(transport) if isinstance(transport, list) else transport
