"""TCP: links between our nodes, and one message per connection to and from Node.js nodes."""

from gossipmonger.transport.tcp.transport import TcpTransport

__all__ = ["TcpTransport"]
