"""Flush: to wait until a live peer is known to hold everything of this node.

Whoever waits is woken by the step of the protocol that shows it, and by nothing else. The questions may be lost like any
message, so they are asked again after a while.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from gossipmonger.process import Latch
from gossipmonger.protocol import Output, Protocol
from gossipmonger.state import Peer
from gossipmonger.transport import Transport

__all__ = ["Flush"]

#: Seconds until the questions are asked again, at first and at last. Each time is twice the one before.
_AGAIN, _LATER = 0.25, 1.0


@dataclass(eq=False)
class _Waiting:
    """A caller that waits."""

    hand_on: bool  # whether this node is about to go
    version: int | None = None  # somebody has to hold everything up to it; None while flow control holds something back
    held: Latch = field(default_factory=Latch)


class Flush:
    """All who wait. Every method but `look` may be called from any thread that does not hold the engine's lock.

    Args:
        local: The node's own peer.
        protocol: The state machine.
        transport: Knows how to wait.
        step: Lets the protocol take a step: calls a function with the time, under the lock, and carries out what it returns.

    Attributes:
        waiting: Those who wait. It is only changed in steps.
    """

    def __init__(
        self, local: Peer, protocol: Protocol, transport: Transport, step: Callable[[Callable[[float], Output]], object]
    ) -> None:
        self._local = local
        self._protocol = protocol
        self._transport = transport
        self._step = step
        self.waiting: list[_Waiting] = []

    def begin(self, hand_on: bool = False, hopeful: bool = False) -> _Waiting:
        """Ask, unless everything is known to be held.

        Args:
            hand_on: Whether this node is about to go. Then what waits for flow control has to be told now, a peer that may be
                about to go itself will not do, and with nothing to tell or nobody to answer there is nothing to wait for.
            hopeful: Whether there may be somebody to answer soon.
        """
        waiting = _Waiting(hand_on)
        self._step(partial(self._begin, waiting, hopeful))
        return waiting

    def _begin(self, waiting: _Waiting, hopeful: bool, now: float) -> Output:
        hand_on = waiting.hand_on
        if hand_on and not (self._local.log or self._protocol.waiting):
            waiting.held.set()
            return []
        output = self._protocol.ask(now, everything=hand_on)
        self.waiting.append(waiting)
        self.look(now)
        if waiting.held.is_set() or (hand_on and not output and not hopeful):
            waiting.held.set()
            return self._end(waiting, now)
        return output

    def look(self, now: float) -> None:
        """Wake those whose time has come. This requires holding the engine's lock."""
        for waiting in self.waiting:
            if waiting.version is None and not self._protocol.waiting:
                waiting.version = self._local.max_version_seen
            if waiting.version is not None and self._protocol.holders.include(now, waiting.version, waiting.hand_on):
                waiting.held.set()

    def end(self, waiting: _Waiting, seconds: float) -> bool:
        """Wait up to so many seconds; return whether everything is held, or there was nothing to wait for."""
        pause = _AGAIN
        try:
            while not self._transport.wait(waiting.held, min(pause, seconds)):
                seconds -= pause
                if seconds <= 0:
                    return waiting.held.is_set()
                pause = min(2 * pause, _LATER)
                self._step(self._protocol.ask)
            return True
        finally:
            self._step(partial(self._end, waiting))

    def _end(self, waiting: _Waiting, now: float) -> Output:
        self.waiting = [other for other in self.waiting if other is not waiting]
        if not self.waiting:
            self._protocol.holders.rest()
        return []
