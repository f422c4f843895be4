"""The decoder that msgspec makes of the schema, several times as fast as the other. Needs the extra `fast`.

It takes no message that `JsonDecoder` refuses, and makes the same of those that it takes. It leaves the rest to `JsonDecoder`:
malformed messages, which are refused in its words, and what msgspec is stricter about, such as half of a surrogate pair or an
address that is more than a host and a port.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from gossipmonger.state import Delta, Digest, Kind, Message, RemotePeer, own_index
from gossipmonger.wire.schema import REQUIRED, SCHEMA, Field, Schema, Table, Type, digest_of

__all__ = ["MsgspecDecoder"]


class MsgspecDecoder:
    """Makes messages of bytes.

    The entries that it returns are frozen structs with the attributes of `Entry`; their `transport` is a new dict each time.

    Args:
        schema: What messages may hold.
    """

    def __init__(self, schema: Schema = SCHEMA) -> None:
        address = _struct("_Address", schema.address.fields, forbid_unknown_fields=True)
        sender = _struct("_Sender", schema.sender.fields, address)
        entry = _struct("_Entry", schema.entry.fields + schema.header.fields, address)
        deltas, digest = list[_delta(schema.delta)], list[entry]  # type: ignore[misc, valid-type]
        parts: list[Any] = [("sender", sender, None), ("deltas", deltas, None), ("digest", digest, None)]
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("_Message", parts))
        self._sender_rules = schema.sender.rules
        self._entry_rules = schema.entry.rules
        self._header_rules = schema.header.rules
        self._delta_rules = schema.delta.rules

    def decode(self, data: bytes | bytearray, speaker: RemotePeer | None = None) -> Message | None:
        """Return the message that these bytes are; None to leave them to `JsonDecoder`. See `gossipmonger.wire.decode`."""
        try:
            if not data.isascii():
                data.decode()  # msgspec does not look at what it skips
            found: Any = self._decoder.decode(data)
        except (ValueError, RecursionError):
            return None
        sender, deltas, entries = found.sender, found.deltas, found.digest
        if sender is not None:
            if self._sender_rules((sender,)) is not None:
                return None
            speaker = RemotePeer(sender.id, sender.transport)
        if speaker is None or (deltas is None and entries is None):
            return None
        if deltas and self._delta_rules(deltas) is not None:
            return None
        digest = None
        if entries is not None:
            if self._entry_rules(entries) is not None:
                return None
            digest = Digest(Kind.ROUND, None, entries)
            index = own_index(entries, speaker.id)
            if index is not None:
                own = entries[index]
                if self._header_rules((own,)) is not None:
                    return None
                digest = digest_of(entries, own, own)
        return Message(speaker, deltas, digest)


def _struct(name: str, fields: tuple[Field, ...], address: Any = Any, **options: Any) -> Any:
    """Return a struct with these fields, whose transports, if it has any, are `address`es."""
    namespace: dict[str, Any] = {}
    rename = {}
    parts: list[Any] = []
    for field in fields:
        attribute = field.attribute
        if field.type is Type.TRANSPORT:
            attribute = f"{attribute}_struct"
            namespace[field.attribute] = _dict_property(attribute)
        rename[attribute] = field.name
        part = (attribute, _type(field, address))
        parts.append(part if field.default is REQUIRED else (*part, field.default))
    parts.sort(key=len)  # those without a default first, as a struct wants them
    return msgspec.defstruct(name, parts, namespace=namespace, rename=rename, frozen=True, gc=False, eq=False, **options)


def _dict_property(attribute: str) -> property:
    """Return a property that is an address as the JSON that it was."""

    def transport(item: Any) -> dict[str, Any]:
        address = getattr(item, attribute)
        if address.udp is None:
            return {"host": address.host, "port": address.port}
        return {"host": address.host, "port": address.port, "udp": address.udp}

    return property(transport)


def _delta(table: Table) -> Any:
    """Return a kind of `Delta` that says what msgspec has to check."""
    return type(
        "_Delta",
        (Delta,),
        {
            "__slots__": (),
            "__annotations__": {field.attribute: _type(field) for field in table.fields},
            "_field_defaults": {field.attribute: field.default for field in table.fields if field.default is not REQUIRED},
        },
    )


def _type(field: Field, address: Any = Any) -> Any:
    match field.type:
        case Type.TEXT:
            return Annotated[str, msgspec.Meta(min_length=field.least, max_length=field.most)]
        case Type.INTEGER:
            return Annotated[int, msgspec.Meta(ge=field.least, le=field.most)]
        case Type.NUMBER:
            bounds = msgspec.Meta(ge=field.least, le=field.most)
            return Annotated[int, bounds] | Annotated[float, bounds]  # as JSON has it, and is relayed
        case Type.BOOLEAN:
            return bool
        case Type.LIST:
            return list[Any]
        case Type.TRANSPORT:
            return address
        case Type.ANY:
            return Any
