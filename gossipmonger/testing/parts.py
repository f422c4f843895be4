"""Stand-ins that give a test control of an endpoint's time and messages, and a check of the parts that its author makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyee.base import EventEmitter

from gossipmonger.errors import shown

__all__ = ["Deaf", "Inline", "Never", "made"]


class Deaf(EventEmitter):
    """A transport that reaches nobody; the test emits what it hears."""

    def digest(self, remote_peer: Any, local_peer: Any, digest_to_send: Any) -> None:
        """Drop it."""

    def deltas(self, remote_peer: Any, local_peer: Any, deltas_to_send: Any) -> None:
        """Drop them."""


class Never:
    """A timer that never fires: the test does the rounds."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        pass

    def start(self) -> None:
        """Do nothing."""

    def cancel(self) -> None:
        """Do nothing."""


class Inline:
    """An executor that runs what it is given right here."""

    def submit(self, function: Callable[[], None]) -> None:
        """Run it."""
        function()


def made(part: Any, by: str, method: str) -> Any:
    """Return what a contract's subclass made; raise a TypeError unless it is an object with this method."""
    if isinstance(part, type) or not callable(getattr(part, method, None)):
        raise TypeError(f"{by}() must return an object with a method {method}(), got {shown(part)}")
    return part
