"""How messages travel from one node to another."""

from gossipmonger.transport.base import DEFAULT_PORT, SeedTransport, Transport, TransportLike
from gossipmonger.transport.simulated import Network, SimulatedTransport
from gossipmonger.transport.tcp import TcpTransport
from gossipmonger.transport.traffic import KINDS, Count, Traffic
from gossipmonger.transport.udp import UdpTransport

__all__ = [
    "DEFAULT_PORT",
    "KINDS",
    "Count",
    "Network",
    "SeedTransport",
    "SimulatedTransport",
    "TcpTransport",
    "Traffic",
    "Transport",
    "TransportLike",
    "UdpTransport",
]
