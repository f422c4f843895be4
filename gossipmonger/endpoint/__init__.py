"""The endpoint room: the object that programs use, and what connects it to threads, timers and handlers.

`Gossipmonger` joins a storage, the protocol and a transport. `Options` and `PeerInfo` check what it is told, `Timer` calls its
rounds, `Dispatcher` calls its handlers, `PeerView` is what it shows of a peer, `Watches` tell what has changed, and `Metrics`
what it has counted.
"""

from gossipmonger.endpoint.clock import monotonic_clock
from gossipmonger.endpoint.gossipmonger import Gossipmonger
from gossipmonger.endpoint.metrics import Durations, Metrics
from gossipmonger.endpoint.mirror import Change
from gossipmonger.endpoint.options import Options, OptionsDict
from gossipmonger.endpoint.views import PeerView
from gossipmonger.endpoint.watch import Watch

__all__ = [
    "Change", "Durations", "Gossipmonger", "Metrics", "Options", "OptionsDict", "PeerView", "Watch", "monotonic_clock",
]  # fmt: skip
