"""Contacts: whom rounds go to, and what became of this node's own dials, peer by peer.

A refusal says something only about a peer that has been reached before: behind NAT, an address may refuse everybody for ever.
So this node has to have dialled everybody once, and rounds prefer peers that it has not dialled yet. Each gets its turn, drawn
from as many rounds as it takes to dial all, so that a newcomer is not dialled by everybody at once. (SWIM inserts newcomers at
a random place of its order for the same reason: Das, Gupta and Motivala, DSN 2002, section 4.3.)

Rounds leave out for a while who has just refused a dial. A digest that goes there is lost, and with it a sign of life.

A contact is with one life of a peer at one address. Another life is known by its heartbeat, which leaps by more than one per
millisecond. It has to accept by itself what the former one accepted, unless it is the very life that accepted: then no link has
ended since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gossipmonger.protocol.config import Node
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.partners import address, draw, draw_first
from gossipmonger.state import Peer, RemotePeer

__all__ = ["Contact", "Contacts"]

#: Intervals for which rounds leave out who has refused a dial.
_LEFT_OUT = 10

#: Accepted dials that are remembered to addresses, such as those of seeds, of which it is not known yet who is there.
_STRANGERS = 64


@dataclass(slots=True)
class Contact:
    """What became of this node's dials to one life of a peer at one address.

    Attributes:
        transport: The address.
        heartbeat: What its heartbeat was at first, which tells its lives apart.
        since: When that was.
        turn: The round from which on it is preferred, until it is dialled.
        dialled: Whether a round has gone there, or another dial was accepted.
        accepted: Whether a dial was accepted.
        ended: Whether what has accepted may be gone.
        refused: When a dial was refused last; None if one was accepted since.
    """

    transport: Any
    heartbeat: int
    since: float
    turn: int
    dialled: bool
    accepted: bool
    ended: bool = False
    refused: float | None = None


class Contacts:
    """The contacts of one node.

    Attributes:
        partners: Ids of those whom the last round went to.
    """

    def __init__(self, node: Node, membership: Membership) -> None:
        _, _, self._config, self._random = node
        self._membership = membership
        self._contacts: dict[str, Contact] = {}
        self._strangers: list[Any] = []  # addresses
        self.partners: set[str] = set()

    def find(self, now: float, peer: Peer, spread: float = 0.0) -> Contact:
        """Return the contact with a peer's present life. A new one has its turn within `spread` rounds."""
        contact = self._contacts.get(peer.id)
        if contact is not None and (contact.transport is peer.transport or contact.transport == peer.transport):
            if peer.heartbeat - contact.heartbeat <= max(0.0, now - contact.since):
                return contact
            if not contact.ended or contact.heartbeat < 0:  # it is this life that has accepted, of which nothing was known
                contact.heartbeat, contact.since = peer.heartbeat, now
                return contact
        here = address(peer.transport)
        accepted = here in self._strangers
        self._strangers = [stranger for stranger in self._strangers if stranger != here]
        turn = self._membership.rounds + (int(self._random.random() * spread) if spread > 1 else 0)
        contact = self._contacts[peer.id] = Contact(peer.transport, peer.heartbeat, now, turn, accepted, accepted)
        return contact

    def note_stranger(self, remote: RemotePeer) -> None:
        """Note that a dial to an address was accepted, of which it is not known who is there."""
        self._strangers = [*self._strangers, address(remote.transport)][-_STRANGERS:]

    def choose_partners(self, now: float, live: list[Peer], dead: list[Peer]) -> list[RemotePeer]:
        """Return whom to send a digest to in this round.

        GOSSIP_FANOUT reachable live peers, drawn evenly, first those whose turn it is, and one more of those whose phi is above
        half of DEAD_PEER_PHI, because a peer that lives tells its heartbeat in its answer. So that a partition heals: a lost
        seed with probability lost / (live + 1), and a dead peer with probability dead / (live + 1), rather one that has died
        lately. If nobody is live, several seeds and surely one of the dead. A seed if fewer than MINIMUM_LIVE_PEERS are live.
        """
        config, random, membership = self._config, self._random, self._membership
        seeds = membership.seeds
        found = self._open(now, live)
        reachable, due = [peer for peer, _ in found], [peer for peer, contact in found if self._is_due(contact)]
        chosen = draw_first(due, reachable, config.gossip_fanout, random)
        silent = [peer for peer in reachable if membership.phi(now, peer) > config.dead_peer_phi / 2 and peer not in chosen]
        partners = [peer.remote for peer in chosen + draw(silent, 1, random)]
        lost = seeds.lost(now, live, dead)
        if not live:
            partners += seeds.draw(seeds.others(now), random)
        elif len(live) < config.minimum_live_peers:
            partners += seeds.draw(lost or seeds.others(now), random, 1)
        elif lost and random.random() < len(lost) / (len(live) + 1):
            partners += seeds.draw(lost, random, 1)
        gone = [peer for peer in dead if not peer.left]
        gone = [peer for peer in gone if peer.id not in membership.capacity.strangers] or gone
        if gone and (not live or random.random() < len(gone) / (len(live) + 1)):
            gone.sort(key=lambda peer: -(peer.last_time or 0.0))
            # The place in this order is drawn by its logarithm: who died lately has a good chance, however many did before.
            drawn = gone[int((len(gone) + 1) ** random.random()) - 1]
            if not any(drawn.transport == partner.transport for partner in partners):
                partners.append(RemotePeer(drawn.id, drawn.transport))
        partners += membership.doubted()
        self.partners = {partner.id for partner in partners}
        for id in self.partners & self._contacts.keys():
            self._contacts[id].dialled = True
        return partners

    def _open(self, now: float, live: list[Peer]) -> list[tuple[Peer, Contact]]:
        """Return to which of the live peers this round may go.

        Strangers may be invented. All partners but one may be strangers, and half of them such as are silent, whose heartbeat
        has not risen. The only partner of a round is a stranger every other time.
        """
        strangers, silent = self._membership.capacity.strangers, self._membership.capacity.silent()
        if len(self._contacts) > 2 * len(live) + _STRANGERS:
            ids = {peer.id for peer in live}
            self._contacts = {id: contact for id, contact in self._contacts.items() if id in ids}
        spread = len(live) / self._config.gossip_fanout
        since = now - _LEFT_OUT * self._config.gossip_interval
        found = [(peer, self.find(now, peer, spread)) for peer in live]
        found = [pair for pair in found if pair[1].refused is None or pair[1].refused < since] or found
        if strangers:
            known = [pair for pair in found if pair[0].id not in strangers]
            if known:
                most = self._config.gossip_fanout - 1 or self._membership.rounds % 2
                new = self._some([pair for pair in found if pair[0].id in silent], (most + 1) // 2)
                others = [pair for pair in found if pair[0].id in strangers and pair[0].id not in silent]
                found = known + self._some(others, most - len(new)) + new
        return found

    def _some(self, found: list[tuple[Peer, Contact]], count: int) -> list[tuple[Peer, Contact]]:
        """Draw some of these, first those whose turn it is."""
        return draw_first([pair for pair in found if self._is_due(pair[1])], found, count, self._random)

    def _is_due(self, contact: Contact) -> bool:
        return not contact.dialled and contact.turn <= self._membership.rounds
