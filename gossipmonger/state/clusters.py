"""Clusters: which messages are of this node's cluster, and the error for one that is not.

Addresses are given away again. When a node has gone and its address belongs to a node of another cluster, the two clusters
would gossip with each other, and become one. With a name each, they refuse each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gossipmonger.errors import ClusterError, at
from gossipmonger.state.message import RemotePeer

__all__ = ["Clusters"]

#: Milliseconds between two errors about one source.
_REPORT_EVERY = 60_000

#: Sources that are remembered.
_SOURCES = 1_000


class Clusters:
    """This node's cluster, and what was said about others.

    Args:
        name: Returns the name of this node's cluster; None if it has none, which is a cluster of its own among our nodes.
    """

    def __init__(self, name: Callable[[], str | None]) -> None:
        self._name = name
        self._reported: OrderedDict[tuple[object, str | None], float] = OrderedDict()  # when, oldest first

    @property
    def name(self) -> str | None:
        """The name of this node's cluster; None if it has none."""
        return self._name()

    def error(self, theirs: str | None, sender: RemotePeer | None, source: str = "") -> ClusterError:
        """Return the error for a node of another cluster.

        Args:
            theirs: The name of that cluster; None if the node has named none.
            sender: The node, None if it has not said who it is.
            source: Where it was heard; by default, where it says that it is.
        """
        return ClusterError(self.name, theirs, "" if sender is None else sender.id, source or at(sender and sender.transport))

    def report(self, now: float, error: ClusterError) -> list[ClusterError]:
        """Return the error, or nothing if the same source had one a short while ago."""
        key = error.source, error.cluster
        if 0 <= now - self._reported.get(key, -_REPORT_EVERY) < _REPORT_EVERY:
            return []
        self._reported[key] = now
        self._reported.move_to_end(key)
        if len(self._reported) > _SOURCES:
            self._reported.popitem(last=False)
        return [error]
