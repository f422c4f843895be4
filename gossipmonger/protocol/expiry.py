"""Expiry: which keys are gone because their ttl has passed.

An owner deletes a key once its ttl has passed since it was set last. It may have died before that, so every other node judges
for itself: it *hides* a key once the ttl has passed since the later of two moments,

* when the key came, and
* when the owner was last alive, that is, when its heartbeat rose.

A hidden key is gone for programs alone. It is still what its version says, so it stays in the log, and others are told of it
with its ttl. If the owner turns out to be alive, and the key is still current, it is shown again.

Both moments are read from this node's own clock, and no two clocks are compared. Yet news may be old when it comes. So an entry
tells its *age*, the time since the last sign of life that its teller has heard of, and a node that hears it counts from that
long ago. Ages thus add up along the way. A write is no later than the sign of life of a node that knew it, so for all versions
that an entry names, its age counts and not when they come. News that is passed on at once needs no age; it is told of peers
that have keys with a ttl, and where a compact digest has no room for it, once they have been silent for longer than usual.

What a storage has kept says nothing about who is alive, so keys out of a storage are hidden until their owner is heard of, by a
sign of life that is later than these keys.

All keys that may expire wait in one heap, each with a moment before which it will not. Only when that has come, the true one is
looked up, which has moved if the owner lives. So a sign of life costs nothing for each key.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from typing import Any

from gossipmonger.protocol.output import Event, Output
from gossipmonger.state import Entry, Peer
from gossipmonger.state.message import MAX_TTL

__all__ = ["Expiry"]

#: Milliseconds between two looks for expired keys, so that many that expire at nearly the same time cost one.
_PAUSE = 100.0

#: Intervals of silence after which an age is told beside a compact digest. Most peers are heard of once in an interval.
_SILENT = 2

#: Milliseconds: the age of a peer that has not been heard of. No ttl is longer.
_UNKNOWN = MAX_TTL * 1000


class _Life:
    """What is known of the signs of life of a peer that has keys with a ttl."""

    __slots__ = ("alive", "dated", "fresh", "kept", "since")

    def __init__(self, kept: int = -1) -> None:
        self.kept = kept  # up to which version a storage has kept its writes
        self.alive = -math.inf  # its last sign of life, by this node's clock
        self.fresh = -math.inf  # when a write came that was news
        self.dated = -1  # up to this version, writes are no later than `alive`, whenever they come
        self.since: dict[str, float] = {}  # key -> when it came, if that was news


class Expiry:
    """The keys with a ttl that one node knows.

    * Own keys: `ttl_of`, `set`, `restore`
    * Other keys: `take`, `drop`, `hidden`
    * Signs of life, in: `hear`, `hear_all`, `read_ages`; out: `tell_ages`, `silent`
    * As time passes: `due`, `expire`, `reveal`, `tidy`
    * `begin`, `forget`, `mend`

    Args:
        local: The node's own peer.
        storage: Where all peers are kept.
        interval: Milliseconds between two rounds.

    Attributes:
        hidden: id -> the keys that are hidden. Read only.
        changed: Ids and keys that were hidden or shown, or whose ttl has passed here, since whoever reads this emptied it.
        own: Own key -> its ttl, and when it was set last. Read only.
        lives: id -> what is known of the signs of life of a peer that has keys with a ttl. Read only.
        risen: Ids of peers with hidden keys that were heard of, so that there is something to `reveal`. Read only.
        heap: Keys that may expire: not before when, id, key. Without any there is nothing to `expire`. Read only.
    """

    def __init__(self, local: Peer, storage: Any, interval: float) -> None:
        self._local = local
        self._storage = storage
        self._interval = interval
        self.hidden: dict[str, dict[str, None]] = {}
        self.changed: list[tuple[str, str]] = []
        self.own: dict[str, tuple[float, float]] = {}
        self.lives: dict[str, _Life] = {}
        self.risen: dict[str, None] = {}
        self.heap: list[tuple[float, str, str]] = []
        self._queued: dict[tuple[str, str], float] = {}  # id, key -> the one time in the heap that counts
        self._looked = -math.inf
        self._begun: float = -math.inf

    def begin(self, now: float, others: Iterable[Peer]) -> None:
        """Begin with what a storage has kept."""
        self._begun = now
        for key, ttl in self._local.ttls.items():
            self.set(now, key, ttl)
        for peer in others:
            if peer.ttls:
                self.lives[peer.id] = _Life(peer.max_version_seen)
                self.hidden[peer.id] = dict.fromkeys(peer.ttls)

    # Own keys

    def ttl_of(self, key: str) -> float:
        """Return the ttl that an own key was set with last, 0 for none."""
        return self.own.get(key, (0.0, 0.0))[0]

    def set(self, now: float, key: str, ttl: float) -> tuple[float, float] | None:
        """Note that an own key is set, with a ttl or with 0 for none; return what `restore` takes to undo this."""
        former = self.own.get(key)
        self.restore(key, (ttl, now) if ttl else None)
        return former

    def restore(self, key: str, own: tuple[float, float] | None) -> None:
        """Put an own key back to what `set` returned."""
        if own is None:
            self.own.pop(key, None)
        else:
            self.own[key] = own
            self._push(own[1] + own[0] * 1000, self._local.id, key)

    # Other keys

    def take(self, now: float, peer: Peer, key: str, version: int) -> tuple[bool, bool]:
        """Note a write that a peer has just taken; return whether its key was hidden before, and whether it is now."""
        hidden = self.hidden.get(peer.id, {})
        was = key in hidden
        self._show(peer.id, key)
        life, ttl = self.lives.get(peer.id), peer.ttls.get(key, 0.0)
        if not ttl:
            if life is not None:
                life.since.pop(key, None)
            return was, False
        if life is None:
            life = self.lives[peer.id] = _Life()
        life.since[key] = -math.inf
        if version > life.dated:
            life.since[key] = life.fresh = now
        until = self._until(peer, key)
        if until > now:
            self._push(until, peer.id, key)
            return was, False
        self.hidden.setdefault(peer.id, {})[key] = None
        self._queued.pop((peer.id, key), None)
        return was, True

    def drop(self, id: str, key: str) -> bool:
        """Note that a peer's key has fallen to a floor; return whether it was hidden."""
        was = key in self.hidden.get(id, ())
        self._show(id, key)
        if id in self.lives:
            self.lives[id].since.pop(key, None)
        return was

    def _show(self, id: str, key: str) -> None:
        hidden = self.hidden.get(id)
        if hidden is not None:
            hidden.pop(key, None)
            if not hidden:
                del self.hidden[id]

    # Signs of life

    def hear(self, now: float, id: str, age: float = 0.0, version: int = -1) -> None:
        """Note that a peer gave a sign of life so many milliseconds ago; whoever tells it knew of this version."""
        life = self.lives.get(id)
        if life is None:
            if not age or id == self._local.id:
                return  # nobody will ask
            life = self.lives[id] = _Life()
        elif age >= _UNKNOWN and max(life.alive, life.fresh) > -math.inf:
            return  # its teller has not heard of it yet
        life.alive = max(life.alive, now - age)
        life.dated = max(life.dated, version)
        if id in self.hidden:
            self.risen[id] = None

    def hear_all(self, now: float, peers: Iterable[Peer], aged: Iterable[Entry]) -> None:
        """Note the signs of life of peers whose heartbeats have risen; some of these entries may tell how long ago."""
        told = {entry.id for entry in aged}
        for peer in peers:
            if peer.id not in told:
                self.hear(now, peer.id)
        for entry in aged:
            self.hear(now, entry.id, entry.age, entry.version)

    def read_ages(self, now: float, entries: Iterable[Entry], limit: int) -> None:
        """Read the ages in a digest, before the deltas that come with it are taken. `limit` is the highest version believed."""
        for entry in entries:
            if entry.age and entry.version <= limit:
                self.hear(now, entry.id, entry.age, entry.version)

    def tell_ages(self, now: float, entries: list[Entry]) -> list[Entry]:
        """Return entries with the ages of peers that have keys with a ttl; of one that has left, the entry has it already."""
        lives = self.lives
        return [
            entry._replace(age=self._age(now, lives[entry.id])) if entry.id in lives and not entry.left else entry
            for entry in entries
        ]

    def _age(self, now: float, life: _Life) -> int:
        return int(max(0, min(_UNKNOWN, now - max(self._sign(life), life.fresh))))

    def _sign(self, life: _Life) -> float:
        """Return the last sign of life; minus infinity if that may be older than writes that a storage has kept."""
        return life.alive if life.alive >= self._begun or life.dated >= life.kept else -math.inf

    def silent(self, now: float) -> Collection[str]:
        """Return the ids of peers with an age that has to be told beside a compact digest."""
        return {id for id, life in self.lives.items() if self._age(now, life) > _SILENT * self._interval}

    # As time passes

    @property
    def due(self) -> float:
        """When to `expire`, in milliseconds since the epoch; infinite for never."""
        return max(self.heap[0][0], self._looked + _PAUSE) if self.heap else math.inf

    def expire(self, now: float, output: Output, ahead: float = 0.0) -> list[str]:
        """Hide what has expired; return the own keys that have, which are to be deleted.

        A round looks so many milliseconds ahead. Keys of owners that are alive have got more time then, before their moment
        comes, and no timer runs out for them.
        """
        self._looked = now
        peers: dict[str, Peer | None] = {}
        again: list[tuple[float, str, str]] = []
        own = []
        while self.heap and self.heap[0][0] <= now + ahead:
            moment, id, key = heappop(self.heap)
            if self._queued.get((id, key)) != moment:
                continue  # it was set again, with a shorter ttl
            del self._queued[id, key]
            if id not in peers:
                peers[id] = self._local if id == self._local.id else self._storage.get(id)
            until = self._until(peers[id], key)
            if until > now:
                again.append((until, id, key))
            elif id == self._local.id:
                own.append(key)
            else:
                self.hidden.setdefault(id, {})[key] = None
                self.changed.append((id, key))
                output.append(Event("delete", (id, key)))
        for each in again:
            self._push(*each)
        return own

    def reveal(self, now: float, output: Output) -> None:
        """Show hidden keys whose owners were heard of, unless these may have begun another life without them."""
        risen, self.risen = self.risen, {}
        for id in risen:
            peer = self._storage.get(id)
            for key in [*self.hidden.get(id, ())] if peer is not None else ():
                until = self._until(peer, key)
                if until > now and peer.log.version_of(key) > max(peer.floor, peer.noted):
                    self._show(id, key)
                    self._push(until, id, key)
                    self.changed.append((id, key))
                    output.append(Event("update", (id, key, peer.get(key))))

    def _until(self, peer: Peer | None, key: str) -> float:
        """Return until when a key is there; infinite if it is gone already, or has no ttl any more."""
        if peer is self._local:
            ttl, since = self.own.get(key, (math.inf, 0.0))
            return since + ttl * 1000
        life = None if peer is None else self.lives.get(peer.id)
        if peer is None or life is None or key not in peer.ttls:
            return math.inf
        return max(self._sign(life), life.since.get(key, -math.inf)) + peer.ttls[key] * 1000

    def _push(self, until: float, id: str, key: str) -> None:
        if until < self._queued.get((id, key), math.inf):
            self._queued[id, key] = until
            heappush(self.heap, (until, id, key))

    def tidy(self) -> None:
        """Drop what is known of peers that are not there any more, or have no keys with a ttl."""
        for id in [*self.lives]:
            peer = self._storage.get(id)
            if peer is None or not (peer.ttls or peer.behind):
                self.forget(id)

    def forget(self, id: str) -> None:
        """Drop what is known of a peer."""
        self.lives.pop(id, None)
        self.hidden.pop(id, None)

    def mend(self) -> None:
        """Make whole what an exception has cut in two that came out of a signal handler, or of the storage."""
        self.heap, self._queued = [], {}
        peers = [self._local, *(self._storage.get(id) for id in self.lives)]
        for peer in peers:
            if peer is None:
                continue
            hidden = {key: None for key in self.hidden.pop(peer.id, ()) if key in peer.ttls}
            if hidden:
                self.hidden[peer.id] = hidden
            for key in self.own if peer is self._local else peer.ttls.keys() - hidden.keys():
                until = self._until(peer, key)
                self._queued[peer.id, key] = until
                self.heap.append((until, peer.id, key))
        heapify(self.heap)

    def _check(self) -> None:
        """Assert what always holds between two calls."""
        assert self._queued == {(id, key): until for until, id, key in self.heap if self._queued.get((id, key)) == until}
        assert all(keys for keys in self.hidden.values())
        waiting = {(self._local.id, key) for key in self.own}
        for id, life in self.lives.items():
            peer = self._storage.get(id)
            if peer is not None:
                hidden = self.hidden.get(id, {})
                waiting |= {(id, key) for key in peer.ttls if key not in hidden}
                assert not {(id, key) for key in hidden} & self._queued.keys()
                assert life.since.keys() <= peer.ttls.keys()
                assert hidden.keys() <= peer.ttls.keys()
        assert waiting <= self._queued.keys()
        for (id, key), until in self._queued.items():
            peer = self._local if id == self._local.id else self._storage.get(id)
            assert until <= self._until(peer, key)
