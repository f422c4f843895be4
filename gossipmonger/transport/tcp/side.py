"""This side of all TCP connections: how it names itself, what it accepts, and where its errors go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from gossipmonger.errors import ClusterError
from gossipmonger.state import Clusters, RemotePeer
from gossipmonger.transport.loop import Loop
from gossipmonger.transport.tcp.handshake import Notices
from gossipmonger.transport.tcp.links import Links
from gossipmonger.wire import Greeter

if TYPE_CHECKING:
    from gossipmonger.transport.tcp.tls import Tls

__all__ = ["Side"]


@dataclass(frozen=True)
class Side:
    """What dialling and accepting have in common.

    Attributes:
        loop: Watches the connections.
        links: Takes those that become links, and counts what goes over the others too.
        failed: Called on any thread with an error.
        named: Returns how this node names itself; None if nobody has said so.
        life: Returns what tells this process from all others.
        clusters: Says which cluster this node belongs to.
        greeter: Makes what greets the other side of a link that is dialled from here (True) or from there.
        tls: What links begin with; None for nothing.
        notices: Reports failures of TLS.
        max_message_size: Bytes.
    """

    loop: Loop
    links: Links
    failed: Callable[[Exception], None]
    named: Callable[[], RemotePeer | None]
    life: Callable[[], str]
    clusters: Clusters
    greeter: Callable[[bool], Greeter]
    tls: Tls | None
    notices: Notices
    max_message_size: int

    def hello(self, greeter: Greeter, named: RemotePeer | None, *you: str) -> bytes:
        """Return this side's `HELLO` under a name. `you` is the source address of an accepted connection, to be told to it."""
        return greeter.hello(named, self.life(), self.clusters.name, *you)

    def refuse(self, error: ClusterError) -> None:
        """Report a node of another cluster, at a limited rate."""
        for each in self.clusters.report(monotonic() * 1000, error):
            self.failed(each)
