"""The listening socket of TCP."""

from __future__ import annotations

import errno
import os
import socket
import socketserver

from gossipmonger.transport.tcp.connection import Connection

__all__ = ["Server"]


class Server(socketserver.TCPServer):
    """Binds and listens; `Loop.accept_from` takes the connections.

    Args:
        host: Where to bind; "" for every address of the machine.
        port: Where to bind; 0 for any free port.

    Raises:
        OSError: The address cannot be bound.
    """

    # On other systems than POSIX this would let two programs share a port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 512

    def __init__(self, host: str, port: int) -> None:
        everywhere = not host
        if everywhere:
            host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for index, (family, _, _, _, address) in enumerate(found):
            self.address_family = family
            try:
                super().__init__(address, socketserver.BaseRequestHandler, bind_and_activate=False)  # type: ignore[arg-type]
                if family == socket.AF_INET6:
                    self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not everywhere)
                self.server_bind()
                self.server_activate()
                self.socket.setblocking(False)
                return
            except OSError as error:
                if hasattr(self, "socket"):
                    self.socket.close()
                # A name may have addresses of other machines, which are skipped; a port in use is an error at once.
                if error.errno == errno.EADDRINUSE or index == len(found) - 1:
                    raise OSError(error.errno, f"can't listen at {host}:{port}: {error.strerror}") from error

    def accept(self) -> Connection:
        """Return the next connection: see `Acceptor.accept`."""
        return Connection(*self.socket.accept())
