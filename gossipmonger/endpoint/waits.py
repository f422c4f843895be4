"""Waits: callers that block until something is so, and are woken when something happens.

A caller looks, and blocks if there is nothing to see. Whatever happens rings its bell, and it looks again. The bell is there
before the first look and keeps a ring until the next wait, so nothing that happens in between is missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from gossipmonger.endpoint.exit import doomed
from gossipmonger.errors import ClosedError
from gossipmonger.process import Bell
from gossipmonger.state.arguments import seconds

if TYPE_CHECKING:
    from gossipmonger.endpoint.engine import Engine

__all__ = ["Waits"]

#: Seconds that a wait blocks at a time. Python runs signal handlers between two steps of the main thread; a signal that arrives
#: just as the thread begins to block would otherwise wait with it, for ever.
_SLICE = 0.5

T = TypeVar("T")


class Waits:
    """The callers that wait.

    Args:
        engine: Tells whether it is closed. Its watches tell whether the calling thread runs a handler, and count each caller
            that waits as a follower.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._bells: list[Bell] = []

    def ring(self) -> None:
        """Let all that wait look again."""
        for bell in tuple(self._bells):
            bell.ring()

    def refuse_handler(self, name: str) -> None:
        """Raise an error if a handler calls a method that waits.

        Raises:
            RuntimeError: It does.
        """
        if self._engine.watches.in_handler:
            raise RuntimeError(
                f"{name}: a handler must not wait, since what it waits for may have to be done by its own thread; look at once,"
                " and again in a handler of what happens next"
            )

    def pause(self, name: str, bell: Bell, seconds: float) -> None:
        """Let a caller of a method wait for a bell, up to so many seconds, and no longer than a signal may have to wait.

        Raises:
            RuntimeError: In a simulation.
        """
        if self._engine.virtual:
            raise RuntimeError(
                f"{name}: virtual time stands still while a caller waits; let it pass by sim.run_until(condition, limit=...)"
            )
        bell.wait(min(seconds, _SLICE))

    def wait(self, name: str, look: Callable[[], T], timeout: float | timedelta | None, instead: Callable[[T], str]) -> T:
        """Call `look` until it returns something true, and return that.

        Args:
            name: What was called, for errors.
            look: Called on the caller's thread, with no lock held.
            timeout: Seconds, or a `timedelta`; None for no limit.
            instead: Says, for a TimeoutError, what there is instead; it is given what `look` returned last.

        Raises:
            ClosedError: The endpoint is closed.
            RuntimeError: A handler called this, or it would have to wait in a simulation.
            TimeoutError: Nothing true was returned in time.
            TypeError, ValueError: The timeout is neither, or negative.
        """
        limit = math.inf if timeout is None else seconds("timeout", timeout)
        self.refuse_handler(name)
        deadline = monotonic() + limit
        bell = Bell()
        self._bells.append(bell)
        self._engine.watches.followers[bell] = lambda: None
        try:
            while not self._engine.closed or doomed():
                found = look()
                if found:
                    return found
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeoutError(f"{name}: not within {limit:g} s: {instead(found)}")
                self.pause(name, bell, left)
        finally:
            self._bells.remove(bell)
            del self._engine.watches.followers[bell]
        raise ClosedError(f"{name}: this endpoint has been closed")
