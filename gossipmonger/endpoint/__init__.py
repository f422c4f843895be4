"""The endpoint room: the object that programs use, and what connects it to threads, timers and handlers.

`Gossipmonger` joins a storage, the protocol and a transport. `Options` and `PeerInfo` check what it is told, `Timer` calls its
rounds, `Dispatcher` calls its handlers, and `PeerView` is what it shows of a peer.
"""

from gossipmonger.endpoint.clock import monotonic_clock
from gossipmonger.endpoint.gossipmonger import Gossipmonger
from gossipmonger.endpoint.options import Options, OptionsDict
from gossipmonger.endpoint.views import PeerView

__all__ = ["Gossipmonger", "Options", "OptionsDict", "PeerView", "monotonic_clock"]
