"""The receiving half of TCP: a `socketserver` whose slow connections cost no thread.

A connection belongs to one thread at a time. The acceptor hands it to the pool; a reader takes what has arrived, and waits
a moment for the rest, since the FIN is nearly always right behind. A connection that is slower goes back to the acceptor,
which watches it in its selector, next to the listening socket, until there is more to read or its time is up. So a few
readers serve any number of connections, and a peer that opens one and falls silent holds up nobody.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from gossipmonger.errors import MessageError
from gossipmonger.transport.pool import Pool

__all__ = ["Server"]

#: Seconds that a reader gives a connection before it gives it back. Loopback takes microseconds, a LAN some hundred.
_PATIENCE = 0.02

#: Seconds without a look for new connections where there is no descriptor for them, and nobody to take one from.
_PAUSE = 0.1

#: What the system says when it is out of descriptors or memory, and goes on to say as long as somebody wants to connect.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: Bytes per read.
_CHUNK = 1 << 18


class _Connection:
    __slots__ = ("data", "deadline", "socket", "source")

    def __init__(self, connection: socket.socket, source: str, deadline: float) -> None:
        self.socket = connection
        self.source = source
        self.deadline = deadline
        self.data = bytearray()


class Server(socketserver.TCPServer):
    """Accepts connections and hands on each one's bytes.

    Args:
        host: Where to bind; "" for every address of the machine.
        port: Where to bind; 0 for any free port.
        received: Called on a reader with a whole message's bytes and the address that it came from.
        failed: Called on any thread with what went wrong with a connection.
        readers: Size of the pool.
        max_connections: Beyond it, the connection that has been slow for longest is closed.
        max_message_size: Bytes.
        receive_timeout: Milliseconds from accept to FIN.

    Raises:
        OSError: It can't be bound.
    """

    # Elsewhere than on POSIX this lets two programs share a port.
    allow_reuse_address = os.name == "posix"
    request_queue_size = 512

    def __init__(
        self,
        host: str,
        port: int,
        received: Callable[[bytearray, str], None],
        failed: Callable[[Exception], None],
        *,
        readers: int,
        max_connections: int,
        max_message_size: int,
        receive_timeout: float,
    ) -> None:
        self._received = received
        self._failed = failed
        self._max_connections = max_connections
        self._max_message_size = max_message_size
        self._receive_timeout = receive_timeout / 1000
        self._bind(host, port)
        self._selector = selectors.DefaultSelector()
        self._waker, self._wakeup = socket.socketpair()
        self._waker.setblocking(False)
        self._wakeup.setblocking(False)
        self._selector.register(self.socket, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._parked: dict[socket.socket, _Connection] = {}  # the acceptor's own
        self._returned: deque[_Connection] = deque()  # from readers to the acceptor
        self._open = 0  # connections that are not closed yet
        self._open_lock = threading.Lock()  # guards _open
        self._stopping = False
        self._pool: Pool[_Connection] = Pool("gossipmonger-tcp-reader", readers, self._read)
        self._thread = threading.Thread(target=self.serve_forever, name="gossipmonger-tcp", daemon=True)

    def _bind(self, host: str, port: int) -> None:
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
                # A name may have an address that this machine does not; a port in use is in use.
                if error.errno == errno.EADDRINUSE or index == len(found) - 1:
                    raise OSError(error.errno, f"can't listen at {host}:{port}: {error.strerror}") from error

    def start(self) -> None:
        """Start to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, close every connection, end the threads, except for the calling one. Safe to call again."""
        self._stopping = True
        self._wake()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        left = self._pool.close()
        self._pool.wait_closed(1_000)
        for connection in (*left, *self._returned):
            self._close(connection)
        self._returned.clear()

    # On the acceptor's thread

    def serve_forever(self, poll_interval: float = 1.0) -> None:
        """Accept, and watch the slow, until `stop`. `poll_interval` is in seconds, as `socketserver` has it."""
        try:
            while not self._stopping:
                ready = self._selector.select(self._until_deadline(poll_interval))
                for key, _ in ready:
                    if key.fileobj is self.socket:
                        self._accept()
                    elif key.fileobj is self._wakeup:
                        self._take_back()
                    else:
                        self._resume(key.data)
                self._expire()
        finally:
            self._selector.close()
            self.server_close()
            for connection in self._parked.values():
                self._close(connection)
            self._wakeup.close()
            self._waker.close()

    def _until_deadline(self, limit: float) -> float:
        first = self._slowest()
        return limit if first is None else min(limit, max(0.0, first.deadline - monotonic()))

    def _accept(self) -> None:
        for _ in range(64):  # then the others have their turn
            try:
                accepted, address = self.get_request()
            except BlockingIOError:
                return
            except OSError as error:  # out of descriptors, or the peer was gone already
                self._failed(error)
                if error.errno in _EXHAUSTED and not self._evict():
                    self._pause()
                return
            self.process_request(accepted, address)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a new connection to the pool."""
        with self._open_lock:
            self._open += 1
            crowded = self._open > self._max_connections
        host, port = client_address[0].removeprefix("::ffff:"), client_address[1]
        source = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        connection = _Connection(request, source, monotonic() + self._receive_timeout)
        if crowded and not self._evict():
            self._close(connection)  # the readers are behind with all that is open
            self._failed(MessageError(f"there are {self._max_connections} connections already", source))
        else:
            self._hand_over(connection)

    def _pause(self) -> None:
        # Nothing is parked, so there is nothing to watch but the wakeup.
        self._wakeup.settimeout(_PAUSE)
        try:
            self._wakeup.recv(1)
        except TimeoutError:
            pass
        self._wakeup.setblocking(False)
        self._take_back()

    def _take_back(self) -> None:
        try:
            while self._wakeup.recv(4096):
                pass
        except BlockingIOError:
            pass
        while self._returned:
            connection = self._returned.popleft()
            self._parked[connection.socket] = connection
            self._selector.register(connection.socket, selectors.EVENT_READ, connection.socket)

    def _resume(self, parked: socket.socket) -> None:
        connection = self._parked.pop(parked, None)
        if connection is not None:  # it may have been evicted since it was seen to be readable
            self._selector.unregister(parked)
            self._hand_over(connection)

    def _hand_over(self, connection: _Connection) -> None:
        try:
            taken = self._pool.put(connection)
        except RuntimeError as error:  # no thread can be started
            self._close(connection)
            self._failed(MessageError(str(error), connection.source))
        else:
            if not taken:
                self._close(connection)

    def _expire(self) -> None:
        now = monotonic()
        for connection in [parked for parked in self._parked.values() if parked.deadline <= now]:
            self._refuse(connection, f"not all there after {self._receive_timeout * 1000:g} ms")

    def _slowest(self) -> _Connection | None:
        return min(self._parked.values(), key=lambda connection: connection.deadline, default=None)

    def _evict(self) -> bool:
        slowest = self._slowest()
        if slowest is not None:
            self._refuse(slowest, f"slower than {self._max_connections} others")
        return slowest is not None

    def _refuse(self, connection: _Connection, reason: str) -> None:
        self._selector.unregister(connection.socket)
        del self._parked[connection.socket]
        self._close(connection)
        self._failed(MessageError(reason, connection.source))

    # On a reader

    def _read(self, connection: _Connection) -> None:
        done = True  # also when anything is raised, SystemExit out of a listener, say: or the message would come again
        try:
            done = self._receive(connection)
        except OSError as error:
            if connection.data:
                self._failed(MessageError(f"cut off: {error}", connection.source))
        finally:
            if done or self._stopping:
                self._close(connection)
            else:
                self._returned.append(connection)
                self._wake()

    def _receive(self, connection: _Connection) -> bool:
        """Read what there is; return whether the connection is done with."""
        now = monotonic()
        turn_ends = now + _PATIENCE  # however often a little more comes
        while now < turn_ends and not self._stopping:
            if now > connection.deadline:
                self._failed(MessageError(f"not all there after {self._receive_timeout * 1000:g} ms", connection.source))
                return True
            connection.socket.settimeout(turn_ends - now)
            try:
                chunk = connection.socket.recv(_CHUNK)
            except TimeoutError:
                return False
            if not chunk:
                if connection.data:  # who only looks whether the port is open sends nothing, and is no error
                    self._received(connection.data, connection.source)
                return True
            connection.data += chunk
            if len(connection.data) > self._max_message_size:
                self._failed(MessageError(f"more than {self._max_message_size} bytes", connection.source))
                return True
            now = monotonic()
        return False

    def _close(self, connection: _Connection) -> None:
        connection.socket.close()
        with self._open_lock:
            self._open -= 1

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # full, so the acceptor is about to look; or closed, so it has gone
