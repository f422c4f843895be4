"""What the protocol returns: messages to send and events that happened, in their order."""

from __future__ import annotations

from typing import Any, NamedTuple

from gossipmonger.state import Message, RemotePeer

__all__ = ["Event", "Output", "Send"]


class Event(NamedTuple):
    """Something happened: the event's name and its arguments."""

    name: str
    args: tuple[Any, ...]


class Send(NamedTuple):
    """A message is to be sent. One that goes to several peers is the same object in each `Send`."""

    to: RemotePeer
    message: Message


Output = list[Event | Send]
