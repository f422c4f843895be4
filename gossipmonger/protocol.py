"""The protocol: one message in, or a moment of time, and out come messages to send and events that happened.

Scuttlebutt's anti-entropy. In each round a node sends a *digest*, the highest version it knows of each live peer, to a
partner drawn at random. Whoever gets a digest answers with *deltas*, the writes that the digest shows the sender to lack.
What keeps it right is one rule, from section 2 of van Renesse et al. (LADIS 2008): the deltas of one peer go in ascending
version, and if one is left out, so are all above it. Then a digest needs a single number for each peer.

Nothing here touches a socket, a thread, a clock or a source of randomness. `now`, in milliseconds since the epoch, comes with
each call, the generator with the constructor; the same calls with the same arguments give the same output. It returns what
there is to do, in order, and the caller's duties are few:

1. calls come one at a time (the endpoint holds its lock);
2. `Send`s are handed to the transport, `Event`s to the handlers, in their order, after the lock is let go;
3. messages have been through `messages.validate`.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from gossipmonger.options import Options
from gossipmonger.peer import Peer, RemotePeer

__all__ = ["Event", "Output", "Protocol", "Send", "choose_deltas", "choose_partners"]


class Event(NamedTuple):
    """Something happened: the event's name and arguments, as handlers get them."""

    name: str
    args: tuple[Any, ...]


class Send(NamedTuple):
    """Something is to be sent: `kind` is "digest" or "deltas"."""

    remote_peer: RemotePeer
    kind: str
    payload: list[Any]


Output = list[Event | Send]


class Protocol:
    """The state machine of one node.

    Args:
        local_peer: The node's own peer, already in the storage.
        storage: Where all peers are kept.
        options: The endpoint's.
    """

    def __init__(self, local_peer: Peer, storage: Any, options: Options) -> None:
        self._local = local_peer
        self._storage = storage
        self._options = options
        self._random: Random = options.random

    def digest(self, peers: list[Peer]) -> list[dict[str, Any]]:
        """Return an entry for each of these peers, then the local one's."""
        return [
            {"id": peer.id, "maxVersionSeen": peer.max_version_seen, "transport": peer.transport}
            for peer in (*peers, self._local)
        ]

    def others(self) -> tuple[list[Peer], list[Peer]]:
        """Return the live and the dead peers, without the local one."""
        return (
            [peer for peer in self._storage.live_peers() if peer.id != self._local.id],
            [peer for peer in self._storage.dead_peers() if peer.id != self._local.id],
        )

    def round(self, now: float) -> Output:
        """One round: choose partners, then judge who is dead and who is live again."""
        live, dead = self.others()
        output: Output = []
        partners = choose_partners(live, dead, self._options.seeds, self._local.id, self._options, self._random)
        if partners:
            digest = self.digest(live)
            for partner in partners:
                output += [Event("digest send", (partner, digest)), Send(partner, "digest", digest)]
        for peer in live:
            if peer.phi(now) > self._options.dead_peer_phi:
                peer.mark_dead()
                self._storage.put(peer.id, peer)
                output.append(Event("peer dead", (_remote(peer),)))
        for peer in dead:
            if peer.phi(now) < self._options.dead_peer_phi:
                peer.mark_live()
                self._storage.put(peer.id, peer)
                output.append(Event("peer live", (_remote(peer),)))
        return output

    def receive_digest(self, now: float, sender: RemotePeer, digest: list[dict[str, Any]]) -> Output:
        """Take a digest; answer with the deltas that its sender lacks, if there are any."""
        output: Output = [Event("digest receive", (sender, digest))]
        self._contact(now, sender, output)
        lacking: list[tuple[Peer, int]] = []
        for entry in digest:
            id, version = entry["id"], entry["maxVersionSeen"]
            peer = self._local if id == self._local.id else self._storage.get(id)
            if peer is None:
                # We know none of its data, whatever version the digest knows.
                self._meet(Peer(id, last_time=now, transport=entry.get("transport")), output)
            elif peer.max_version_seen > version:
                lacking.append((peer, version))
        deltas = choose_deltas(lacking, self._options.max_deltas_per_gossip)
        if deltas:
            output += [Event("deltas send", (sender, deltas)), Send(sender, "deltas", deltas)]
        return output

    def receive_deltas(self, now: float, sender: RemotePeer, deltas: list[list[Any]]) -> Output:
        """Take deltas; write those that are news."""
        output: Output = [Event("deltas receive", (sender, deltas))]
        self._contact(now, sender, output)
        for id, key, value, version, *_ in deltas:
            if id == self._local.id:
                continue  # nobody but the owner writes its state
            peer = self._storage.get(id)
            if peer is None:
                output.append(Event("unknown peer", (id,)))
            elif peer.update_with_delta(key, value, version) is not None:
                self._storage.put(id, peer)
                output.append(Event("update", (id, key, value)))
        return output

    def _contact(self, now: float, sender: RemotePeer, output: Output) -> None:
        if sender.id == self._local.id:
            return
        peer = self._storage.get(sender.id)
        if peer is None:
            self._meet(Peer(sender.id, last_time=now, transport=sender.transport), output)
            return
        peer.mark_contact(now)
        self._storage.put(peer.id, peer)

    def _meet(self, peer: Peer, output: Output) -> None:
        self._storage.put(peer.id, peer)
        output.append(Event("new peer", (_remote(peer),)))


def _remote(peer: Peer) -> RemotePeer:
    return RemotePeer(peer.id, peer.transport)


def choose_partners(
    live: list[Peer], dead: list[Peer], seeds: tuple[RemotePeer, ...], local_id: str, options: Options, random: Random
) -> list[RemotePeer]:
    """Return whom to send a digest to in this round, never the local peer itself.

    One live peer; one dead peer with probability dead / (live + 1), or surely if none is live, so that a partition heals; one
    seed if fewer than MINIMUM_LIVE_PEERS are live. Each drawn evenly.
    """
    partners = []
    if live:
        partners.append(_remote(_choose(live, random)))
    if dead and (not live or random.random() < len(dead) / (len(live) + 1)):
        partners.append(_remote(_choose(dead, random)))
    if seeds and len(live) < options.minimum_live_peers:
        seed = _choose(seeds, random)
        if seed.id != local_id:
            partners.append(seed)
    return partners


def _choose(items: Any, random: Random) -> Any:
    return items[int(random.random() * len(items))]


def choose_deltas(lacking: list[tuple[Peer, int]], limit: int) -> list[list[Any]]:
    """Return at most `limit` deltas in scuttle-depth order: the peer with the most first, each peer's oldest first.

    Args:
        lacking: Peers, each with the version above which the other side lacks its deltas.
        limit: MAX_DELTAS_PER_GOSSIP.
    """
    deltas: list[list[Any]] = []
    for peer, version in sorted(lacking, key=lambda pair: pair[0].count_after_version(pair[1]), reverse=True):
        deltas += ([peer.id, *delta] for delta in peer.deltas_after_version(version, limit - len(deltas)))
        if len(deltas) == limit:
            break
    return deltas
