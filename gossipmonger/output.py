"""What the protocol gives back: messages to send and events that happened, in their order."""

from __future__ import annotations

from typing import Any, NamedTuple

from gossipmonger.entry import Entry
from gossipmonger.peer import RemotePeer

__all__ = ["Event", "Output", "Send"]


class Event(NamedTuple):
    """Something happened: the event's name and arguments, as handlers get them."""

    name: str
    args: tuple[Any, ...]


class Send(NamedTuple):
    """Something is to be sent: deltas, a digest, or both, to be read in this order."""

    remote_peer: RemotePeer
    deltas: list[list[Any]] | None
    digest: list[Entry] | None


Output = list[Event | Send]
