"""What the parts of the protocol work with. The reasons for the defaults of the numbers stand with the options."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from gossipmonger.state import Peer, RemotePeer

__all__ = ["Config", "Node"]


@dataclass(frozen=True)
class Config:
    """The numbers that the protocol goes by, named and explained as in `gossipmonger.Options`. Times are in milliseconds.

    `max_deltas_per_gossip` and `max_exchanges_per_gossip` are None where nothing but the size of a message bounds them.
    """

    dead_peer_phi: float
    gossip_interval: float
    max_deltas_per_gossip: int | None
    minimum_live_peers: int
    gossip_fanout: int
    rumor_fanout: int
    rumor_interval: float
    rumor_rate: float
    max_exchanges_per_gossip: int | None
    forget_dead_peers_after: float
    delta_order: str
    flow_control: bool
    max_peers: int
    max_keys_per_peer: int
    max_years_ahead: float
    seeds: tuple[RemotePeer, ...] = ()
    cluster: str | None = None
    observer: bool = False


class Node(NamedTuple):
    """What all parts of one node's protocol share.

    Attributes:
        local: The node's own peer.
        storage: Where all peers are kept.
        config: The numbers to go by.
        random: Its `random()` is the only source of chance.
    """

    local: Peer
    storage: Any
    config: Config
    random: Random
