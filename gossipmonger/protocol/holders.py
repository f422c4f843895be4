"""Holders: which peers are known to hold everything of this node, and what is done while somebody waits for that.

Any digest with an entry of this node shows how much of it the sender holds. In a running cluster, rounds show it all the time.
Whoever cannot wait for them, as a program that is about to end, *asks*: a digest whose header says so is answered in any case.
Those who lack something are told it in the next message, which asks again. So a node that nobody knows yet is held after two
round trips.
"""

from __future__ import annotations

from gossipmonger.protocol.config import Node
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.output import Output, send
from gossipmonger.protocol.partners import draw_first
from gossipmonger.state import Kind, Peer

__all__ = ["Holders"]

#: Peers that are remembered. One that lives is enough.
_MOST = 16

#: Live peers that are asked at a time. One may be gone, or lose the message.
_ASKED = 3


def _elders(live: list[Peer]) -> list[Peer]:
    """Return the third of the live peers that have lived longest, of those that speak our extensions.

    Whoever has lived for long is likely to live on, and a program that is about to end itself is not among them. Heartbeats
    begin at the clock's microseconds, so the lowest is the oldest. Clocks that are wrong make no more than a worse choice.
    """
    speakers = sorted([peer for peer in live if peer.speaks_extensions], key=lambda peer: peer.heartbeat)
    return speakers[: (len(speakers) + 2) // 3]


class Holders:
    """How much of the local peer others hold."""

    def __init__(self, node: Node, membership: Membership) -> None:
        self._local, self._storage, _, self._random = node
        self._membership = membership
        self._versions: dict[str, int] = {}  # peer's id -> the version up to which it holds everything
        self._lasting: set[str] = set()  # those that had lived longest when they were asked
        self._asked: dict[str, int] | None = None  # who has answered since, and from which version on it was told the rest

    def note(self, id: str, version: int) -> None:
        """Note that a peer has said that it knows this version of the local peer."""
        # What is said of a former life is below the floor by now, and what a forger says is above all versions.
        if self._versions.get(id) == version or not self._local.floor <= version <= self._local.max_version_seen:
            return
        self._versions[id] = version
        if len(self._versions) > _MOST:
            del self._versions[min(self._versions, key=lambda id: self._versions[id])]

    def of(self, version: int) -> list[Peer]:
        """Return the live peers that hold everything up to this version, or everything if it was issued again since."""
        wanted = version if version >= self._local.floor else self._local.max_version_seen
        found = [self._storage.get(id) for id, held in self._versions.items() if held >= wanted]
        return [peer for peer in found if peer is not None and peer.live]

    def include(self, now: float, version: int, for_good: bool = False) -> bool:
        """Whether there are such peers. For good, one has to be a seed, or among those that had lived longest when asked."""
        holders = self.of(version)
        if not for_good or self._membership.seeds.found(now, holders):
            return bool(holders)
        return any(peer.id in self._lasting for peer in holders)

    def ask(self, now: float) -> Output:
        """Ask some live peers, and all seeds that are none of them; tell those who answer what they lack, until `rest`."""
        live, dead = self._membership.others()
        lasting = _elders(live)
        self._asked = {}
        self._lasting.update([peer.id for peer in lasting])
        asked = draw_first(lasting, [peer for peer in live if peer.speaks_extensions], _ASKED, self._random)
        question = self._membership.message(Kind.PART, header=self._membership.header()._replace(ask=True))
        seeds = self._membership.seeds.lost(now, live, dead)
        output: Output = []
        send([*(peer.remote for peer in asked), *(seed.at for seed in seeds)], question, output)
        return output

    def rest(self) -> None:
        """Nobody waits any more."""
        self._asked = None
        self._lasting.clear()

    def asks_again(self, id: str, version: int) -> bool:
        """Whether to ask along with what a peer is told that knows this version.

        Each question but the first has to be worth it: a peer that takes nothing would be asked for ever.
        """
        if self._asked is None or self._asked.get(id, -1) >= version:
            return False
        self._asked[id] = version
        return True
