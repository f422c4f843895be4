"""The protocol: one message in, or a moment of time, and out come messages to send and events that happened.

Scuttlebutt's anti-entropy. In each round a node sends a *digest*, the highest version it knows of each live peer, to partners
drawn at random. Whoever gets a digest answers with *deltas*, the writes that the digest shows the sender to lack, and with a
*reply*, a digest of just those peers of which the sender knows more. A reply is answered in the same way, so two nodes go on,
one message in flight, until both know the same. News do not wait for the round: they go as *rumours* (`gossipmonger.rumors`).

What keeps it right is one rule, from section 2 of van Renesse et al. (LADIS 2008): the deltas of one peer go in ascending
version, and if one is left out, so are all above it. Then a digest needs a single number for each peer. That holds between two
messages too: a delta says after which version it comes, and one that would leave a gap is not applied.

Nothing here touches a socket, a thread, a clock or a source of randomness. `now`, in milliseconds since the epoch, comes with
each call, the generator with the options; the same calls with the same arguments give the same output. It returns what there
is to do, in order, and the caller's duties are few:

1. calls come one at a time (the endpoint holds its lock);
2. `Send`s are handed to the transport, `Event`s to the handlers, in their order, after the lock is let go;
3. messages have been through `checks.validate`; of one with deltas and a digest, the deltas come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from gossipmonger.asking import Asking
from gossipmonger.choice import choose_deltas, choose_partners, draw
from gossipmonger.claims import Claims
from gossipmonger.comparison import Comparison
from gossipmonger.entry import Entry
from gossipmonger.flow import Flow
from gossipmonger.membership import TELLING, Membership
from gossipmonger.options import Options
from gossipmonger.output import Event, Output, Send
from gossipmonger.peer import NOTHING, REFUSED, Peer, RemotePeer
from gossipmonger.roll import Roll
from gossipmonger.rumors import Rumors, choose_news
from gossipmonger.values import TOMBSTONE, is_tombstone, same

__all__ = ["Protocol"]

#: Of the messages that had to cut deltas short in depth's order, one in so many tells of peers in an order that is drawn, so
#: that peers with large backlogs do not shut out those with small ones for good. The second is for flow control, under which
#: no backlog is large: there depth's order has less to win, and who is shut out for a while is what is staler than all else.
_FAIR, _FAIR_IN_FLOW = 8, 3

#: Share of the peers up to which a reply has an entry for each: so many entries are as long as two numbers for everyone.
_FEW = 0.1

#: Makes an event of a tuple, in half the time that a call of `Event` takes.
_event: Callable[[tuple[str, tuple[Any, ...]]], Event] = partial(tuple.__new__, Event)

#: Live peers that a node that leaves tells so itself; they tell the others.
_FAREWELLS = 5


def _entry_of(id: str, digest: list[Entry]) -> Entry | None:
    """Return the entry of this id, which stands last in what our kind sends."""
    if digest and digest[-1].id == id:
        return digest[-1]
    return next((entry for entry in reversed(digest) if entry.id == id), None)


class Protocol:
    """The state machine of one node.

    Args:
        local: The node's own peer, already in the storage.
        storage: Where all peers are kept.
        options: The endpoint's.
        now: When this life begins.

    Attributes:
        membership: Who is there.
    """

    def __init__(self, local: Peer, storage: Any, options: Options, now: float) -> None:
        self._local = local
        self._storage = storage
        self._options = options
        self._random: Random = options.random
        self.membership = Membership(local, storage, options, now)
        self._claims = Claims(local, self.membership, options.random)
        local.heartbeat = max(int(now * 1000), local.heartbeat + 1)  # so a new life is above the former one at once
        self._flow = Flow(options, now) if options.flow_control else None
        self._rumors = Rumors(options.rumor_interval) if options.rumor_fanout else None
        self._asking = Asking(options.rumor_interval, options.max_deltas_per_gossip)
        self._deleted = now  # when a key was deleted last
        self._exchanges: dict[str, int] = {}  # replies to and from each peer since _exchanges_since
        self._exchanges_since = now
        self._starved = 0
        self.membership.put(local)

    # Own state

    def update(self, now: float, key: str, value: Any) -> bool:
        """Set a key of the local peer; return whether that changed anything."""
        old = self.newest(key, NOTHING)
        if old is not NOTHING and same(old, value):
            return False
        self._offer(now, key, value)
        return True

    def delete(self, now: float, key: str) -> bool:
        """Delete a key of the local peer; return whether it was there."""
        if self.newest(key, NOTHING) is NOTHING:
            return False
        self._offer(now, key, TOMBSTONE)
        return True

    def newest(self, key: str, default: Any = None) -> Any:
        """Return what a key of the local peer was set to last, whether gossip tells it yet or not."""
        value = self.waiting.get(key, NOTHING)
        if value is NOTHING:
            return self._local.get(key, default)
        return default if is_tombstone(value) else value

    @property
    def waiting(self) -> Mapping[str, Any]:
        """What flow control has not admitted yet, key -> value, a tombstone for a key that is deleted."""
        return {} if self._flow is None else self._flow.waiting

    def _offer(self, now: float, key: str, value: Any) -> None:
        if self._flow is None or self._flow.offer(now, key, value):
            self._issue(now, key, value)

    def _issue(self, now: float, key: str, value: Any) -> None:
        if self._rumors is not None:
            self._rumors.note(self._local.id, self._local.max_version_seen)
        if not is_tombstone(value):
            self._local.update_local(key, value)
        elif self._local.delete_local(key) is not None:
            self._deleted = now
            self._compact(now)
        self.membership.put(self._local)

    def _compact(self, now: float) -> None:
        """Forget tombstones once they outnumber keys. A Node node can't read floors and must see the tombstones first."""
        local = self._local
        if local.crowded and not (self.membership.plain and now - self._deleted < TELLING * self._options.gossip_interval):
            local.reissue(local.max_version_seen)

    # Rounds

    def digest(self, peers: list[Peer]) -> list[Entry]:
        """Return an entry for each of these peers, then the local one's."""
        return [peer.entry() for peer in (*peers, self._local)]

    def round(self, now: float) -> Output:
        """One round: send a digest to partners drawn at random, then judge who is dead and who is live again."""
        output: Output = []
        membership, options = self.membership, self._options
        membership.begin_round(now, output)
        if self._flow is not None:
            for key, value in self._flow.admit(now):
                self._issue(now, key, value)
        self._compact(now)
        live, dead = membership.others()
        missing = membership.missing_seeds(live, dead) if len(live) >= options.minimum_live_peers else []
        partners = choose_partners(
            live,
            [*(peer for peer in dead if not peer.left), *missing],
            membership.seeds(),
            options.gossip_fanout,
            options.minimum_live_peers,
            self._random,
        )
        self._tell(now, partners, membership.told_of(now, live, dead), output)
        membership.judge(now, live, dead, output)
        return output

    def leave(self) -> Output:
        """Say good-bye: others are told that the node's silence from now on is meant, and before that what is new."""
        output = self.spread(math.inf)
        self._local.left = True
        self.membership.put(self._local)
        partners = [peer.remote for peer in draw(self.membership.others()[0], _FAREWELLS, self._random)]
        self._tell(math.inf, partners, [], output)
        return output

    # Rumours

    @property
    def rumor_due(self) -> float | None:
        """When `spread` has something to tell, in milliseconds since the epoch; it may be past. None for nothing."""
        return None if self._rumors is None else self._rumors.due

    def spread(self, now: float) -> Output:
        """Tell a few peers what is new, if it is time for that."""
        news = {} if self._rumors is None else self._rumors.take(now)
        partners = draw(self.membership.kin(), self._options.rumor_fanout, self._random) if news else []
        if not partners:
            return []
        deltas, peers = choose_news(news, self._storage.get)
        digest = self.digest([peer for peer in peers if peer.id != self._local.id])
        digest[-1] = digest[-1].marked(rumor=True)
        output: Output = []
        for partner in [peer.remote for peer in partners]:
            if deltas:
                output.append(Event("deltas send", (partner, deltas)))
            output += [Event("digest send", (partner, digest)), Send(partner, deltas or None, digest)]
        return output

    def join(self) -> None:
        """Be there again after `leave`."""
        if self._local.left:
            self._local.left = False
            self.membership.put(self._local)

    def _tell(self, now: float, partners: list[RemotePeer], told: list[Peer], output: Output) -> None:
        if not partners:
            return
        self._local.heartbeat += len(partners)  # it counts digests, so that intervals are what lies between two of them
        self.membership.put(self._local)
        flow = None if self._flow is None else self._flow.entry()
        roll = self.membership.roll(told)
        unasked = self._asking.unasked(now, told)  # to tell how little is known of the others would be to ask again
        part = len(unasked) < len(told)
        can_answer = self._options.max_exchanges_per_gossip > 0  # as who has another roll must
        can_call = self.membership.at_rest and not part and can_answer
        digests: dict[bool, list[Entry]] = {}
        for partner in partners:
            short = can_call and self.membership.is_live_kin(partner.id)
            if short not in digests:
                digests[short] = self._call(roll, []) if short else self.digest(unasked)
                if part:
                    digests[short][-1] = digests[short][-1].marked(part=True)
                if flow is not None:
                    digests[short][-1] = digests[short][-1].marked(flow=flow)
            output += [Event("digest send", (partner, digests[short])), Send(partner, None, digests[short])]

    def _call(self, roll: Roll, named: list[Peer]) -> list[Entry]:
        """Return a digest of two numbers for each peer; and an entry for some, among them those we are behind with."""
        news = {peer.id: peer for peer in named} | roll.behind
        news.pop(self._local.id, None)
        digest = self.digest(list(news.values()))
        digest[-1] = digest[-1].marked(roll=roll.call())
        return digest

    # Messages

    def receive(
        self, now: float, sender: RemotePeer, deltas: list[list[Any]] | None = None, digest: list[Entry] | None = None
    ) -> Output:
        """Take a message: its deltas, its digest, or both, the deltas first."""
        own = None if digest is None else _entry_of(sender.id, digest)
        if own is None or own.reply:
            self._asking.answered(now, sender.id)
        received = [] if deltas is None else [Event("deltas receive", (sender, deltas))]
        received += [] if digest is None else [Event("digest receive", (sender, digest))]
        output: Output = [*received[:1]]
        peer = self.membership.contact(now, sender, own, output)
        if deltas is not None:
            self._take_deltas(now, deltas, own is not None and own.rumor, output)
        if digest is not None:
            output += received[1:]
            self._take_digest(now, sender, digest, own, peer, output)
        return output

    def _take_digest(
        self, now: float, sender: RemotePeer, digest: list[Entry], own: Entry | None, peer: Peer | None, output: Output
    ) -> None:
        """Answer with what its sender lacks, and with a reply where there is more to be said."""
        compared = Comparison(
            now, self._local, self._storage.get, self.membership, lambda entry: self._claims.read(now, entry, output), output
        )
        compared.read(digest, sender.id)
        if own is not None and own.left:
            return  # it has gone, and hears no answer
        ours = own is not None and peer is not None and peer.ours
        told: list[Peer] = []
        if own is not None and ours and not own.rumor:
            told = self.membership.told_of(now, *self.membership.others())
        roll = None
        if own is not None and own.roll is not None and ours:
            roll = self.membership.roll(told)
            called = roll.read(own.roll)
            if called is None:  # that says nothing to us; our digest will do for both
                if self._may_reply(now, own.id, own.reply):
                    # Of the caller too, though it be dead to us: maybe it lives anew, below what its former life has said.
                    full = self.digest(told + [later for later in compared.later if later not in told])
                    output += [Event("digest send", (sender, full)), Send(sender, None, full)]
                return
            compared.read_roll(roll, called, digest)
        if own is not None and own.rumor:  # who knows that it is behind asks in replies, and there one at a time
            asks_elsewhere = {entry.id for entry in digest if entry.heard}
            compared.lacking = [pair for pair in compared.lacking if pair[0].id not in asks_elsewhere]
        deltas, cut = self._choose(compared.lacking, bool(ours)) if compared.lacking else ([], [])
        reply = None
        if own is not None and ours:
            if not (own.reply or own.part or own.rumor or own.roll):
                known = {entry.id for entry in digest}
                compared.later.extend(peer for peer in told if peer.id not in known)
            reply = self._reply(now, own, compared, deltas, cut, roll)
        if deltas:
            output.append(Event("deltas send", (sender, deltas)))
        if reply is not None:
            output.append(Event("digest send", (sender, reply)))
        if deltas or reply is not None:
            output.append(Send(sender if ours else RemotePeer(sender.id, sender.transport), deltas or None, reply))

    def _reply(
        self,
        now: float,
        own: Entry,
        compared: Comparison,
        deltas: list[list[Any]],
        cut: list[Peer],
        roll: Roll | None,
    ) -> list[Entry] | None:
        """Return the reply to one of ours whose own entry is `own`, None if there is none to be made."""
        id, is_reply, is_rumor = own.id, own.reply, own.rumor
        begun, unfinished = {delta[0] for delta in deltas}, {peer.id for peer in cut}
        # Who settles a floor has to know of which peers it was told only a part of what is current.
        told = [peer for peer, _ in compared.lacking if peer.id in begun and (peer.behind or peer.id in unfinished)]
        missing = self._asking.unasked(now, compared.missing)
        wanted = missing + cut + ([] if is_reply or is_rumor else compared.later)
        grant = self._read_flow(own)
        goes_on = bool(wanted or grant) and self._may_reply(now, id, is_reply)
        exhausted = self._exchanges.get(id, 0) >= self._options.max_exchanges_per_gossip
        if self._flow is not None and not is_rumor and (deltas or not is_reply) and (exhausted or not cut):
            self._flow.gossiped(overflowed=bool(cut))  # while there are exchanges left, it is not known yet
        if not goes_on and not told:
            return None
        if goes_on:
            self._asking.ask(now, id, missing)
        if goes_on and roll is not None and len(told) + len(wanted) > len(roll) * _FEW:
            reply = self._call(roll, told)
        else:
            news = {peer.id: peer for peer in (told + wanted if goes_on else told)}
            news.pop(self._local.id, None)
            reply = self.digest(list(news.values()))
        flow = self._flow.give(grant) if self._flow is not None and grant is not None and goes_on else None
        reply[-1] = reply[-1].marked(reply=True, flow=flow)
        return reply

    def _take_deltas(self, now: float, deltas: list[list[Any]], rumor: bool, output: Output) -> None:
        """Write those that are new and leave no gap, and pass those of a rumour on in rumours."""
        changed: dict[str, Peer] = {}
        limit, beyond = self.membership.bound.limit(now), set()
        last, peer = "", None  # deltas of one peer mostly stand together
        for delta in deltas:
            id, key, value, version = delta[:4]
            after, more = delta[4] if len(delta) > 4 else None, delta[5] if len(delta) > 5 else 0
            if id == self._local.id:
                continue  # nobody but the owner writes its state
            if version + more > limit or id in beyond:  # nor is what follows it taken, which would leave a gap
                beyond.add(id)
                self.membership.bound.report(now, id, version + more, output)
                continue
            if id != last:
                last, peer = id, changed.get(id) or self._storage.get(id)
            if peer is None:
                output.append(Event("unknown peer", (id,)))
                continue
            before = peer.max_version_seen
            old = peer.take(key, value, version, after, more)
            if old is REFUSED:
                continue
            changed[id] = peer
            if rumor and self._rumors is not None:
                self._rumors.note(id, before)
            if type(value) is dict and is_tombstone(value):
                if old is not NOTHING:
                    output.append(Event("delete", (id, key)))
            elif old is NOTHING or not same(old, value):
                output.append(_event(("update", (id, key, value))))
        for peer in changed.values():
            self.membership.put(peer)

    def _choose(self, lacking: list[tuple[Peer, int]], ours: bool) -> tuple[list[list[Any]], list[Peer]]:
        order = self._options.delta_order
        turn = _FAIR if self._flow is None else _FAIR_IN_FLOW
        if order == "depth" and self._starved % turn == turn - 1:
            order = "drawn"
        limit = self._options.max_deltas_per_gossip
        horizon = limit * max(1, self._options.max_exchanges_per_gossip) if ours else 0
        deltas, cut = choose_deltas(lacking, limit, order, self._random, horizon)
        self._starved += bool(cut)
        return deltas, cut

    def _read_flow(self, own: Entry) -> float | None:
        """Read the sender's rates; return what it is to be granted, None if it asks for nothing or for next to nothing."""
        if self._flow is None or own.flow is None:
            return None
        rho, tau, *grant = own.flow
        self._flow.meet(tau)
        if grant:
            self._flow.take(grant[0])
            return None
        wanted = self._flow.grant_for(rho, tau)
        return wanted if self._flow.worth_telling(wanted, tau) else None

    def _may_reply(self, now: float, id: str, is_reply: bool) -> bool:
        if not 0 <= now - self._exchanges_since < self._options.gossip_interval:
            self._exchanges_since = now
            self._exchanges.clear()
        exchanges = self._exchanges.get(id, 0) + is_reply
        allowed = exchanges < self._options.max_exchanges_per_gossip
        self._exchanges[id] = exchanges + allowed
        return allowed
