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
    roll        a text in base64, in the sender's own entry: see `gossipmonger.roll`
    flow        [rho, tau] or [rho, tau, grant], in the sender's own entry: see `gossipmonger.flow`

A delta is `[peer id, key, value, version]` and optionally `after`, the version after which it comes, and `more`, how far above
its version its sender's knowledge reached, if it leaps over versions. A Node node ignores what it does not know, and so do we:
that is how a protocol grows. A message is taken whole or refused whole, so everything in it is checked before anything of it
is used.

Where msgspec is installed (extra `fast`), it decodes and checks at once. What it does not take, if only because it is stricter
than JSON's other parsers, is looked at again here: so what is refused, and the words for it, never depend on the extra.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NoReturn

from gossipmonger import values
from gossipmonger.entry import Entry, Own
from gossipmonger.errors import MessageError
from gossipmonger.peer import RemotePeer
from gossipmonger.transport.checks import Message, check_list, is_address, is_wrong, validate

try:
    from gossipmonger.transport import fast
except ImportError:  # without the extra
    fast = None  # type: ignore[assignment]

__all__ = ["MAX_MESSAGE_SIZE", "SPACE", "decode", "encode", "fast", "fits", "parse", "split"]

#: Bytes. Far more than gossip needs, and little enough to hold a few dozen of in memory.
MAX_MESSAGE_SIZE = 16 * 1024 * 1024

#: What JSON takes for space.
SPACE = " \t\r\n"

#: Bytes, CR LF apart. A Node node decodes each chunk of TCP by itself, so a character that is cut between two is lost for good.
#: A message this short is one segment, even at IPv6's least MTU of 1,280, and is not cut. In a longer one every character is
#: ASCII, with escapes; for text beyond ASCII that is two to three times the bytes.
_ONE_SEGMENT = 1024

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_escaper = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


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
    if type(transport) is dict and len(transport) == 2 and "host" in transport and type(transport.get("port")) is int:
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
            text += f',"roll":"{entry.roll}"'
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
        if decoded is not None and not is_wrong(*decoded):
            return Message(*decoded)
    try:
        message = parse(data.decode())
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
            check_list(message[name], name, source)
    return validate(message.get("sender"), message.get("deltas"), message.get("digest"), source, reachable)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_parser = json.JSONDecoder(parse_constant=_refuse_constant)


def parse(text: str) -> Any:
    """Return what a text is in JSON.

    Raises:
        ValueError: It is none, or an integer of thousands of digits.
        RecursionError: It is nested too deep for the parser.
    """
    try:
        found, end = _parser.raw_decode(text)  # the module's `loads` would make a parser each time, and look for space
    except ValueError:
        return _parser.decode(text)
    return _parser.decode(text) if text[end:].strip(SPACE) else found
