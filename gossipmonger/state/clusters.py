"""Clusters: which messages are of this node's cluster, and the error for one that is not.

Addresses are given away again. When a node has gone and its address belongs to a node of another cluster, the two clusters
would gossip with each other, and become one. With a name each, they refuse each other.
"""

from __future__ import annotations

from collections.abc import Callable

from gossipmonger.errors import ClusterError, at
from gossipmonger.state.message import RemotePeer
from gossipmonger.state.throttle import Throttle

__all__ = ["Clusters"]


class Clusters:
    """This node's cluster, and what was said about others.

    Args:
        name: Returns the name of this node's cluster; None if it has none, which is a cluster of its own among our nodes.
        observer: Returns whether this node is an observer.
    """

    def __init__(self, name: Callable[[], str | None], observer: Callable[[], bool] = lambda: False) -> None:
        self._name = name
        self._observer = observer
        self._reports = Throttle()

    @property
    def name(self) -> str | None:
        """The name of this node's cluster; None if it has none."""
        return self._name()

    @property
    def observer(self) -> bool:
        """Whether this node is an observer."""
        return self._observer()

    @property
    def only_ours(self) -> str:
        """Why this node sends nothing to what answers no `HELLO`, as a Node.js node does not; "" if it does send."""
        if self.name is not None:
            return "it answers no HELLO, as each node of a cluster with a name does"
        return "it answers no HELLO, and a Node.js node would take an observer for a peer" if self.observer else ""

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
        return [error] if self._reports.passes(now, (error.source, error.cluster)) else []
