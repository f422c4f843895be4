"""A peer: its versioned map, and how long it has been silent.

The map is Scuttlebutt's (van Renesse, Dumitriu, Gough and Thomas, "Efficient Reconciliation and Flow Control for
Anti-Entropy Protocols", LADIS 2008, section 2): key -> (value, version), where only the owner writes, and gives each
write a version above every version before it. A replica takes deltas in ascending version. Hence what the whole
algorithm rests on: *whoever holds version n of a peer holds all that is still current at or below n*.

How versions are kept in order. Every write, here or at a replica, has a version above all before it, so the writes can
be appended to a log that is sorted by construction:

    versions   3     5     6     9     12          array of 64-bit integers, bisected
    keys       a     -     c     b     d           "-" is a hole: b was written again
    values     1           x     y     z
    slots      {a: 0, c: 2, b: 3, d: 4}            where each key's one current write is
    holes      1                                   sorted

The deltas after version v are a bisection and a walk; a run of holes is leapt by a second bisection. The log is rebuilt
without its holes once they are more than a quarter of it, so a write costs O(1) amortized, and a key costs one entry of a
dict and three slots of an array, whatever its history.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from gossipmonger import values
from gossipmonger.phi import PhiAccrual

__all__ = ["MAX_VERSION", "Peer", "RemotePeer"]

#: The greatest version: beyond it a Node node, which reads numbers as doubles, could not tell two of them apart.
MAX_VERSION = 2**53 - 1

#: Holes that a log may have whatever its length, so that small maps are not rebuilt at every other write.
_FEW_HOLES = 32


class RemotePeer(NamedTuple):
    """Who and where: all that is known of a message's sender or of a seed.

    Attributes:
        id: The peer's id.
        transport: What the transport needs to reach it; for TCP a mapping with `host` and `port`.
    """

    id: str
    transport: Any


class Peer:
    """One participant of the cluster as some node sees it; the local peer is one too.

    A peer does not lock: the endpoint calls it under its own lock. Times are milliseconds since the epoch and always
    arguments.

    * State: `data`, `get`, `max_version_seen`
    * Writing: `update_local` (the owner), `update_with_delta` (a replica)
    * Reconciliation: `deltas_after_version`, `count_after_version`
    * Liveness: `live`, `mark_live`, `mark_dead`, `mark_contact`, `phi`, and the window behind it: `intervals`,
      `intervals_mean`, `sum`, `last_time`, `max_intervals`

    Args:
        id: The peer's id.
        data: key -> (value, version), in any order.
        intervals: Milliseconds between signs of life, oldest first; by default one of 750.
        last_time: When it was last heard of, None if never.
        live: Whether it is thought to be alive.
        max_version_seen: The highest version known of it; at least the highest in `data`.
        max_intervals: How many intervals are kept.
        transport: What the transport needs to reach it.
    """

    __slots__ = (
        "_arrivals",
        "_holes",
        "_keys",
        "_slots",
        "_values",
        "_versions",
        "id",
        "live",
        "max_version_seen",
        "transport",
    )

    def __init__(
        self,
        id: str,
        *,
        data: Mapping[str, Iterable[Any]] | None = None,
        intervals: Iterable[float] | None = None,
        last_time: float | None = None,
        live: bool = True,
        max_version_seen: int = 0,
        max_intervals: int = 100,
        transport: Any = None,
    ) -> None:
        self.id = id
        self.transport = transport
        self.live = live
        self.max_version_seen = max_version_seen
        self._arrivals = PhiAccrual(intervals, last_time, max_intervals)
        self._versions = array("q")
        self._keys: list[str | None] = []
        self._values: list[Any] = []
        self._slots: dict[str, int] = {}
        self._holes = array("l")
        writes = [(key, *pair) for key, pair in (data or {}).items()]
        for key, value, version in sorted(writes, key=lambda write: write[2]):
            self._write(key, value, version)
        if self._versions:
            self.max_version_seen = max(max_version_seen, self._versions[-1])

    def __repr__(self) -> str:
        return f"Peer({self.id!r}, {'live' if self.live else 'dead'}, {len(self._slots)} keys to {self.max_version_seen})"

    # State

    @property
    def data(self) -> dict[str, tuple[Any, int]]:
        """A copy of the map, key -> (value, version), oldest version first. The values themselves are not copied."""
        return {key: (value, version) for key, value, version in self._writes(-1)}

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, not copied, or `default`."""
        slot = self._slots.get(key)
        return default if slot is None else self._values[slot]

    # Writing

    def update_local(self, key: str, value: Any) -> str | None:
        """Write as the owner: give `value` the next version, unless `key` has that very JSON value already.

        Args:
            key: The key.
            value: A JSON value that nobody else will change: `values.copied` makes one.

        Returns:
            The key if it was written, otherwise None.

        Raises:
            OverflowError: The versions are used up (`MAX_VERSION`).
        """
        slot = self._slots.get(key)
        if slot is not None and values.same(self._values[slot], value):
            return None
        if self.max_version_seen >= MAX_VERSION:
            raise OverflowError(f"peer {self.id!r} is at version {self.max_version_seen}, the last one there is")
        self.max_version_seen += 1
        self._write(key, value, self.max_version_seen)
        return key

    def update_with_delta(self, key: str, value: Any, version: int) -> str | None:
        """Write as a replica: take the delta if its version is above all known ones.

        Returns:
            The key if it was written, otherwise None.
        """
        if version <= self.max_version_seen:
            return None
        self.max_version_seen = version
        self._write(key, value, version)
        return key

    def _write(self, key: str, value: Any, version: int) -> None:
        old = self._slots.get(key)
        if old is not None:
            self._keys[old] = None
            self._values[old] = None
            insort(self._holes, old)
        self._slots[key] = len(self._versions)
        self._versions.append(version)
        self._keys.append(key)
        self._values.append(value)
        if len(self._holes) > _FEW_HOLES + len(self._versions) // 4:
            self._rebuild()

    def _rebuild(self) -> None:
        writes = list(self._writes(-1))
        self._keys = [key for key, _, _ in writes]
        self._values = [value for _, value, _ in writes]
        self._versions = array("q", [version for _, _, version in writes])
        self._slots = {key: slot for slot, (key, _, _) in enumerate(writes)}
        self._holes = array("l")

    # Reconciliation

    def deltas_after_version(self, version: int, limit: int | None = None) -> list[tuple[str, Any, int]]:
        """Return the writes above `version`, as (key, value, version) in ascending version.

        Costs O(log keys + deltas returned), not a scan.

        Args:
            version: What the other side knows.
            limit: At most so many deltas, the oldest ones; None for all.
        """
        return list(islice(self._writes(version), limit))

    def count_after_version(self, version: int) -> int:
        """Return how many deltas there are above `version`, without making them."""
        first = bisect_right(self._versions, version)
        return len(self._versions) - first - (len(self._holes) - bisect_left(self._holes, first))

    def _writes(self, version: int) -> Iterator[tuple[str, Any, int]]:
        slot = bisect_right(self._versions, version)
        hole = bisect_left(self._holes, slot)
        holes, keys, written, versions = self._holes, self._keys, self._values, self._versions
        while slot < len(versions):
            if hole < len(holes) and holes[hole] == slot:
                # In a run of neighbouring holes, position minus index stays the same; behind it, it is higher.
                end = bisect_right(range(len(holes)), slot - hole, lo=hole, key=lambda index: holes[index] - index)
                slot, hole = slot + end - hole, end
                continue
            yield keys[slot], written[slot], versions[slot]  # type: ignore[misc]  # no hole, so it has a key
            slot += 1

    # Liveness

    def mark_live(self) -> None:
        """Think of it as alive."""
        self.live = True

    def mark_dead(self) -> None:
        """Think of it as dead."""
        self.live = False

    def mark_contact(self, now: float) -> None:
        """Note a sign of life at `now`; the time since the one before it becomes a sample."""
        self._arrivals.contact(now)

    def phi(self, now: float) -> float:
        """Return how far its silence at `now` is from what is usual: see `PhiAccrual.phi`."""
        return self._arrivals.phi(now)

    @property
    def intervals(self) -> list[float]:
        """A copy of the last intervals between signs of life, in milliseconds, oldest first."""
        return self._arrivals.intervals

    @property
    def intervals_mean(self) -> float:
        """Milliseconds: the mean of `intervals`."""
        return self._arrivals.mean

    @property
    def sum(self) -> float:
        """Milliseconds: all `intervals` together."""
        return self._arrivals.sum

    @property
    def max_intervals(self) -> int:
        """How many intervals are kept."""
        return self._arrivals.max_intervals

    @property
    def last_time(self) -> float | None:
        """Milliseconds since the epoch: when it was last heard of, None if never."""
        return self._arrivals.last_time

    @last_time.setter
    def last_time(self, time: float | None) -> None:
        self._arrivals.last_time = time
