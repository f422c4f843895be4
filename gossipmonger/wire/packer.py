"""The packer: a message as the bytes that go to a peer, split where it is too long, deflated where the peer can read that."""

from __future__ import annotations

from gossipmonger.state.message import Message, RemotePeer
from gossipmonger.wire.compression import deflate
from gossipmonger.wire.encoder import encode, split

__all__ = ["Packer"]


class Packer:
    """Packs messages. A rumour or a round goes to several peers in a row, and is encoded and deflated once.

    May be used from several threads at once.

    Args:
        limit: Bytes that a message may have before it is deflated.
        above: Bytes above which a message is deflated, None for never.
    """

    def __init__(self, limit: int, above: int | None) -> None:
        self._limit = limit
        self._above = above
        self._last: tuple[Message, bool, list[bytes]] | None = None  # always replaced as a whole, so it needs no lock

    def pack(self, to: RemotePeer, message: Message) -> list[bytes]:
        """Return what goes to a peer: the deltas in their order, then the digest, mostly all in one.

        Raises:
            TypeError, ValueError: A peer's transport is something that JSON has no form for.
        """
        short, last = to.speaks_extensions and self._above is not None, self._last
        if last is not None and last[0] is message and last[1] == short:
            return last[2]
        data = encode(message)
        packed = [data] if len(data) <= self._limit else [*split(message, self._limit)]
        if short:
            packed = [self._deflated(part) for part in packed]
        self._last = message, short, packed
        return packed

    def _deflated(self, data: bytes) -> bytes:
        if self._above is None or len(data) <= self._above:
            return data
        return min(data, deflate(data), key=len)  # only a message that gets shorter is worth it
