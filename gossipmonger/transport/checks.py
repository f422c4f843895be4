"""Checks: what in a message is right, and the words for what is wrong.

Everything in a message is checked before anything of it is used: it is taken whole or refused whole.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gossipmonger import values
from gossipmonger.entry import Entry
from gossipmonger.errors import MessageError
from gossipmonger.peer import MAX_VERSION, RemotePeer
from gossipmonger.roll import is_call

__all__ = [
    "FATAL_IDS", "Message", "as_entries", "check_deltas", "check_list", "checked_entry", "checked_sender", "is_address",
    "is_wrong", "validate",
]  # fmt: skip

#: The fields of an entry that are true, or not there.
_MARKS = ("left", "reply", "rumor", "part")

#: Ids that no peer may have: a Node node looks peers up in a plain object, finds these inherited, and ends.
FATAL_IDS = frozenset(
    {"__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString"}
    | {"toString", "valueOf", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"}
)


class Message(NamedTuple):
    """One message, checked.

    Attributes:
        sender: Who sent it, by its own word.
        deltas: What it told, each `[peer id, key, value, version]`, maybe `after` and `more`; None if it had none.
        digest: What it knows, an entry for each peer; None if it had none.
    """

    sender: RemotePeer
    deltas: list[list[Any]] | None
    digest: list[Entry] | None


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
    remote_peer = checked_sender(id, transport, source, reachable)
    if deltas is None and digest is None:
        raise MessageError("neither deltas nor digest", source)
    if deltas is not None:
        check_list(deltas, "deltas", source)
        check_deltas(deltas, source)
    if digest is not None:
        check_list(digest, "digest", source)
        digest = [checked_entry(entry, index, source, reachable) for index, entry in enumerate(digest)]
    return Message(remote_peer, deltas, digest)


def checked_sender(id: Any, transport: Any, source: object, reachable: Callable[[Any], bool]) -> RemotePeer:
    """Return the sender of this id and transport; raise MessageError if there can be none."""
    if type(id) is not str or not id or id in FATAL_IDS:
        raise _no_id("sender.id", id, source)
    if not reachable(transport):
        raise MessageError(f"sender.transport is {reprlib.repr(transport)}, out of reach", source)
    return RemotePeer(str(id), transport)


def as_entries(digest: list[Any]) -> list[Entry]:
    """Return a digest that is to be sent as entries, whether it is made of these or of dicts.

    Raises:
        MessageError: Something in it is no entry.
    """
    return [
        entry if isinstance(entry, Entry) else checked_entry(entry, index, None, values.checked)
        for index, entry in enumerate(digest)
    ]


def is_wrong(sender: RemotePeer, deltas: list[Any] | None, digest: list[Entry] | None) -> bool:
    """Whether something is wrong with a message whose fields, each by itself, are right."""
    if sender.id in FATAL_IDS or (deltas is None and digest is None):
        return True
    for entry in digest or ():
        if (
            entry.floor > entry.version
            or entry.id in FATAL_IDS
            or (entry.heard and entry.heard < entry.version)
            or (entry.flow is not None and not _is_flow(entry.flow))
            or (entry.roll is not None and not is_call(entry.roll))
        ):
            return True
    try:
        check_deltas(deltas or (), None)
    except MessageError:
        return True
    return False


def check_list(items: Any, name: str, source: object) -> None:
    """Raise MessageError if what should be a list of `name` is none."""
    if type(items) is not list:
        raise MessageError(f"{name} is {reprlib.repr(items)}, no list", source)


def _no_id(name: str, id: Any, source: object) -> MessageError:
    fatal = type(id) is str and id in FATAL_IDS
    return MessageError(f"{name} is {reprlib.repr(id)}, {'which ends Node nodes' if fatal else 'no id'}", source)


def check_deltas(deltas: Iterable[Any], source: object) -> None:
    """Raise MessageError if one of these is no delta."""
    last = None  # an id that is right: deltas of one peer mostly stand together
    for index, delta in enumerate(deltas):
        if type(delta) is list and len(delta) == 5:  # as most, which take one look
            id, key, value, version, after = delta
            if (
                type(id) is str
                and (id == last or (id and id not in FATAL_IDS))
                and type(key) is str
                and (type(value) is str or values.checked(value))
                and type(version) is type(after) is int
                and 0 <= after < version <= MAX_VERSION
            ):
                last = id
                continue
        _check_delta(delta, index, source)


def _check_delta(delta: Any, index: int, source: object) -> None:
    if type(delta) is not list or len(delta) < 4:
        raise MessageError(f"deltas[{index}] is {reprlib.repr(delta)}, no [peer id, key, value, version]", source)
    id, key, value, version = delta[:4]
    if type(id) is not str or not id or id in FATAL_IDS:
        raise _no_id(f"deltas[{index}][0]", id, source)
    if type(key) is not str:
        raise MessageError(f"deltas[{index}][1] is {reprlib.repr(key)}, no key", source)
    if not values.checked(value):
        raise MessageError(f"deltas[{index}][2] holds an infinite number or is nested too deep", source)
    if type(version) is not int or not 0 <= version <= MAX_VERSION:
        raise MessageError(f"deltas[{index}][3] is {reprlib.repr(version)}, no version", source)
    if len(delta) > 4 and (type(delta[4]) is not int or not 0 <= delta[4] < version):
        raise MessageError(f"deltas[{index}][4] is {reprlib.repr(delta[4])}, no version below {version}", source)
    if len(delta) > 5 and (type(delta[5]) is not int or not 0 <= delta[5] <= MAX_VERSION - version):
        raise _not_from(f"deltas[{index}][5]", delta[5], 0, MAX_VERSION - version, source)


def checked_entry(item: Any, index: int, source: object, reachable: Callable[[Any], bool]) -> Entry:
    """Return the entry that this is; raise MessageError if it is none."""
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
    if roll is not None and not is_call(roll):
        raise MessageError(f"digest[{index}].roll is {reprlib.repr(roll)}, no roll in base64", source)
    entry = Entry(id, version, transport, get("heartbeat", -1), floor, heard, get("left", False))
    if flow is None and roll is None and not marked:
        return entry
    return entry.marked(reply=get("reply", False), rumor=get("rumor", False), part=get("part", False), flow=flow, roll=roll)


def _not_from(name: str, number: Any, least: int, most: int, source: object) -> MessageError:
    return MessageError(f"{name} is {reprlib.repr(number)}, not from {least} to {most}", source)


def _is_flow(flow: Any) -> bool:
    return (
        type(flow) is list
        and 2 <= len(flow) <= 3
        and all(type(rate) in (int, float) and abs(rate) < 1e15 for rate in flow)
        and flow[0] >= 0
        and flow[1] >= 0
    )
