"""Observers: nodes that ask and own nothing.

An observer's digests say so in their header. It does rounds as all others do, and learns from what its digests are answered
with. It sends nothing else: replies that ask for what is still missing, no deltas, no rumours, no hints, no farewell. A node
answers it out of what it knows itself and takes nothing from it, neither who it is nor what it tells of others. So nothing of
an observer is left anywhere once the answer has gone, and it does not matter which id it says, or whether it was killed.

There is one exception. After a cluster's clocks have been set back, an observer may be the only one that remembers the former
lives, and would dismiss the present ones as old news. So a node that hears of a later life of its own goes above that, even if
only an observer says so: see `Identity`. And an observer that hears less from a node than it knows asks it again in its next
round, with an entry that says what it knows, although the node may count as dead.
"""

from __future__ import annotations

from random import Random
from typing import Any

from gossipmonger.protocol.answers import FEW, INTRODUCING
from gossipmonger.protocol.config import Node
from gossipmonger.protocol.identity import Identity
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.output import Event, Output, send
from gossipmonger.protocol.partners import draw
from gossipmonger.protocol.reconcile import choose_deltas
from gossipmonger.state import Compact, CompactDigest, Digest, Entry, Header, Kind, Message, Peer, RemotePeer, own_index

__all__ = ["ObserverMembership", "Observers"]


class ObserverMembership(Membership):
    """The peers of an observer, which is none itself: it is in no storage and no fingerprint, and tells nobody anything."""

    def __init__(self, node: Node, now: float) -> None:
        super().__init__(node, now)
        self._random = node.random
        self._introduced = 0
        self._asks = True  # whether it asks for those that have left, too
        self._doubted: dict[str, Any] = {}  # peers that were forgotten or are dead, and are told of as live -> where they are
        self._former: dict[str, Peer] = {}  # peers that told less than is known of a former life, since the last round began
        self._reminded: dict[str, Peer] = {}  # those of the round before, which digests remind of it

    def change(self, peer: Peer) -> None:
        """Have a peer put at the end of the step, if it is one."""
        if peer is not self._local:
            super().change(peer)

    def put(self, peer: Peer) -> None:
        """Put a peer into the storage, if it is one."""
        if peer is not self._local:
            super().put(peer)

    def speakers(self) -> list[Peer]:
        """Return those who are told what is new: nobody."""
        return []

    def header(self, flow: Any = None, compact: Compact | None = None, hints: Any = None) -> Header:
        """Return the header of a digest."""
        return Header(None, compact, ask=self._asks, cluster=self._config.cluster, observer=True)

    def compact_aside(self, told: list[Peer]) -> CompactDigest:
        """Return the compact digest of these peers alone."""
        return self._compact if self._compact.covers(told) else CompactDigest(told)

    def phi(self, now: float, peer: Peer) -> float:
        """Return how far a peer's silence is from what is usual. An observer hears of anybody in its own rounds alone."""
        return peer.phi(now, max(peer.interval, self._local.interval) / self._config.gossip_fanout)

    def hear_of(self, now: float, entry: Entry, peer: Peer | None, by_owner: bool, output: Output) -> Peer | None:
        """Take what an entry tells about a peer."""
        heard = super().hear_of(now, entry, peer, by_owner, output)
        if heard is None and not entry.left:
            self._doubted[entry.id] = entry.transport
        return heard

    def hear_from(self, now: float, message: Message, limit: int, output: Output) -> Peer | None:
        """Note that a peer has sent a message, and whether it is behind what is known of a former life of it."""
        peer = super().hear_from(now, message, limit, output)
        if peer is not None and message.digest is not None:
            index = own_index(message.digest.entries, peer.id)
            own = None if index is None else message.digest.entries[index]
            if own is not None and (0 <= own.heartbeat < peer.heartbeat or own.version < peer.max_version_seen):
                self._former[peer.id], self._doubted[peer.id] = peer, own.transport
        return peer

    def told_of(self, now: float, live: list[Peer], dead: list[Peer]) -> list[Peer]:
        """Return whom a digest tells of: also those that are reminded of their former lives, even if they count as dead."""
        told = super().told_of(now, live, dead)
        return told + [peer for peer in self._reminded.values() if peer not in told]

    def doubted(self) -> list[RemotePeer]:
        """Return one that is doubted. If it lives, it says so itself. It would never come by itself, as it does to a node."""
        doubted, self._doubted = [RemotePeer(*each) for each in self._doubted.items()], {}
        return draw(doubted, 1, self._random)

    def begin_round(self, now: float, output: Output) -> None:
        """Note that a round begins."""
        self._introduced += not self.alone
        self._asks = self._introduced <= INTRODUCING  # rounds with somebody live
        self._reminded, self._former = self._former, {}
        super().begin_round(now, output)
        self.at_rest: bool = self.at_rest and not self._asks and not self._reminded  # or numbers would not do


class Observers:
    """Answers observers; the identity answers what they know of a former life of this node."""

    def __init__(self, node: Node, membership: Membership, identity: Identity) -> None:
        self._local, _, self._config, _ = node
        self._membership = membership
        self._identity = identity
        # Its own, so that the node goes on as if nobody had asked.
        self._random = Random(node.local.id.encode("utf-8", "surrogatepass"))

    def answer(self, now: float, message: Message, output: Output) -> None:
        """Answer a message of an observer: with what it lacks, and with what there is to ask for."""
        sender, _, digest = message
        asked = message.header
        if digest is None or asked is None or digest.kind in (Kind.RUMOR, Kind.FAREWELL):
            return
        output.append(Event("digest receive", (sender, digest)))
        membership = self._membership
        others = membership.told_of(now, *membership.others())
        compact = None if asked.compact is None else membership.compact_aside(others)
        known = self._read(sender.id, digest, asked.compact, compact)
        if known is None:  # it has heard of other peers than this node
            send([sender], membership.message(Kind.ROUND, others, now), output)
            return
        limit = membership.bound.limit(now)
        for _, version, heartbeat in [told for told in known if told[0] is self._local]:
            if max(version, heartbeat) <= limit and self._identity.hear(now, version, heartbeat, 0, output):
                membership.put(self._local)
        lacking = [(peer, version) for peer, version, _ in known if version < peer.max_version_seen]
        deltas, cut = choose_deltas(lacking, self._config.max_deltas_per_gossip, self._config.delta_order, self._random)
        begun = {delta.peer_id for delta in deltas}
        partly = cut + [peer for peer, _ in lacking if peer.behind and peer.id in begun and peer not in cut]
        news = []
        if digest.kind is not Kind.REPLY:  # which asks for versions alone
            news += [peer for peer, _, heartbeat in known if heartbeat < peer.heartbeat]
        if digest.kind is Kind.ROUND and compact is None:
            ids = {peer.id for peer, _, _ in known}
            news += [peer for peer in [*others, self._local] if peer.id not in ids]
            news += membership.departed(ids) if asked.ask else []
        header = membership.header()
        if compact is not None and len(partly) + len(news) > len(compact.peers) * FEW:
            header = membership.header(None, compact.encode())
            partly += [peer for peer in compact.peers if peer.behind and peer not in partly]
            news = []
        reply = None
        if header.compact is not None or partly or news:
            named = {peer.id: peer for peer in partly + news if peer is not self._local}
            reply = Digest(Kind.REPLY, header, membership.digest([*named.values()], now))
        if deltas or reply is not None:
            send([sender], Message(self._local.remote, deltas or None, reply), output)

    def _read(
        self, id: str, digest: Digest, told: Compact | None, compact: CompactDigest | None
    ) -> list[tuple[Peer, int, int]] | None:
        """Return each peer that is known here, with the version and the heartbeat that an observer's digest tells of it.

        Return None if what it tells in numbers is about others than those that are known here. Its own entry is about nobody.
        """
        own, membership = own_index(digest.entries, id), self._membership
        membership.look_up([entry.id for entry in digest.entries])
        found = [(membership.found[entry.id], entry) for index, entry in enumerate(digest.entries) if index != own]
        known = [(peer, entry.version, entry.heartbeat) for peer, entry in found if peer is not None]
        if told is None or compact is None:
            return known
        numbers = compact.decode(told)
        if numbers is None:
            return None
        named = {peer.id for peer, _, _ in known}
        return known + [(peer, version, heartbeat) for peer, heartbeat, version in numbers if peer.id not in named]
