"""The mirror: what a watch has told of each peer, held against what the peer has.

Its invariant, for each peer that is not noted:

    what was told of a peer is what the peer has,

that is, its keys and their values if it is live, and nothing otherwise. Whatever may change what a peer has notes the peer.
`take` compares a noted peer with what was told of it, and returns the difference. So nothing is missed and nothing told twice,
whatever notes say and however many there are, and a value that nobody was told of yet gives way to a newer one.

A comparison costs what has changed. A peer's log is in the order of its versions, so what is new is what lies above the version
that was told last, deletions included. Four things are not in the log, and are compared by themselves:

* keys that fell to a floor, when the floor has changed. An owner drops what it has deleted only when that is more than half of
  all, so this costs a little for each deletion;
* the life of a peer that was forgotten and met again, whose log may begin anew below what was told;
* own updates that flow control holds back;
* keys that are hidden when their ttl has passed, or shown again.

Everything here requires holding the engine's lock. Values are not copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gossipmonger.protocol import Event, Output
from gossipmonger.state import Peer, values
from gossipmonger.state.peer import NOTHING

if TYPE_CHECKING:
    from gossipmonger.endpoint.engine import Engine

__all__ = ["Change", "Mirror", "Note", "notes"]

#: Writes of one peer that are compared at once. The more there are, the longer others wait for the engine's lock, and the older
#: is what a slow handler is told.
_AT_ONCE = 256

#: Own keys that are noted, beyond those there are, until it costs less to compare all.
_FEW = 64


class Change(NamedTuple):
    """What has changed of one key.

    Attributes:
        peer_id: Whose key it is; the local peer's own keys are watched too.
        key: The key.
        value: Its new value, a copy; None if it is gone.
        kind: "set"; "delete", if its owner has deleted it; or "gone", if its owner died, left or was forgotten.
    """

    peer_id: str
    key: str
    value: Any
    kind: Literal["set", "delete", "gone"]


class Note(IntEnum):
    """How much of a peer has to be compared; a higher one includes the lower."""

    WRITES = 0  # what was written since
    ALL = 1  # everything
    AGAIN = 2  # everything; and what is missing is gone with what was known of the peer, since nobody said that it is deleted


#: What events say about a peer that they are about.
_NOTES: Mapping[str, Note] = {
    "update": Note.WRITES,
    "delete": Note.WRITES,
    "peer dead": Note.WRITES,
    "peer live": Note.WRITES,
    "peer left": Note.WRITES,
    "new peer": Note.AGAIN,
    "peer forgotten": Note.AGAIN,
}


def notes(output: Output) -> dict[str, Note]:
    """Return the ids of the peers that have changed, as an output of the protocol says, in their order."""
    noted: dict[str, Note] = {}
    for item in output:
        if type(item) is Event and item.name in _NOTES:
            about = item.args[0]
            id = about if type(about) is str else about.id
            noted[id] = max(noted.get(id, Note.WRITES), _NOTES[item.name])
    return noted


@dataclass(eq=False, slots=True)
class _Told:
    """What was told of one live peer."""

    floor: int  # the peer's floor then
    keys: dict[str, Any] = field(default_factory=dict)
    version: int = -1  # up to where its log was compared


class Mirror:
    """What a watch has told, and what it has to tell.

    Args:
        engine: Knows the peers.
        prefix: What keys begin with that count.
        peer_id: The only peer that counts; None for all.
        replay: Whether what there is now is to be told. It comes first, before anything that happens from now on.
    """

    def __init__(self, engine: Engine, prefix: str, peer_id: str | None, replay: bool) -> None:
        self._engine = engine
        self._prefix = prefix
        self._peer_id = peer_id
        self._told: dict[str, _Told] = {}
        self._noted: dict[str, Note] = {}
        self._stale = False  # whether any peer may have changed
        self._keys: dict[str, dict[str, None]] = {}  # id -> keys to be compared, whatever the log says
        self._own_waiting()
        there = {peer.id: peer.log.last for peer in engine.known.peers(live=True) if peer_id in (None, peer.id)}
        self._existing = there  # peers of which is yet to be told what there was at first, with the last version of that
        if not replay:
            while self.take():
                pass

    @property
    def pending(self) -> bool:
        """Whether there may be something to tell. Needs no lock."""
        return bool(self._noted or self._existing or self._stale)

    # Notes

    def note(self, noted: Mapping[str, Note]) -> None:
        """Note that peers may have changed."""
        for id, note in noted.items():
            if self._peer_id is None or self._peer_id == id:
                self._noted[id] = max(self._noted.get(id, Note.WRITES), note)

    def note_own(self, key: str) -> None:
        """Note that a key of the local peer may have changed, whether gossip tells it yet or not."""
        local = self._engine.local_peer
        if self._peer_id not in (None, local.id) or not key.startswith(self._prefix):
            return
        note = Note.WRITES
        if key in self._engine.protocol.waiting and not self._add(local, key):
            note = Note.ALL
        self.note({local.id: note})

    def note_keys(self, keys: Iterable[tuple[str, str]]) -> None:
        """Note that these keys, each with its peer's id, are hidden or shown, which no log says."""
        for id, key in keys:
            peer = self._engine.known.find(id)
            if peer is not None and self._peer_id in (None, id) and key.startswith(self._prefix):
                self.note({id: Note.WRITES if self._add(peer, key) else Note.ALL})

    def _add(self, peer: Peer, key: str) -> bool:
        """Have a key compared; return False if these are so many that it costs less to compare all."""
        keys = self._keys.setdefault(peer.id, {})
        keys.pop(key, None)  # the order is that of the last updates
        keys[key] = None
        if len(keys) > len(peer.log) + _FEW:  # many were deleted before anybody was told of them
            del self._keys[peer.id]
            return False
        return True

    def _own_waiting(self) -> None:
        waiting = dict.fromkeys(key for key in self._engine.protocol.waiting if key.startswith(self._prefix))
        if waiting:
            self._keys[self._engine.local_peer.id] = self._keys.get(self._engine.local_peer.id, {}) | waiting

    def note_all(self) -> None:
        """Note that anything may have changed."""
        self._stale = True

    # What there is to tell

    def take(self) -> list[Change]:
        """Return some of what there is to tell, nothing if that is all. What is returned counts as told.

        Raises:
            Exception: What the storage raised. Nothing counts as told then that was not told before.
        """
        if self._stale:
            ids = [*self._told, *[peer.id for peer in self._engine.known.peers(live=True)]]
            self.note(dict.fromkeys(ids, Note.ALL))
            self._stale = False
        while self._existing:
            id, version = next(iter(self._existing.items()))
            changes, done = self._compare(id, Note.WRITES, version)
            if done:
                del self._existing[id]
                self._noted.setdefault(id, Note.WRITES)  # it may have been issued again since, which is no event
            if changes:
                return changes
        while self._noted:
            id, note = next(iter(self._noted.items()))
            changes, done = self._compare(id, note, None)
            del self._noted[id]
            if not done:
                self._noted[id] = Note.WRITES  # after the others, which wait too
            if changes:
                return changes
        return []

    def _compare(self, id: str, note: Note, up_to: int | None) -> tuple[list[Change], bool]:
        """Return what is to be told of a peer, up to a version, and whether that is all."""
        peer = self._engine.known.find(id)
        if peer is None or not self._is_there(peer):
            gone = self._told.pop(id, None)
            self._keys.pop(id, None)
            return [] if gone is None else [Change(id, key, None, "gone") for key in gone.keys], True
        told = self._told.get(id)
        if told is None:
            told = self._told[id] = _Told(peer.floor)
        changes: list[Change] = []
        if note is not Note.WRITES or peer.floor != told.floor:
            self._compare_keys(peer, told, "gone" if note is Note.AGAIN else "delete", changes)
            told.floor = peer.floor
            if note is not Note.WRITES:
                told.version = -1
        is_own = peer is self._engine.local_peer
        if is_own and note is not Note.WRITES:
            self._own_waiting()
        done = self._compare_writes(peer, told, up_to, self._engine.protocol.waiting if is_own else {}, changes)
        if done and up_to is None:  # what waits is later than all of its log
            for key in self._keys.pop(id, ()):
                self._tell(id, told, key, self._engine.known.value(peer, key), changes)
        return changes, done

    def _is_there(self, peer: Peer) -> bool:
        return peer is self._engine.local_peer or (peer.live and not peer.left)

    def _compare_keys(self, peer: Peer, told: _Told, kind: Literal["delete", "gone"], changes: list[Change]) -> None:
        """Tell which keys are not there any more."""
        get = self._engine.protocol.newest if peer is self._engine.local_peer else peer.get
        hidden = self._engine.known.hidden(peer.id)
        for key in [key for key in told.keys if key in hidden or get(key, NOTHING) is NOTHING]:
            del told.keys[key]
            changes.append(Change(peer.id, key, None, kind))

    def _compare_writes(
        self, peer: Peer, told: _Told, up_to: int | None, waiting: Mapping[str, Any], changes: list[Change]
    ) -> bool:
        """Tell what was written since, except for keys that a later update waits for; return whether that is all."""
        writes, hidden = peer.log.first_after(told.version, _AT_ONCE), self._engine.known.hidden(peer.id)
        for key, value, version in writes:
            if up_to is not None and version > up_to:
                return True
            told.version = version
            if key.startswith(self._prefix) and key not in waiting:
                self._tell(peer.id, told, key, NOTHING if key in hidden else value, changes)
        return len(writes) < _AT_ONCE

    def _tell(self, id: str, told: _Told, key: str, value: Any, changes: list[Change]) -> None:
        """Tell what a key has now, if it is something else than what was told of it."""
        old = told.keys.get(key, NOTHING)
        if value is NOTHING or values.is_tombstone(value):
            if old is not NOTHING:
                del told.keys[key]
                changes.append(Change(id, key, None, "delete"))
        elif old is NOTHING or not values.same(old, value):
            told.keys[key] = value
            changes.append(Change(id, key, value, "set"))
