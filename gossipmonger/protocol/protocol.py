"""The protocol: one message in, or a moment of time, and out come messages to send and events that happened.

This is Scuttlebutt's anti-entropy. In each round a node sends a *digest*, the highest version it knows of each live peer, to
partners drawn at random. A node that gets a digest answers with *deltas*, the writes that the digest's sender lacks, and maybe
with a digest of its own, until both know the same. What a digest is answered with depends on its kind:

| kind | contains | is answered with |
|---|---|---|
| `ROUND` | an entry for every peer that the sender tells of, or a compact digest | the deltas that the sender lacks; a `REPLY` if the receiver lacks some too or could not tell all, or knows later heartbeats or other peers; a whole digest if the compact one has another fingerprint |
| `REPLY` | entries of the peers about which there is more to say, or a compact digest | the same, but only while versions are missing and come, and within MAX_EXCHANGES_PER_GOSSIP if that is set |
| `RUMOR` | deltas that are new; entries only for peers whose deltas did not fit, or that are new, restarted or moved; hints about refused peers, and later heartbeats of these | a `REPLY` that asks, only if the receiver lacks some still |
| `PART` | some of the entries of a round's digest | as for `ROUND`, but nothing is concluded from absent peers |
| `FAREWELL` | the sender's own entry, marked as left | nothing |
| no digest | deltas | nothing |

A digest from a Node.js node has no header, counts as a `ROUND`, and is answered with deltas alone. One whose header says `ask`
is answered in any case, whatever its kind, at least with the entries of both sides.

One invariant keeps it right (van Renesse et al., LADIS 2008, section 2): the deltas of one peer go in ascending version, and if
one is left out, so are all above it. Then a digest needs a single number for each peer. It holds between two messages too,
because a delta says which version it follows, and one that would leave a gap is not applied.

Nothing here touches a socket, a thread, a clock or a source of randomness. `now`, in milliseconds since the epoch, comes with
each call; the same calls with the same arguments give the same output. The caller's duties:

1. calls come one at a time (the endpoint holds its lock);
2. `Send`s go to the transport and `Event`s to the handlers, in their order, after the lock is released;
3. messages have been checked by the wire room.
"""  # noqa: E501  # the table of kinds

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

from gossipmonger.protocol.answers import Answers
from gossipmonger.protocol.border import Border
from gossipmonger.protocol.catch_up import CatchUp
from gossipmonger.protocol.config import Config, Node
from gossipmonger.protocol.conversations import Conversations
from gossipmonger.protocol.holders import Holders
from gossipmonger.protocol.identity import Identity
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.observers import ObserverMembership, Observers
from gossipmonger.protocol.orders import Orders
from gossipmonger.protocol.output import Event, Output, send
from gossipmonger.protocol.partners import draw
from gossipmonger.protocol.reconcile import ID, Reconciliation
from gossipmonger.protocol.rumors import Rumors
from gossipmonger.protocol.suspicion import Suspicion
from gossipmonger.protocol.writes import Writes
from gossipmonger.state import Delta, Digest, Kind, Message, Peer, RemotePeer, values
from gossipmonger.state.peer import NOTHING, REFUSED

__all__ = ["Protocol"]

#: Intervals that a round looks ahead for keys that expire.
_AHEAD = 2

#: Live peers that a node tells about its leaving; they tell the others.
_FAREWELLS = 5


class Protocol(Writes):
    """The state machine of one node.

    Args:
        local: The node's own peer, already in the storage.
        storage: Where all peers are kept.
        config: The numbers to go by.
        random: Its `random()` is the only source of chance.
        now: When this life begins.

    Attributes:
        membership: Who is there.
        border: Which messages come in.
        orders: Whom to forget.
    """

    def __init__(self, local: Peer, storage: Any, config: Config, random: Random, now: float) -> None:
        self._local = local
        self._storage = storage
        self._config = config
        self._random = random
        local.heartbeat = max(int(now * 1000), local.heartbeat + 1)  # so a new life is above the former one at once
        local.interval = max(1, round(config.gossip_interval))
        node = Node(local, storage, config, random)
        self.membership: Membership = (ObserverMembership if config.observer else Membership)(node, now)
        self._expiry = self.membership.expiry
        self.border: Border = Border(config.cluster, storage)
        self._identity = Identity(local, self.membership.bound, random)
        self.orders: Orders = Orders(node, self.membership, self._identity)
        self._suspicion = Suspicion(node, self.membership)
        self._conversations = Conversations(config, now)
        self._flow = self._conversations.flow
        self._rumors = Rumors(local, config, random) if config.rumor_fanout else None
        self._catch_up = CatchUp(config.rumor_interval)
        self.holders: Holders = Holders(node, self.membership)
        self._answers = Answers(node, self.membership, self._conversations, self._catch_up, self.holders)
        self._observers = Observers(node, self.membership, self._identity)
        self._deleted = now  # when a key was deleted last
        self.membership.put(local)

    def begin(self, now: float, new: bool) -> None:
        """Begin the life anew, at this moment, before anybody has heard of it. If it is `new`, its versions begin anew too."""
        start = int(now * 1000)
        if new and start > self._local.max_version_seen:
            self._local.reissue(start)
        self._local.heartbeat = max(start, self._local.heartbeat)
        for peer in self.membership.others()[0]:
            peer.last_time = now
            self.membership.put(peer)
        self.membership.put(self._local)

    def mend(self) -> None:
        """Make whole what an exception has cut in two that came out of a signal handler, or of a lack of memory."""
        self._local.mend()
        self._expiry.mend()
        if self._rumors is not None:
            self._rumors.mend()
        self.membership.put_changes()
        self.membership.put(self._local)

    # Rounds

    def round(self, now: float) -> Output:
        """One round: send a digest to partners drawn at random, then judge who is dead and who is live again."""
        output = self.lapse(now, _AHEAD * self._config.gossip_interval)
        membership = self.membership
        self._expiry.tidy()
        self.border.begin_round(now, self._config.gossip_interval, output)
        membership.begin_round(now, output)
        self._catch_up.tidy(now, self._config.gossip_interval)
        self._conversations.begin_round()
        self._suspicion.begin_round(now)
        self._admit(now)
        self._compact(now)
        live, dead = membership.others()
        membership.alone, membership.capacity.count = not live, len(live) + len(dead)
        partners = self._suspicion.contacts.choose_partners(now, live, dead)
        self._tell(now, partners, membership.told_of(now, live, dead), output)
        membership.judge(now, live, dead, output)
        self._suspicion.tell_later(now, output)
        return output

    def _tell(self, now: float, partners: list[RemotePeer], told: list[Peer], output: Output) -> None:
        """Send a digest to the partners of a round: a compact one to those that may well have the same fingerprint."""
        # It counts digests, so it rises once for each. Without anybody to tell it counts rounds: an observer may be watching.
        self._local.heartbeat += max(1, len(partners))
        self.membership.put(self._local)
        if not partners:
            return
        flow = None if self._flow is None else self._flow.entry()
        compact = self.membership.compact(told)
        unasked = self._catch_up.unasked(now, told)  # to tell how little is known about the others would be to ask again
        kind = Kind.PART if len(unasked) < len(told) else Kind.ROUND
        can_answer = self._config.max_exchanges_per_gossip != 0  # as a node with another fingerprint must
        at_rest = self.membership.at_rest and kind is Kind.ROUND and can_answer
        messages: dict[bool, Message] = {}
        for partner in partners:
            short = at_rest and partner.speaks_extensions
            if short not in messages:
                silent = self._expiry.silent(now) if short else ()
                wordy = (peer for peer in told if peer.heard > peer.max_version_seen or peer.id in silent)
                named = [*wordy] if short else unasked
                header = self.membership.header(flow, compact.encode() if short else None)
                messages[short] = Message(self._local.remote, None, Digest(kind, header, self.membership.digest(named, now)))
            send([partner], messages[short], output)

    def leave(self, now: float) -> Output:
        """Say goodbye: tell what is new, then that the node's silence from now on is meant.

        The first to know are those that hold everything of this node; the seeds, if it has met nobody.
        """
        if self._config.observer:
            return []
        self._admit(now, everything=True)
        output = self.spread(now, hurry=True)  # what would be told a little later is told now
        self._local.left = True
        self._local.heartbeat += 1
        self.membership.put(self._local)
        live = self.membership.others()[0]
        chosen = draw(self.holders.of(self._local.max_version_seen), _FAREWELLS, self._random)
        ids = {peer.id for peer in chosen}
        chosen += draw([peer for peer in live if peer.id not in ids], _FAREWELLS - len(chosen), self._random)
        seeds = () if live else self.membership.seeds.others(now)
        partners = [*(peer.remote for peer in chosen), *(seed.at for seed in seeds)]
        send(partners, self.membership.message(Kind.FAREWELL), output)
        return output

    def join(self) -> None:
        """Be there again after `leave`."""
        if self._local.left:
            self._local.left = False
            self.membership.put(self._local)

    # What others hold

    def ask(self, now: float, everything: bool = False) -> Output:
        """Ask others how much of this node they hold: see `Holders`. With `everything`, flow control holds nothing back."""
        if everything:
            self._admit(now, everything)
        return self.holders.ask(now)

    # Between rounds

    @property
    def due(self) -> float | None:
        """When `spread` has something to do, in milliseconds since the epoch; it may be past. None for nothing."""
        due = self._rumors.wake if self._rumors is not None and self._rumors.news else math.inf
        if self._suspicion.suspects or self._suspicion.ends:
            due = min(due, self._suspicion.due)
        if self._expiry.heap:
            due = min(due, self._expiry.due)
        return due if due < math.inf else None

    def link(self, now: float, peer: RemotePeer, what: str) -> Output:
        """Take what the kernel said of a peer's address: "accepted", "refused" or "ended", as in a transport's event `link`."""
        output: Output = []
        self._suspicion.link(now, peer, what, output)
        self.membership.put_changes()
        return output

    def spread(self, now: float, hurry: bool = False) -> Output:
        """Tell a few peers what is new, and dial again who has refused, as far as it is time for that, or the last time."""
        output = self.lapse(now) if self._expiry.heap else []
        if self._suspicion.suspects or self._suspicion.ends:
            self._suspicion.dial_again(now, output)
        if self._rumors is not None and self._rumors.news and (hurry or self._rumors.due <= now):
            partners, deltas, told, cut = self._rumors.tell(now, self.membership.speakers(), self._storage.get, hurry)
            id, is_fresh = self._local.id, self.membership.is_fresh
            named = [peer for peer in told if peer.id != id and (peer in cut or is_fresh(now, peer.id))]
            entries = self.membership.digest(named, now)
            rumor = Message(self._local.remote, deltas or None, Digest(Kind.RUMOR, self.membership.header(), entries))
            send([partner.remote for partner in partners], rumor, output)
        return output

    # Messages

    def step(self, now: float, message: Message) -> Output:
        """Take one message: first its deltas, then its digest."""
        membership, (sender, deltas, digest) = self.membership, message
        output = self.lapse(now) if self._expiry.heap else []
        if not self.border.admits(now, message, output):
            return output
        header = None if digest is None else digest.header
        if header is not None and header.observer:
            if not self._config.observer:
                self._observers.answer(now, message, output)
            return output
        ids = {sender.id}
        received = []
        if deltas is not None:
            ids.update([delta[0] for delta in deltas])
            received.append(Event("deltas receive", (sender, deltas)))
        if digest is not None:
            ids.update(map(ID, digest.entries))
            received.append(Event("digest receive", (sender, digest)))
        membership.look_up(ids)
        output += received[:1]
        if digest is None or digest.kind is Kind.REPLY:
            self._catch_up.answered(now, sender.id)
        before: int = getattr(membership.found.get(sender.id), "heartbeat", -1)
        found = Reconciliation(now, self._local, membership, self._identity, output)
        peer = membership.hear_from(now, message, found.limit, output)
        asks = header is not None and header.ask
        rumor = asks or (digest is not None and digest.kind is Kind.RUMOR)  # a node that asks may end soon
        if rumor and deltas and digest is not None:
            found.meet(digest.entries)
        if deltas and digest is not None and any(delta.ttl for delta in deltas):
            self._expiry.read_ages(now, digest.entries, membership.bound.limit(now))
        news, refused = self._take_deltas(now, deltas, rumor, output) if deltas else (False, [])
        if digest is None:
            if news:
                self._answers.ask_on(now, sender, output)
        else:
            output += received[1:]
            found.read(digest.entries, sender.id)
            if refused:
                found.we_lack += [peer for peer in refused if peer not in found.we_lack]
            if membership.changes:
                membership.put_changes()
            if header is None or sender.id == self._local.id:
                self._answers.answer_node_js(sender, found, output)
            elif digest.kind is not Kind.FAREWELL or asks:
                self._answers.answer(now, message, news, digest, header, found, output)
            if found.told is not None and header is not None and peer is not None:
                self.holders.note(peer.id, found.told)
        if membership.changes:
            membership.put_changes()
        if peer is not None:
            self._suspicion.hear(now, sender, digest, peer.heartbeat > before, output)
            if header is not None and header.forget:
                self.orders.take(now, header.forget, output)
        if self._expiry.risen:
            self._expiry.reveal(now, output)
        return output

    def _take_deltas(self, now: float, deltas: Sequence[Delta], rumor: bool, output: Output) -> tuple[bool, list[Peer]]:
        """Write those that are new, and pass those of a rumour on in rumours.

        Returns:
            Whether any was written, and the peers of those that would have left a gap.
        """
        membership, local = self.membership, self._local.id
        find, limit, beyond = membership.found.get, membership.bound.limit(now), set()
        changed: dict[str, Peer] = {}
        refused: dict[str, Peer] = {}
        for id, key, value, version, after, more, ttl in deltas:
            if id == local:
                continue  # nobody but the owner writes its state
            peer = find(id)
            if peer is None:
                output.append(Event("unknown peer", (id,)))
                continue
            if version <= peer.max_version_seen:
                continue  # as most that come in rumours
            if id in beyond:  # to take a later one would leave a gap
                continue
            if version + more > limit:
                beyond.add(id)
                membership.report_beyond(now, id, version + more, output)
                continue
            if membership.capacity.is_full(peer, key):
                beyond.add(id)
                membership.capacity.report_full(now, peer, output)
                continue
            before = peer.max_version_seen
            had_ttl = key in peer.ttls
            old = peer.take(key, value, version, after, more, ttl)
            if old is REFUSED:
                refused[id] = peer
                peer.hear_of(version + more, 0, False)
                continue
            changed[id] = peer
            if rumor and self._rumors is not None:
                self._rumors.note(id, before)
            gone = type(value) is dict and values.is_tombstone(value)
            if ttl or had_ttl:
                was_hidden, is_hidden = self._expiry.take(now, peer, key, version)
                old, gone = NOTHING if was_hidden else old, gone or is_hidden
            if gone:
                if old is not NOTHING:
                    output.append(Event("delete", (id, key)))
            elif old is NOTHING or not values.same(old, value):
                output.append(Event("update", (id, key, value)))
        for peer in (changed | refused).values():
            membership.change(peer)
        return bool(changed), [*refused.values()]
