"""One participant: its values, its log of writes, its arrival window; and the plain data that rooms hand to each other."""

from gossipmonger.state.bound import MAX_VERSION, Bound
from gossipmonger.state.clusters import Clusters
from gossipmonger.state.compact import CompactDigest
from gossipmonger.state.flow import Flow
from gossipmonger.state.log import Log
from gossipmonger.state.message import Compact, Delta, Digest, Entry, ExtendedPeer, Header, Kind, Message, RemotePeer, own_index
from gossipmonger.state.peer import Peer
from gossipmonger.state.phi import PhiAccrual
from gossipmonger.state.throttle import Throttle

__all__ = [
    "MAX_VERSION", "Bound", "Clusters", "Compact", "CompactDigest", "Delta", "Digest", "Entry", "ExtendedPeer", "Flow",
    "Header", "Kind", "Log", "Message", "Peer", "PhiAccrual", "RemotePeer", "Throttle", "own_index",
]  # fmt: skip
