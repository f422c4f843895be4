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
    rumor       true, in the sender's own entry: the digest tells of what is new, and of nothing else
    part        true, in the sender's own entry: the digest is a part of one
    roll        [basis, heartbeat, version, ...], in the sender's own entry: see `gossipmonger.roll`
    flow        [rho, tau] or [rho, tau, grant], in the sender's own entry: see `gossipmonger.flow`

A delta is `[peer id, key, value, version]` and optionally `after`, the version after which it comes. A Node node ignores what
it does not know, and so do we: that is how a protocol grows. A message is taken whole or refused whole, so everything in it is
checked before anything of it is used.

Where msgspec is installed (extra `fast`), it decodes and checks at once. What it does not take, if only because it is stricter
than JSON's other parsers, is looked at again here: so what is refused, and the words for it, never depend on the extra.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from gossipmonger import values
from gossipmonger.entry import Entry, Own
from gossipmonger.errors import MessageError
from gossipmonger.peer import MAX_VERSION, RemotePeer

try:
    from gossipmonger.transport import fast
except ImportError:  # without the extra
    fast = None  # type: ignore[assignment]

__all__ = [
    "FATAL_IDS", "MAX_MESSAGE_SIZE", "Message", "as_entries", "decode", "encode", "fits", "is_address", "split", "validate",
]  # fmt: skip

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

#: The fields of an entry that are true, or not there.
_MARKS = ("left", "reply", "rumor", "part")

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_escaper = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class Message(NamedTuple):
    """One message, checked.

    Attributes:
        sender: Who sent it, by its own word.
        deltas: What it told, each `[peer id, key, value, version]` and maybe `after`; None if it had none.
        digest: What it knows, an entry for each peer; None if it had none.
    """

    sender: RemotePeer
    deltas: list[list[Any]] | None
    digest: list[Entry] | None


def encode(sender: RemotePeer, *, deltas: list[list[Any]] | None = None, digest: list[Any] | None = None) -> bytes:
    """Return the message's bytes.

    Args:
        sender: Who sends it.
        deltas: What it tells, None for nothing.
        digest: What it knows, each an `Entry` or a dict; None for nothing.

    Raises:
        TypeError, ValueError: A peer's transport is something that JSON has no form for.
    """
    end = f'"sender":{{"id":{_id_text(sender.id)},"transport":{_transport_text(sender.transport)}}}}}\r\n'
    if digest is not None:
        try:
            texts = [entry.text or _entry_text(entry) for entry in digest]
        except AttributeError:
            texts = [_escaper.encode(entry) for entry in digest]
        end = f'"digest":[{",".join(texts)}],{end}'
    if deltas is None:
        return f"{{{end}".encode()
    told = _deltas_text(deltas)
    if not told.isascii():
        try:
            data = f'{{"deltas":{told},{end}'.encode()
            if len(data) <= _ONE_SEGMENT + 2:
                return data
        except UnicodeEncodeError:  # half of a surrogate pair: only an escape can carry it
            pass
        told = _escaper.encode(deltas)
    return f'{{"deltas":{told},{end}'.encode()


def _deltas_text(deltas: list[list[Any]]) -> str:
    if fast is not None:
        try:
            return fast.encode(deltas).decode()
        except (OverflowError, UnicodeError):  # an integer beyond 64 bits, half of a surrogate pair
            pass
    return _encoder.encode(deltas)


def _transport_text(transport: Any) -> str:
    if type(transport) is dict and transport.keys() == {"host", "port"} and type(transport["port"]) is int:
        return _address_text(transport["host"], transport["port"])
    return _escaper.encode(transport)


@lru_cache(4096)
def _address_text(host: str, port: int) -> str:
    return _escaper.encode({"host": host, "port": port})


@lru_cache(4096)
def _id_text(id: str) -> str:
    return _escaper.encode(id)


def _entry_text(entry: Entry) -> str:
    """Make an entry's text; all of it but the heartbeat, which changes with every round, is made once for many."""
    base = entry.base if isinstance(entry, Own) else entry
    text = base.stem
    if text is None:
        text = f'{{"id":{_escaper.encode(entry.id)},"maxVersionSeen":{entry.version}'
        text += f',"transport":{_transport_text(entry.address)}'
        if entry.floor:
            text += f',"floor":{entry.floor}'
        if entry.heard:
            text += f',"heard":{entry.heard}'
        if entry.left:
            text += ',"left":true'
        base.stem = text
    if isinstance(entry, Own):
        text += "".join([f',"{mark}":true' for mark in ("reply", "rumor", "part") if getattr(entry, mark)])
        if entry.flow is not None:
            text += f',"flow":{_escaper.encode(entry.flow)}'
        if entry.roll is not None:
            text += f',"roll":{str(entry.roll).replace(" ", "")}'
    entry.text = text = f'{text},"heartbeat":{entry.heartbeat}}}' if entry.heartbeat >= 0 else text + "}"
    return text


def split(sender: RemotePeer, deltas: list[list[Any]], digest: list[Any] | None, limit: int) -> Iterator[bytes]:
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
    return not isinstance(value, (str, list, dict)) or len(_escaper.encode(value)) <= room


def is_address(transport: Any) -> bool:
    """Whether `transport` is a mapping with a `host` and a `port` from 1 to 65535, a number or, as Node takes it, digits."""
    if type(transport) is not dict:
        return False
    host, port = transport.get("host"), transport.get("port")
    if type(port) is int and 0 < port < 65536 and type(host) is str and host and len(transport) == 2:
        return True
    if type(port) is str and port.isascii() and port.isdigit() and len(port) <= 5:
        port = int(port)
    if type(port) is not int or not 0 < port < 65536 or type(host) is not str or not host:
        return False
    return len(transport) == 2 or values.checked(transport)


def decode(data: bytes | bytearray, source: object = None, reachable: Callable[[Any], bool] = values.checked) -> Message:
    """Return the message that these bytes are.

    Args:
        data: One whole message, with or without the CR LF.
        source: Where it came from, for the error.
        reachable: Whether a sender's or an entry's `transport` is one that this transport can use.

    Raises:
        MessageError: They are none.
    """
    if fast is not None and reachable is is_address:
        decoded = fast.decode(data)
        if decoded is not None and not _is_wrong(*decoded):
            return Message(*decoded)
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


def _is_wrong(sender: RemotePeer, deltas: list[Any] | None, digest: list[Entry] | None) -> bool:
    """Whether something is wrong with a message whose fields, each by itself, are right."""
    if sender.id in FATAL_IDS or (deltas is None and digest is None):
        return True
    for entry in digest or ():
        if (
            entry.floor > entry.version
            or entry.id in FATAL_IDS
            or (entry.heard and entry.heard < entry.version)
            or (entry.flow is not None and not _is_flow(entry.flow))
            or (entry.roll is not None and not _is_roll(entry.roll))
        ):
            return True
    try:
        _check_deltas(deltas or (), None)
    except MessageError:
        return True
    return False


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
        digest: What should be a list of entries, each a dict; None for none.
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
    if type(id) is not str or not id or id in FATAL_IDS:
        raise _no_id("sender.id", id, source)
    if not reachable(transport):
        raise MessageError(f"sender.transport is {reprlib.repr(transport)}, out of reach", source)
    if deltas is None and digest is None:
        raise MessageError("neither deltas nor digest", source)
    if deltas is not None:
        _check_list(deltas, "deltas", source)
        _check_deltas(deltas, source)
    if digest is not None:
        _check_list(digest, "digest", source)
        digest = [_checked_entry(entry, index, source, reachable) for index, entry in enumerate(digest)]
    return Message(RemotePeer(str(id), transport), deltas, digest)


def as_entries(digest: list[Any]) -> list[Entry]:
    """Return a digest that is to be sent as entries, whether it is made of these or of dicts.

    Raises:
        MessageError: Something in it is no entry.
    """
    return [
        entry if isinstance(entry, Entry) else _checked_entry(entry, index, None, values.checked)
        for index, entry in enumerate(digest)
    ]


def _check_list(items: Any, name: str, source: object) -> None:
    if type(items) is not list:
        raise MessageError(f"{name} is {reprlib.repr(items)}, no list", source)


def _no_id(name: str, id: Any, source: object) -> MessageError:
    fatal = type(id) is str and id in FATAL_IDS
    return MessageError(f"{name} is {reprlib.repr(id)}, {'which ends Node nodes' if fatal else 'no id'}", source)


def _check_deltas(deltas: Iterable[Any], source: object) -> None:
    for index, delta in enumerate(deltas):
        if type(delta) is not list or len(delta) < 4:
            raise MessageError(f"deltas[{index}] is {reprlib.repr(delta)}, no [peer id, key, value, version]", source)
        id, key, value, version = delta[:4]
        if type(id) is not str or not id or id in FATAL_IDS:
            raise _no_id(f"deltas[{index}][0]", id, source)
        if type(key) is not str:
            raise MessageError(f"deltas[{index}][1] is {reprlib.repr(key)}, no key", source)
        if type(value) is not str and not values.checked(value):
            raise MessageError(f"deltas[{index}][2] holds an infinite number or is nested too deep", source)
        if type(version) is not int or not 0 <= version <= MAX_VERSION:
            raise MessageError(f"deltas[{index}][3] is {reprlib.repr(version)}, no version", source)
        if len(delta) > 4 and (type(delta[4]) is not int or not 0 <= delta[4] < version):
            raise MessageError(f"deltas[{index}][4] is {reprlib.repr(delta[4])}, no version below {version}", source)


def _checked_entry(item: Any, index: int, source: object, reachable: Callable[[Any], bool]) -> Entry:
    if type(item) is not dict:
        raise MessageError(f"digest[{index}] is {reprlib.repr(item)}, no entry", source)
    get = item.get
    try:
        id, version, transport = item["id"], item["maxVersionSeen"], item["transport"]
    except KeyError:
        id, version, transport = get("id"), get("maxVersionSeen"), get("transport")
    if type(id) is not str or not id or id in FATAL_IDS:
        raise _no_id(f"digest[{index}].id", id, source)
    if type(version) is not int or not 0 <= version <= MAX_VERSION:
        raise MessageError(f"digest[{index}].maxVersionSeen is {reprlib.repr(version)}, no version", source)
    if not reachable(transport):
        raise MessageError(f"digest[{index}].transport is {reprlib.repr(transport)}, out of reach", source)
    if len(item) == 3:
        return Entry(id, version, transport)
    heartbeat, floor, heard = get("heartbeat", 0), get("floor", 0), get("heard", 0)
    if type(heartbeat) is not int or not 0 <= heartbeat <= MAX_VERSION:
        raise _not_from(f"digest[{index}].heartbeat", heartbeat, 0, MAX_VERSION, source)
    if type(floor) is not int or not 0 <= floor <= version:
        raise _not_from(f"digest[{index}].floor", floor, 0, version, source)
    if type(heard) is not int or (heard and not version <= heard <= MAX_VERSION):
        raise _not_from(f"digest[{index}].heard", heard, version, MAX_VERSION, source)
    if len(item) == 4 + ("floor" in item) and "heartbeat" in item:
        return Entry(id, version, transport, heartbeat, floor)  # as most are
    marked = [mark for mark in _MARKS if mark in item]
    for mark in marked:
        if type(item[mark]) is not bool:
            raise MessageError(f"digest[{index}].{mark} is {reprlib.repr(item[mark])}, neither true nor false", source)
    flow = get("flow")
    if flow is not None and not _is_flow(flow):
        raise MessageError(f"digest[{index}].flow is {reprlib.repr(flow)}, no [rho, tau]", source)
    roll = get("roll")
    if roll is not None and not _is_roll(roll):
        raise MessageError(f"digest[{index}].roll is {reprlib.repr(roll)}, no [basis, heartbeat, version, ...]", source)
    entry = Entry(id, version, transport, get("heartbeat", -1), floor, heard, get("left", False))
    if flow is None and roll is None and not marked:
        return entry
    return entry.marked(reply=get("reply", False), rumor=get("rumor", False), part=get("part", False), flow=flow, roll=roll)


def _not_from(name: str, number: Any, least: int, most: int, source: object) -> MessageError:
    return MessageError(f"{name} is {reprlib.repr(number)}, not from {least} to {most}", source)


def _is_roll(roll: Any) -> bool:
    # That each number, with the floor it goes from, is a version is seen when the floors are known.
    return type(roll) is list and len(roll) % 2 == 1 and {*map(type, roll)} == {int} and max(map(abs, roll)) <= 2 * MAX_VERSION


def _is_flow(flow: Any) -> bool:
    return (
        type(flow) is list
        and 2 <= len(flow) <= 3
        and all(type(rate) in (int, float) and abs(rate) < 1e15 for rate in flow)
        and flow[0] >= 0
        and flow[1] >= 0
    )
