"""Bytes to messages, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gossipmonger.errors import MessageError
from gossipmonger.state import Message, RemotePeer
from gossipmonger.wire.compression import COMPRESS_ABOVE, deflate, inflate
from gossipmonger.wire.datagrams import divide
from gossipmonger.wire.encoder import Encoder, as_dicts, as_lists, encode, fits, split
from gossipmonger.wire.frames import CLOSING, EMPTY, Framer, Hello, Splitter, begins_link, hello, read_hello
from gossipmonger.wire.greeting import Greeter, greeter
from gossipmonger.wire.json_decoder import JsonDecoder
from gossipmonger.wire.limits import DEFAULT_LIMITS, MAX_SIZE, Limits, is_longer
from gossipmonger.wire.packer import Packer
from gossipmonger.wire.records import Records, SealedSplitter
from gossipmonger.wire.schema import FATAL_IDS, MAX_CLUSTER, MAX_MESSAGE_SIZE, is_address, is_cluster, is_transport, schema_of
from gossipmonger.wire.sealing import MARK, OVERHEAD, Keyring

try:
    from gossipmonger.wire.msgspec_decoder import MsgspecDecoder
except ImportError:  # without the extra
    _fast_decode = None
else:
    _fast_decode = MsgspecDecoder().decode

__all__ = [
    "CLOSING", "COMPRESS_ABOVE", "DEFAULT_LIMITS", "EMPTY", "FATAL_IDS", "MARK", "MAX_CLUSTER", "MAX_MESSAGE_SIZE", "MAX_SIZE",
    "OVERHEAD", "Encoder", "Framer", "Greeter", "Hello", "Keyring", "Limits", "Packer", "Records", "SealedSplitter", "Splitter",
    "as_dicts", "as_lists", "begins_link", "decode", "deflate", "divide", "encode", "fits", "greeter", "hello", "inflate",
    "is_address", "is_cluster", "is_longer", "is_transport", "message_of", "read_hello", "split",
]  # fmt: skip

_json_decoder = JsonDecoder()


@lru_cache(maxsize=16)
def _decoders(limits: Limits) -> tuple[Any, JsonDecoder]:
    """Return the fast decoder, None if there is none, and the other one, for limits that are not the default ones."""
    schema = schema_of(limits)
    return None if _fast_decode is None else MsgspecDecoder(schema).decode, JsonDecoder(schema)


def decode(
    data: bytes | bytearray,
    source: object = None,
    reachable: Callable[[Any], bool] = is_address,
    speaker: RemotePeer | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Message:
    """Return the message that these bytes are.

    What is refused, and the words for it, do not depend on whether the extra `fast` is installed.

    Args:
        data: One whole message, with or without the CR LF.
        source: Where it came from, for the error; by default, what the message says.
        reachable: Whether a sender's or an entry's `transport` is one that the receiving transport can use.
        speaker: Who sent it if it does not say so itself; None if it has to.
        limits: What its parts may have.

    Returns:
        The message, checked. Its entries and deltas are immutable, with the attributes of `Entry` and `Delta`.

    Raises:
        MessageError: They are not a message. The error names the first thing that is wrong.
    """
    fast, careful = (_fast_decode, _json_decoder) if limits is DEFAULT_LIMITS else _decoders(limits)
    try:
        if fast is not None and reachable is is_address:
            message: Message | None = fast(data, speaker)
            if message is not None:
                return message
        return careful.decode(data, source, reachable, speaker)
    except MemoryError:
        raise MessageError("it takes more memory than there is", source, "memory") from None


def message_of(
    sender: Any,
    deltas: Any = None,
    digest: Any = None,
    source: object = None,
    reachable: Callable[[Any], bool] = is_transport,
    limits: Limits = DEFAULT_LIMITS,
) -> Message:
    """Return the message that a transport of another kind has decoded itself.

    Args:
        sender: A mapping with `id` and `transport`, or an object with these attributes.
        deltas: A list of deltas, each a list; None for none.
        digest: A list of entries, each a dict; None for none.
        source: Where it came from, for the error; by default the sender's id.
        reachable: As for `decode`.
        limits: The same.

    Raises:
        MessageError: It is not a message. The error names the first thing that is wrong.
    """
    decoder = _json_decoder if limits is DEFAULT_LIMITS else _decoders(limits)[1]
    return decoder.message_of(sender, deltas, digest, source, reachable)
