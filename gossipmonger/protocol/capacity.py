"""Capacity: how many peers a node knows at most, how many keys of each, and who is forgotten soon.

Anybody who can speak to a node can invent peers, thousands of them in one message. Two rules bound what that costs:

* *At most MAX_PEERS.* Beyond that, a peer that others tell of is not met, so what is said about it is ignored, and all others
  carry on. A node that speaks for itself is met in place of a *stranger* whose heartbeat has not risen, if there is one.
* *Strangers are forgotten soon.* A stranger is a peer of which only others have told. In a cluster everybody has spoken to
  everybody after a while, and who is invented speaks to nobody. A stranger whose heartbeat has not risen for five minutes is
  forgotten, where a peer that has been heard stays for FORGET_DEAD_PEERS_AFTER. Peers that a storage has kept are no strangers.
  And rounds never go to strangers alone.

The keys of a peer are bounded at its owner, which writes no more than MAX_KEYS_PER_PEER. A replica may hold for a while what
the owner had before and what it has now, with the tombstones of both, so it takes four times as many above the floor that it
was told last, and as many below. If that is not enough, it takes no further delta of that peer: if one is left out, so are all
above it, and nothing is missing below its version. Once the owner has begun a new life, or has deleted enough, it goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

from gossipmonger.errors import MessageError, shown
from gossipmonger.protocol.config import Node
from gossipmonger.protocol.forgetting import TELLING, Forgetting
from gossipmonger.protocol.output import Event, Output
from gossipmonger.state import Peer, Throttle, values
from gossipmonger.state.peer import NOTHING

__all__ = ["Capacity"]

#: Milliseconds of silence after which a stranger is forgotten: long enough for a cluster's rounds to reach everybody, and for a
#: partition that is short. For nodes that gossip rarely it is more.
_SILENCE = 300_000.0

#: Intervals of a stranger that are waited for, and the milliseconds that they may take: forged intervals may be a day.
_INTERVALS, _LONGEST = 3, 2_700_000.0

#: Milliseconds between two looks for strangers to forget.
_LOOK_EVERY = 15_000.0

#: Strangers that are looked at to find one to replace. A sender that finds none is refused, so messages stay cheap.
_TRIES = 64

#: Keys and tombstones that a replica takes above the latest floor, as a multiple of MAX_KEYS_PER_PEER.
_REPLICA = 4


class Capacity:
    """Counts the peers of one node.

    * Peers: `admit`, `admit_sender`, `meet`, `hear`, `strangers`, `silent`, `begin_round`
    * Keys: `check_own`, `overflows`, `is_full`, `report_full`

    Attributes:
        strangers: The peers of which only others have told, id -> when it was met. Read only.
        count: How many other peers are known, as of the last round and with those that were met since.
    """

    def __init__(self, node: Node, forgetting: Forgetting) -> None:
        self._local, self._storage, config, _ = node
        self._forgetting = forgetting
        self._most = config.max_peers
        self._keys = config.max_keys_per_peer
        self._silence = max(_SILENCE, TELLING * config.gossip_interval)
        self.strangers: OrderedDict[str, float] = OrderedDict()
        self._looks = Throttle(_LOOK_EVERY)
        self._reports = Throttle()
        self.count: int = 0

    # Peers

    def admit(self, now: float, id: str, output: Output) -> bool:
        """Return whether one more peer can be met, which then counts; report it if not."""
        if self.count < self._most:
            self.count += 1
            return True
        self._report(now, f"peer {shown(id)} is ignored: max_peers, {self._most}, are known already", "max_peers", output)
        return False

    def admit_sender(self, now: float, id: str, found: dict[str, Peer | None], output: Output) -> bool:
        """Do the same for a peer that speaks for itself, in place of a stranger, which is taken out of those that are found."""
        replaced = self._make_room(output) if self.count >= self._most else None
        if replaced is not None:
            self.count -= 1
            found[replaced] = None
        return self.admit(now, id, output)

    def _make_room(self, output: Output) -> str | None:
        """Forget the stranger that was met first and has not been heard since; return its id."""
        for _ in range(min(_TRIES, len(self.strangers))):
            id, since = self.strangers.popitem(last=False)
            peer = self._storage.get(id)
            if peer is not None and not _has_risen(peer, since) and self._forget(peer, output):
                return id
            if peer is not None:
                self.strangers[id] = since
        return None

    def meet(self, now: float, id: str) -> None:
        """Note that a peer was met."""
        self.strangers[id] = now

    def hear(self, now: float, id: str) -> None:
        """Note that a peer has spoken for itself. If that is how it was met, it has to speak once more."""
        if self.strangers.get(id, now) < now:
            del self.strangers[id]

    def silent(self) -> Collection[str]:
        """Return the ids of the strangers whose heartbeat has not risen since they were met."""
        peers = [(self._storage.get(id), since) for id, since in self.strangers.items()]
        return {peer.id for peer, since in peers if peer is not None and not _has_risen(peer, since)}

    def begin_round(self, now: float, late: float, output: Output) -> None:
        """Forget strangers that have been silent for too long; a lateness of this node is not theirs."""
        if late:
            self.strangers = OrderedDict((id, min(now, since + late)) for id, since in self.strangers.items())
        if self._looks.passes(now):
            for id, since in [*self.strangers.items()]:
                peer = self._storage.get(id)
                if peer is None:
                    del self.strangers[id]
                elif self._is_too_silent(now, peer, since):
                    del self.strangers[id]
                    self._forget(peer, output)

    def _is_too_silent(self, now: float, peer: Peer, since: float) -> bool:
        if peer.left and len(peer.log):
            return False  # what a short program has published spreads after it has gone
        silence = max(self._silence, min(_LONGEST, float(_INTERVALS * peer.interval)))
        return now - max(since, peer.last_time or 0.0) > silence

    def _forget(self, peer: Peer, output: Output) -> bool:
        if peer.live:
            peer.mark_dead()
            self._storage.put(peer.id, peer)
            output.append(Event("peer dead", (peer.remote,)))
        return self._forgetting.drop(peer, peer.heartbeat, output)

    # Keys

    def check_own(self, key: str, waiting: Mapping[str, Any]) -> None:
        """Raise ValueError if the local peer, which lacks this key, has MAX_KEYS_PER_PEER already.

        `waiting` is what flow control holds back, key -> value.
        """
        if self._local.key_count + len(waiting) < self._keys:
            return
        there = sum(self._local.get(each, NOTHING) is not NOTHING for each in waiting)
        stay = sum(not values.is_tombstone(value) for value in waiting.values())
        if self._local.key_count - there + stay >= self._keys:
            raise ValueError(f"key: {shown(key)} would be one more than max_keys_per_peer, {self._keys}")

    @property
    def overflows(self) -> bool:
        """Whether the local peer has so many tombstones that it forgets them, though a Node.js node may not have seen them."""
        return len(self._local.log) > 2 * self._keys

    def is_full(self, peer: Peer, key: str) -> bool:
        """Whether a replica has no room for a key."""
        most, held = _REPLICA * self._keys, len(peer.log)
        if held < most or peer.log.get(key, NOTHING) is not NOTHING:
            return False
        return held >= 2 * most or peer.log.count_after(peer.noted) >= most

    def report_full(self, now: float, peer: Peer, output: Output) -> None:
        """Report that no more deltas of a peer are taken."""
        words = f"peer {shown(peer.id)} has too many keys: max_keys_per_peer is {self._keys} here; its news is ignored"
        self._report(now, words, "max_keys_per_peer", output)

    def _report(self, now: float, words: str, limit: str, output: Output) -> None:
        """Report that a limit is reached, at most once a minute for each limit."""
        if self._reports.passes(now, limit):
            output.append(Event("error", (MessageError(words),)))


def _has_risen(peer: Peer, since: float) -> bool:
    return (peer.last_time or 0.0) > since
