"""The sending half of TCP: a few threads, so that peers that do not answer delay only each other.

Messages wait in one queue for each destination. A destination with a queue takes its turn in a pool: a thread sends one of its
messages, waits a moment for the answer, and puts the destination behind the others. A destination whose last message failed
takes its turns in a pool of its own, of two threads, until a message arrives. So a node that is gone costs a sender its timeout
once.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gossipmonger.errors import SendError, report
from gossipmonger.state.message import RemotePeer
from gossipmonger.transport.tcp.connection import Connection, wait_for
from gossipmonger.transport.tcp.pool import Pool

__all__ = ["Senders"]

#: Messages that may wait for one destination. Gossip repeats the news of a lost one.
_MAX_WAITING = 64

#: Idle destinations that are remembered as failing.
_MAX_FAILING = 10_000


class _Waiting(NamedTuple):
    remote_peer: RemotePeer
    parts: Iterable[bytes]
    replaceable: bool


class Senders:
    """Sends messages to many destinations at once.

    Args:
        threads: How many send to destinations that answer.
        connect_timeout: Seconds for each address of a name.
        send_timeout: Seconds for one message.
        failed: Called on a sender's thread with a `SendError`.
        hear: Called on a sender's thread with the connection once everything is sent. It takes the answer, or hands the
            connection to what does, and must see to it that the connection is closed.
    """

    def __init__(
        self,
        *,
        threads: int,
        connect_timeout: float,
        send_timeout: float,
        failed: Callable[[Exception], None],
        hear: Callable[[Connection], None],
    ) -> None:
        self._connect_timeout = connect_timeout
        self._send_timeout = send_timeout
        self._report = failed
        self._hear = hear
        self._queues: dict[tuple[str, int], deque[_Waiting]] = {}  # an empty one is being served
        self._failing: dict[tuple[str, int], None] = {}  # an ordered set
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self._senders_lock = threading.Lock()  # guards the four above
        self._answering: Pool[tuple[str, int]] = Pool("gossipmonger-sender", threads, self._serve)
        self._silent: Pool[tuple[str, int]] = Pool("gossipmonger-sender-retry", 2, self._serve)

    def send(self, remote_peer: RemotePeer, parts: Iterable[bytes], replaceable: bool = False) -> None:
        """Queue a message for a peer.

        Args:
            remote_peer: Its `transport` has `host` and `port`.
            parts: The message's bytes, in as many parts as it had to be split into. Each goes on its own connection.
            replaceable: Whether it takes the place of replaceable messages that wait, and later ones take its.

        Raises:
            RuntimeError: The system cannot start a thread to send it.
        """
        destination = (remote_peer.transport["host"], int(remote_peer.transport["port"]))
        waiting = _Waiting(remote_peer, parts, replaceable)
        dropped = None
        with self._senders_lock:
            if self._closed:
                return
            queue = self._queues.get(destination)
            if queue is None:
                self._queues[destination] = deque([waiting])
                self._take_turn(destination)
                return
            if replaceable:
                for other in [other for other in queue if other.replaceable]:
                    queue.remove(other)
            if len(queue) == _MAX_WAITING:
                dropped = queue.popleft()
            queue.append(waiting)
        if dropped is not None:
            self._report(SendError(f"{_name(remote_peer)} takes messages slower than they come: one dropped", remote_peer))

    def _take_turn(self, destination: tuple[str, int]) -> None:
        """Put a destination into its pool. This requires holding `_senders_lock`."""
        assert self._senders_lock.locked()
        try:
            (self._silent if destination in self._failing else self._answering).put(destination)
        except RuntimeError:  # the system cannot start a thread; the next message tries again, instead of waiting behind these
            del self._queues[destination]
            raise

    def _serve(self, destination: tuple[str, int]) -> tuple[str, int] | None:
        """Send the oldest message to a destination; return the destination if it is to have another turn in this pool."""
        with self._senders_lock:
            if self._closed:
                return None
            failed = destination in self._failing
            waiting = self._queues[destination].popleft()
        arrived = True
        try:
            try:
                for part in waiting.parts:
                    self._deliver(destination, part)
            except OSError as error:
                arrived = False
                refusal = SendError(f"can't send to {_name(waiting.remote_peer)}: {error}", waiting.remote_peer)
                refusal.__cause__ = error
                self._report(refusal)
        except BaseException as error:  # from a listener, even SystemExit: what waits is to be sent all the same
            report(error)
        with self._senders_lock:
            self._remember(destination, arrived)
            if not self._queues[destination]:
                del self._queues[destination]
            elif failed != arrived:
                return destination
            else:
                self._take_turn(destination)
        return None

    def _remember(self, destination: tuple[str, int], arrived: bool) -> None:
        """Remember whether a destination fails. This requires holding `_senders_lock`."""
        assert self._senders_lock.locked()
        self._failing.pop(destination, None)
        if not arrived:
            self._failing[destination] = None
            if len(self._failing) > _MAX_FAILING:
                del self._failing[next(iter(self._failing))]

    def _deliver(self, destination: tuple[str, int], data: bytes) -> None:
        connection = self._connect(*destination)
        try:
            if not connection.write(data):
                connection.socket.settimeout(self._send_timeout)
                connection.socket.sendall(connection.outgoing)
                connection.outgoing = b""
                connection.socket.setblocking(False)
            connection.socket.shutdown(socket.SHUT_WR)
        except BaseException:
            self._forget(connection.socket)
            raise
        try:
            self._hear(connection)
        finally:
            with self._senders_lock:
                self._sockets.discard(connection.socket)

    def _connect(self, host: str, port: int) -> Connection:
        """Connect to the first address of a host that answers."""
        last: OSError = OSError(f"{host} has no address")
        for family, address in _addresses(host, port):
            try:
                connecting = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # this machine has no IPv6, say; the next address may be of another family
                last = error
                continue
            try:
                self._reach(connecting, address)
                return Connection(connecting, address, dialled=True)
            except OSError as error:
                last = error
                self._forget(connecting)
        raise last

    def _reach(self, connecting: socket.socket, address: Any) -> None:
        connecting.setblocking(False)
        with self._senders_lock:  # close() must not come between: a shutdown before the connect begins does nothing
            if self._closed:
                raise OSError("closed")
            self._sockets.add(connecting)
            try:
                connecting.connect(address)
                return
            except BlockingIOError:
                pass  # it is on its way
        if not wait_for(connecting, writing=True, seconds=self._connect_timeout):
            raise TimeoutError("timed out")
        error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))

    def _forget(self, connecting: socket.socket) -> None:
        with self._senders_lock:
            self._sockets.discard(connecting)
            connecting.close()

    def close(self, patience: float = 1) -> None:
        """Give messages to answering peers up to `patience` seconds, then cut everything short and end the threads.

        Called on a sender's own thread, it does not wait.
        """
        self._answering.join(patience)
        with self._senders_lock:
            self._closed = True
            for connection in self._sockets:
                _shut(connection)
        for pool in (self._answering, self._silent):
            pool.close()
        for pool in (self._answering, self._silent):
            pool.wait_closed(patience)


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Return the families and addresses of a host. Names are resolved each time, since they may move."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, (host, port))]  # the resolver would say the same and take as long as the rest of a connect
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # not even a question to the resolver
        raise OSError(f"{host!r} cannot be the name of a host: {error}") from error
    return [(family, address) for family, _, _, _, address in found]


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)  # unlike close(), this wakes the thread that waits for it
    except OSError:
        pass  # not connected, or no longer


def _name(remote_peer: RemotePeer) -> str:
    at: Any = remote_peer.transport
    return f"peer {remote_peer.id!r} at {at['host']}:{at['port']}"
