"""Traffic: how many messages a transport has sent and received, of which kind, and how many bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from gossipmonger.process import Counted, Tally
from gossipmonger.state.message import Kind, Message

__all__ = ["KINDS", "Traffic"]

#: What a message is counted as: the kind of its digest, "deltas" if it has none, or "hello", which is no message of gossip.
KINDS = (*(kind.value for kind in Kind), "deltas", "hello")

#: The keys under which `HELLO`s are counted, and bytes that are counted apart from their message, or of none.
_HELLO, _BYTES = "hello", ""


class Traffic:
    """What goes over one protocol. Any thread may count.

    Args:
        name: The protocol, in a word.
        sized: Whether bytes are counted.
        links: Returns how many links are open, by who dialled them; None for a protocol that has none.

    Attributes:
        name, sized, links: As above.
    """

    def __init__(self, name: str, sized: bool = True, links: Callable[[], Mapping[str, int]] | None = None) -> None:
        self.name: str = name
        self.sized: bool = sized
        self.links: Callable[[], Mapping[str, int]] | None = links
        self._sent = Tally()
        self._received = Tally()

    def sent(self, message: Message | None, size: int = 0) -> None:
        """Count a message that leaves in so many bytes; None for bytes that are none."""
        if message is None:
            self._sent.add(_BYTES, size)
        else:
            _, deltas, digest = message
            self._sent.add(None if digest is None else digest.kind, size, len(deltas) if deltas else 0)

    def read(self, size: int) -> None:
        """Count bytes that came, whatever they turn out to be."""
        self._received.add(_BYTES, size)

    def received(self, message: Message) -> None:
        """Count a message that came, apart from its bytes."""
        _, deltas, digest = message
        self._received.add(None if digest is None else digest.kind, 0, len(deltas) if deltas else 0)

    def greeted(self, sent: bytes | None = None, read: bytes | bytearray | None = None) -> None:
        """Count a `HELLO` that leaves, or one that came."""
        if sent is not None:
            self._sent.add(_HELLO, len(sent))
        if read is not None:
            self._received.add(_HELLO, len(read))

    def directions(self) -> dict[str, dict[str, Counted]]:
        """Return what was "sent" and "received", by kind; under "" bytes that belong to no kind."""
        return {"sent": _words(self._sent), "received": _words(self._received)}


def _words(tally: Tally) -> dict[str, Counted]:
    return {_word(key): counted for key, counted in tally.read().items()}


def _word(key: Hashable) -> str:
    return "deltas" if key is None else key.value if isinstance(key, Kind) else str(key)
