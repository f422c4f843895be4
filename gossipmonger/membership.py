"""Membership: who is there, who is alive, who has left, and who has been forgotten.

One thing is a sign of life: that a peer's *heartbeat* rises, whoever tells of it. A node of ours counts the digests that it
sends in its rounds. A node that speaks only the Node package's protocol counts nothing, so that whoever hears from it
directly counts for it, once in a round of its own, and passes that on like any other heartbeat. So the time it takes to see a
death does not grow with the number of nodes, as it does where only contact counts.
"""

from __future__ import annotations

from collections import OrderedDict
from operator import attrgetter
from typing import Any

from gossipmonger.bound import Bound
from gossipmonger.entry import Entry
from gossipmonger.options import Options
from gossipmonger.output import Event, Output
from gossipmonger.peer import Peer, RemotePeer
from gossipmonger.phi import exceeding
from gossipmonger.roll import Roll

__all__ = ["TELLING", "Membership"]

#: Intervals for which a peer that left is still told of, and deletes are kept for Node nodes: far more than gossip takes.
TELLING = 30

#: Forgotten ids that are remembered, to tell news of them from old news.
_MAX_FORGOTTEN = 10_000

#: Share of GOSSIP_INTERVAL that is a peer's first interval, before anything was measured; the Node package's 750 ms of 1,000.
_FIRST_INTERVAL = 0.75

#: How often it counts. What is heard first of a peer may be old, and what is fresh comes soon after it, as if the peer's pace
#: were a multiple of what it is; few samples of that must not make a verdict.
_FIRST_INTERVALS = 5


_arrivals = attrgetter("arrivals")


def _is_at(seed: RemotePeer, transport: Any) -> bool:
    """Whether a peer's transport is the seed's, which may leave out what the peer itself adds."""
    if isinstance(seed.transport, dict) and isinstance(transport, dict):
        return seed.transport.items() <= transport.items()
    return bool(seed.transport == transport)


class Membership:
    """The peers of one node, without itself.

    Args:
        local: The node's own peer.
        storage: Where all peers are kept.
        options: The endpoint's.
        now: When this life begins. What passed since the storage was written is no silence of the peers in it.

    Attributes:
        by_reference: Whether the storage is one that need not be told of heartbeats.
        bound: What numbers are believed.
        at_rest: Whether the roll has been the same for a round, so that others may well have the same.
    """

    def __init__(self, local: Peer, storage: Any, options: Options, now: float) -> None:
        self._local = local
        self._storage = storage
        self._options = options
        self.by_reference = getattr(storage, "by_reference", False)
        self.bound = Bound()
        self._last_round: float | None = None
        self._late = False
        self._roll = Roll([])
        self._rose = False  # whether the roll has heartbeats to catch up with
        self._counted: set[str] = set()  # plain peers whose heartbeat was counted since the last round
        self._unsettled: set[str] = set()  # peers with a floor to settle
        self._forgotten: OrderedDict[str, int] = OrderedDict()  # id -> heartbeat
        self.at_rest = False
        for peer in self.others()[0]:
            peer.last_time = now
            self.put(peer)

    def put(self, peer: Peer) -> None:
        """Put a peer into the storage, as is due after each change of it."""
        self._storage.put(peer.id, peer)
        self._roll.note(peer)

    def note_heartbeats(self) -> None:
        """Note that heartbeats have risen of peers that have not been put, as in a storage by reference they need not be."""
        self._rose = True

    def others(self) -> tuple[list[Peer], list[Peer]]:
        """Return the live and the dead peers; those who left are among the dead."""
        live: list[Peer] = self._storage.live_peers()
        dead: list[Peer] = self._storage.dead_peers()
        try:
            live.remove(self._local)
            return live, dead
        except ValueError:  # the storage has a copy of it
            local = self._local.id
            return [peer for peer in live if peer.id != local], [peer for peer in dead if peer.id != local]

    def kin(self) -> list[Peer]:
        """Return the live peers that are known to be of our kind."""
        return [peer for peer in self._storage.live_peers() if peer.ours]

    def is_live_kin(self, id: str) -> bool:
        """Whether this is one of them."""
        peer: Peer | None = self._storage.get(id)
        return peer is not None and peer.live and bool(peer.ours)

    @property
    def plain(self) -> bool:
        """Whether a live peer speaks only the Node package's protocol."""
        return any(peer.ours is False for peer in self._storage.live_peers())

    def told_of(self, now: float, live: list[Peer], dead: list[Peer]) -> list[Peer]:
        """Return whom a digest tells of.

        The live; the dead who were heard of again, whom the next round will find live; and for a while those who left, so that
        nobody waits for their silence.
        """
        since = now - TELLING * self._options.gossip_interval
        threshold = self._options.dead_peer_phi
        again = [peer for peer in dead if ((peer.last_time or 0) > since if peer.left else peer.phi(now) < threshold)]
        return live + again if again else live

    def roll(self, told: list[Peer]) -> Roll:
        """Return the roll of these peers and the local one, the same as before if nothing of it has changed."""
        peers = [*told, self._local]
        if not self._roll.holds(peers):
            self._roll = Roll(peers)
            self.at_rest = False
        elif self._rose:
            self._roll.note_heartbeats()
        self._rose = False
        return self._roll

    def missing_seeds(self, live: list[Peer], dead: list[Peer]) -> list[RemotePeer]:
        """Return the seeds that no peer is; that two halves of a cluster have forgotten each other is mended through them."""
        unknown = [seed for seed in self.seeds() if self._storage.get(seed.id) is None]
        return [seed for seed in unknown if not any(_is_at(seed, peer.transport) for peer in live + dead)]

    def seeds(self) -> list[RemotePeer]:
        """Return the seeds but for the node itself."""
        local = self._local
        return [seed for seed in self._options.seeds if seed.id != local.id and not _is_at(seed, local.transport)]

    # Signs of life

    def begin_round(self, now: float, output: Output) -> None:
        """Note that a round begins.

        If it is late by more than an interval, because this process was stopped or its machine asleep, the lateness is ours and
        nobody's silence; and as what came in meanwhile may not have been read yet, nobody is judged dead in this round.
        """
        self._counted.clear()
        for id in sorted(self._unsettled):
            unsettled = self._storage.get(id)
            if unsettled is None:
                self._unsettled.discard(id)
            else:
                self._settle(unsettled, output)
                self.put(unsettled)
        self.at_rest = True
        interval = self._options.gossip_interval
        late = 0.0 if self._last_round is None else now - self._last_round - interval
        self._last_round = now
        self._late = late > interval
        if not self._late:
            return
        for peers in self.others():
            for peer in peers:
                if peer.last_time is not None and peer.last_time < now:
                    peer.last_time = min(now, peer.last_time + late)
                    self.put(peer)

    def contact(self, now: float, sender: RemotePeer, entry: Entry | None, output: Output) -> Peer | None:
        """Note that `sender` sent a message; return it, None for the node itself.

        Args:
            now: Milliseconds.
            sender: Who sent it.
            entry: The sender's own entry, if the message had a digest: one with a heartbeat shows that it is one of ours.
            output: Takes what happened.
        """
        if sender.id == self._local.id:
            return None
        peer: Peer | None = self._storage.get(sender.id)
        if peer is None:
            peer = self._meet(now, RemotePeer(sender.id, sender.transport), output)
        heartbeat = -1 if entry is None else entry.heartbeat
        if entry is not None:
            peer.ours = heartbeat >= 0
        told = heartbeat <= self.bound.limit(now)
        if told and (heartbeat < 0 or heartbeat >= peer.heartbeat) and peer.transport != sender.transport:
            peer.transport, peer.told_at = sender.transport, None
        # A heartbeat that is not believed counts as none, and so do those that a Node node does not tell: we count for it.
        if (peer.ours is False or not told) and sender.id not in self._counted:
            self._counted.add(sender.id)
            peer.hear(max(0, peer.heartbeat) + 1, now)
        self.put(peer)
        return peer

    def read(self, now: float, entry: Entry, by_owner: bool, output: Output) -> Peer | None:
        """Read an entry of a digest, all but its version; return the peer, None if the entry is to be ignored."""
        id, heartbeat = entry.id, entry.heartbeat
        peer: Peer | None = self._storage.get(id)
        later = False
        self.bound.hear(now, heartbeat)
        if peer is None:
            if entry.left or not self._is_news(id, heartbeat):
                return None
            peer = self._meet(now, RemotePeer(id, entry.transport), output)
            peer.heartbeat, peer.told_at = heartbeat, entry.address
        elif heartbeat > peer.heartbeat:
            later = peer.hear(heartbeat, now)
            if peer.told_at != entry.address:  # in this form it is compared faster than as a transport
                peer.told_at = entry.address
                if peer.transport != entry.transport:
                    peer.transport = entry.transport
            if peer.left != entry.left:
                peer.left = entry.left
                if peer.left:
                    peer.mark_dead()
                    output.append(Event("peer left", (peer.remote,)))
        if peer.ours is None and entry.floor:
            peer.ours = True  # a Node node has no floors
        # Of two messages of the owner that overtook each other, the later heartbeat tells which is its last word.
        peer.hear_of(entry.heard or entry.version, entry.floor, by_owner and later)
        if peer.unsettled:
            self._unsettled.add(id)
            self._settle(peer, output)
        self.put(peer)
        return peer

    def _settle(self, peer: Peer, output: Output) -> None:
        output += [Event("delete", (peer.id, key)) for key in peer.settle()]
        if not peer.unsettled:
            self._unsettled.discard(peer.id)

    def _is_news(self, id: str, heartbeat: int) -> bool:
        known = self._forgotten.get(id)
        return known is None or heartbeat > known

    def _meet(self, now: float, remote: RemotePeer, output: Output) -> Peer:
        self._forgotten.pop(remote.id, None)
        interval = self._options.gossip_interval * _FIRST_INTERVAL
        peer = Peer(remote.id, intervals=[interval] * _FIRST_INTERVALS, last_time=now, transport=remote.transport)
        output.append(Event("new peer", (remote,)))
        return peer

    # Verdicts

    def judge(self, now: float, live: list[Peer], dead: list[Peer], output: Output) -> None:
        """Judge who of the live is dead and who of the dead is live; forget who has been dead or gone for long."""
        threshold = self._options.dead_peer_phi
        for number in exceeding(map(_arrivals, live), now, threshold) if not self._late else ():
            peer = live[number]
            peer.mark_dead()
            self.put(peer)
            output.append(Event("peer dead", (peer.remote,)))
        for peer in dead:
            if not peer.left and peer.phi(now) < threshold:
                peer.mark_live()
                self.put(peer)
                output.append(Event("peer live", (peer.remote,)))
            elif peer.last_time is not None and now - peer.last_time > self._options.forget_dead_peers_after:
                self._forget(peer, output)

    def _forget(self, peer: Peer, output: Output) -> None:
        try:
            self._storage.remove(peer.id)
        except (AttributeError, NotImplementedError):
            return  # a storage with the Node package's methods alone keeps its dead
        self._forgotten[peer.id] = max(0, peer.heartbeat)
        while len(self._forgotten) > _MAX_FORGOTTEN:
            self._forgotten.popitem(last=False)
        output.append(Event("peer forgotten", (peer.remote,)))
