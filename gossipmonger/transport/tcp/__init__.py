"""TCP: links between our nodes, and one message per connection to and from Node.js nodes."""

from gossipmonger.transport.tcp.options import TLS, read_tls
from gossipmonger.transport.tcp.transport import TcpTransport

__all__ = ["TLS", "TcpTransport", "read_tls"]
