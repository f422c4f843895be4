"""The sending half of TCP: a few threads, and peers that do not answer in each other's way only.

Messages wait by destination. A destination that has some waiting takes its turn in a pool: one thread sends one of its
messages, waits a moment for the answer, then it queues again behind the others. One whose last message failed takes its turns
in a pool of its own, of two threads, until one arrives. So a node that is gone costs a sender its timeout once.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gossipmonger.errors import SendError, report
from gossipmonger.peer import RemotePeer
from gossipmonger.transport.connection import Connection, wait_for
from gossipmonger.transport.pool import Pool

__all__ = ["Senders"]

#: Messages that may wait for one destination. Gossip says the news of a lost one again.
_MAX_WAITING = 64

#: Destinations that are remembered as failing, while they have nothing to send.
_MAX_FAILING = 10_000


class _Waiting(NamedTuple):
    remote_peer: RemotePeer
    kind: str
    encode: Callable[[], Iterable[bytes]]


class Senders:
    """Sends messages to many destinations at once.

    Args:
        threads: How many send to those that answer.
        connect_timeout: Milliseconds for each address of a name.
        send_timeout: Milliseconds for one message.
        failed: Called on a sender with a `SendError`, or with what encoding raised.
        hear: Called on a sender with the connection when all is sent, to take the answer, or to hand the connection on to who
            does. It has to see to its end.
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
        self._connect_timeout = connect_timeout / 1000
        self._send_timeout = send_timeout / 1000
        self._report = failed
        self._hear = hear
        self._queues: dict[tuple[str, int], deque[_Waiting]] = {}  # a destination with an empty one is being served
        self._failing: dict[tuple[str, int], None] = {}  # an ordered set
        self._sockets: set[socket.socket] = set()
        self._closed = False
        self._senders_lock = threading.Lock()  # guards the four above
        self._answering: Pool[tuple[str, int]] = Pool("gossipmonger-sender", threads, self._serve)
        self._silent: Pool[tuple[str, int]] = Pool("gossipmonger-sender-retry", 2, self._serve)

    def send(self, remote_peer: RemotePeer, kind: str, encode: Callable[[], Iterable[bytes]]) -> None:
        """Queue what `encode` makes, on a sender, for a peer with `host` and `port`. A digest replaces one that waits."""
        destination = (remote_peer.transport["host"], int(remote_peer.transport["port"]))
        waiting = _Waiting(remote_peer, kind, encode)
        dropped = None
        with self._senders_lock:
            if self._closed:
                return
            queue = self._queues.get(destination)
            if queue is None:
                self._queues[destination] = deque([waiting])
                self._take_turn(destination)
                return
            if kind == "digest":
                for other in [other for other in queue if other.kind == "digest"]:
                    queue.remove(other)
            if len(queue) == _MAX_WAITING:
                dropped = queue.popleft()
            queue.append(waiting)
        if dropped is not None:
            self._report(SendError(f"{_name(remote_peer)} takes messages slower than they come: one dropped", remote_peer))

    def _take_turn(self, destination: tuple[str, int]) -> None:
        try:
            (self._silent if destination in self._failing else self._answering).put(destination)
        except RuntimeError:  # no thread can be started; the next message is to try again, not to wait behind these
            del self._queues[destination]
            raise

    def _serve(self, destination: tuple[str, int]) -> tuple[str, int] | None:
        """Send the message that has waited for longest; return the destination if more wait for this pool's threads."""
        with self._senders_lock:
            if self._closed:
                return None
            failed = destination in self._failing
            waiting = self._queues[destination].popleft()
        arrived = False
        try:
            for message in waiting.encode():
                self._deliver(destination, message)
            arrived = True
        except OSError as error:
            refusal = SendError(f"can't send to {_name(waiting.remote_peer)}: {error}", waiting.remote_peer)
            refusal.__cause__ = error
            self._report(refusal)
        except Exception as error:
            arrived = True  # it is the message that is wrong, not the peer
            self._report(error)
        except BaseException as error:  # SystemExit out of a listener, say: what waits is to be sent all the same
            arrived = True
            report(error)
        with self._senders_lock:
            self._failing.pop(destination, None)
            if not arrived:
                self._failing[destination] = None
                if len(self._failing) > _MAX_FAILING:
                    del self._failing[next(iter(self._failing))]
            if not self._queues[destination]:
                del self._queues[destination]
            elif failed != arrived:
                return destination
            else:
                self._take_turn(destination)
        return None

    def _deliver(self, destination: tuple[str, int], message: bytes) -> None:
        connection = self._connect(*destination)
        try:
            if not connection.write(message):
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
        """Connect to the first address that answers."""
        last: OSError = OSError(f"{host} has no address")
        for family, address in _addresses(host, port):
            try:
                connecting = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # this machine does not speak IPv6; the next address may be another's
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
        with self._senders_lock:  # a shutdown does nothing before the connect has begun, so close must not come between
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

    def close(self, patience: float = 1_000) -> None:
        """Give messages to answering peers up to `patience` milliseconds, then cut everything short and end the threads.

        On a sender's own thread there is no waiting.
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
    """Return families and addresses of a host. Names are resolved anew each time, since they may move."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, (host, port))]  # the resolver would say the same, for as much as all else of a connect costs
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # not even the resolver could be asked
        raise OSError(f"{host!r} is no name of a host: {error}") from error
    return [(family, address) for family, _, _, _, address in found]


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)  # unlike close, it wakes the thread that waits on it
    except OSError:
        pass  # not connected, or no longer


def _name(remote_peer: RemotePeer) -> str:
    at: Any = remote_peer.transport
    return f"peer {remote_peer.id!r} at {at['host']}:{at['port']}"
