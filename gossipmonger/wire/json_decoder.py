"""The decoder that needs nothing but Python. It decides what is refused, and in which words."""

from __future__ import annotations

import json
import math
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from gossipmonger.errors import MessageError, shown
from gossipmonger.state import Delta, Digest, Entry, Kind, Message, RemotePeer, own_index, values
from gossipmonger.wire.schema import (
    REQUIRED,
    SCHEMA,
    Field,
    Schema,
    Table,
    Type,
    digest_of,
    is_address,
    is_transport,
    refusal,
)

__all__ = ["JsonDecoder", "parse"]

#: Digits above which an integer has more than the 2048 bits that `values.checked` takes.
_MAX_DIGITS = 640

#: Characters of an id that an error names in full.
_MAX_SOURCE = 128

_Reachable = Callable[[Any], bool]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_integer(digits: str) -> float:
    # JavaScript reads a number that is too large as an infinity. Python refuses to read it, which would refuse a message for
    # something in a field that nobody knows.
    return int(digits) if len(digits) < _MAX_DIGITS else math.copysign(math.inf, -1 if digits[0] == "-" else 1)


_parser = json.JSONDecoder(parse_constant=_refuse_constant)
_careful_parser = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_parse_integer)


def parse(text: str) -> Any:
    """Return the JSON value that a text stands for.

    Raises:
        ValueError: It is not JSON.
        RecursionError: It is nested too deep for the parser.
    """
    try:
        found, end = _parser.raw_decode(text)  # `json.loads` would make a parser each time
    except ValueError:
        return _careful_parser.decode(text)
    return found if end == len(text) or not text[end:].strip(" \t\r\n") else _careful_parser.decode(text)


class JsonDecoder:
    """Makes messages of bytes, or of what a transport has decoded itself.

    Args:
        schema: What they may hold.
    """

    def __init__(self, schema: Schema = SCHEMA) -> None:
        self._sender = _Reader(schema.sender, "sender")
        self._entry = _Reader(schema.entry, "digest[{}]")
        self._header = _Reader(schema.header, "digest[{}]")
        self._delta = _Reader(schema.delta, "deltas[{}]", "[{place}]")
        self._marks = namedtuple("_marks", [field.attribute for field in schema.header.fields])  # type: ignore[misc]

    def decode(
        self,
        data: bytes | bytearray,
        source: object = None,
        reachable: _Reachable = is_address,
        speaker: RemotePeer | None = None,
    ) -> Message:
        """Return the message that these bytes are: see `gossipmonger.wire.decode`."""
        message = self.parse(data, source)
        for name in ("deltas", "digest"):
            if name in message and type(message[name]) is not list:  # null too, which `message_of` takes for none
                raise refusal(name, "a list", message[name], source)
        sender = message.get("sender") if speaker is None or "sender" in message else speaker
        return self.message_of(sender, message.get("deltas"), message.get("digest"), source, reachable)

    @staticmethod
    def parse(data: bytes | bytearray, source: object) -> dict[str, Any]:
        """Return the object that these bytes are, with no word on what is in it.

        Raises:
            MessageError: They are not one.
        """
        try:
            message = parse(data.decode())
        except RecursionError:
            raise MessageError(f"message must not be nested more than {values.MAX_NESTING} deep", source) from None
        except ValueError as error:
            raise MessageError(f"message must be JSON in UTF-8: {error}", source) from None
        if type(message) is not dict:
            raise refusal("message", "an object", message, source)
        return message

    def sender_of(self, message: Mapping[str, Any], source: object, reachable: _Reachable = is_address) -> RemotePeer:
        """Return the sender of a message; raises MessageError if it has none or a malformed one."""
        sender = RemotePeer(*self._sender.read(message.get("sender"), 0, source, reachable))
        self._sender.check([sender], source)
        return sender

    def message_of(
        self,
        sender: Any,
        deltas: Any = None,
        digest: Any = None,
        source: object = None,
        reachable: _Reachable = is_transport,
    ) -> Message:
        """Return the message with these parts: see `gossipmonger.wire.message_of`."""
        if isinstance(sender, Mapping):
            sender = dict(sender)
        elif hasattr(sender, "id"):
            sender = {name: getattr(sender, name) for name in self._sender.names if hasattr(sender, name)}
        if source is None and type(sender) is dict:
            source = _source(sender.get("id"))
        remote_peer = self.sender_of({"sender": sender}, source, reachable)
        if deltas is None and digest is None:
            raise MessageError("message must have deltas or a digest", source)
        return Message(
            remote_peer,
            None if deltas is None else self._read_deltas(deltas, source, reachable),
            None if digest is None else self._read_digest(digest, remote_peer.id, source, reachable),
        )

    def _read_deltas(self, items: Any, source: object, reachable: _Reachable) -> list[Delta]:
        if type(items) is not list:
            raise refusal("deltas", "a list", items, source)
        reader = self._delta
        deltas = [Delta(*reader.read_list(item, index, source, reachable)) for index, item in enumerate(items)]
        reader.check(deltas, source)
        return deltas

    def _read_digest(self, items: Any, sender: str, source: object, reachable: _Reachable) -> Digest:
        if type(items) is not list:
            raise refusal("digest", "a list", items, source)
        reader = self._entry
        entries = [Entry(*reader.read(item, index, source, reachable)) for index, item in enumerate(items)]
        reader.check(entries, source)
        own = own_index(entries, sender)
        if own is None:
            return Digest(Kind.ROUND, None, entries)
        marks = self._marks(*self._header.read(items[own], own, source, reachable))
        self._header.check([marks], source, own)
        return digest_of(entries, entries[own], marks)


def _source(id: Any) -> str | None:
    """Return an id as the source of a message, for the error; None if it is not one."""
    if type(id) is not str or not id:
        return None
    return id if len(id) <= _MAX_SOURCE and id.isprintable() else shown(id)


class _Reader:
    """Walks one table.

    Args:
        table: The table.
        where: What errors call an object of it, `{}` for its index.
        label: The same for a field: `{name}` for its name, `{place}` for its place.

    Attributes:
        names: The fields' names on the wire.
    """

    def __init__(self, table: Table, where: str, label: str = ".{name}") -> None:
        self.names = [field.name for field in table.fields]
        self._needed = sum(field.default is REQUIRED for field in table.fields)
        self._defaults = [field.default for field in table.fields]
        self._where = where
        self._labels = {field.attribute: label.format(name=field.name, place=n) for n, field in enumerate(table.fields)}
        self._rules = table.rules
        self._steps = [(field, field.name, field.default, _check_of(field)) for field in table.fields]

    def read(self, item: Any, index: int, source: object, reachable: _Reachable) -> list[Any]:
        """Return the values of an object in the table's order, with the defaults of those that are absent."""
        if type(item) is not dict:
            raise refusal(self._where.format(index), "an object", item, source)
        found = []
        for field, name, value, check in self._steps:
            if name in item:
                value = item[name]
                if not (check or reachable)(value):
                    raise refusal(self._path(index, field.attribute), field.wanted(), value, source)
            elif value is REQUIRED:
                where = self._path(index, field.attribute)
                raise MessageError(f"{where} must be {field.wanted()}, but is missing", source)
            found.append(value)
        return found

    def read_list(self, item: Any, index: int, source: object, reachable: _Reachable) -> Sequence[Any]:
        """Return the values of an object whose fields have places in place of names, with the defaults of those it lacks."""
        if type(item) is not list or len(item) < self._needed:
            wanted = f"[{', '.join(self.names[: self._needed])}, ...]"
            raise refusal(self._where.format(index), wanted, item, source)
        for (field, _, _, check), value in zip(self._steps, item, strict=False):
            if not (check or reachable)(value):
                raise refusal(self._path(index, field.attribute), field.wanted(), value, source)
        return item[: len(self._defaults)] + self._defaults[len(item) :]

    def check(self, items: Sequence[Any], source: object, first: int = 0) -> None:
        """Raise MessageError if one of these objects, whose indices begin at `first`, breaks a rule."""
        broken = self._rules(items)
        if broken is not None:
            item, attribute, wanted = broken
            index = next(index for index, each in enumerate(items, first) if each is item)
            raise refusal(self._path(index, attribute), wanted, getattr(item, attribute), source)

    def _path(self, index: int, attribute: str) -> str:
        return self._where.format(index) + self._labels[attribute]


def _check_of(field: Field) -> Callable[[Any], bool] | None:
    """Return what tells whether a value is right for the field; None if the transport decides."""
    least = -math.inf if field.least is None else field.least
    most = math.inf if field.most is None else field.most
    match field.type:
        case Type.TEXT:
            return lambda value: type(value) is str and least <= len(value) <= most
        case Type.INTEGER:
            return lambda value: type(value) is int and least <= value <= most
        case Type.NUMBER:
            return lambda value: type(value) in (int, float) and least <= value <= most
        case Type.BOOLEAN:
            return lambda value: type(value) is bool
        case Type.LIST:
            return lambda value: type(value) is list
        case Type.ANY:
            return lambda value: True
        case Type.TRANSPORT:
            return None
