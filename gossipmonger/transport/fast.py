"""Decoding with msgspec, which parses a message and checks it against its schema in one go. Needs the extra `fast`.

What it returns is what `messages.decode` makes of the same bytes. What it does not take it leaves to that: malformed messages,
which are to be refused in the same words, and what it is stricter about than other parsers, such as half of a surrogate pair.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gossipmonger.entry import EntryFields
from gossipmonger.peer import MAX_VERSION, RemotePeer

__all__ = ["decode"]

_Id = Annotated[str, msgspec.Meta(min_length=1)]
_Version = Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]


class _Entry(EntryFields, msgspec.Struct, eq=False, gc=False, rename={"version": "maxVersionSeen"}):
    """An entry: the fields of `gossipmonger.entry.Entry`. What they have to do with each other is for `messages` to check."""

    id: _Id
    version: _Version
    transport: Any = None
    heartbeat: _Version = -1
    floor: _Version = 0
    heard: _Version = 0
    left: bool = False
    reply: bool = False
    rumor: bool = False
    part: bool = False
    flow: Any = None


class _Sender(msgspec.Struct):
    id: _Id
    transport: Any = None


class _Message(msgspec.Struct):
    sender: _Sender
    deltas: list[list[Any]] | msgspec.UnsetType = msgspec.UNSET
    digest: list[_Entry] | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Message)


def decode(data: bytes | bytearray) -> tuple[RemotePeer, Any, Any] | None:
    """Return sender, deltas and digest of a message, None for those it has not; None if msgspec does not take it."""
    try:
        message = _decoder.decode(data)
    except (ValueError, RecursionError):
        return None
    deltas = None if message.deltas is msgspec.UNSET else message.deltas
    digest = None if message.digest is msgspec.UNSET else message.digest
    return RemotePeer(message.sender.id, message.sender.transport), deltas, digest
