"""Greeting: the two `HELLO`s that a link begins with, in plain or sealed.

A sealed `HELLO` is a sealed message with its length: 4, two bytes of length, and the message without its first byte. That of
the accepting side is sealed as the answer to the very `HELLO` that it answers. What is recorded on one connection therefore
greets nobody on another.
"""

from __future__ import annotations

import hashlib
from typing import Any

from gossipmonger.errors import MessageError, SealError
from gossipmonger.wire.frames import Hello, Splitter, begins_link, hello, read_hello
from gossipmonger.wire.limits import DEFAULT_LIMITS, Limits
from gossipmonger.wire.records import PREFIX, Records, SealedSplitter, begins_sealed, end_of
from gossipmonger.wire.sealing import MARK, Keyring

__all__ = ["Greeter", "SealedGreeter", "greeter"]

#: Bytes that a `HELLO` may have; it has some hundred. Whenever more of it comes, its end is looked for in all of it.
_MAX_HELLO = 1 << 16

#: What a `HELLO` is sealed for.
_DIALS, _ANSWERS = b"hello", b"answer"


class Greeter:
    """Says and hears the `HELLO`s of one link, in plain.

    Args:
        limits: What a part of a message may have.

    Attributes:
        seals: Whether they are sealed.
        records: What seals and opens all that follows, once both are said; None if that is in plain too.
    """

    seals: bool = False
    records: Records | None = None

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits

    def hello(self, *args: Any) -> bytes:
        """Return this side's `HELLO`, as `frames.hello` makes it of these arguments."""
        return hello(*args)

    def begun(self, data: bytes | bytearray, source: object) -> bool | None:
        """Whether what has come is a `HELLO`; None if that cannot be told yet.

        Raises:
            MessageError: It is too long, or sealed and should not be, or the other way round.
        """
        if data[:1] == MARK:
            raise SealError("the message is sealed and this node has no keyring", source)
        begun = begins_link(data)
        if begun is None and len(data) > _MAX_HELLO:
            raise MessageError(f"a HELLO of more than {_MAX_HELLO} bytes", source, "oversized")
        return begun

    def read(self, data: bytes | bytearray, source: object) -> tuple[Hello, bytes]:
        """Return what the other side's `HELLO` says, and what follows it.

        Raises:
            MessageError: It does not open, or is malformed.
        """
        line, _, rest = data.partition(b"\n")
        return read_hello(line, source, self._limits), bytes(rest)

    def splitter(self, limit: int, source: object) -> Splitter:
        """Return what takes all that follows."""
        return Splitter(limit, source) if self.records is None else SealedSplitter(self.records, limit, source)


class SealedGreeter(Greeter):
    """The same, sealed.

    Args:
        keyring: The keys.
        cluster: The name of the node's cluster.
        dialled: Whether the link is dialled from here, so that this side speaks first.
        limits: What a part of a message may have.
    """

    seals: bool = True

    def __init__(self, keyring: Keyring, cluster: str | None, dialled: bool, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(limits)
        self._keyring = keyring
        self._cluster = cluster
        self._dialled = dialled
        self._said = b""  # by both, the first first

    def hello(self, *args: Any) -> bytes:
        """Return this side's `HELLO`, sealed.

        Raises:
            ValueError: The sender's transport is too long.
        """
        sealed = self._keyring.seal(super().hello(*args), self._cluster, self._purpose(self._dialled))[len(MARK) :]
        if len(sealed) > 0xFFFF:
            raise ValueError("the transport of the local peer is too long for a HELLO")
        said = b"%b%b%b" % (MARK, len(sealed).to_bytes(2, "big"), sealed)
        self._add(said)
        return said

    def begun(self, data: bytes | bytearray, source: object) -> bool | None:
        """Whether a `HELLO` is there; None if not all of it is."""
        begun = begins_sealed(data)
        if begun is False:
            raise SealError("the message is not sealed, and this node has a keyring", source)
        return begun

    def read(self, data: bytes | bytearray, source: object) -> tuple[Hello, bytes]:
        """Open and read the other side's `HELLO`."""
        said, rest = bytes(data[: end_of(data)]), bytes(data[end_of(data) :])
        line = self._keyring.open(MARK + said[PREFIX:], self._cluster, self._purpose(not self._dialled), source)
        self._add(said)
        return read_hello(line, source, self._limits), rest

    def _purpose(self, dials: bool) -> bytes:
        return _DIALS if dials else _ANSWERS + hashlib.sha256(self._said).digest()

    def _add(self, said: bytes) -> None:
        both = bool(self._said)
        self._said += said
        if both:
            self.records: Records | None = Records(
                self._keyring, self._cluster, hashlib.sha256(self._said).digest(), self._dialled
            )


def greeter(keyring: Keyring | None, cluster: str | None, dialled: bool, limits: Limits = DEFAULT_LIMITS) -> Greeter:
    """Return what greets the other side of a link, in plain if there are no keys: see `SealedGreeter`."""
    return Greeter(limits) if keyring is None else SealedGreeter(keyring, cluster, dialled, limits)
