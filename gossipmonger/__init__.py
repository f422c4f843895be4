"""A small shared map of state, kept alive across a fleet of ordinary programs.

Scuttlebutt anti-entropy and a phi accrual failure detector, embedded in plain synchronous Python: no server, no broker, no
event loop.

    from gossipmonger import Gossipmonger

    with Gossipmonger({"id": "a"}, seeds=[{"id": "b", "transport": {"host": "b.example", "port": 9742}}]) as node:
        node.on("update", lambda peer_id, key, value: print(peer_id, key, value))
        node.update("foo", "bar")
        node.wait()
"""

from gossipmonger._version import __version__
from gossipmonger.endpoint import Change, Durations, Gossipmonger, Metrics, Options, OptionsDict, PeerView, Watch
from gossipmonger.errors import (
    ClosedError,
    ClusterError,
    DuplicateError,
    ForkedError,
    GossipmongerError,
    LonelyError,
    MessageError,
    ObserverError,
    OverflowedError,
    ReentrantError,
    SealError,
    SendError,
    TlsError,
)
from gossipmonger.state.message import MAX_TTL, MIN_TTL, RemotePeer
from gossipmonger.state.peer import Peer
from gossipmonger.state.phi import PhiAccrual
from gossipmonger.storage import MemoryStorage, Storage
from gossipmonger.transport import TcpTransport, Transport, UdpTransport
from gossipmonger.wire import Keyring

__all__ = [
    "MAX_TTL",
    "MIN_TTL",
    "Change",
    "ClosedError",
    "ClusterError",
    "DuplicateError",
    "Durations",
    "ForkedError",
    "Gossipmonger",
    "GossipmongerError",
    "Keyring",
    "LonelyError",
    "MemoryStorage",
    "MessageError",
    "Metrics",
    "ObserverError",
    "Options",
    "OptionsDict",
    "OverflowedError",
    "Peer",
    "PeerView",
    "PhiAccrual",
    "ReentrantError",
    "RemotePeer",
    "SealError",
    "SendError",
    "Storage",
    "TcpTransport",
    "TlsError",
    "Transport",
    "UdpTransport",
    "Watch",
    "__version__",
]
