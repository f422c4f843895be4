"""Traffic: how many messages a transport has sent and received, of which kind, and how many bytes.

To count must cost next to nothing, so it takes no lock of its own. Each `Count` belongs to one thread, or to a lock that is
held there anyway: that of the link, say, which a message is written to. Whoever reads may do so at any time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gossipmonger.process import marked, renew
from gossipmonger.state.message import Kind, Message

__all__ = ["KINDS", "Count", "Traffic"]

#: What a message is counted as: the kind of its digest, "deltas" if it has none, or "hello", which is no message of gossip.
KINDS = (*(kind.value for kind in Kind), "deltas", "hello")


@dataclass(eq=False, slots=True)
class Count:
    """What went one way. One thread at a time may change it.

    Attributes:
        kinds: Kind -> messages.
        bytes: Bytes of all together, those of frames without a message among them.
        deltas: Deltas in all messages.
    """

    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    bytes: int = 0
    deltas: int = 0

    def note(self, message: Message | None, size: int = 0) -> None:
        """Count a message, and so many bytes; None for bytes alone."""
        self.bytes += size
        if message is not None:
            _, deltas, digest = message
            self.kinds["deltas" if digest is None else digest.kind._value_] += 1  # not `value`, which takes ten times as long
            if deltas:
                self.deltas += len(deltas)

    def greet(self, size: int = 0) -> None:
        """Count a `HELLO`."""
        self.bytes += size
        self.kinds["hello"] += 1

    def add(self, other: Count) -> None:
        """Count what another one has counted."""
        for kind, number in other.kinds.items():
            self.kinds[kind] += number
        self.bytes += other.bytes
        self.deltas += other.deltas


class Traffic:
    """What goes over one protocol.

    Args:
        name: The protocol, in a word.
        sized: Whether bytes are counted.
        links: Returns how many links are open, by who dialled them; None for a protocol that has none.
        parts: Returns the counts of what is still open and was sent.

    Attributes:
        name, sized, links: As above.
        received: What came.
        sent: What left, apart from `parts`.
    """

    def __init__(
        self,
        name: str,
        sized: bool = True,
        links: Callable[[], Mapping[str, int]] | None = None,
        parts: Callable[[], Iterable[Count]] = tuple,
    ) -> None:
        self.name: str = name
        self.sized: bool = sized
        self.links: Callable[[], Mapping[str, int]] | None = links
        self.received: Count = Count()
        self.sent: Count = Count()
        self._parts = parts
        self._traffic_lock = threading.Lock()  # guards that each part is counted once: in `parts` or in `sent`
        renew(self, "_traffic_lock")

    def end(self, part: Count, remove: Callable[[], object]) -> None:
        """Count a part for good, whose `remove` takes it out of `parts`. On the thread that `sent` belongs to."""
        with marked(), self._traffic_lock:
            remove()
            self.sent.add(part)

    def read(self) -> dict[str, Count]:
        """Return what was "sent" and "received" so far."""
        sent = Count()
        with marked(), self._traffic_lock:
            for part in (self.sent, *self._parts()):
                sent.add(part)
        return {"sent": sent, "received": self.received}
