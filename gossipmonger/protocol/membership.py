"""Membership: who is there, who is alive, who has left, and who has been forgotten.

The only sign of life is that a peer's *heartbeat* rises, whoever tells of it. A node of ours counts the digests that it sends
in its rounds. A Node.js node counts nothing, so a node that hears from it directly counts on its behalf, at most once per round
of its own, and passes that on like any other heartbeat. So the time until a death is seen does not grow with the number of
nodes, as it would if only direct contact counted.

A node that restarts without its data begins a new life, and its floor says that nothing of its former life exists any more.
As long as its floor is its version, it has set no key, and may be a program that is about to set those of its last run again.
So others keep the former life until the new one sets a key, leaves, or has raised its heartbeat for an interval without setting
any. A peer that has left stays in digests for a while, and newcomers are told of it later too, until all nodes forget it at the
same time.

Within one step the peers that a message names are looked up once (`look_up`), changed in memory (`change`), and put into the
storage once (`put_changes`).
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from operator import attrgetter
from typing import Any

from gossipmonger.protocol.capacity import Capacity
from gossipmonger.protocol.config import Node
from gossipmonger.protocol.expiry import Expiry
from gossipmonger.protocol.forgetting import TELLING, Forgetting
from gossipmonger.protocol.output import Event, Output
from gossipmonger.protocol.seeds import Seeds
from gossipmonger.state import Bound, Compact, CompactDigest, Digest, Entry, Header, Kind, Message, Peer, RemotePeer, own_index

__all__ = ["Membership"]

#: Peers that left of which a newcomer is told.
_MOST_LEFT = 100


class Membership:
    """The peers of one node.

    Args:
        now: When this life begins. The time since the storage was written is not a silence of the peers in it.

    Attributes:
        bound: Which numbers are believed.
        found: The peers that were looked up for this step, or met in it, by their ids; None for one that is not known.
        at_rest: Whether the compact digest has covered the same for a round, so others may well have the same.
        late: Whether the last round was late by more than an interval.
        seeds: Where to find the cluster.
        alone: Whether nobody else was live in the last round.
        rounds: How many rounds there were.
        forgetting: What has been forgotten.
        capacity: How many peers there may be.
        expiry: Which keys are gone because their ttl has passed.
        changes: Peers that `put_changes` is to put, by their ids. Read only.
        refused: Peers that are dead by refusal, id -> the heartbeat up to which it may be old news: see `Suspicion`.
    """

    def __init__(self, node: Node, now: float) -> None:
        self._local, self._storage, self._config, _ = node
        self.bound: Bound = Bound(self._config.max_years_ahead)
        self.at_rest: bool = False
        self.found: dict[str, Peer | None] = {self._local.id: self._local}
        self.changes: dict[str, Peer] = {}
        self._last_round: float | None = None
        self._pace = 0.0  # milliseconds between two rounds of a peer, the harmonic mean: how often a digest comes
        self.late: bool = False
        self.refused: dict[str, int] = {}
        self.seeds: Seeds = Seeds(self._local, self._config.seeds)
        self.alone: bool = True
        self.rounds: int = 0
        self._compact = CompactDigest([])
        self._counted: set[str] = set()  # peers on whose behalf this node has counted since its last round
        self._unsettled: set[str] = set()  # peers with a floor to settle
        self._fresh: dict[str, float] = {}  # peers that are new, restarted or moved -> since when
        self.forgetting: Forgetting = Forgetting(self._storage, self.refused, self._config)
        self.capacity: Capacity = Capacity(node, self.forgetting)
        self.expiry: Expiry = Expiry(self._local, self._storage, self._config.gossip_interval)
        live, dead = self.others()
        self.expiry.begin(now, live + dead)
        for peer in live:
            peer.last_time = now
            self.put(peer)

    # One step's peers

    def look_up(self, ids: Iterable[str]) -> None:
        """Begin a step that is about the peers with these ids."""
        get = self._storage.get
        self.found = {**{id: get(id) for id in ids}, self._local.id: self._local}

    def change(self, peer: Peer) -> None:
        """Have a peer put at the end of the step, after its last change has been made."""
        self.changes[peer.id] = peer
        self._compact.note(peer)

    def hear_risen(self, now: float, peers: list[Peer], aged: Sequence[Entry] = ()) -> None:
        """Have peers put of which nothing has changed but their heartbeats and versions, which a fingerprint does not cover.

        `aged` are entries that say when they have risen, or other peers.
        """
        if self.expiry.lives or aged:
            self.expiry.hear_all(now, peers, aged)
        for peer in peers:
            self.changes[peer.id] = peer
        if peers:
            self.bound.hear(now, max(map(attrgetter("heartbeat"), peers)))

    def put_changes(self) -> None:
        """Put all peers that have changed."""
        changes, self.changes = self.changes, {}
        put = self._storage.put
        for id, peer in changes.items():
            put(id, peer)

    def put(self, peer: Peer) -> None:
        """Put a peer into the storage."""
        self._storage.put(peer.id, peer)
        self._compact.note(peer)

    # Who is there

    def others(self) -> tuple[list[Peer], list[Peer]]:
        """Return the live and the dead peers, without the local one. Peers that left are among the dead."""
        live: list[Peer] = self._storage.live_peers()
        dead: list[Peer] = self._storage.dead_peers()
        try:
            live.remove(self._local)
        except ValueError:  # the storage has a copy of it
            live = [peer for peer in live if peer.id != self._local.id]
        return live, [peer for peer in dead if peer.id != self._local.id] if dead else dead

    def speakers(self) -> list[Peer]:
        """Return the live peers that are known to speak our extensions."""
        return [peer for peer in self._storage.live_peers() if peer.speaks_extensions and peer.id != self._local.id]

    def is_fresh(self, now: float, id: str, intervals: float = TELLING) -> bool:
        """Return whether a peer is new, restarted or moved, so that others may not know it as it is now."""
        return now - self._fresh.get(id, -math.inf) < intervals * self._config.gossip_interval

    def has_node_js(self) -> bool:
        """Return whether a live peer speaks only the Node.js package's protocol."""
        return any(peer.speaks_extensions is False for peer in self._storage.live_peers())

    def told_of(self, now: float, live: list[Peer], dead: list[Peer]) -> list[Peer]:
        """Return whom a digest tells of.

        The live peers; the dead that were heard of again, which the next round will find live; and for a while those that left,
        so that nobody has to conclude it from their silence.
        """
        since = now - TELLING * self._config.gossip_interval
        return live + [peer for peer in dead if ((peer.last_time or 0) > since if peer.left else self._is_back(now, peer))]

    def header(self, flow: Any = None, compact: Compact | None = None, hints: Any = None) -> Header:
        """Return the header of a digest: these, and what all headers have."""
        return Header(flow, compact, hints, cluster=self._config.cluster, forget=self.forgetting.told)

    def departed(self, named: Container[str]) -> list[Peer]:
        """Return those that left and have not been named, the latest first."""
        left = [peer for peer in self._storage.dead_peers() if peer.left and peer.id not in named]
        return sorted(left, key=lambda peer: peer.last_time or 0.0, reverse=True)[:_MOST_LEFT]

    def digest(self, peers: Sequence[Peer], now: float | None = None) -> list[Entry]:
        """Return an entry for each of these peers, then the local one's. Without `now`, none has an age."""
        entries = [peer.entry(now) for peer in (*peers, self._local)]
        return entries if now is None or not self.expiry.lives else self.expiry.tell_ages(now, entries)

    def message(
        self, kind: Kind, peers: Sequence[Peer] = (), now: float | None = None, header: Header | None = None
    ) -> Message:
        """Return a message with a digest of these peers, and no deltas."""
        return Message(self._local.remote, None, Digest(kind, header or self.header(), self.digest(peers, now)))

    def phi(self, now: float, peer: Peer) -> float:
        """Return how far a peer's silence is from what is usual.

        GOSSIP_FANOUT digests in an interval are the most that count. A young window often shows more: the first that was heard
        of a peer may have been old news, so its heartbeat seems to leap. And among peers that gossip less often than this one,
        news of it comes less often than it gossips.
        """
        return peer.phi(now, max(peer.interval, self._pace) / self._config.gossip_fanout)

    def _is_back(self, now: float, peer: Peer) -> bool:
        """Return whether a dead peer that has not left was heard of again."""
        return peer.heartbeat > self.refused.get(peer.id, -2) and self.phi(now, peer) < self._config.dead_peer_phi

    def compact(self, told: list[Peer]) -> CompactDigest:
        """Return the compact digest of these peers and the local one: the same object as long as it covers the same."""
        compact = self.compact_aside(told)
        if compact is not self._compact:
            self._compact, self.at_rest = compact, False
        return compact

    def compact_aside(self, told: list[Peer]) -> CompactDigest:
        """Return the same, and note nothing."""
        peers = [*told, self._local]
        return self._compact if self._compact.covers(peers) else CompactDigest(peers)

    def doubted(self) -> list[RemotePeer]:
        """Return whom a round goes to beside those that `Contacts` draws: nobody."""
        return []

    # Signs of life

    def begin_round(self, now: float, output: Output) -> None:
        """Note that a round begins. If it is late, that is nobody's silence, and news may wait to be read: no verdict then."""
        self.rounds += 1
        self._counted.clear()
        self._fresh = {id: since for id, since in self._fresh.items() if self.is_fresh(now, id)}
        if self._fresh:
            self.forgetting.tell(now)
        self.look_up(sorted(self._unsettled))
        self._unsettled.clear()
        for peer in [*self.found.values()]:
            if peer is not None and peer is not self._local:
                self._settle(peer, output)
                self.change(peer)
        self.put_changes()  # before peers are read again, which may be copies
        self.at_rest = True
        interval = self._config.gossip_interval
        late = 0.0 if self._last_round is None else now - self._last_round - interval
        self._last_round = now
        self.late = late > interval
        if self.late:
            live, dead = self.others()
            for peer in live + dead:
                if peer.last_time is not None and peer.last_time < now:
                    peer.last_time = min(now, peer.last_time + late)
                    peer.silent_since = None if peer.silent_since is None else peer.silent_since + late
                    self.change(peer)
        self.put_changes()
        self.capacity.begin_round(now, late if self.late else 0.0, output)

    def hear_from(self, now: float, message: Message, limit: int, output: Output) -> Peer | None:
        """Note that a peer has sent a message; return the peer, None for the node itself or if there is no room for it."""
        sender, digest = message.sender, message.digest
        if sender.id == self._local.id:
            return None
        peer = self.found.get(sender.id)
        if peer is None:
            if not self.capacity.admit_sender(now, sender.id, self.found, output):
                return None
            peer = self._meet(now, RemotePeer(sender.id, sender.transport), output)
        if self.capacity.strangers:
            self.capacity.hear(now, sender.id)
        heartbeat = -1
        if digest is not None:
            peer.speaks_extensions = digest.header is not None
            own = own_index(digest.entries, sender.id)
            heartbeat = -1 if own is None else digest.entries[own].heartbeat
        believed = heartbeat <= limit
        # Of one of ours, only a heartbeat tells that this is its latest word: deltas alone may be a recording.
        latest = heartbeat >= peer.heartbeat or (heartbeat < 0 and not peer.speaks_extensions)
        if believed and latest and peer.transport != sender.transport:
            peer.transport = sender.transport
            self._fresh[peer.id] = now
            self._compact.note(peer)
        # A heartbeat that is not believed counts as not told, so this node counts as it does for a Node.js node.
        if (peer.speaks_extensions is False or not believed) and sender.id not in self._counted:
            self._counted.add(sender.id)
            peer.hear(max(0, peer.heartbeat) + 1, now)
            self.expiry.hear(now, sender.id)
        self.changes[peer.id] = peer
        return peer

    def hear_of(self, now: float, entry: Entry, peer: Peer | None, by_owner: bool, output: Output) -> Peer | None:
        """Take what an entry tells about another peer, apart from what the teller lacks.

        `peer` is the one that the entry is about, None if it is not known; `by_owner` says whether that peer itself tells it.

        Returns:
            The peer; None if the entry is to be ignored, because the peer was forgotten, or has left so long ago.
        """
        id, heartbeat = entry.id, entry.heartbeat
        self.bound.hear(now, heartbeat)
        later = met = False
        if peer is None:
            too_old = entry.left and entry.age > self._config.forget_dead_peers_after
            if too_old or not self.forgetting.is_news(now, id, heartbeat) or not self.capacity.admit(now, id, output):
                return None
            peer = self._meet(now, RemotePeer(id, entry.transport), output, entry.interval if heartbeat >= 0 else None)
            peer.heartbeat = heartbeat
            met = True
            self._take_leave(now, entry, peer, output)
        elif heartbeat > peer.heartbeat:
            restarted = heartbeat - peer.heartbeat > now - (peer.last_time or 0)  # no life's heartbeat is so fast
            changed = entry.interval != peer.interval and peer.speaks_extensions is not False
            if changed:
                peer.interval = entry.interval
            later = peer.hear(heartbeat, now)
            if changed:
                peer.arrivals.restart(peer.interval)
            if restarted or peer.transport != entry.transport:
                peer.transport = entry.transport
                self._fresh[id] = now
            self._take_leave(now, entry, peer, output)
        if later or met or entry.age:
            self.expiry.hear(now, id, entry.age, entry.version)
        if peer.speaks_extensions is None and entry.floor:
            peer.speaks_extensions = True  # a Node.js node has no floors
        if _is_silent(entry, peer):
            peer.noted = max(peer.noted, entry.floor)
        else:
            if by_owner and entry.version > entry.floor and heartbeat == peer.heartbeat:
                peer.silent_since = None
            # If two messages of the owner overtook each other, the later heartbeat tells which is its last word.
            peer.hear_of(entry.heard or entry.version, entry.floor, by_owner and later)
        if peer.unsettled:
            self._settle(peer, output)
        self.change(peer)
        return peer

    def _take_leave(self, now: float, entry: Entry, peer: Peer, output: Output) -> None:
        """Take whether a peer has left, from an entry that is its latest."""
        if peer.left != entry.left:
            peer.left = entry.left
            if peer.left:
                peer.last_time = now - entry.age
                peer.mark_dead()
                output.append(Event("peer left", (peer.remote,)))

    def report_beyond(self, now: float, id: str, number: int, output: Output) -> None:
        """Report a number that is not believed."""
        output += [Event("error", (error,)) for error in self.bound.report(now, id, number)]

    def _settle(self, peer: Peer, output: Output) -> None:
        output += [Event("delete", (peer.id, key)) for key in peer.settle() if not self.expiry.drop(peer.id, key)]
        if peer.unsettled:
            self._unsettled.add(peer.id)
        else:
            self._unsettled.discard(peer.id)

    def _meet(self, now: float, remote: RemotePeer, output: Output, interval: int | None = None) -> Peer:
        if not self.forgetting.returned(remote.id):
            self.capacity.meet(now, remote.id)
        self.expiry.forget(remote.id)
        interval = self._local.interval if interval is None else interval  # a Node.js node's is taken to be like one's own
        peer = Peer(remote.id, last_time=now, transport=remote.transport, interval=interval)
        peer.arrivals.restart(interval)
        peer.silent_since = now
        output.append(Event("new peer", (remote,)))
        self.found[remote.id] = peer
        self._fresh[remote.id] = now
        return peer

    # Verdicts

    def bury(self, peer: Peer, output: Output) -> None:
        """Consider a peer dead."""
        peer.mark_dead()
        self.change(peer)
        output.append(Event("peer dead", (peer.remote,)))

    def judge(self, now: float, live: list[Peer], dead: list[Peer], output: Output) -> None:
        """Judge which live peers are dead and which dead ones live; forget those that have been dead or gone for long."""
        threshold = self._config.dead_peer_phi
        self._pace = (len(live) + 1) / sum([1 / peer.interval for peer in (*live, self._local)])
        for peer in live if not self.late else ():
            if self.phi(now, peer) > threshold:
                self.bury(peer, output)
        forgotten = []
        for peer in dead:
            if not peer.left and self._is_back(now, peer):
                peer.mark_live()
                self.refused.pop(peer.id, None)
                self.change(peer)
                self.forgetting.tell(now)
                output.append(Event("peer live", (peer.remote,)))
            elif peer.last_time is not None and now - peer.last_time > self._config.forget_dead_peers_after:
                forgotten.append(peer)
        self.put_changes()
        for peer in forgotten:
            self.forgetting.drop(peer, peer.heartbeat, output)
        self.forgetting.obey_late(now, output)


def _is_silent(entry: Entry, peer: Peer) -> bool:
    """Return whether an entry is of a life that has said nothing yet, and leaves the keys of the former one alone."""
    if entry.left or entry.version != entry.floor or not peer.awaited:
        return False
    return 0 <= (peer.last_time or 0.0) - (peer.silent_since or 0.0) < peer.interval  # clocks may go back
