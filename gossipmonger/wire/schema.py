"""The schema: what a message may hold, in one table, and the words for what is wrong.

A message is one JSON object in UTF-8, ended by CR LF:

    {"digest": [entry, ...], "sender": {"id": "a", "transport": {"host": "10.0.0.1", "port": 9742}}}
    {"deltas": [["a", "foo", "bar", 1732, 1731], ...], "sender": {...}}
    {"deltas": [...], "digest": [...], "sender": {...}}

Only nodes that speak our extensions are sent the third: a Node.js node reads one part of it and drops the other. Fields that
are not in the table are ignored, so that a later version may add some.

Both decoders are made from one schema, which `schema_of` makes of the limits in use; `SCHEMA` has the defaults. A field is
checked by itself, against its row; a table's `rules` relate the fields of one object to each other, or say about a value what
a row cannot. To add an optional field, add its row here and to `gossipmonger.state.message`, and use it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from gossipmonger.errors import MessageError, shown
from gossipmonger.state import MAX_VERSION, Digest, Header, Kind, values
from gossipmonger.state.message import INTERVAL, MAX_INTERVAL, MAX_TTL, MIN_TTL
from gossipmonger.wire.limits import DEFAULT_LIMITS, MAX_ADDRESS, MAX_HOST, Limits, is_longer
from gossipmonger.wire.payload import unpack

__all__ = [
    "CLUSTER_WORDS", "FATAL_IDS", "MAX_CLUSTER", "MAX_MESSAGE_SIZE", "REQUIRED", "SCHEMA", "Broken", "Field", "Schema",
    "Table", "Type", "digest_of", "is_address", "is_cluster", "is_transport", "refusal", "schema_of",
]  # fmt: skip

#: Bytes. Far more than gossip needs, and little enough to hold a few dozen of in memory.
MAX_MESSAGE_SIZE = 16 * 1024 * 1024

#: Ids that no peer may have: a Node.js node looks peers up in a plain object, finds these inherited, and crashes.
FATAL_IDS = frozenset(
    {"__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString"}
    | {"toString", "valueOf", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"}
)

#: A rate of `flow` is below this. More than any node tells in a second, and a double still holds every integer up to it.
_MAX_RATE = 1e15

#: Hints in a message, and orders to forget. A node tells one hint at a time; more than this, phi finds dead as soon.
_MAX_HINTS = 64

#: Characters of a cluster's name.
MAX_CLUSTER = 255

#: Characters of a wrong value that an error shows.
_MAX_SHOWN = 160

#: The default of a field that has none.
REQUIRED: Any = object()


class Type(Enum):
    """What a field holds."""

    TEXT = "a string"
    INTEGER = "an integer"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    LIST = "a list"
    TRANSPORT = "an address that can be reached"
    ANY = "anything"


class Field(NamedTuple):
    """One row: a field, checked by itself. A limit that follows from a rule is not repeated in the row.

    Attributes:
        name: What it is called on the wire; in a delta, where fields have places in place of names, its attribute.
        attribute: What it is called in `gossipmonger.state.message`.
        type: What it holds.
        least: The least integer or number, or the least number of characters; None for no limit.
        most: The greatest integer or number, or the greatest number of characters; None for no limit.
        default: What it counts as where it is absent; `REQUIRED` if it may not be.
        words: What it must be, for the error; by default, its type and limits.
    """

    name: str
    attribute: str
    type: Type
    least: int | None = None
    most: int | None = None
    default: Any = REQUIRED
    words: str = ""

    def wanted(self) -> str:
        """Return what it must be, in words."""
        text = self.words or self.type.value
        if self.type is not Type.INTEGER or self.least is self.most is None:
            return text
        if self.most is None:
            return f"{text} of at least {self.least}"
        return f"{text} of at most {self.most}" if self.least is None else f"{text} from {self.least} to {self.most}"


class Broken(NamedTuple):
    """What breaks a rule on objects whose fields are right by themselves.

    Attributes:
        item: The object, with the attributes of its table.
        attribute: The attribute of the field that is at fault.
        wanted: What that field must be, for the error.
    """

    item: Any
    attribute: str
    wanted: str


class Table(NamedTuple):
    """All that may be in one kind of object.

    Attributes:
        fields: Its fields, each checked by itself.
        rules: Relates the fields of one object to each other, or says about a value what its row cannot; returns the first
            object that breaks one, None for none. It looks at many objects at once: a Python call for each would take longer
            than to decode them.
    """

    fields: tuple[Field, ...]
    rules: Callable[[Sequence[Any]], Broken | None] = lambda items: None


class Schema(NamedTuple):
    """A table for each kind of object in a message.

    Attributes:
        sender: The sender.
        address: An address that is a host and a port. `is_address` takes some more, which are rare.
        entry: An entry of the digest.
        header: What the digest says about itself: more fields of the sender's own entry. In other entries they are ignored.
        delta: A delta, which is a list: its fields stand in the table's order.
    """

    sender: Table
    address: Table
    entry: Table
    header: Table
    delta: Table


def _is_flow(rates: list[Any]) -> bool:
    return (
        2 <= len(rates) <= 3
        and all(type(rate) in (int, float) and abs(rate) < _MAX_RATE for rate in rates)
        and rates[0] >= 0
        and rates[1] >= 0
    )


def _are_hints(hints: list[Any], most: int) -> bool:
    return len(hints) <= _MAX_HINTS and all(
        type(hint) is list
        and len(hint) == 2
        and type(hint[0]) is str
        and hint[0] not in FATAL_IDS
        and hint[0] != ""
        and not is_longer(hint[0], most)
        and type(hint[1]) is int
        and 0 <= hint[1] <= MAX_VERSION
        for hint in hints
    )


def is_cluster(name: str) -> bool:
    """Whether a cluster may have this name."""
    return 0 < len(name) <= MAX_CLUSTER


#: What a cluster's name has to be.
CLUSTER_WORDS = f"a string of 1 to {MAX_CLUSTER} characters"
_TTL_WORDS = f"0 or a number of seconds from {MIN_TTL} to {MAX_TTL}"
_FATAL_WORDS = "an id that a Node.js node can hold"
_FLOW_WORDS = f"[rho, tau] or [rho, tau, grant], numbers below {_MAX_RATE:g}, of which rho and tau are not negative"


def schema_of(limits: Limits) -> Schema:
    """Return what a message may hold within these limits."""
    most, longest, depth = limits.max_id_size, limits.max_key_size, limits.max_nesting
    id_words, key_words = f"a non-empty string of at most {most} bytes", f"a string of at most {longest} bytes"
    hints_words = (
        f"at most {_MAX_HINTS} [peer id, heartbeat], ids of at most {most} bytes that a Node.js node can hold and integers up "
        f"to {MAX_VERSION}"
    )

    def sender_rules(senders: Sequence[Any]) -> Broken | None:
        for sender in senders:
            if sender.id in FATAL_IDS:
                return Broken(sender, "id", _FATAL_WORDS)
            if len(sender.id) > most // 4 and is_longer(sender.id, most):
                return Broken(sender, "id", id_words)
        return None

    def entry_rules(entries: Sequence[Any]) -> Broken | None:
        for entry in entries:
            id, version = entry.id, entry.version
            if id in FATAL_IDS:
                return Broken(entry, "id", _FATAL_WORDS)
            if len(id) > most // 4 and is_longer(id, most):
                return Broken(entry, "id", id_words)
            if entry.floor and entry.floor > version:
                return Broken(entry, "floor", f"an integer from 0 to {version}")
            if entry.heard and entry.heard < version:
                return Broken(entry, "heard", f"0 or an integer from {version} to {MAX_VERSION}")
        return None

    def header_rules(marks: Sequence[Any]) -> Broken | None:
        for mark in marks:
            if mark.flow is not None and not _is_flow(mark.flow):
                return Broken(mark, "flow", _FLOW_WORDS)
            if mark.compact is not None and unpack(mark.compact) is None:
                return Broken(mark, "compact", "a compact digest in base64")
            if mark.cluster is not None and not is_cluster(mark.cluster):
                return Broken(mark, "cluster", CLUSTER_WORDS)
            for attribute, hints in (("hints", mark.hints), ("forget", mark.forget)):
                if hints is not None and not _are_hints(hints, most):
                    return Broken(mark, attribute, hints_words)
        return None

    def delta_rules(deltas: Sequence[Any]) -> Broken | None:
        for delta in deltas:
            id, key, value, version, after, more, ttl = delta
            if id in FATAL_IDS:
                return Broken(delta, "peer_id", _FATAL_WORDS)
            if len(id) > most // 4 and is_longer(id, most):
                return Broken(delta, "peer_id", id_words)
            if key == "__proto__":
                return Broken(delta, "key", "a key that a Node.js node can hold")
            if len(key) > longest // 4 and is_longer(key, longest):
                return Broken(delta, "key", key_words)
            if type(value) is not str and not values.checked(value, depth):
                words = f"a JSON value, nested at most {depth} deep, whose numbers are finite and have at most 2048 bits"
                return Broken(delta, "value", words)
            if after is not None and after >= version:
                return Broken(delta, "after", f"an integer below the version {version}")
            if more and version + more > MAX_VERSION:
                return Broken(delta, "more", f"an integer that does not take the version {version} beyond {MAX_VERSION}")
            if 0 < ttl < MIN_TTL:
                return Broken(delta, "ttl", _TTL_WORDS)
        return None

    return Schema(
        sender=Table(
            (
                Field("id", "id", Type.TEXT, 1, most, words=id_words),
                Field("transport", "transport", Type.TRANSPORT),
            ),
            sender_rules,
        ),
        address=Table(
            (
                Field("host", "host", Type.TEXT, 1, MAX_HOST),
                Field("port", "port", Type.INTEGER, 1, 65535),
                Field("udp", "udp", Type.BOOLEAN, default=None),
            ),
        ),
        entry=Table(
            (
                Field("id", "id", Type.TEXT, 1, most, words=id_words),
                Field("maxVersionSeen", "version", Type.INTEGER, 0, MAX_VERSION),
                Field("transport", "transport", Type.TRANSPORT),
                Field("heartbeat", "heartbeat", Type.INTEGER, 0, MAX_VERSION, -1),
                Field("floor", "floor", Type.INTEGER, 0, None, 0),
                Field("heard", "heard", Type.INTEGER, None, MAX_VERSION, 0),
                Field("left", "left", Type.BOOLEAN, default=False),
                Field("age", "age", Type.INTEGER, 0, MAX_VERSION, 0),
                Field("interval", "interval", Type.INTEGER, 1, MAX_INTERVAL, INTERVAL),
            ),
            entry_rules,
        ),
        header=Table(
            (
                Field("reply", "reply", Type.BOOLEAN, default=False),
                Field("rumor", "rumor", Type.BOOLEAN, default=False),
                Field("part", "part", Type.BOOLEAN, default=False),
                Field("flow", "flow", Type.LIST, default=None),
                Field("roll", "compact", Type.TEXT, default=None),
                Field("hints", "hints", Type.LIST, default=None),
                Field("ask", "ask", Type.BOOLEAN, default=False),
                Field("cluster", "cluster", Type.TEXT, default=None, words=CLUSTER_WORDS),
                Field("forget", "forget", Type.LIST, default=None),
                Field("observer", "observer", Type.BOOLEAN, default=False),
            ),
            header_rules,
        ),
        delta=Table(
            (
                Field("peer_id", "peer_id", Type.TEXT, 1, most, words=id_words),
                Field("key", "key", Type.TEXT, None, longest, words=key_words),
                Field("value", "value", Type.ANY),
                Field("version", "version", Type.INTEGER, 0, MAX_VERSION),
                Field("after", "after", Type.INTEGER, 0, None, None),
                Field("more", "more", Type.INTEGER, 0, None, 0),
                Field("ttl", "ttl", Type.NUMBER, 0, MAX_TTL, 0.0, _TTL_WORDS),
            ),
            delta_rules,
        ),
    )


#: What a message may hold by default.
SCHEMA = schema_of(DEFAULT_LIMITS)


def is_address(transport: Any) -> bool:
    """Whether `transport` is a mapping with a `host` and a `port` from 1 to 65535, a number or, as Node.js takes it, digits."""
    if type(transport) is not dict:
        return False
    host, port = transport.get("host"), transport.get("port")
    if type(port) is str and port.isascii() and port.isdigit() and len(port) <= 5:
        port = int(port)
    if type(port) is not int or not 0 < port < 65536 or type(host) is not str or not 0 < len(host) <= MAX_HOST:
        return False
    return len(transport) == 2 or is_transport(transport)


def is_transport(transport: Any) -> bool:
    """Whether `transport`, of whatever kind, is a JSON value that is not too long."""
    return values.checked(transport) and len(json.dumps(transport)) <= MAX_ADDRESS


def digest_of(entries: Sequence[Any], own: Any, marks: Any) -> Digest:
    """Return the digest of these entries, with the header that the sender's own entry holds.

    Args:
        entries: All entries.
        own: The sender's own.
        marks: An object with the attributes of the header's table, as they stand in that entry.
    """
    if own.heartbeat < 0:
        return Digest(Kind.ROUND, None, entries)
    if own.left:
        kind = Kind.FAREWELL
    elif marks.reply:
        kind = Kind.REPLY
    elif marks.rumor:
        kind = Kind.RUMOR
    else:
        kind = Kind.PART if marks.part else Kind.ROUND
    compact = None if marks.compact is None else unpack(marks.compact)
    header = Header(marks.flow, compact, marks.hints, marks.ask, marks.cluster, marks.forget, marks.observer)
    return Digest(kind, header, entries)


def refusal(where: str, wanted: str, got: Any, source: object) -> MessageError:
    """Return the error for a part of a message that is not what it must be. It is one line, and short."""
    return MessageError(f"{where} must be {wanted}, got {shown(got, _MAX_SHOWN)}", source)
