"""What a node logs, under the name `gossipmonger`.

| level | line |
|---|---|
| DEBUG | the story of each round |
| INFO | the node listens, leaves, closes; a peer is met, dies, lives again, leaves, is forgotten |
| WARNING | a peer cannot be reached, and it is reached again: once each, and INFO if the program handles `error` itself |
| WARNING, ERROR | an error without a caller and without a handler |

Lines about what happens wait in the dispatcher's queue with the events, so they have the order of events, and a log handler
that blocks delays events and nothing else. No lock is held while a line is logged: a log handler may call any method of its
node.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from gossipmonger.errors import Reporter, SendError, at, logs, shown, tell, words
from gossipmonger.protocol import Dial, Event, Output, Send
from gossipmonger.state import Message, RemotePeer

__all__ = ["LOG", "Log"]

#: The name of an event that is a line to be logged: its arguments are a level and a text.
LOG = "log"

#: What is said of a peer's life.
_LIVES = {
    "new peer": "met peer {} at {}",
    "peer dead": "peer {} at {} is dead",
    "peer live": "peer {} at {} is live",
    "peer left": "peer {} at {} has left",
    "peer forgotten": "forgot peer {} at {}",
}

#: Peers that could not be reached, as far as they are remembered.
_CAPACITY = 10_000

#: Seconds without a failure after which a peer that is heard counts as reached, though no dial has shown it.
_CALM = 600.0

#: Seconds after which the next failure is news again. A dead peer is tried from time to time for as long as it is known.
_FORGET = 3_600.0


@dataclass
class _Unreachable:
    failed: float  # when it failed last
    accepted: bool = False  # whether it has accepted a dial since


class Log:
    """Makes the lines of one node.

    * Peers that cannot be reached: `fails`, `hears`, `unreachable`
    * Lines: `wants`, `event`, `round`, `report`, `say`

    Args:
        id: The node's id.
        handles: Returns whether the program has a handler for `error`.

    Attributes:
        unreachable: The peers that could not be reached, by their ids. Read only.
    """

    def __init__(self, id: str, handles: Callable[[], bool]) -> None:
        self._prefix = f"node {shown(id)}: "
        self._handles = handles
        self._reporter = Reporter(self._prefix)
        self._links = False  # whether the transport tells which dials are accepted
        self.unreachable: OrderedDict[str, _Unreachable] = OrderedDict()  # each change is one atomic operation

    # Peers that cannot be reached

    def fails(self, error: BaseException) -> list[Event]:
        """Note an error; return the line for it if it says that a peer cannot be reached, and that is new."""
        peer = error.remote_peer if isinstance(error, SendError) else None
        if not isinstance(peer, RemotePeer):
            return []
        now = monotonic()
        known = self.unreachable.get(peer.id)
        if known is not None and now - known.failed < _FORGET:
            known.failed, known.accepted = now, False
            return []
        self.unreachable[peer.id] = _Unreachable(now)
        if len(self.unreachable) > _CAPACITY:
            self.unreachable.popitem(last=False)
        return self._line(f"{words(error)} (not logged again until it is reached)")

    def hears(self, told: Message | RemotePeer, what: str = "") -> list[Event]:
        """Take a message or a word of the kernel; return the line for it if that means that a peer is reached again.

        A peer that can only dial out is heard all the time, and a port that accepts a dial may be another program's by now. So
        it takes both, where the transport tells what was accepted.
        """
        if not isinstance(told, Message):
            self._links = True
            known = self.unreachable.get(told.id)
            if known is not None and what == "accepted":
                known.accepted = True
            return []
        peer = told.sender
        known = self.unreachable.get(peer.id)
        if known is None or (self._links and not known.accepted and monotonic() - known.failed < _CALM):
            return []
        self.unreachable.pop(peer.id, None)
        return self._line(f"peer {shown(peer.id)} at {at(peer.transport)} is reached again")

    def _line(self, text: str) -> list[Event]:
        level = logging.INFO if self._handles() else logging.WARNING
        return [Event(LOG, (level, text))] if logs(level) else []

    # Lines

    def wants(self, event: Event) -> bool:
        """Return whether an event is logged. Any lock may be held."""
        return event.name == LOG or (event.name in _LIVES and logs(logging.INFO))

    def event(self, event: Event) -> None:
        """Log an event that is wanted."""
        if event.name == LOG:
            self.say(*event.args)
        elif event.name in _LIVES:
            (peer,) = event.args
            self.say(logging.INFO, _LIVES[event.name].format(shown(peer.id), at(peer.transport)))

    def round(self, output: Output) -> list[Event]:
        """Return the line that tells what a round has done."""
        if not logs(logging.DEBUG):
            return []
        parts = [part for part in map(_story, output) if part]
        return [Event(LOG, (logging.DEBUG, f"round: {'; '.join(parts) or 'nobody to send to'}"))]

    def report(self, error: BaseException) -> None:
        """Log an error that has no caller and no handler. `fails` sees to those that say that a peer cannot be reached."""
        if not (isinstance(error, SendError) and isinstance(error.remote_peer, RemotePeer)):
            self._reporter.report(error)

    def say(self, level: int, text: str) -> None:
        """Log a line. No lock may be held."""
        if logs(level):
            tell(level, self._prefix + text)


def _story(item: Any) -> str:
    """Return what an output's item means, "" if it says nothing that another one does not."""
    if type(item) is Dial:
        return f"dials {shown(item.to.id)}"
    if type(item) is Send:
        deltas, digest = item.message.deltas, item.message.digest
        told = [] if deltas is None else [_count(len(deltas), "delta", "deltas")]
        if digest is not None:
            told.append(f"a {digest.kind.value} of {_count(len(digest.entries), 'entry', 'entries')}")
            told += ["a compact digest"] if digest.header is not None and digest.header.compact is not None else []
        return f"sends {' and '.join(told)} to {shown(item.to.id)}"
    if item.name in _LIVES:
        return f"{item.name} {shown(item.args[0].id)}"
    return ""


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
