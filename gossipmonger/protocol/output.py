"""What the protocol returns: messages to send, dials to make and events that happened, in their order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from gossipmonger.state import Message, RemotePeer

__all__ = ["Dial", "Event", "Output", "Send", "send"]


class Dial(NamedTuple):
    """A bare dial that is not kept, to learn whether somebody listens."""

    to: RemotePeer


class Event(NamedTuple):
    """Something happened: the event's name and its arguments."""

    name: str
    args: tuple[Any, ...]


class Send(NamedTuple):
    """A message is to be sent. One that goes to several peers is the same object in each `Send`."""

    to: RemotePeer
    message: Message


Output = list[Dial | Event | Send]


def send(partners: Iterable[RemotePeer], message: Message, output: Output) -> None:
    """Add to an output that a message goes to these partners."""
    for to in partners:
        if message.deltas is not None:
            output.append(Event("deltas send", (to, message.deltas)))
        if message.digest is not None:
            output.append(Event("digest send", (to, message.digest)))
        output.append(Send(to, message))
