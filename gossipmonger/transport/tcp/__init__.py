"""TCP: one message per connection, as the Node.js package sends and reads them."""

from gossipmonger.transport.tcp.transport import TcpTransport

__all__ = ["TcpTransport"]
