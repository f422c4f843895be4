"""Suspicion: what a refused dial says, sooner than phi.

If a process is killed, its machine refuses dials to its address from then on. So a refusal is worth more than silence. It is
not proof: a process may listen no more and gossip on, and a firewall, an address that several share or a restart refuse too.
Hence this sequence:

1. A dial to a live peer is refused: the peer is *suspected*. Who was refused gives a hint to a few others, with the heartbeat
   that it knows. They dial for themselves, so no node's word can kill a peer; whoever is refused too gives hints in turn.
2. For three intervals, the peer's heartbeat is news to all who suspect it or were given a hint. Whoever of them knows or learns
   of a later one tells it to those who gave the hint, and to a few more. So they soon agree on the last heartbeat of a peer
   that was killed, before the time begins in which it must not rise. A dial that is accepted passes the hint on to the peer.
   The peer itself raises its heartbeat and tells it at once, and again with each of its rounds.
3. Two of the peer's intervals after the first dial, and at least a second, comes the second. If it is refused too, and the
   heartbeat did not rise for the last one and a half of these intervals, the peer is dead. If it did, the suspicion is refuted,
   and refusals prove nothing for thirty intervals. If an own round or timer was late, the two intervals begin again.
4. A peer that is dead by refusal lives again only if a dial is accepted, it is heard directly, or its heartbeat rises by more
   than it does in five intervals, as it does in another life too. Less may be old news that was still on its way, in the hands
   of a process that was stopped meanwhile, for as long as it may be.

A refusal counts only from a node whose dial has once been accepted by this life of the peer, at this address: see `Contacts`.

When a kept link ends without a frame that says so, a bare dial, a *probe*, asks whether anybody still listens. Suspicions begin
at a limited rate, and a peer is probed at most once a second. The rest is left to phi, and so is a host that does not answer: a
time-out is never a refusal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gossipmonger.protocol.config import Node
from gossipmonger.protocol.contacts import Contacts
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.output import Dial, Output, send
from gossipmonger.protocol.partners import draw
from gossipmonger.state import Digest, Kind, Message, Peer, RemotePeer, Throttle

__all__ = ["Suspicion"]

#: Milliseconds between the two dials at least: a process that is restarted listens again by then.
_LEAST_WAIT = 1000.0

#: The peer's intervals between the two dials.
_WAIT = 2.0

#: Shares of that time: the last one and a half of two intervals, in which a heartbeat refutes; and three intervals, for which
#: it is news.
_QUIET, _NEWS = 0.75, 1.5

#: Digests that it has to send in an interval for that. The only one may go to a process that is stopped, or was killed itself.
_DIGESTS = 3

#: Share of that time by which a timer or a report may be late before the two intervals begin again.
_LATE = 0.25

#: Intervals for which refusals prove nothing after a rise that refutes a suspicion, and whose digests may be old news of a peer
#: that is dead: it had sent them by the first dial, two intervals before the verdict.
_IMMUNE, _OLD = 30, 5

#: Suspicions a second that may begin, and how many at once. Ten deaths a second are seen by refusal; more are left to phi.
_RATE, _BURST = 10, 20

#: How often a refuser hints, and milliseconds in between. Told once to three, one node of sixteen would hear no hint.
_HINTS, _HINT_INTERVAL = 3, 100.0

#: Milliseconds from the end of a link to the probe. A process that is killed closes its sockets one after the other, and the
#: one that listens may be the last.
_EXIT = 100.0

#: Milliseconds between two probes of one peer, and between two rises of the own heartbeat because of a hint.
_PAUSE = 1000.0

#: Later heartbeats that are told of one suspected peer, and the givers of a hint that are told.
_TELLINGS, _ASKERS = 20, 16


@dataclass(slots=True)
class _Suspect:
    """A peer that this node suspects, or was given a hint about."""

    heartbeat: int  # the latest one that has been told
    wait: float  # milliseconds from the first dial to the second
    first: float | None = None  # when the first dial was refused; None if there was but a hint
    second: float | None = None  # when the second was made
    due: float = math.inf  # when there is something to do
    until: float = 0.0  # until when its heartbeat is news
    hints: int = 0  # how often this node has hinted at it
    askers: dict[str, None] = field(default_factory=dict)  # ids of those who gave a hint
    tellings: int = 0
    passed_on: bool = False

    def begin(self, now: float) -> None:
        """Count the time from now."""
        self.first, self.second = now, None
        self.due = now if self.hints < _HINTS else now + self.wait
        self.until = max(self.until, now + _NEWS * self.wait)

    def drop(self) -> None:
        """Suspect it no more; its heartbeat stays news for as long as it was to be."""
        self.first, self.second, self.due = None, None, math.inf


class Suspicion:
    """The suspicions of one node.

    * What comes in: `begin_round`, `link`, `hear`
    * What follows: `tell_later`, `due`, `dial_again`

    Attributes:
        contacts: What became of the node's own dials.
        suspects: Peers that are suspected or were hinted at, by their ids. Read only.
        ends: id -> when to probe a peer, since a link to it has ended. Read only.
    """

    def __init__(self, node: Node, membership: Membership) -> None:
        self._local, self._storage, self._config, self._random = node
        self._membership = membership
        self.contacts: Contacts = Contacts(node, membership)
        self.suspects: dict[str, _Suspect] = {}
        self._immune: dict[str, float] = {}  # id -> until when refusals prove nothing
        self.ends: dict[str, float] = {}
        self._probes = Throttle(_PAUSE)
        self._raises = Throttle(_PAUSE)  # of the own heartbeat because of a hint
        self._spoken_to = 0.0  # when somebody else spoke to this node first
        self._tokens, self._filled = float(_BURST), 0.0

    def begin_round(self, now: float) -> None:
        """Let time pass: what has expired is forgotten, and a late round begins suspicions again."""
        self.suspects = {id: suspect for id, suspect in self.suspects.items() if suspect.until > now}
        self._immune = {id: until for id, until in self._immune.items() if until > now}
        if self._membership.late:
            for suspect in self.suspects.values():
                if suspect.first is not None:
                    suspect.begin(now)

    # What the kernel tells

    def link(self, now: float, remote: RemotePeer, what: str, output: Output) -> None:
        """Take what a transport reports: see `Protocol.link`."""
        if what == "itself":
            self._membership.seeds.reached_itself(now, remote)
        if remote.id == self._local.id:
            return
        peer = self._storage.get(remote.id)
        if peer is None or peer.transport != remote.transport:
            if what == "accepted":
                self.contacts.note_stranger(remote)
        elif what == "accepted":
            self._accepted(now, peer, output)
        elif what == "refused":
            self._refused(now, peer, output)
        elif what in ("silent", "foreign") and self._config.observer:  # as a Node.js node's is, which it must not ask
            self.contacts.find(now, peer).refused = now
        elif what == "ended":
            self.contacts.find(now, peer).ended = True
            if peer.live:
                self.ends.setdefault(peer.id, now + _EXIT)

    def _accepted(self, now: float, peer: Peer, output: Output) -> None:
        contact = self.contacts.find(now, peer)
        contact.dialled = contact.accepted = True
        contact.ended, contact.refused = False, None
        self._membership.refused.pop(peer.id, None)
        suspect = self.suspects.get(peer.id)
        if suspect is None:
            return
        suspect.drop()
        if suspect.askers and peer.speaks_extensions:
            self._pass_on(peer, suspect, peer.remote, output)

    def _refused(self, now: float, peer: Peer, output: Output) -> None:
        contact = self.contacts.find(now, peer)
        contact.ended, contact.refused = True, now
        if not peer.live or not contact.accepted or now < self._immune.get(peer.id, 0.0):
            return
        suspect = self._watch(now, peer, peer.heartbeat)
        if suspect is None:
            return
        if suspect.first is None:
            suspect.hints = 0
            suspect.begin(now)
            self._act(now, peer, suspect, output)
        elif suspect.second is not None:
            self._judge(now, peer, suspect, suspect.second, output)

    def _judge(self, now: float, peer: Peer, suspect: _Suspect, second: float, output: Output) -> None:
        if self._membership.late or now - second > _LATE * suspect.wait or self._is_deaf(suspect):
            suspect.begin(now)
        elif not self._refuted(now, peer, suspect):
            del self.suspects[peer.id]
            old = _OLD * suspect.wait / _WAIT / (peer.intervals_mean or 1.0)
            self._membership.refused[peer.id] = peer.heartbeat + int(old)
            self._membership.bury(peer, output)

    def _is_deaf(self, suspect: _Suspect) -> bool:
        """Return whether nobody has spoken to this node since the first dial, although its own rounds do not reach all.

        It may be cut off itself, and miss what refutes the suspicion.
        """
        suspected = sum(suspect.first is not None for suspect in self.suspects.values())
        others = len(self._storage.live_peers()) - 1 - suspected
        return others > self._config.gossip_fanout and self._spoken_to <= (suspect.first or 0.0)

    def _refuted(self, now: float, peer: Peer, suspect: _Suspect) -> bool:
        """Return whether its heartbeat has risen too lately for a verdict. If so, suspect it no more."""
        if now - (peer.last_time or 0.0) > _QUIET * suspect.wait:
            return False
        suspect.drop()
        self._immune[peer.id] = now + _IMMUNE * suspect.wait / _WAIT
        return True

    def _probe(self, now: float, peer: Peer, output: Output) -> None:
        if self._probes.passes(now, peer.id):
            output.append(Dial(peer.remote))

    @property
    def due(self) -> float:
        """When the next hint, probe or second dial is due, in milliseconds since the epoch; infinite if none is."""
        return min([*(suspect.due for suspect in self.suspects.values()), *self.ends.values()], default=math.inf)

    def dial_again(self, now: float, output: Output) -> None:
        """Give the hints again, and make the probes and second dials that are due."""
        for id in [id for id, due in self.ends.items() if due <= now]:
            del self.ends[id]
            ended = self._storage.get(id)
            if ended is not None and ended.live:
                self._probe(now, ended, output)
        for id, suspect in [(id, suspect) for id, suspect in self.suspects.items() if suspect.due <= now]:
            peer = self._storage.get(id)
            if peer is None or not peer.live:
                del self.suspects[id]
            elif now - suspect.due > _LATE * suspect.wait:
                suspect.begin(now)
            else:
                self._act(now, peer, suspect, output)

    def _act(self, now: float, peer: Peer, suspect: _Suspect, output: Output) -> None:
        if suspect.hints < _HINTS:
            suspect.hints += 1
            self._hint(peer, self._few(peer), output)
            suspect.due = now + _HINT_INTERVAL if suspect.hints < _HINTS else (suspect.first or now) + suspect.wait
        elif not self._refuted(now, peer, suspect):
            suspect.second, suspect.due = now, math.inf
            output.append(Dial(peer.remote))

    # What others tell

    def hear(self, now: float, sender: RemotePeer, digest: Digest | None, risen: bool, output: Output) -> None:
        """Take a message, after all else that it says has been taken. `risen`: its sender told a later heartbeat of itself."""
        if risen:
            self._membership.refused.pop(sender.id, None)
        if digest is not None and digest.header is not None:  # a Node.js node tells no heartbeats
            compact = digest.kind is Kind.ROUND and digest.header.compact is not None
            if (compact and sender.id not in self.contacts.partners) or self._config.observer:  # which hears answers alone
                self._spoken_to = now  # a whole digest may be an answer, and those reach a node that nobody can dial
            if digest.header.hints:
                self._hear_hints(now, sender, digest.header.hints, output)
            suspect, peer = self.suspects.get(sender.id), self._membership.found.get(sender.id)
            if suspect is not None and suspect.until > now and peer is not None and digest.kind is Kind.ROUND:
                self._pass_on(peer, suspect, sender, output)
        if self.suspects:
            self.tell_later(now, output)

    def _hear_hints(self, now: float, sender: RemotePeer, hints: Sequence[Sequence[Any]], output: Output) -> None:
        limit = self._membership.bound.limit(now)
        for id, heartbeat in hints:
            if heartbeat > limit:
                continue
            if id == self._local.id:
                self._hear_of_self(now, sender, heartbeat, output)
                continue
            self._spoken_to = now  # a hint about this node itself may be an answer
            peer = self._storage.get(id)
            if peer is None or not peer.live:
                continue
            if peer.hear(heartbeat, now):
                self._membership.hear_risen(now, [peer])
                self._membership.put_changes()
            suspect = self._watch(now, peer, heartbeat)
            if suspect is not None:
                self._note_asker(now, suspect, sender, peer, heartbeat, output)
                if suspect.first is None and now >= self._immune.get(id, 0.0):
                    self._probe(now, peer, output)

    def _hear_of_self(self, now: float, sender: RemotePeer, heartbeat: int, output: Output) -> None:
        local = self._local
        suspect = self.suspects.setdefault(local.id, _Suspect(local.heartbeat, _WAIT * self._config.gossip_interval))
        if self._raises.passes(now):
            local.heartbeat += 1
            self._membership.put(local)
        self._note_asker(now, suspect, sender, local, heartbeat, output)

    def _note_asker(
        self, now: float, suspect: _Suspect, sender: RemotePeer, peer: Peer, heartbeat: int, output: Output
    ) -> None:
        suspect.until = max(suspect.until, now + _NEWS * suspect.wait)
        if len(suspect.askers) < _ASKERS:
            suspect.askers[sender.id] = None
        if heartbeat < peer.heartbeat <= suspect.heartbeat:  # everybody else has been told
            self._tell(now, peer, [sender], output)

    def _watch(self, now: float, peer: Peer, heartbeat: int) -> _Suspect | None:
        """Return the suspicion of a peer. Begin one if there is none, but None if too many have begun lately."""
        suspect = self.suspects.get(peer.id)
        if suspect is None:
            self._tokens = min(_BURST, self._tokens + max(0.0, now - self._filled) * _RATE / 1000)
            self._filled = now
            if self._tokens < 1:
                return None
            self._tokens -= 1
            suspect = self.suspects[peer.id] = _Suspect(heartbeat, self._wait_for(peer))
        return suspect

    def _wait_for(self, peer: Peer) -> float:
        """Return the milliseconds from the first dial to the second.

        The peer's heartbeat counts its digests, and the mean is the time of one. A peer that sends fewer than three an
        interval, though there are more peers to send to, is given as much more time.
        """
        digests = max(1, min(_DIGESTS, len(self._storage.live_peers()) - 1))
        own = self._config.gossip_interval if self._config.observer else 0  # an observer hears of rises in its own rounds
        return max(_LEAST_WAIT, _WAIT * max(peer.interval, own), _WAIT * digests * peer.intervals_mean)

    def tell_later(self, now: float, output: Output) -> None:
        """Tell what later heartbeats were learned of peers of which that is news."""
        for id, suspect in self.suspects.items():
            peer = self._local if id == self._local.id else self._storage.get(id)
            if peer is None or peer.heartbeat <= suspect.heartbeat or suspect.until <= now or suspect.tellings >= _TELLINGS:
                continue
            suspect.heartbeat = peer.heartbeat
            suspect.tellings += 1
            askers = [asker for asker in map(self._storage.get, suspect.askers) if asker is not None and asker is not peer]
            told = {partner.id: partner for partner in [asker.remote for asker in askers] + self._few(peer)}
            self._tell(now, peer, [*told.values()], output)

    def _few(self, peer: Peer) -> list[RemotePeer]:
        """Return whom a rumour about a peer goes to."""
        others = [other for other in self._membership.speakers() if other.id != peer.id]
        return [other.remote for other in draw(others, self._config.rumor_fanout, self._random)]

    def _pass_on(self, peer: Peer, suspect: _Suspect, remote: RemotePeer, output: Output) -> None:
        """Tell a peer itself that it is suspected, once."""
        if not suspect.passed_on:
            suspect.passed_on = True
            self._hint(peer, [remote], output)

    def _hint(self, peer: Peer, partners: list[RemotePeer], output: Output) -> None:
        header = self._membership.header(hints=[(peer.id, max(0, peer.heartbeat))])
        self._rumor(partners, self._membership.message(Kind.RUMOR, header=header), output)

    def _tell(self, now: float, peer: Peer, partners: list[RemotePeer], output: Output) -> None:
        told = [peer] if peer is not self._local else []
        self._rumor(partners, self._membership.message(Kind.RUMOR, told, now), output)

    def _rumor(self, partners: list[RemotePeer], message: Message, output: Output) -> None:
        send(() if self._config.observer else partners, message, output)
