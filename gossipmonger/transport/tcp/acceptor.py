"""The accepting half of TCP: what comes on connections that others dial.

A connection either begins with a `HELLO`, and is a link from then on, or carries one message and ends by FIN, as a Node.js node
sends it. There is a bound on how many are open, and a deadline for each to show what it is: slow and silent peers cost a
descriptor, for so long.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gossipmonger.errors import MessageError
from gossipmonger.state import RemotePeer
from gossipmonger.transport.address import is_local, is_wildcard
from gossipmonger.transport.loop import READ, Handle
from gossipmonger.transport.tcp.caller import source_of
from gossipmonger.transport.tcp.handshake import Secured, TlsFailure, begins_tls, check_id, shake
from gossipmonger.transport.tcp.link import Link
from gossipmonger.transport.tcp.links import CHUNK, READS_PER_TURN
from gossipmonger.transport.tcp.place import Place
from gossipmonger.transport.tcp.server import Server
from gossipmonger.transport.tcp.side import Side
from gossipmonger.wire import Greeter, hello

__all__ = ["Acceptor", "keep_alive"]

#: Links beyond the limit that may be on their way out; the one that was used least recently is not waited for.
_LEAVING = 32

#: Seconds for the other side of a link to close it on which nothing was said.
_CLOSE_TIMEOUT = 1.0

#: Seconds of silence on an idle connection before its first probe, seconds between probes, and unanswered probes after which
#: the other side's host counts as vanished: two minutes in all.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


@dataclass(eq=False)
class _Incoming:
    """A connection that has not shown what it is, or whose one message is not complete."""

    socket: socket.socket
    source: str
    data: bytearray = field(default_factory=bytearray)
    alone: bool = False  # whether it carries one message, ended by FIN
    timer: Handle | None = None


class Acceptor:
    """Takes connections, all on the loop's thread but for the accept.

    Args:
        side: What all connections share.
        received: Called on the loop's thread with the bytes of a message and where it came from.
        greeted: Called on the loop's thread with the sender and the bytes of each `HELLO`.
        max_connections: That may be open at once. Beyond it, the slowest that is no link yet is closed, or else the least
            recently used link is asked to be, an observer's before any other.
        receive_timeout: Seconds from the accept to a `HELLO` or a FIN.
    """

    def __init__(
        self,
        side: Side,
        received: Callable[[bytes, str], None],
        greeted: Callable[[RemotePeer, int], None],
        *,
        max_connections: int,
        receive_timeout: float,
    ) -> None:
        self._side = side
        self._loop = side.loop
        self._links = side.links
        self._failed = side.failed
        self._received = received
        self._greeted = greeted
        self._max_connections = max_connections
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
        server = Server(host, port, self._accepted, self._failed, self._handed.__len__)
        try:
            self._loop.start()
            server.start()
            self.server = server
        except BaseException:
            server.close()
            raise

    @property
    def bound(self) -> tuple[str, int] | None:
        """The host and port that the socket is bound to, None while it is not."""
        return None if self.server is None else (str(self.server.server_address[0]), self.server.server_address[1])

    def listens_at(self, host: str, port: int) -> bool:
        """Return whether an IP address is one at which connections are accepted."""
        bound = self.bound
        if bound is None or bound[1] != port:
            return False
        return bound[0] == host or (is_wildcard(bound[0]) and is_local(host))

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
        begin: Callable[[], None] = partial(self._read, incoming)
        if self._side.tls is not None:
            try:
                incoming.socket = secured = self._side.tls.accept(connected)
            except Exception as error:  # a lack of memory, say
                self._refuse(incoming, str(error), "busy")
                return
            begin = partial(shake, self._loop, secured, partial(self._shaken, incoming), partial(self._lose, incoming))
        if not self._watch(incoming, begin):
            return
        late = partial(self._refuse, incoming, f"incomplete after {self._receive_timeout:g} s", "late")
        incoming.timer = self._loop.after(self._receive_timeout, late)
        incoming.timer.start()
        begin()

    def _watch(self, incoming: _Incoming, ready: Callable[[], None]) -> bool:
        try:
            self._loop.watch(incoming.socket, READ, ready)
        except OSError as error:  # the system's limit on watched sockets
            self._refuse(incoming, str(error), "busy")
            return False
        return True

    def _shaken(self, incoming: _Incoming) -> None:
        """Go on when hands are shaken. A `HELLO` may have come with the end of the handshake."""
        if self._watch(incoming, partial(self._read, incoming)):
            self._read(incoming)

    def _accepted_links(self) -> int:
        return sum(not link.dialled for link in self._links.open_links)

    def _make_room(self) -> bool:
        """Close the slowest connection, or ask for a link to be closed; return False if all are being closed already."""
        for incoming in self._incoming:
            self._refuse(incoming, f"the slowest of more than {self._max_connections} connections", "busy")
            return True
        links = [link for link in self._links.open_links if not link.dialled]
        staying = [link for link in links if not link.retired]
        if staying:  # first those on which nothing was said, then observers', then the least recently used
            self._links.retire(min(staying, key=lambda link: (link.written > 1, link.peer is not None, link.used)))
        if len(links) >= self._max_connections + _LEAVING:
            self._links.end(min([link for link in links if link.retired], key=lambda link: link.used))
        return bool(staying)

    def _read(self, incoming: _Incoming) -> None:
        for _ in range(READS_PER_TURN):
            try:
                data = incoming.socket.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(incoming, error)
                return
            if not data:
                self._close(incoming)
                if incoming.data:  # a connection without a byte, as a port scan makes, is not an error
                    self._links.traffic.received.note(None, len(incoming.data))
                    self._received(bytes(incoming.data), incoming.source)
                return
            incoming.data += data
            if len(incoming.data) > self._side.max_message_size:
                self._refuse(incoming, f"more than {self._side.max_message_size} bytes", "oversized")
                return
            if not incoming.alone:
                greeter = self._side.greeter(False)
                try:
                    begun = greeter.begun(incoming.data, incoming.source)
                    if begun:
                        self._greet(incoming, greeter)
                        return
                except MessageError as error:
                    self._close(incoming)
                    self._failed(error)
                    return
                incoming.alone = begun is False
                if incoming.alone and isinstance(incoming.socket, Secured):
                    self._refuse(incoming, "it begins without a HELLO, which a connection with TLS must have", "malformed")
                    return
                if incoming.alone and begins_tls(incoming.data):
                    with suppress(OSError):
                        incoming.socket.send(hello(None))  # in the clear, which tells the other side
                    self._lose(incoming, TlsFailure("it begins with TLS, and this node has no tls_server and tls_client"))
                    return

    def _greet(self, incoming: _Incoming, greeter: Greeter) -> None:
        """Answer a `HELLO`; the connection is a link from now on.

        Raises:
            MessageError: The `HELLO` does not open, or is malformed.
        """
        greeting, rest = greeter.read(incoming.data, incoming.source)
        unnamed = check_id(incoming.socket, greeting.sender)
        if unnamed is not None:
            self._lose(incoming, unnamed)
            return
        named, clusters = self._side.named(), self._side.clusters
        answer = self._side.hello(greeter, named, incoming.source)
        size = len(incoming.data) - len(rest)
        self._links.traffic.received.greet(size)
        self._links.traffic.sent.greet()
        foreign = greeting.cluster != clusters.name
        if foreign or greeting.life == self._side.life():  # or it is the dialling half of this node, which is about to close
            with suppress(OSError):
                incoming.socket.send(answer)
            self._close(incoming)
            if foreign:
                source = "" if greeting.sender else incoming.source.rpartition(":")[0]  # the port is another each time
                self._side.refuse(clusters.error(greeting.cluster, greeting.sender, source))
            return
        self._release(incoming)
        link = Link(
            incoming.socket, incoming.source, dialled=False, named=named, peer=greeting.sender,
            limit=self._side.max_message_size, cluster=greeting.cluster, greeter=greeter,
        )  # fmt: skip
        with suppress(OSError):
            incoming.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if greeting.sender is None:  # no later link of its will replace this one, if its host has vanished
                keep_alive(incoming.socket)
        try:
            link.write(answer, sealed=True)
            if link.sealed:  # its `HELLO` may be a recording, after which nothing can come that opens
                link.begun = partial(self._replace, link, size)
            else:
                self._replace(link, size)
            self._links.open(link)
        except OSError:
            self._links.end(link)
            return
        self._loop.after(self._receive_timeout, partial(self._expect, link, link.used)).start()
        if rest:
            self._links.take(link, rest)

    def _expect(self, link: Link, opened: float) -> None:
        """Close a link on which nothing has followed the `HELLO`: who dials has something to say."""
        if link.used == opened:
            self._links.retire(link)
            self._loop.after(_CLOSE_TIMEOUT, partial(self._links.end, link)).start()

    def _replace(self, link: Link, size: int) -> None:
        """Ask for the link to be closed that its peer dialled before: it may be one of a former life."""
        remote = link.remote
        if remote is None:
            return
        former, self._by_id[remote.id] = self._by_id.get(remote.id), link
        if former is not None:
            self._links.retire(former)
        self._greeted(remote, size)

    def heard(self, place: Place) -> str:
        """Return the source of the link that a place's peer has used since the place was last sent a `HELLO`; "" for none."""
        link = self._by_id.get(place.peer.id)
        return link.source if link and link.peer == place.peer and link.used > place.asked else ""

    def forget(self, link: Link) -> None:
        """Note that a link is closed."""
        if link.peer is not None and self._by_id.get(link.peer.id) is link:
            del self._by_id[link.peer.id]

    def _lose(self, incoming: _Incoming, error: OSError) -> None:
        """Close a connection that is broken. One on which nothing has come, as a port scan makes, is no error."""
        touched = incoming.socket.touched if isinstance(incoming.socket, Secured) else bool(incoming.data)
        self._close(incoming)
        if not touched:
            return
        if isinstance(error, TlsFailure):
            self._side.notices.tell(incoming.source, error, dialled=False)
        else:
            self._failed(MessageError(f"cut off: {error}", incoming.source, "truncated"))

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


def keep_alive(connected: socket.socket) -> None:
    """Have the system end a connection once its other end has stopped answering.

    Raises:
        OSError: The system does not support it.
    """
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # elsewhere the system's own times apply, which are hours
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
