"""Forgetting: which peers were removed, and how an operator's order to remove one reaches everybody.

A forgotten peer is remembered by its id and a heartbeat: news up to that heartbeat is old, and only a later heartbeat or a
message of the peer itself brings it back. Otherwise nodes that forget it later would tell nodes that forgot it earlier, for
ever.

An *order* is an id and a heartbeat. It travels in headers for thirty intervals, and again whenever somebody is new, moves or
returns, who may have been away. Each node judges for itself: it drops a peer that is dead or has left here, too, and was not
heard of in a later life. So a forged order drops nobody who is alive. If a node knows a later heartbeat of the same life, it
drops the peer and passes the order on with that heartbeat, so in the end all remember the latest. A node on which the peer is
still live keeps the order, and obeys when it sees the peer die.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from gossipmonger.protocol.config import Config
from gossipmonger.protocol.output import Event, Output
from gossipmonger.state import Peer
from gossipmonger.state.phi import ANOTHER_LIFE

__all__ = ["TELLING", "Forgetting"]

#: Intervals for which a peer that left is still told of, rumours name one that is new, and deletes are kept for Node.js nodes:
#: far more than gossip takes.
TELLING = 30

#: Forgotten ids that are remembered at least, to tell news about them from old news.
_MAX_FORGOTTEN = 10_000

#: Orders that are remembered and told.
_MAX_ORDERS = 64


class Forgetting:
    """What one node has forgotten, and the orders that it knows.

    * Peers: `drop`, `is_news`, `returned`
    * Orders: `give`, `obey`, `obey_late`, `tell`, `told`

    `refused` are the peers that are dead by refusal, id -> the heartbeat up to which it may be old news.
    """

    def __init__(self, storage: Any, refused: dict[str, int], config: Config) -> None:
        self._storage = storage
        self._refused = refused
        self._most = max(_MAX_FORGOTTEN, config.max_peers)
        self._telling = TELLING * config.gossip_interval
        self._lasting = config.forget_dead_peers_after
        self._forgotten: OrderedDict[str, int] = OrderedDict()  # id -> heartbeat, the oldest first
        self._orders: OrderedDict[str, tuple[int, float]] = OrderedDict()  # id -> heartbeat, since when; the oldest first
        self._until: float | None = None  # when they need not be told any more; None if they need not be told now

    def is_news(self, now: float, id: str, heartbeat: int) -> bool:
        """Return whether a heartbeat is later than what is to be forgotten of this id. If not, its teller may not know."""
        is_news = heartbeat > self._known(id)
        if not is_news:
            self.tell(now)
        return is_news

    def _known(self, id: str) -> int:
        return max(self._forgotten.get(id, -2), self._orders.get(id, (-2, 0.0))[0])

    def drop(self, peer: Peer, heartbeat: int, output: Output) -> bool:
        """Remove a peer, and remember it up to this heartbeat; return False if the storage keeps it."""
        try:
            self._storage.remove(peer.id)
        except (AttributeError, NotImplementedError):
            return False  # a storage with the Node.js package's methods alone keeps its dead
        self._refused.pop(peer.id, None)
        self._note(peer.id, heartbeat)
        output.append(Event("peer forgotten", (peer.remote,)))
        return True

    def _note(self, id: str, heartbeat: int) -> None:
        self._forgotten[id] = max(0, heartbeat)
        if len(self._forgotten) > self._most:
            self._forgotten.popitem(last=False)

    def returned(self, id: str) -> bool:
        """Remember no more that this peer was forgotten; return whether it was."""
        forgotten = self._forgotten.pop(id, None) is not None
        self._orders.pop(id, None)
        return forgotten

    def tell(self, now: float) -> None:
        """Tell the orders for a while, as somebody may not know them."""
        if self._orders:
            self._until = now + self._telling

    @property
    def told(self) -> list[tuple[str, int]] | None:
        """The orders that headers carry now, each an id and a heartbeat; None for none."""
        return None if self._until is None else [(id, heartbeat) for id, (heartbeat, _) in self._orders.items()] or None

    def give(self, now: float, peer: Peer, output: Output) -> None:
        """Drop a peer that is dead or has left, and order all others to do the same.

        Raises:
            NotImplementedError: The storage cannot remove a peer.
        """
        heartbeat = max(peer.heartbeat, self._refused.get(peer.id, -1), 0)
        if not self.drop(peer, heartbeat, output):
            raise NotImplementedError("forget: the storage has no remove()")
        self._order(now, peer.id, heartbeat)

    def obey(self, now: float, orders: Iterable[Sequence[Any]], output: Output) -> bool:
        """Take orders about others than the local peer; return whether any has dropped a peer here."""
        dropped = False
        for id, heartbeat in orders:
            peer = self._storage.get(id)
            if peer is not None and not peer.live and peer.heartbeat <= heartbeat + ANOTHER_LIFE:
                heartbeat = max(heartbeat, peer.heartbeat)
                if self.drop(peer, heartbeat, output):
                    dropped = True
                    self._order(now, id, heartbeat)
                    continue
            if (peer is None or peer.heartbeat <= heartbeat) and heartbeat > self._known(id):
                self._order(now, id, heartbeat)
        return dropped

    def obey_late(self, now: float, output: Output) -> None:
        """Drop peers that have died here after the order had come, and let time pass for the orders."""
        for id, (heartbeat, since) in [*self._orders.items()]:
            peer = self._storage.get(id)
            if peer is not None and peer.heartbeat > heartbeat:
                self.returned(id)
            elif peer is not None and not peer.live:
                self.drop(peer, heartbeat, output)
            elif now - since > self._lasting:
                self.returned(id)
                self._note(id, heartbeat)
        if self._until is not None and now > self._until:
            self._until = None

    def _order(self, now: float, id: str, heartbeat: int) -> None:
        self._orders[id] = heartbeat, now
        if len(self._orders) > _MAX_ORDERS:
            self._orders.popitem(last=False)
        self.tell(now)
