"""Frames: how messages follow each other on a link, a connection that two of our nodes keep.

A link begins with one line from either side, its `HELLO`, first from the side that dialled:

    {"hello": {"version": 1, "life": "9f86d0818", "cluster": "prod"}, "sender": {"id": "a", "transport": {...}}}

It names the cluster, unless that has no name, and nodes of different clusters go no further. It names the two ends, so what
follows leaves the sender out. Each also says which process it is, by a random `life`, so that a node knows when it has reached
itself, whatever the addresses look like. A Node.js node ignores it, since it has neither deltas nor a digest, but loses
whatever comes after the first line of a connection; so nothing follows until the other side's has come. The side that was
dialled adds `you`, the address from which it sees the other one come, for people who wonder what lies in between.

After that, frames follow each other in both directions. The first byte tells what a frame is:

| first byte | the frame |
|---|---|
| `{` | a message, up to the end of its line |
| 1 | a deflated message: four bytes of length, most significant first, then so many bytes |
| 2 | the link is about to be closed on purpose; its end says nothing about the sender |
| 3 | nothing to say: the answer to a round that needs none, a sign of life |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gossipmonger.errors import MessageError
from gossipmonger.state.message import Message, RemotePeer
from gossipmonger.wire.compression import inflate
from gossipmonger.wire.encoder import sender_text, text_of
from gossipmonger.wire.json_decoder import JsonDecoder
from gossipmonger.wire.limits import DEFAULT_LIMITS, Limits
from gossipmonger.wire.packer import Packer
from gossipmonger.wire.schema import CLUSTER_WORDS, is_cluster, refusal, schema_of

__all__ = ["CLOSING", "EMPTY", "Framer", "Hello", "Splitter", "begins_link", "hello", "read_hello"]

#: The frames that are a byte and nothing else.
CLOSING, EMPTY = b"\2", b"\3"

_MESSAGE, _DEFLATED = ord("{"), 1

#: Bytes of a deflated frame in front of what is deflated.
_PREFIX = 5

#: How a `HELLO` begins. We write it in this way, and in no other.
_HELLO = b'{"hello":'

_decoder = JsonDecoder()


class Hello(NamedTuple):
    """What the two ends of a link tell each other first.

    Attributes:
        sender: Who is there; None for a transport that has not been told.
        version: The version of the frames that it reads.
        life: Text that no other process says; "" if it says none.
        cluster: The name of its cluster; None if it has none.
        you: Where it sees the reader come from, as text; "" if it does not say.
    """

    sender: RemotePeer | None
    version: int = 1
    life: str = ""
    cluster: str | None = None
    you: str = ""


def hello(sender: RemotePeer | None, life: str = "", cluster: str | None = None, you: str = "") -> bytes:
    """Return the line that a link begins with. `life` consists of letters and digits; `you` is where the reader comes from.

    Raises:
        TypeError, ValueError: The sender's transport is something that JSON has no form for.
    """
    named = "" if sender is None else f",{sender_text(sender)}"
    lives = f',"life":"{life}"' if life else ""
    of = "" if cluster is None else f',"cluster":{text_of(cluster)}'
    seen = f',"you":{text_of(you)}' if you else ""
    return b'%b{"version":1%b}%b}\r\n' % (_HELLO, (lives + of + seen).encode(), named.encode())


def begins_link(data: bytes | bytearray) -> bool | None:
    """Whether what has come on a connection is a `HELLO`; None if that cannot be told yet."""
    if not _HELLO.startswith(data[: len(_HELLO)]):
        return False
    return True if b"\n" in data else None


def read_hello(line: bytes | bytearray, source: object, limits: Limits = DEFAULT_LIMITS) -> Hello:
    """Return what a `HELLO` says, within these limits.

    Raises:
        MessageError: It is malformed.
    """
    said = _decoder.parse(line, source)
    told: Any = said.get("hello")
    version = told.get("version") if type(told) is dict else None
    if type(version) is not int or version < 1:
        raise refusal("hello", "an object with a version of at least 1", told, source)
    cluster = told.get("cluster")
    if "cluster" in told and (type(cluster) is not str or not is_cluster(cluster)):
        raise refusal("hello.cluster", CLUSTER_WORDS, cluster, source)
    life, you = told.get("life"), told.get("you")
    decoder = _decoder if limits is DEFAULT_LIMITS else JsonDecoder(schema_of(limits))
    sender = decoder.sender_of(said, source) if "sender" in said else None
    return Hello(sender, version, life if type(life) is str else "", cluster, you if type(you) is str else "")


class Framer(Packer):
    """Makes frames of messages, as a packer does whose peers all speak our extensions."""

    def frames(self, message: Message, sender: RemotePeer | None) -> bytes:
        """Return the frames that carry a message over a link that has named this sender.

        Raises:
            TypeError, ValueError: A peer's transport is something that JSON has no form for.
        """
        return b"".join(self.pack(message, True, message.sender == sender))

    def _wrapped(self, deflated: bytes) -> bytes:
        return b"\1%b%b" % (len(deflated).to_bytes(4, "big"), deflated)


class Splitter:
    """Takes the bytes that come on a link and yields the frames in them.

    Args:
        limit: Bytes that a message may have, deflated or not.
        source: Where they come from, for errors.

    Attributes:
        source: As above.
    """

    def __init__(self, limit: int, source: object) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._searched = 0  # bytes at the front of the buffer in which there is no end of a line
        self.source = source

    def __len__(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)

    def frames(self, data: bytes) -> Iterator[bytes]:
        """Yield the frames that are complete now: a message as its line, or `CLOSING`, or `EMPTY`.

        Raises:
            MessageError: What comes is no frame, or longer than the limit. Nothing that follows can be read.
        """
        buffer = self._buffer
        if not buffer and data[0] == _MESSAGE and data.find(b"\n") == len(data) - 1 and len(data) <= self._limit + 2:
            yield data  # as most
            return
        buffer += data
        while buffer:
            first = buffer[0]
            if first == _MESSAGE:
                end = buffer.find(b"\n", self._searched) + 1
                self._searched = 0 if end else len(buffer)
                if (end or len(buffer)) > self._limit + 2:
                    raise MessageError(f"more than {self._limit} bytes", self.source, "oversized")
                if not end:
                    return
                with memoryview(buffer) as view:  # a slice of the buffer itself would be a copy more
                    frame = bytes(view[:end])
            elif first == _DEFLATED:
                length = int.from_bytes(buffer[1:_PREFIX], "big")
                if len(buffer) >= _PREFIX and length > self._limit:
                    raise MessageError(f"more than {self._limit} bytes", self.source, "oversized")
                end = _PREFIX + length
                if len(buffer) < _PREFIX or len(buffer) < end:
                    return
                with memoryview(buffer) as view:
                    frame = inflate(bytes(view[_PREFIX:end]), self._limit, self.source)
            elif first in (CLOSING[0], EMPTY[0]):
                end, frame = 1, bytes((first,))
            else:
                raise MessageError(f"a frame begins with {bytes((first,))!r}", self.source)
            del buffer[:end]
            yield frame
