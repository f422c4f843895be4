"""The parts of an endpoint whose time and messages a test decides on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyee.base import EventEmitter

__all__ = ["Deaf", "Inline", "Never"]


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
