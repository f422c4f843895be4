"""Messages: their shape, their checks, their bytes.

One message is one JSON object in UTF-8, ended by CR LF:

    {"digest": [entry, ...], "sender": {"id": "a", "transport": {"host": "10.0.0.1", "port": 9742}}}
    {"deltas": [["a", "foo", "bar", 1732, 1731], ...], "sender": {...}}
    {"deltas": [...], "digest": [...], "sender": {...}}

The third goes to peers of ours only: a Node node reads the one and drops the other. An entry is
`{"id", "maxVersionSeen", "transport"}`, and optionally

    heartbeat   an integer: how many digests the peer has sent
    floor       a version, at most maxVersionSeen: nothing of the peer exists at or below it
    left        true: it has said good-bye
    heard       a version above maxVersionSeen: the sender has heard of it and does not have it yet
    reply       true, in the sender's own entry: the digest answers another
    part        true, in the sender's own entry: the digest is a part of one, so that a peer missing from it says nothing
    flow        [rho, tau] or [rho, tau, grant], in the sender's own entry: see `gossipmonger.flow`

A delta is `[peer id, key, value, version]` and optionally `after`, the version after which it comes. A Node node ignores what
it does not know, and so do we: that is how a protocol grows. A message is taken whole or refused whole, so everything in it is
checked before anything of it is used.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from gossipmonger import values
from gossipmonger.errors import MessageError
from gossipmonger.peer import MAX_VERSION, RemotePeer

__all__ = ["FATAL_IDS", "MAX_MESSAGE_SIZE", "Message", "decode", "encode", "fits", "split", "validate"]

#: Bytes. Far more than gossip needs, and little enough to hold a few dozen of in memory.
MAX_MESSAGE_SIZE = 16 * 1024 * 1024

#: Bytes, CR LF apart. A Node node decodes each chunk of TCP by itself, so a character that is cut between two is lost for good.
#: A message this short is one segment, even at IPv6's least MTU of 1,280, and is not cut. In a longer one every character is
#: ASCII, with escapes; for text beyond ASCII that is two to three times the bytes.
_ONE_SEGMENT = 1024

#: Ids that no peer may have: a Node node looks peers up in a plain object, finds these inherited, and ends.
FATAL_IDS = frozenset(
    {"__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString"}
    | {"toString", "valueOf", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"}
)

#: All that an entry may hold which means something.
_FIELDS = frozenset({"id", "maxVersionSeen", "transport", "heartbeat", "floor", "left", "heard", "reply", "part", "flow"})


class Message(NamedTuple):
    """One message, checked.

    Attributes:
        sender: Who sent it, by its own word.
        deltas: What it told, each `[peer id, key, value, version]` and maybe `after`; None if it had none.
        digest: What it knows, an entry for each peer; None if it had none.
    """

    sender: RemotePeer
    deltas: list[list[Any]] | None
    digest: list[dict[str, Any]] | None


def encode(sender: RemotePeer, *, deltas: list[list[Any]] | None = None, digest: list[dict[str, Any]] | None = None) -> bytes:
    """Return the message's bytes.

    Raises:
        TypeError, ValueError: A peer's transport is something that JSON has no form for.
    """
    message: dict[str, Any] = {}
    if deltas is not None:
        message["deltas"] = deltas
    if digest is not None:
        message["digest"] = digest
    message["sender"] = {"id": sender.id, "transport": sender.transport}
    return _dumps(message) + b"\r\n"


def _dumps(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if text.isascii():
        return text.encode()
    try:
        data = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can carry it
        return _escaped(value)
    return data if len(data) <= _ONE_SEGMENT else _escaped(value)


def _escaped(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def split(sender: RemotePeer, deltas: list[list[Any]], digest: list[dict[str, Any]] | None, limit: int) -> Iterator[bytes]:
    """Yield the messages that carry these deltas in their order, then the digest, halved until each is within `limit` bytes.

    A delta that is larger by itself makes a message that is too large, and the receiver's to refuse.
    """
    encoded = encode(sender, deltas=deltas, digest=digest)
    if len(encoded) <= limit or (len(deltas) <= 1 and digest is None):
        yield encoded
    elif digest is not None:
        yield from split(sender, deltas, None, limit)
        yield encode(sender, digest=digest)
    else:
        half = len(deltas) // 2
        yield from split(sender, deltas[:half], None, limit)
        yield from split(sender, deltas[half:], None, limit)


def fits(value: Any, limit: int) -> bool:
    """Whether a message of `limit` bytes has room for `value` beside ids and addresses of reasonable length."""
    room = limit - 4096
    if isinstance(value, str) and 12 * len(value) < room:  # no character takes more than a pair of escapes, 6 bytes each
        return True
    # Measured with escapes, since the message may be one that has them though the value by itself would not.
    return not isinstance(value, (str, list, dict)) or len(_escaped(value)) <= room


def decode(data: bytes | bytearray, source: object = None, reachable: Callable[[Any], bool] = values.checked) -> Message:
    """Return the message that these bytes are.

    Args:
        data: One whole message, with or without the CR LF.
        source: Where it came from, for the error.
        reachable: Whether a sender's or an entry's `transport` is one that this transport can use.

    Raises:
        MessageError: They are none.
    """
    try:
        message = json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise MessageError(f"nested more than {values.MAX_NESTING} deep", source) from None
    except ValueError as error:  # no UTF-8, no JSON, NaN, or an integer of thousands of digits
        raise MessageError(f"no JSON in UTF-8: {error}", source) from None
    if type(message) is not dict:
        raise MessageError(f"{reprlib.repr(message)} is no object", source)
    if "deltas" not in message and "digest" not in message:
        raise MessageError("neither deltas nor digest", source)
    for name in ("deltas", "digest"):
        if name in message:
            _check_list(message[name], name, source)
    return validate(message.get("sender"), message.get("deltas"), message.get("digest"), source, reachable)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def validate(
    sender: Any,
    deltas: Any = None,
    digest: Any = None,
    source: object = None,
    reachable: Callable[[Any], bool] = values.checked,
) -> Message:
    """Return what a transport received as a message, if that is what it is.

    Args:
        sender: A mapping with `id` and `transport`, or an object with these attributes.
        deltas: What should be a list of deltas, None for none.
        digest: What should be a list of entries, None for none.
        source: Where it came from, for the error; by default the sender's id.
        reachable: As for `decode`.

    Raises:
        MessageError: It is none; the error names the first thing that is wrong.
    """
    if isinstance(sender, dict):
        id, transport = sender.get("id"), sender.get("transport")
    else:
        id, transport = getattr(sender, "id", None), getattr(sender, "transport", None)
    source = id if source is None else source
    _check_id(id, "sender.id", source)
    if not reachable(transport):
        raise MessageError(f"sender.transport is {reprlib.repr(transport)}, out of reach", source)
    checked = RemotePeer(str(id), transport)
    if deltas is None and digest is None:
        raise MessageError("neither deltas nor digest", source)
    if deltas is not None:
        _check_list(deltas, "deltas", source)
        for index, delta in enumerate(deltas):
            _check_delta(delta, index, source)
    if digest is not None:
        _check_list(digest, "digest", source)
        for index, entry in enumerate(digest):
            _check_entry(entry, index, source, reachable)
    return Message(checked, deltas, digest)


def _check_list(items: Any, name: str, source: object) -> None:
    if type(items) is not list:
        raise MessageError(f"{name} is {reprlib.repr(items)}, no list", source)


def _check_id(id: Any, name: str, source: object) -> None:
    if type(id) is not str or not id:
        raise MessageError(f"{name} is {reprlib.repr(id)}, no id", source)
    if id in FATAL_IDS:
        raise MessageError(f"{name} is {id!r}, which ends Node nodes", source)


def _check_delta(delta: Any, index: int, source: object) -> None:
    if type(delta) is not list or len(delta) < 4:
        raise MessageError(f"deltas[{index}] is {reprlib.repr(delta)}, no [peer id, key, value, version]", source)
    id, key, value, version = delta[:4]
    _check_id(id, f"deltas[{index}][0]", source)
    if type(key) is not str:
        raise MessageError(f"deltas[{index}][1] is {reprlib.repr(key)}, no key", source)
    if not values.checked(value):
        raise MessageError(f"deltas[{index}][2] holds an infinite number or is nested too deep", source)
    if type(version) is not int or not 0 <= version <= MAX_VERSION:
        raise MessageError(f"deltas[{index}][3] is {reprlib.repr(version)}, no version", source)
    if len(delta) > 5 and not values.checked(delta):
        raise MessageError(f"deltas[{index}] holds an infinite number or is nested too deep", source)
    if len(delta) > 4 and (type(delta[4]) is not int or not 0 <= delta[4] < version):
        raise MessageError(f"deltas[{index}][4] is {reprlib.repr(delta[4])}, no version below {version}", source)


def _check_entry(entry: Any, index: int, source: object, reachable: Callable[[Any], bool]) -> None:
    if type(entry) is not dict:
        raise MessageError(f"digest[{index}] is {reprlib.repr(entry)}, no entry", source)
    _check_id(entry.get("id"), f"digest[{index}].id", source)
    version = entry.get("maxVersionSeen")
    if type(version) is not int or not 0 <= version <= MAX_VERSION:
        raise MessageError(f"digest[{index}].maxVersionSeen is {reprlib.repr(version)}, no version", source)
    if len(entry) > 3:
        for name, least, most in (("heartbeat", 0, MAX_VERSION), ("floor", 0, version), ("heard", version, MAX_VERSION)):
            number = entry.get(name, least)
            if type(number) is not int or not least <= number <= most:
                raise MessageError(f"digest[{index}].{name} is {reprlib.repr(number)}, not from {least} to {most}", source)
        for name in ("left", "reply", "part"):
            if type(entry.get(name, False)) is not bool:
                raise MessageError(f"digest[{index}].{name} is {reprlib.repr(entry[name])}, neither true nor false", source)
        if "flow" in entry and not _is_flow(entry["flow"]):
            raise MessageError(f"digest[{index}].flow is {reprlib.repr(entry['flow'])}, no [rho, tau]", source)
        if not _FIELDS.issuperset(entry) and not values.checked(entry):
            raise MessageError(f"digest[{index}] holds an infinite number or is nested too deep", source)
    transport = entry.get("transport")
    if not reachable(transport):
        raise MessageError(f"digest[{index}].transport is {reprlib.repr(transport)}, out of reach", source)


def _is_flow(flow: Any) -> bool:
    return (
        type(flow) is list
        and 2 <= len(flow) <= 3
        and all(type(rate) in (int, float) and abs(rate) < 1e15 for rate in flow)
        and flow[0] >= 0
        and flow[1] >= 0
    )
