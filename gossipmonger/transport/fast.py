"""Encoding, and decoding, with msgspec, which parses a message and checks it against a schema at once. Needs the extra `fast`.

What it returns is what `messages.decode` makes of the same bytes. What it does not take it leaves to that: malformed messages,
which are to be refused in the same words, what it is stricter about than other parsers, such as half of a surrogate pair, and
addresses that are more than a host and a port.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gossipmonger.entry import EntryFields
from gossipmonger.peer import MAX_VERSION, RemotePeer

__all__ = ["decode", "encode"]

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Version = Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class _Address(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    host: _Text
    port: _Port
    udp: bool | msgspec.UnsetType = msgspec.UNSET


def _as_dict(address: _Address) -> dict[str, Any]:
    if address.udp is msgspec.UNSET:
        return {"host": address.host, "port": address.port}
    return {"host": address.host, "port": address.port, "udp": address.udp}


class _Entry(EntryFields, msgspec.Struct, eq=False, gc=False, rename={"version": "maxVersionSeen", "address": "transport"}):
    """An entry: the fields of `gossipmonger.entry.Entry`. What they have to do with each other is for `messages` to check."""

    id: _Text
    version: _Version
    address: _Address
    heartbeat: _Version = -1
    floor: _Version = 0
    heard: _Version = 0
    left: bool = False
    reply: bool = False
    rumor: bool = False
    part: bool = False
    flow: Any = None
    roll: str | None = None

    @property
    def transport(self) -> dict[str, Any]:
        return _as_dict(self.address)


class _Sender(msgspec.Struct):
    id: _Text
    transport: _Address


class _Message(msgspec.Struct):
    sender: _Sender
    deltas: list[list[Any]] | msgspec.UnsetType = msgspec.UNSET
    digest: list[_Entry] | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Message)

#: Return JSON in UTF-8. Raises OverflowError at an integer beyond 64 bits, UnicodeEncodeError at half of a surrogate pair.
encode = msgspec.json.Encoder().encode


def decode(data: bytes | bytearray) -> tuple[RemotePeer, Any, Any] | None:
    """Return sender, deltas and digest of a message between hosts and ports, None for those it has not.

    None in place of all if it is something that msgspec does not take.
    """
    try:
        message = _decoder.decode(data)
    except (ValueError, RecursionError):
        return None
    deltas = None if message.deltas is msgspec.UNSET else message.deltas
    digest = None if message.digest is msgspec.UNSET else message.digest
    return RemotePeer(message.sender.id, _as_dict(message.sender.transport)), deltas, digest
