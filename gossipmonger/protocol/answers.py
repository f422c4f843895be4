"""Answers: what a digest is answered with, as the table of kinds in `gossipmonger.protocol.protocol` has it."""

from __future__ import annotations

from gossipmonger.protocol.catch_up import CatchUp
from gossipmonger.protocol.config import Node
from gossipmonger.protocol.conversations import Conversations
from gossipmonger.protocol.holders import Holders
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.output import Output, send
from gossipmonger.protocol.reconcile import ID, Reconciliation, choose_deltas
from gossipmonger.state import Delta, Digest, Header, Kind, Message, Peer, RemotePeer

__all__ = ["FEW", "INTRODUCING", "Answers"]

#: Every eighth message that had to be cut in depth's order uses a random order of peers instead, so that a large backlog cannot
#: starve small ones. Under flow control no backlog is large, so depth's order has less to win: every third.
_FAIR, _FAIR_IN_FLOW = 8, 3

#: Share of the peers above which a reply is a compact digest: so many entries are as long as two numbers for everybody.
FEW = 0.1

#: Intervals for which a peer that is new is told of those that left: it gets that even if some messages are lost.
INTRODUCING = 3

#: Deltas in a message to a Node.js node if MAX_DELTAS_PER_GOSSIP is not set: its own default.
_TO_NODE_JS = 5


class Answers:
    """Answers digests: the conversations say how long to go on, the catch-up whom to ask for what."""

    def __init__(
        self, node: Node, membership: Membership, conversations: Conversations, catch_up: CatchUp, holders: Holders
    ) -> None:
        self._local, self._storage, self._config, self._random = node
        self._membership = membership
        self._conversations = conversations
        self._flow = conversations.flow
        self._catch_up = catch_up
        self._holders = holders
        self._cut = 0  # messages that could not tell all

    def answer_node_js(self, sender: RemotePeer, found: Reconciliation, output: Output) -> None:
        """Answer a digest without a header: with the deltas that its sender lacks."""
        limit = self._config.max_deltas_per_gossip
        deltas = self._choose(found.they_lack, _TO_NODE_JS if limit is None else limit)[0] if found.they_lack else []
        if deltas:
            send([RemotePeer(sender.id, sender.transport)], Message(self._local.remote, deltas), output)

    def ask_on(self, now: float, sender: RemotePeer, output: Output) -> None:
        """Ask for what was left for later, since all that was asked for has come."""
        asked, later = self._catch_up.choose(now, sender.id, (), self._storage.get, reply=True, news=True)
        if asked and self._conversations.may_reply(now, sender.id, Kind.REPLY, brings=True):
            self._catch_up.ask(now, sender.id, asked, later)
            send([sender], self._membership.message(Kind.REPLY, asked, now), output)

    def answer(
        self, now: float, message: Message, news: bool, digest: Digest, header: Header, found: Reconciliation, output: Output
    ) -> None:
        """Answer a digest of a node that speaks our extensions: see the table of kinds. `news` is what `_take_deltas` said."""
        sender, membership = message.sender, self._membership
        if digest.kind is Kind.RUMOR:  # what its sender lacks comes in rumours too
            if not found.we_lack and not header.ask:
                return
            found.they_lack = []
        elif header.compact is not None or digest.kind is Kind.ROUND:
            told = membership.told_of(now, *membership.others())
            named = set(map(ID, digest.entries))
            if header.compact is None:
                found.fresher_heartbeats += [peer for peer in [*told, self._local] if peer.id not in named]
                if membership.is_fresh(now, sender.id, INTRODUCING):
                    found.fresher_heartbeats += membership.departed(named)
            else:
                found.compact = membership.compact(told)
                numbers = found.compact.decode(header.compact)
                if numbers is None:
                    if header.ask or self._conversations.may_reply(now, sender.id, digest.kind, brings=False):
                        # Of a sender that is dead here too: it may live anew, below what its former life has said.
                        ids = {peer.id for peer in told}
                        told += [peer for peer in self._asker(message) + found.fresher_heartbeats if peer.id not in ids]
                        send([sender], membership.message(Kind.ROUND, told, now), output)
                    return
                found.read_compact(numbers, named)
        if self._config.observer:  # which only asks
            found.they_lack, found.fresher_heartbeats = [], []
        deltas, cut = self._choose(found.they_lack, self._config.max_deltas_per_gossip) if found.they_lack else ([], [])
        reply = self._reply(now, message, digest.kind, news, header, found, deltas, cut)
        version = found.told if found.they_lack else None
        if version is not None and version < self._local.max_version_seen and self._holders.asks_again(sender.id, version):
            reply = reply or Digest(Kind.REPLY, membership.header(), membership.digest([]))
            reply = reply._replace(header=(reply.header or membership.header())._replace(ask=True))
        if deltas or reply is not None:
            send([sender], Message(self._local.remote, deltas or None, reply), output)

    def _asker(self, message: Message) -> list[Peer]:
        """Return the sender of a message that asks for an answer, nobody if it does not."""
        asker = self._membership.found.get(message.sender.id)
        return [asker] if asker is not None and message.header is not None and message.header.ask else []

    def _reply(
        self,
        now: float,
        message: Message,
        kind: Kind,
        news: bool,
        header: Header,
        found: Reconciliation,
        deltas: list[Delta],
        cut: list[Peer],
    ) -> Digest | None:
        """Return the reply to a digest that is answered with these deltas, None if there is nothing to reply."""
        id, compact = message.sender.id, found.compact
        expiry, was_cut = self._membership.expiry, bool(cut)
        silent = expiry.silent(now) if expiry.lives else ()
        partial: list[Peer] = []
        if deltas:
            # A node that settles a floor has to know of which peers it was told only a part of what is current.
            # And one that is told keys with a ttl has to know how old they are.
            begun, unfinished = {delta[0] for delta in deltas}, {peer.id for peer in cut}
            told_of = [peer for peer, _ in found.they_lack if peer.id in begun]
            partial = [peer for peer in told_of if peer.behind or peer.id in unfinished or peer.id in silent]
        asked: list[Peer] = []
        later: list[str] = []
        if found.we_lack or kind is Kind.REPLY:
            asked, later = self._catch_up.choose(now, id, found.we_lack, self._storage.get, kind is Kind.REPLY, news)
        if kind is Kind.REPLY and compact is not None:
            cut = []  # it was sent everybody's numbers before, so it knows who has more
        wanted = asked + cut + ([] if kind in (Kind.REPLY, Kind.RUMOR) else found.fresher_heartbeats)
        grant = self._conversations.read_flow(header) if header.flow is not None else None
        asker = self._asker(message) if header.ask else []
        brings = news or bool(deltas)
        goes_on = bool(asker) or (bool(wanted or grant) and self._conversations.may_reply(now, id, kind, brings))
        if kind is not Kind.RUMOR and (deltas or kind is not Kind.REPLY):
            self._conversations.answer(id, was_cut)
        if not goes_on and not partial:
            return None
        if goes_on and asked:
            brought = {delta.peer_id: delta.version for delta in message.deltas or ()}
            partly = [peer.id for peer in asked if brought.get(peer.id, peer.heard) < peer.heard]
            self._catch_up.ask(now, id, asked, later, partly)
        flow = self._flow.give(grant) if self._flow is not None and grant is not None and goes_on else None
        many = compact is not None and len(partial) + len(wanted) > len(compact.peers) * FEW
        if goes_on and compact is not None and kind is not Kind.REPLY and many:
            told = partial + asker + [p for p in compact.peers if p.heard > p.max_version_seen or p.id in silent]
            header = self._membership.header(flow, compact.encode())
        else:
            told = partial + asker + wanted if goes_on else partial
            header = self._membership.header(flow)
        entries = {peer.id: peer for peer in told if peer is not self._local}
        return Digest(Kind.REPLY, header, self._membership.digest([*entries.values()], now))

    def _choose(self, they_lack: list[tuple[Peer, int]], limit: int | None) -> tuple[list[Delta], list[Peer]]:
        order = self._config.delta_order
        turn = _FAIR if self._flow is None else _FAIR_IN_FLOW
        if order == "depth" and self._cut % turn == turn - 1:
            order = "random"
        deltas, cut = choose_deltas(they_lack, limit, order, self._random)
        self._cut += bool(cut)
        return deltas, cut
