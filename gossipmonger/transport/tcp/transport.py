"""The TCP transport: connections that are kept between our nodes, and one message per connection to and from Node.js nodes.

Its threads are daemons, since a program that ends need not wait for gossip. Each is started once, and stays until `close`:

* `gossipmonger-tcp` watches all sockets: it dials, reads, decodes and emits.
* `gossipmonger-tcp-accept` accepts connections, and hands them over. Up to eight `gossipmonger-resolver` resolve names.

A message over a link is encoded, and written as far as the socket takes it, on the thread that calls `send`. So it costs no
connection and no hand-over to another thread. `listening` is emitted on the thread that calls `listen`, messages on
`gossipmonger-tcp`, errors on any thread. A handler that blocks keeps its thread from its other work.

A message's sender is a `Caller` if it came on a link: what is sent to that very object goes back on the same link.

The parts: `Acceptor` takes connections, `Dialler` makes them, `Links` keeps those between our nodes.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from gossipmonger.errors import ClosedError, ForkedError, at
from gossipmonger.process import finish, here, marked, renew
from gossipmonger.state import Clusters, ExtendedPeer, Message, RemotePeer
from gossipmonger.state.arguments import check_number
from gossipmonger.transport.address import check_host
from gossipmonger.transport.base import DEFAULT_PORT, Callback, Listening, Transport
from gossipmonger.transport.loop import Handle, Loop
from gossipmonger.transport.resolver import Resolver, host_of
from gossipmonger.transport.tcp.acceptor import Acceptor
from gossipmonger.transport.tcp.caller import Caller
from gossipmonger.transport.tcp.dialler import Dialler
from gossipmonger.transport.tcp.handshake import NAME, Notices
from gossipmonger.transport.tcp.link import Link
from gossipmonger.transport.tcp.links import Links
from gossipmonger.transport.tcp.options import read_binding, read_options
from gossipmonger.transport.tcp.place import Places
from gossipmonger.transport.tcp.side import Side
from gossipmonger.wire import COMPRESS_ABOVE, MAX_MESSAGE_SIZE, Framer, Keyring, decode, inflate, is_address

if TYPE_CHECKING:
    from ssl import SSLContext

    from gossipmonger.transport.tcp.tls import Tls

__all__ = ["TcpTransport"]

#: Seconds that `close` gives what waits, if `linger` does not say less.
_FLUSH_TIMEOUT = 1.0


class TcpTransport(Transport):
    """Messages over TCP, to our own nodes and to those of the Node.js package's default transport.

    Args:
        options: `host` and `port`, as in the Node.js package; any other argument may stand here too.
        host: Where peers are told to connect. None leaves it open: the endpoint then tells them the address from which its
            first seed is reached, and without seeds "localhost".
        port: The same; 0 for any free port. None is 9742, or the port of `binding`.
        binding: Where to bind, "host:port", (host, port) or a mapping, where that differs from what peers are told. A host of
            "" or "::" is every address of this machine, IPv4 and IPv6; a name is the first of its addresses that can be bound.
        max_message_size: Bytes. A longer message is refused while it arrives, or while it inflates.
        compress_above: Bytes above which a message on a link is deflated; None for never.
        max_connections: Connections from others that may be open at once, links among them. A node has one link to each of
            those that it often speaks to, so this bounds how many others can have one to it.
        max_links: Links to others that are kept. Beyond it, the least recently used is closed.
        connect_timeout: Seconds, or a `timedelta`, for each address that a name resolves to.
        send_timeout: The same, for one message to leave.
        receive_timeout: The same, for one message to arrive, and for a TLS handshake on a connection from others.
        tls_server: The `ssl.SSLContext` for connections that others dial: its certificate is this node's, and its CA signs
            those of the others. None, for both, is no TLS. See the page on security.
        tls_client: The same for connections that this node dials. It may check that the host which was dialled is named.
        tls_check_id: Whether the certificate of a node has to have its id among its names, as a DNS name or a URI. What is
            said under another id is refused.
        keyring: What all that is sent is sealed with, and all that comes is opened with; None to send and take it in plain.

    Attributes:
        host: As above, "localhost" as long as it is open.
        port: As above; once a port of 0 is bound, the free one.
        binding: `host` and `port` to bind, as far as they differ from what peers are told.
        named: Whether `host` was given, and not left open.

    Raises:
        TypeError, ValueError: An option is unknown or out of range; the error names it.
    """

    greets: bool = True
    seals: bool = True

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        binding: Any = None,
        max_message_size: int = MAX_MESSAGE_SIZE,
        compress_above: int | None = COMPRESS_ABOVE,
        max_connections: int = 256,
        max_links: int = 128,
        connect_timeout: float | timedelta = 3,
        send_timeout: float | timedelta = 10,
        receive_timeout: float | timedelta = 10,
        tls_server: SSLContext | None = None,
        tls_client: SSLContext | None = None,
        tls_check_id: bool = False,
        keyring: Keyring | None = None,
    ) -> None:
        super().__init__()
        given: dict[str, Any] = {
            "host": host, "port": port, "binding": binding, "max_message_size": max_message_size,
            "compress_above": compress_above, "max_connections": max_connections, "max_links": max_links,
            "connect_timeout": connect_timeout, "send_timeout": send_timeout, "receive_timeout": receive_timeout,
            "tls_server": tls_server, "tls_client": tls_client, "tls_check_id": tls_check_id, "keyring": keyring,
        }  # fmt: skip
        given = read_options(options, given)
        self.binding: dict[str, Any] = given["binding"]
        self.named: bool = given["host"] is not None
        self.host: str = given["host"] if self.named else "localhost"
        self.port: int = DEFAULT_PORT if given["port"] is None else given["port"]
        self._port_is_open = given["port"] in (None, 0)  # so it is told as it is bound
        self.max_message_size: int = given["max_message_size"]
        self.compress_above: int | None = given["compress_above"]
        self.keyring: Keyring | None = given["keyring"]
        self.loop: Loop = Loop("gossipmonger-tcp", self._close_sockets)
        self.resolver: Resolver = Resolver()
        self._tls: Tls | None = given["tls"]
        notices = Notices(self._failed)
        self._links = Links(
            self.loop, Framer(self.max_message_size, self.compress_above), self._received, self._failed, self._ended,
            lambda: self._dialler.settle(), lambda: self.limits, notices,
            receive_timeout=given["receive_timeout"], send_timeout=given["send_timeout"],
        )  # fmt: skip
        self._count_with(self._links.traffic)
        side = Side(
            self.loop, self._links, self._failed, lambda: self.local, lambda: self.life,
            Clusters(lambda: self.cluster, lambda: self.observer), self.greeter, self._tls, notices,
            self.max_message_size,
        )  # fmt: skip
        self._places = Places()
        self._dialler = Dialler(
            side, self._places, self.resolver, self._told, lambda place: self._acceptor.heard(place),
            max_links=given["max_links"], connect_timeout=given["connect_timeout"], send_timeout=given["send_timeout"],
        )  # fmt: skip
        self._acceptor = Acceptor(
            side, self._received_alone, lambda peer, size: self._places.learn(peer, node_js=False, shown=False, size=size),
            max_connections=given["max_connections"], receive_timeout=given["receive_timeout"],
        )  # fmt: skip
        self._token = secrets.token_hex(8)
        self._closed = False
        self._to_close: list[Callable[[], object]] = [
            self._acceptor.stop, self._flush, self.loop.stop, self.resolver.close, self._close_sockets
        ]  # fmt: skip
        self._closing = threading.Lock()  # held by the thread that closes; nobody waits for it
        self._lifecycle_lock = threading.Lock()  # guards _closed, and that the acceptor listens once; both are read without it
        renew(self, "_lifecycle_lock")

    def __repr__(self) -> str:
        bound = self.bound
        doing = "closed" if self._closed else "not listening" if bound is None else f"listening at {bound[0]}:{bound[1]}"
        return f"{type(self).__name__}({at({'host': self.host, 'port': self.port})}, {doing})"

    # Sending

    def send(self, to: RemotePeer, message: Message) -> None:
        """Send a message: see `Transport.send`. One without deltas replaces an earlier one that still waits for the peer."""
        if self._closed or self.loop.forked:
            return
        thread = here()
        if thread.marked and thread.defer(object(), partial(self.send, to, message)):
            return
        try:
            if isinstance(to, Caller) and (self._links.send(to.link, message) or to.link.peer is None):
                return  # who dialled without a name, as observers do, is not dialled
            if is_address(to.transport):
                self._dialler.send(to, message)
                return
        except Exception as error:  # JSON has no form for something in it, or the system cannot start a thread
            self._failed(error)
            return
        finally:
            if thread.deferred:
                thread.settle()
        self._refuse_address(to)

    def trust(self, transports: Iterable[Any]) -> None:
        """Take it that nodes live at these addresses: see `Transport.trust`."""
        self._places.trust(filter(is_address, transports))

    def dial(self, to: RemotePeer) -> None:
        """Connect to a peer and close at once, only to learn whether somebody accepts: see `Transport.dial`."""
        thread, usable = here(), not (self._closed or self.loop.forked) and is_address(to.transport)
        if not usable or (thread.marked and thread.defer(object(), partial(self.dial, to))):
            return
        try:
            self._dialler.probe(to)
        except Exception as error:  # the system cannot start a thread
            self._failed(error)

    def addresses(self, at: Any, then: Callable[[object], None], lifetime: float) -> list[Any] | None:
        """Return all IP addresses of a host that are known now, but this node's own: see `Transport.addresses`."""
        if not is_address(at):
            return [at]
        try:
            found = self.resolver.known(at["host"], int(at["port"]), then, lifetime)
        except RuntimeError as error:  # the system cannot start a thread
            self._failed(error)
            return None
        if found is None:
            return None
        hosts = [host_of(address.at) for address in found]
        at = at if self._tls is None else {**at, NAME: at["host"]}
        return [{**at, "host": host} for host in hosts if not self._acceptor.listens_at(host, int(at["port"]))]

    @property
    def begun(self) -> bool:  # type: ignore[override]  # it is only read
        """Whether it has listened or sent anything yet."""
        return self.loop.begun

    def begin(self) -> None:
        """Start the thread that dials: see `Transport.begin`."""
        self.loop.start()

    def timer(self, seconds: float, function: Callable[[], None]) -> Handle:
        """Return a timer that calls a function on the thread `gossipmonger-tcp`: see `Transport.timer`."""
        return self.loop.after(seconds, function)

    def renew(self, tls_server: SSLContext | None = None, tls_client: SSLContext | None = None) -> None:
        """Shake hands anew with everybody, because certificates have changed.

        All links are closed, after what is on its way, and are dialled again when they are needed. No message is lost by it.

        Args:
            tls_server: The context from now on; None for the same, into which a certificate may have been loaded.
            tls_client: The same for connections that this node dials.

        Raises:
            TypeError, ValueError: A context does not do.
            RuntimeError: The transport has no TLS.
        """
        if self._tls is None:
            raise RuntimeError("renew: this transport has no TLS")
        self._tls.renew(tls_server, tls_client)
        thread = here()
        if thread.marked and thread.defer((id(self), "renew"), partial(self._later, self.renew)):
            return
        if self.loop.begun and not self.loop.forked:
            self.loop.call(self._links.renew)

    # Receiving

    @property
    def address(self) -> Mapping[str, Any] | None:
        """`host` and `port` that peers are to be told, None while a port of 0 is not bound."""
        return {"host": self.host, "port": self.port} if self.port else None

    @property
    def life(self) -> str:
        """What tells this process from all others. A `HELLO` says it."""
        return f"{self._token}{os.getpid():x}"  # after a fork, two copies may be started

    @property
    def bound(self) -> tuple[str, int] | None:
        """The host and port that the socket is bound to, None while it is not."""
        return self._acceptor.bound

    def listen(self, options: Listening = None, callback: Callback = None) -> None:
        """Bind, start to serve on a thread of its own, emit `listening`, call `callback`; then return.

        Args:
            options: `host` and `port` to bind, where these differ from `binding` and from what peers are told. A host of "" or
                "::" is every address of this machine, IPv4 and IPv6. May be left out before a callback.
            callback: Called without arguments, on the caller's thread.

        Raises:
            OSError: The address cannot be bound.
            ClosedError: The transport has been closed.
            ForkedError: This is a forked child's copy of a transport that was at work.
            RuntimeError: It listens already.
        """
        if callable(options):
            options, callback = None, options
        host, port = read_binding({"host": self.host, "port": self.port, **self.binding}, options or {})
        if self.loop.forked:
            raise ForkedError("listen", "this transport")
        thread = here()
        if thread.marked and thread.defer((id(self), "listen"), partial(self._later, self.listen, options, callback)):
            return
        try:
            self._listen(host, port)
        finally:
            thread.settle()
        self.emit("listening")
        if callback is not None:
            callback()

    def _listen(self, host: str, port: int) -> None:
        with marked(), self._lifecycle_lock:
            if self._closed:
                raise ClosedError("listen: this transport has been closed")
            bound = self.bound
            if bound is not None:
                raise RuntimeError(f"listen: this transport listens already, at {bound}")
            if not self.observer:  # which nobody dials
                self._bind(host, port)
            if self._port_is_open and self.bound is not None:
                self.port = self.bound[1]

    def adopt(self, host: Any, port: Any, binding: Mapping[str, Any] | None) -> None:
        """Take what peers are told, and where to bind, as far as this was told neither. Call it before `listen`.

        Raises:
            TypeError, ValueError: The host or the port is of the wrong type or out of range.
        """
        if not self.named and host is not None:
            self.host, self.named = check_host(host), True
        if self._port_is_open and self.port and port is not None:
            check_number("port", port, int, 0, 65535)
            self.port, self._port_is_open = port, port == 0
        self.binding = {**(binding or {}), **self.binding}

    def _bind(self, host: str, port: int) -> None:
        """Bind, and begin to serve. This requires holding `_lifecycle_lock`."""
        assert self._lifecycle_lock.locked()
        self._acceptor.listen(host, port)

    def _received(self, message: Message) -> None:
        if self._closed:
            return
        try:
            self._hand_out(message)
        except Exception as error:
            self._failed(error)

    def _received_alone(self, data: bytes, source: str) -> None:
        """Take a message that came on a connection of its own, as all from Node.js nodes do."""
        try:
            message = decode(inflate(data, self.max_message_size, source), source, is_address, limits=self.limits)
        except Exception as error:  # a lack of memory, too, costs only this message
            self._failed(error)
            return
        if message.digest is not None:
            shown, extended = self.resolver.is_from(message.sender.transport["host"], source), message.digest.header is not None
            self._places.learn(message.sender, node_js=not extended and self.cluster is None, shown=shown, size=len(data))
            if extended:
                message = message._replace(sender=ExtendedPeer(*message.sender))
        self._links.traffic.received.note(message)
        self._received(message)

    def _told(self, peer: RemotePeer, what: str) -> None:
        if not self._closed:
            self.emit("link", peer, what)

    def _ended(self, link: Link) -> None:
        self._dialler.forget(link)
        self._acceptor.forget(link)
        remote = link.remote
        if remote is not None and not link.retired and link.begun is None:
            self._told(remote, "ended")

    def _failed(self, error: Exception) -> None:
        if not self._closed:  # what fails because of being closed is not news
            super()._failed(error)

    def close(self, callback: Callback = None) -> None:
        """Stop listening, give what waits `linger` seconds, by default one, to leave, close all sockets, and end all threads.

        It may be called again, and from a handler, whose thread is not waited for. A thread in the resolver ends by itself.
        """
        thread = here()
        if thread.marked and thread.defer((id(self), "close"), partial(self._later, self.close, callback)):
            return
        if not self.loop.forked:
            with marked(), self._lifecycle_lock:
                self._closed = True
            if self._to_close and not self._closing.locked():
                with self._closing:
                    finish(self._to_close)
        thread.settle()
        if callback is not None:
            callback()

    def _flush(self) -> None:
        if not self.loop.current:
            self._dialler.flush(min(self.linger, _FLUSH_TIMEOUT))

    def _close_sockets(self) -> None:
        """Close all sockets. The loop's thread does so again at its end, as `Loop.stop` may not have waited that long."""
        for part in (self._dialler, self._acceptor, self._links):
            part.close()
