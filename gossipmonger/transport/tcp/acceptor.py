"""The accepting half of TCP: what comes on connections that others dial.

A connection either begins with a `HELLO`, and is a link from then on, or carries one message and ends by FIN, as a Node.js node
sends it. There is a bound on how many are open, and a deadline for each to show what it is: slow and silent peers cost a
descriptor, for so long.
"""

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
from time import monotonic
from typing import Any

from gossipmonger.errors import MessageError, report
from gossipmonger.process import Latch, here, join, own
from gossipmonger.state import Clusters, RemotePeer
from gossipmonger.transport.address import to_bind
from gossipmonger.transport.loop import READ, Handle, Loop
from gossipmonger.transport.tcp.keepalive import keep_alive
from gossipmonger.transport.tcp.links import CHUNK, READS_PER_TURN, Link, Links, source_of
from gossipmonger.wire import begins_link, hello, read_hello

__all__ = ["Acceptor", "Server"]

#: Errors that say that the system is out of descriptors or memory. They repeat for as long as somebody wants to connect.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: Seconds to accept nothing then.
_PAUSE = 0.1

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

    Raises:
        OSError: The address cannot be bound.
    """

    # On other systems than POSIX this would let two programs share a port.
    allow_reuse_address: bool = os.name == "posix"
    request_queue_size = 512
    address_family: int

    def __init__(
        self, host: str, port: int, accepted: Callable[[socket.socket, Any], object], failed: Callable[[Exception], None]
    ) -> None:
        self._accepted = accepted
        self._failed = failed
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
        """Hand a connection over."""
        self._accepted(request, client_address)

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


class _Incoming:
    """A connection that has not shown what it is, or whose one message is not complete."""

    __slots__ = ("alone", "data", "socket", "source", "timer")

    def __init__(self, connected: socket.socket, source: str) -> None:
        self.socket = connected
        self.source = source
        self.data = bytearray()
        self.alone = False  # whether it carries one message, ended by FIN
        self.timer: Handle | None = None


class Acceptor:
    """Takes connections, all on the loop's thread but for the accept.

    Args:
        loop: Watches the connections.
        links: Takes those that become links.
        received: Called on the loop's thread with the bytes of a message and where it came from.
        failed: Called on any thread with an error.
        greeted: Called on the loop's thread with the sender of each `HELLO`.
        named: Returns how this node names itself, None if nobody has said so.
        life: Returns what tells this process from all others.
        clusters: Says which cluster this node is of.
        max_connections: That may be open at once. Beyond it, the slowest that is no link yet is closed, or else the least
            recently used link is asked to be, an observer's before any other.
        max_message_size: Bytes.
        receive_timeout: Seconds from the accept to a `HELLO` or a FIN.
    """

    def __init__(
        self,
        loop: Loop,
        links: Links,
        received: Callable[[bytes, str], None],
        failed: Callable[[Exception], None],
        greeted: Callable[[RemotePeer], None],
        named: Callable[[], RemotePeer | None],
        life: Callable[[], str],
        clusters: Clusters,
        *,
        max_connections: int,
        max_message_size: int,
        receive_timeout: float,
    ) -> None:
        self._loop = loop
        self._links = links
        self._received = received
        self._failed = failed
        self._greeted = greeted
        self._named = named
        self._life = life
        self._clusters = clusters
        self._max_connections = max_connections
        self._max_message_size = max_message_size
        self._receive_timeout = receive_timeout
        self._handed: set[socket.socket] = set()  # to the loop's thread; adding and discarding are atomic
        self._incoming: dict[_Incoming, None] = {}  # oldest first
        self._by_id: dict[str, Link] = {}  # the links that were accepted, by the other end's id
        self.server: Server | None = None

    def listen(self, host: str, port: int) -> None:
        """Bind and begin to accept.

        Raises:
            OSError: The address cannot be bound.
            RuntimeError: The system cannot start a thread.
        """
        server = Server(host, port, self._accepted, self._failed)
        try:
            self._loop.start()
            server.start()
            self.server = server
        except BaseException:
            server.close()
            raise

    def _accepted(self, connected: socket.socket, address: Any) -> None:
        self._handed.add(connected)
        self._loop.call(partial(self._take, connected, source_of(address)))
        if self._loop.stopped:  # so it may not be taken, and `close` may not have seen it
            self._handed.discard(connected)
            connected.close()

    # On the loop's thread

    def _take(self, connected: socket.socket, source: str) -> None:
        self._handed.discard(connected)
        incoming = _Incoming(connected, source)
        if len(self._incoming) + self._accepted_links() >= self._max_connections and not self._make_room():
            connected.close()
            self._failed(MessageError(f"{self._max_connections} connections are busy", source, "busy"))
            return
        self._incoming[incoming] = None
        try:
            self._loop.watch(connected, READ, partial(self._read, incoming))
        except OSError as error:  # the system's limit on watched sockets
            self._refuse(incoming, str(error), "busy")
            return
        incoming.timer = self._loop.after(self._receive_timeout, partial(self._be_late, incoming))
        incoming.timer.start()
        self._read(incoming)

    def _accepted_links(self) -> int:
        return sum(not link.dialled for link in self._links.open_links)

    def _make_room(self) -> bool:
        """Close the slowest connection, or ask for a link to be closed; return False if all are being closed already."""
        for incoming in self._incoming:
            self._refuse(incoming, f"the slowest of more than {self._max_connections} connections", "busy")
            return True
        links = [link for link in self._links.open_links if not link.dialled and not link.retired]
        if links:
            self._links.retire(min(links, key=lambda link: (link.peer is not None, link.used)))  # observers' first
        return bool(links)

    def _read(self, incoming: _Incoming) -> None:
        for _ in range(READS_PER_TURN):
            try:
                data = incoming.socket.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                if incoming.data:
                    self._failed(MessageError(f"cut off: {error}", incoming.source, "truncated"))
                self._close(incoming)
                return
            if not data:
                self._close(incoming)
                if incoming.data:  # a connection without a byte, as a port scan makes, is not an error
                    self._links.traffic.received.note(None, len(incoming.data))
                    self._received(bytes(incoming.data), incoming.source)
                return
            incoming.data += data
            if len(incoming.data) > self._max_message_size:
                self._refuse(incoming, f"more than {self._max_message_size} bytes", "oversized")
                return
            if not incoming.alone:
                begun = begins_link(incoming.data)
                if begun:
                    self._greet(incoming)
                    return
                incoming.alone = begun is False

    def _greet(self, incoming: _Incoming) -> None:
        """Answer a `HELLO`; the connection is a link from now on."""
        line, _, rest = incoming.data.partition(b"\n")
        try:
            greeting = read_hello(line, incoming.source)
        except MessageError as error:
            self._close(incoming)
            self._failed(error)
            return
        named, life = self._named(), self._life()
        answer = hello(named, life, self._clusters.name, incoming.source)
        self._links.traffic.received.greet(len(line) + 1)
        self._links.traffic.sent.greet()
        foreign = greeting.cluster != self._clusters.name
        if foreign or greeting.life == life:  # or it is the dialling half of this node, which is about to close
            with suppress(OSError):
                incoming.socket.send(answer)
            self._close(incoming)
            if foreign:
                source = "" if greeting.sender else incoming.source.rpartition(":")[0]  # the port is another each time
                refusal = self._clusters.error(greeting.cluster, greeting.sender, source)
                for each in self._clusters.report(monotonic() * 1000, refusal):
                    self._failed(each)
            return
        self._release(incoming)
        link = Link(
            incoming.socket, incoming.source, dialled=False, named=named, peer=greeting.sender,
            limit=self._max_message_size, cluster=greeting.cluster,
        )  # fmt: skip
        with suppress(OSError):
            incoming.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if greeting.sender is None:  # no later link of its will replace this one, if its host has vanished
                keep_alive(incoming.socket)
        try:
            link.write(answer)
            if greeting.sender is not None:
                self._replace(greeting.sender.id, link)
            self._links.open(link)
        except OSError:
            self._links.end(link)
            return
        if rest:
            self._links.take(link, bytes(rest))

    def _replace(self, id: str, link: Link) -> None:
        """Ask for the link to be closed that a peer dialled before: it may be one of a former life."""
        former, self._by_id[id] = self._by_id.get(id), link
        if former is not None:
            self._links.retire(former)
        if link.peer is not None:
            self._greeted(RemotePeer(*link.peer))

    def forget(self, link: Link) -> None:
        """Note that a link is closed."""
        if link.peer is not None and self._by_id.get(link.peer.id) is link:
            del self._by_id[link.peer.id]

    def _be_late(self, incoming: _Incoming) -> None:
        self._refuse(incoming, f"incomplete after {self._receive_timeout:g} s", "late")

    def _refuse(self, incoming: _Incoming, reason: str, kind: str) -> None:
        self._close(incoming)
        self._failed(MessageError(reason, incoming.source, kind))

    def _close(self, incoming: _Incoming) -> None:
        self._release(incoming)
        incoming.socket.close()

    def _release(self, incoming: _Incoming) -> None:
        self._loop.unwatch(incoming.socket)
        self._incoming.pop(incoming, None)
        if incoming.timer is not None:
            incoming.timer.cancel()

    def stop(self) -> None:
        """Accept no more, and free the port."""
        if self.server is not None:
            self.server.close()

    def close(self) -> None:
        """Close what is no link yet. The loop must not run any more, or this be its thread."""
        for connected in [*self._handed, *(incoming.socket for incoming in self._incoming)]:
            connected.close()
        self._incoming.clear()
