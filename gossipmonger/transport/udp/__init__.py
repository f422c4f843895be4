"""UDP: datagrams where they do, and TCP on the same port for everything else."""

from gossipmonger.transport.udp.transport import UdpTransport

__all__ = ["UdpTransport"]
