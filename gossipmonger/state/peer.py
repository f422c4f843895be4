"""A peer: its versioned map, and how long it has been silent.

The map is Scuttlebutt's (van Renesse, Dumitriu, Gough and Thomas, "Efficient Reconciliation and Flow Control for Anti-Entropy
Protocols", LADIS 2008, section 2): key -> (value, version). Only the owner writes, and gives each write a version above every
version before it. A replica takes deltas in ascending version. The whole algorithm rests on this invariant:

    whoever holds version n of a peer holds everything of it that is still current at or below n.

Three numbers protect it:

* `floor` is a version at or below which nothing of the peer exists any more. The owner raises it after a restart and when it
  compacts, and issues above it again what is still current. A replica that is told of a floor may drop what lies below only
  when it has everything that was issued again; until then it keeps the floor in `noted`, so that a key that lives on does not
  blink out of sight. It passes a floor on only once it can *settle* it.
* `heard` is the highest version that anybody was heard to know. A floor is settled only by a replica that has reached it.
* `whole` comes with deltas. A delta that leaps over versions, because they were written again since, says how far its sender's
  own knowledge reached (`more`). Whatever was leapt over has been written again, or removed, at or below that point, so a
  replica misses nothing only once it knows everything up to it. `heard` never falls below `whole`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gossipmonger.errors import shown
from gossipmonger.state import values
from gossipmonger.state.bound import MAX_VERSION
from gossipmonger.state.liveness import Liveness
from gossipmonger.state.log import Log
from gossipmonger.state.message import INTERVAL, Delta, Entry, ExtendedPeer, RemotePeer
from gossipmonger.state.phi import FIRST_SHARE, PhiAccrual

__all__ = ["NOTHING", "REFUSED", "Peer"]

#: What `Peer.take` returns for a key that was not there, and for a delta that it does not take.
NOTHING, REFUSED = object(), object()


class Peer(Liveness):
    """One participant of the cluster as some node sees it; the local peer is one too.

    A peer does not lock: the endpoint calls it under its own lock. Times are arguments, in milliseconds since the epoch.

    * State: `data`, `key_count`, `get`, `max_version_seen`, `floor`
    * Writing, the owner: `update_local`, `delete_local`, `issue`, `crowded`, `reissue`
    * Writing, a replica: `update_with_delta`, `take`, `hear_of`, `unsettled`, `settle`
    * Reconciliation: `deltas`, `deltas_after_version`, `count_after_version`, `entry`
    * Liveness: `live`, `left`, `state`, `mark_live`, `mark_dead`, `mark_contact`, `hear`, `phi`, and the window behind it:
      `intervals`, `intervals_mean`, `sum`, `last_time`, `max_intervals`

    Args:
        id: The peer's id.
        data: key -> (value, version), in any order.
        intervals: Milliseconds between signs of life, oldest first; by default one, three quarters of `interval`.
        last_time: When it was last heard of, None if never.
        live: Whether it is thought to be alive.
        max_version_seen: The highest version known of it; at least the highest in `data`.
        max_intervals: How many intervals are kept.
        transport: What the transport needs to reach it.
        floor: A version at or below which nothing of it exists.
        heartbeat: How many digests it has sent, as far as known; -1 if nobody has counted.
        left: Whether it has said goodbye.
        whole: The version up to which a replica must know everything before it misses nothing. A storage keeps it.
        interval: Milliseconds between two of its rounds. A storage keeps it.
        ttls: key -> seconds, for keys in `data` that have a ttl.

    Attributes:
        speaks_extensions: Whether it speaks what this package adds to the Node.js package's protocol; None before it has shown.
        log: What it has written, keys and tombstones.
        heard: The highest version of it that anybody was heard to know.
        noted: A floor that was told of; while it is above `floor`, it is not settled yet.
        ttls: key -> seconds, of those of its keys that have a ttl. A storage keeps it.
    """

    __slots__ = (
        "_tombstones", "floor", "heard", "id", "log", "max_version_seen", "noted", "speaks_extensions", "transport", "ttls",
        "whole",
    )  # fmt: skip

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
        floor: int = 0,
        heartbeat: int = -1,
        left: bool = False,
        whole: int = 0,
        interval: int = INTERVAL,
        ttls: Mapping[str, float] | None = None,
    ) -> None:
        self.id: str = id
        self.transport: Any = transport
        self.live: bool = live
        self.left: bool = left
        self.speaks_extensions: bool | None = None
        self.floor: int = floor
        self.heartbeat: int = heartbeat
        self.interval: int = interval
        self.noted: int = 0
        self.silent_since: float | None = None
        self.heard: int = whole
        self.whole: int = whole
        first = (FIRST_SHARE * interval,) if intervals is None else intervals
        self.arrivals: PhiAccrual = PhiAccrual(first, last_time, max_intervals)
        self.log: Log = Log()
        self.ttls: dict[str, float] = {}
        self._tombstones = 0
        if data:
            writes = [(key, *pair) for key, pair in data.items()]
            for key, value, version in sorted(writes, key=lambda write: write[2]):
                self._write(key, value, version, ttls.get(key, 0.0) if ttls else 0.0)
        self.max_version_seen: int = max(max_version_seen, self.log.last)

    def __repr__(self) -> str:
        return f"Peer({shown(self.id)}, {self.state}, {self.key_count} keys to {self.max_version_seen})"

    def _check(self) -> None:
        """Assert what always holds between two calls."""
        self.log._check()
        assert self.log.last <= self.max_version_seen <= MAX_VERSION
        assert self.heard >= self.whole
        assert self._tombstones == sum(values.is_tombstone(value) for _, value, _ in self.log.after(-1))
        assert all(ttl > 0 and self.get(key, NOTHING) is not NOTHING for key, ttl in self.ttls.items())

    # State

    @property
    def remote(self) -> RemotePeer:
        """Who and where, as events and transports are told."""
        return (ExtendedPeer if self.speaks_extensions else RemotePeer)(self.id, self.transport)

    @property
    def data(self) -> dict[str, tuple[Any, int]]:
        """A copy of the map, key -> (value, version), oldest version first. The values themselves are not copied."""
        return {key: (value, version) for key, value, version in self.log.after(-1) if not values.is_tombstone(value)}

    @property
    def key_count(self) -> int:
        """How many keys it has."""
        return len(self.log) - self._tombstones

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, not copied, or `default`."""
        value = self.log.get(key, default)
        return default if values.is_tombstone(value) else value

    # Writing, as the owner

    def update_local(self, key: str, value: Any) -> str | None:
        """Write as the owner: give `value` the next version, unless `key` has that very JSON value already.

        Nobody else may change the value from then on: `values.copied` makes one like that.

        Returns:
            The key if it was written, otherwise None.

        Raises:
            OverflowError: The versions are used up (`MAX_VERSION`).
        """
        old = self.log.get(key, NOTHING)
        if old is not NOTHING and values.same(old, value):
            return None
        self.issue(key, value)
        return key

    def delete_local(self, key: str) -> str | None:
        """Delete as the owner: put a tombstone in the key's place. Return the key if it was there, otherwise None.

        Raises:
            OverflowError: The versions are used up.
        """
        if self.get(key, NOTHING) is NOTHING:
            return None
        self.issue(key, values.TOMBSTONE)
        return key

    def issue(self, key: str, value: Any, ttl: float = 0.0) -> None:
        """Write as the owner, whatever the key has now; with a ttl in seconds, if it is to have one.

        Raises:
            OverflowError: The versions are used up.
        """
        if self.max_version_seen >= MAX_VERSION:
            raise OverflowError(f"peer {self.id!r} is at version {self.max_version_seen}, the last one there is")
        self.max_version_seen += 1
        self._write(key, value, self.max_version_seen, ttl)

    @property
    def crowded(self) -> bool:
        """Whether tombstones outnumber keys, so that it is time to `reissue` the keys."""
        return self._tombstones > self.key_count

    def reissue(self, floor: int) -> None:
        """Give each key a new version above `floor`, at least `max_version_seen`, oldest first, and forget the tombstones.

        Raises:
            OverflowError: There are not enough versions left; nothing has changed.
        """
        keys = list(self.data.items())
        last = floor + len(keys)
        if last > MAX_VERSION:
            raise OverflowError(f"peer {self.id!r} can't issue {len(keys)} keys again above version {floor}")
        log = Log()
        for version, (key, (value, _)) in enumerate(keys, floor + 1):
            log.write(key, value, version)
        self.log, self._tombstones, self.floor, self.max_version_seen = log, 0, floor, last  # at once, whatever interrupts it

    def mend(self) -> None:
        """Undo or complete what an exception out of a signal handler has cut short."""
        self.log.mend()
        self._tombstones = sum(values.is_tombstone(value) for _, value, _ in self.log.after(-1))
        self.ttls = {key: ttl for key, ttl in self.ttls.items() if self.get(key, NOTHING) is not NOTHING}

    # Writing, as a replica

    def update_with_delta(
        self, key: str, value: Any, version: int, after: int | None = None, more: int = 0, ttl: float = 0.0
    ) -> str | None:
        """Write as a replica: take the delta if its version is above all known ones and leaves no gap.

        The arguments are those of a `Delta`; nobody else may change the value.

        Returns:
            The key if it was written, otherwise None.
        """
        return None if self.take(key, value, version, after, more, ttl) is REFUSED else key

    def take(self, key: str, value: Any, version: int, after: int | None = None, more: int = 0, ttl: float = 0.0) -> Any:
        """Do the same; return the value that was there, `NOTHING` for none, `REFUSED` if the delta is not written."""
        gap = after is not None and after > self.max_version_seen and not (after == self.noted and self.awaited)
        if gap or version <= self.max_version_seen:
            return REFUSED
        self.max_version_seen = version
        if more and version + more > self.whole:
            self.whole = version + more
            self.heard = max(self.heard, self.whole)
        return self._write(key, value, version, ttl)

    def hear_of(self, version: int, floor: int, by_owner: bool) -> None:
        """Note what somebody told: that it knows, or has heard of, `version` of this peer, and nothing of it up to `floor`.

        What the owner itself says replaces what others said, which may be about a life that is gone with all its data. But an
        older word of the owner does not take back how far the sender of a delta knew.
        """
        if by_owner or version > self.heard:
            self.heard = max(version, self.whole)
        if by_owner or floor >= self.noted:
            self.noted = floor
            if version == floor > self.max_version_seen:
                self.max_version_seen = floor  # there is nothing to be known up to there

    @property
    def awaited(self) -> bool:
        """Whether a new life has said nothing yet, while keys of the former one are here. Its first word follows its floor."""
        return self.silent_since is not None and len(self.log) > 0

    @property
    def behind(self) -> bool:
        """Whether anybody was heard to know more of it than is known here."""
        return self.heard > self.max_version_seen

    @property
    def unsettled(self) -> bool:
        """Whether a floor is noted, and what lies below it is not dropped yet."""
        return self.noted > self.floor

    def _can_settle(self) -> bool:
        return self.floor < self.noted <= self.max_version_seen and not self.behind

    def settle(self) -> list[str]:
        """Drop what lies at or below the noted floor, once everything that anybody was heard to know is known here.

        A key that was issued again may have been written again since, so knowing everything up to some version above the floor
        is not enough to tell it from a key that is gone.

        Returns:
            Keys that are gone by that, without a newer value.
        """
        if not self._can_settle():
            return []
        self.floor = self.noted
        dropped = self.log.drop(self.floor)
        gone = [key for key, value in dropped if not values.is_tombstone(value)]
        self._tombstones -= len(dropped) - len(gone)
        for key in gone if self.ttls else ():
            self.ttls.pop(key, None)
        return gone

    def _write(self, key: str, value: Any, version: int, ttl: float = 0.0) -> Any:
        old = self.log.write(key, value, version, NOTHING)
        if ttl and not values.is_tombstone(value):
            self.ttls[key] = ttl
        elif self.ttls:
            self.ttls.pop(key, None)
        if type(value) is dict:
            self._tombstones += values.is_tombstone(value)
        if type(old) is dict and values.is_tombstone(old):
            self._tombstones -= 1
            return NOTHING
        return old

    # Reconciliation

    def deltas(self, after: int, limit: int | None = None) -> list[Delta]:
        """Return the writes above `after` as deltas, at most `limit` of them, in ascending version."""
        known, ttls = max(self.max_version_seen, self.whole), self.ttls
        deltas = []
        for key, value, version in self.log.first_after(after, limit):
            more = known - version if version - after > 1 else 0
            deltas.append(Delta(self.id, key, value, version, after, more, ttls.get(key, 0.0) if ttls else 0.0))
            after = version
        return deltas

    def deltas_after_version(self, version: int, limit: int | None = None) -> list[tuple[str, Any, int]]:
        """Return the writes above `version`, at most the `limit` oldest, as (key, value, version), tombstones among them."""
        return self.log.first_after(version, limit)

    def count_after_version(self, version: int) -> int:
        """Return how many deltas there are above `version`, without making them."""
        return self.log.count_after(version)

    def entry(self, now: float | None = None) -> Entry:
        """Return what a digest says about this peer.

        A floor that can be settled is told at once, as the next round settles it. With `now`, a peer that left has its age.
        """
        version = self.max_version_seen
        floor = self.noted if self.noted > self.floor and self._can_settle() else self.floor
        heard = self.heard if self.heard > version else 0
        age = 0 if now is None or not self.left else max(0, int(now - (self.last_time or now)))
        return Entry(self.id, version, self.transport, self.heartbeat, floor, heard, self.left, age, self.interval)
