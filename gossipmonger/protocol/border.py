"""The border: messages of other clusters do not come in.

The header of a digest names its sender's cluster. A message without a header, such as one of deltas alone, is of the cluster
that its sender has named last, at the same address, or of that of the link on which it came. If its sender has named none yet,
but is a peer at that address, of which nodes of this cluster have told, it is of this one. Without the option `cluster`,
Node.js nodes are of this node's cluster; with it, they are not.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gossipmonger.protocol.output import Event, Output
from gossipmonger.state import Clusters, Message, RemotePeer

__all__ = ["Border"]

#: Senders of which it is remembered what cluster they have named.
_NAMED = 10_000

#: Senders whose deltas came before a header, that are remembered at a time.
_EARLY = 64


class Border:
    """Tells which messages are of this node's cluster, which may have no name.

    Attributes:
        refused: How many messages did not come in.
    """

    def __init__(self, name: str | None, storage: Any) -> None:
        self.refused: int = 0
        self._storage = storage
        self._name = name
        self._clusters = Clusters(lambda: name)
        self._named: OrderedDict[str, tuple[Any, str | None]] = OrderedDict()  # id -> address, cluster
        self._early: dict[str, tuple[float, RemotePeer]] = {}  # id -> since when its deltas come without a header

    def admits(self, now: float, message: Message, output: Output) -> bool:
        """Return whether a message is of this cluster; report it if it is not."""
        sender, _, digest = message
        name, header = self._name, None if digest is None else digest.header
        if header is not None:
            theirs = header.cluster
            if (theirs is not None or name is not None) and not header.observer:
                self._note(sender, theirs)
        elif sender.vouched is not None:
            theirs = sender.vouched
        else:
            named_at, theirs = self._named.get(sender.id, (None, None))
            if named_at != sender.transport:
                theirs = name if name is not None and self._is_peer(sender) else None
        if theirs == name:
            return True
        self.refused += 1
        if digest is None and theirs is None:  # they may have overtaken the header
            if len(self._early) < _EARLY:
                self._early.setdefault(sender.id, (now, sender))
        else:
            self._report(now, sender, theirs, output)
        return False

    def begin_round(self, now: float, interval: float, output: Output) -> None:
        """Report senders whose deltas came a while ago, and no header since."""
        for id, (since, sender) in [*self._early.items()]:
            if now - since > interval:
                del self._early[id]
                self._report(now, sender, None, output)

    def _is_peer(self, sender: RemotePeer) -> bool:
        peer = self._storage.get(sender.id)
        return peer is not None and peer.transport == sender.transport and peer.speaks_extensions is not False

    def _note(self, sender: RemotePeer, cluster: str | None) -> None:
        self._named[sender.id] = sender.transport, cluster
        self._named.move_to_end(sender.id)
        if len(self._named) > _NAMED:
            self._named.popitem(last=False)
        self._early.pop(sender.id, None)

    def _report(self, now: float, sender: RemotePeer, cluster: str | None, output: Output) -> None:
        output += [Event("error", (each,)) for each in self._clusters.report(now, self._clusters.error(cluster, sender))]
