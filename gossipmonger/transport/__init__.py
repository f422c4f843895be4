"""How messages get from one node to another."""

from gossipmonger.transport.base import Transport
from gossipmonger.transport.tcp import TcpTransport
from gossipmonger.transport.udp import UdpTransport

__all__ = ["TcpTransport", "Transport", "UdpTransport"]
