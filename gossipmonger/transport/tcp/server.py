"""The listening socket: it binds, accepts on a thread of its own, and hands over what it accepts."""

from __future__ import annotations

import errno
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gossipmonger.errors import report
from gossipmonger.process import Latch, here, join, own
from gossipmonger.transport.address import to_bind

__all__ = ["Server"]

#: Errors that say that the system is out of descriptors or memory. They repeat for as long as somebody wants to connect.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: Seconds to accept nothing then.
_PAUSE = 0.1

#: How many accepted connections may wait for the loop before accepting stops, and seconds until the next check.
_MOST_WAITING, _MOMENT = 64, 0.005

#: Seconds that `close` waits for the thread, and for the connection that wakes it where nothing else does.
_CLOSE_TIMEOUT = 1.0


class _Closing(Exception):
    """Ends `serve_forever`."""


class Server(socketserver.TCPServer):
    """Binds, listens, and accepts on the thread `gossipmonger-tcp-accept`, which is a daemon as all of a transport's are.

    Args:
        host: Where to bind; "" for every address of the machine.
        port: Where to bind; 0 for any free port.
        accepted: Called on that thread with each connection, which does not block, and the other side's address.
        failed: Called on that thread with the errors of accepting.
        waiting: Returns how many connections were handed over and still wait for the loop.

    Raises:
        OSError: The address cannot be bound.
    """

    # On other systems than POSIX this would let two programs share a port.
    allow_reuse_address: bool = os.name == "posix"
    request_queue_size = 512
    address_family: int

    def __init__(
        self,
        host: str,
        port: int,
        accepted: Callable[[socket.socket, Any], object],
        failed: Callable[[Exception], None],
        waiting: Callable[[], int] = int,
    ) -> None:
        self._accepted = accepted
        self._failed = failed
        self._waiting = waiting
        self._closing = Latch()
        # A daemon: a program that ends need not wait for gossip.
        self._thread = threading.Thread(target=self._serve, name="gossipmonger-tcp-accept", daemon=True)
        everywhere = host in ("", "::") and socket.has_dualstack_ipv6()
        found = to_bind(host, port, everywhere)
        for index, (family, _, _, _, address) in enumerate(found):
            self.address_family = family
            try:
                own(partial(self._make, address))
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

    def _make(self, address: Any) -> socket.socket:
        super().__init__(address, socketserver.BaseRequestHandler, bind_and_activate=False)
        return self.socket

    def start(self) -> None:
        """Start to accept.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        self._thread.start()

    def _serve(self) -> None:
        here().own = True
        while not self._closing.is_set():
            try:
                self.serve_forever(poll_interval=None)  # type: ignore[arg-type]  # for ever: `close` wakes it
            except _Closing:
                return
            except BaseException as error:  # nothing ends the thread
                report(error)
                self._closing.wait(_PAUSE)

    def service_actions(self) -> None:
        """End the thread if this is being closed."""
        here().settle()
        if self._closing.is_set():
            raise _Closing

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; `TCPServer` takes OSError for none."""
        try:
            connected = own(self._accept)
            connected.setblocking(False)
        except OSError as error:
            if not self._closing.is_set() and not isinstance(error, BlockingIOError):
                self._failed(error)
                if error.errno in _EXHAUSTED:
                    self._closing.wait(_PAUSE)
            raise
        return connected, self._address

    def _accept(self) -> socket.socket:
        connected, self._address = self.socket.accept()
        return connected

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection over. While too many wait for the loop, stop accepting: the system queues the rest."""
        self._accepted(request, client_address)
        while self._waiting() >= _MOST_WAITING and not self._closing.wait(_MOMENT):
            pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what `process_request` raised; `TCPServer` would print it."""
        error = sys.exc_info()[1]
        if error is not None:
            report(error)

    def close(self) -> None:
        """Accept no more, free the port, and end the thread, unless it is the calling one."""
        self._closing.set()
        # This wakes the thread. On Linux it frees the port too, even if a child that C code forked has a copy of the socket.
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._wake()
        join(self._thread, _CLOSE_TIMEOUT)
        self.server_close()

    def _wake(self) -> None:
        """Wake the thread by a connection, on systems where `shutdown` does not do it."""
        host, port = self.server_address[:2]
        with suppress(OSError):
            socket.create_connection((str(host or "localhost"), port), _CLOSE_TIMEOUT).close()
