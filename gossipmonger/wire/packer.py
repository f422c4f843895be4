"""The packer: a message as the bytes that go to a peer, split where it is too long, deflated where the peer can read that."""

from __future__ import annotations

from gossipmonger.state.message import Message
from gossipmonger.wire.compression import deflate
from gossipmonger.wire.encoder import encode, split

__all__ = ["Packer"]


class Packer:
    """Packs messages. A rumour or a round goes to several peers in a row, and is encoded and deflated once.

    May be used from several threads at once.

    Args:
        limit: Bytes that a message may have before it is deflated. The deltas of a longer one go in several.
        above: Bytes above which a message is deflated, None for never.
    """

    def __init__(self, limit: int, above: int | None) -> None:
        self._limit = limit
        self._above = above
        self._last: tuple[Message, bool, bool, list[bytes]] | None = None  # always replaced as a whole, so it needs no lock

    def pack(self, message: Message, deflates: bool, anonymous: bool = False) -> list[bytes]:
        """Return what goes to a peer: the deltas in their order, then the digest, mostly all in one.

        Args:
            message: What to say.
            deflates: Whether the peer reads what is deflated.
            anonymous: Whether to leave out who sends it, which the peer knows.

        Raises:
            TypeError, ValueError: A peer's transport is something that JSON has no form for.
        """
        last, above = self._last, self._above
        if last is not None and last[0] is message and last[1:3] == (anonymous, deflates):
            return last[3]
        data = encode(message, anonymous)
        packed = [data] if len(data) <= self._limit else [*split(message, self._limit, lambda whole: encode(whole, anonymous))]
        if deflates and above is not None and len(data) > above:
            # Only a message that gets shorter is worth it.
            packed = [min(part, self._wrapped(deflate(part)), key=len) if len(part) > above else part for part in packed]
        self._last = message, anonymous, deflates, packed
        return packed

    def _wrapped(self, deflated: bytes) -> bytes:
        return deflated
