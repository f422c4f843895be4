"""The TCP transport: one message per connection, ended by the sender's FIN, and perhaps an answer on the way back.

All its threads are daemons, since a program that ends need not wait for gossip:

* `gossipmonger-tcp` accepts connections and reads from them, and decodes and emits short messages. It watches everything that
  is slow, so that slow peers cost no thread.
* Up to `readers` threads `gossipmonger-tcp-reader` decode and emit long messages.
* `gossipmonger-sender` threads connect and send, and emit answers that come at once. Each destination is served by one of them
  at a time, in turn with the others. Destinations that failed last time are served by two threads of their own, so they delay
  each other and nobody else.

Messages are encoded on the thread that calls `send`. Events are emitted on the thread on which they happen: `listening` on the
one that calls `listen`, messages on any of the above, errors on any thread. A handler that blocks keeps its thread from its
other work.

A message's sender is a `Caller`, a remote peer that carries the way back. If its digest has a header, so the sender is known to
read answers, the first message that is sent to it while it is handled goes on the connection that it came on. Later messages
get connections of their own, as do those that had to be split and those whose receiver has gone. Connections whose sender does
not read answers are closed before the message is handled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from gossipmonger.errors import ClosedError, MessageError, SendError
from gossipmonger.state.arguments import check_number, seconds, unknown_option
from gossipmonger.state.message import Message, RemotePeer
from gossipmonger.transport.base import DEFAULT_PORT, Transport
from gossipmonger.transport.tcp.connection import Caller, Connection
from gossipmonger.transport.tcp.loop import Loop
from gossipmonger.transport.tcp.senders import Senders
from gossipmonger.transport.tcp.server import Server
from gossipmonger.wire import COMPRESS_ABOVE, MAX_MESSAGE_SIZE, Packer, decode, inflate, is_address

__all__ = ["TcpTransport", "read_binding"]


class TcpTransport(Transport):
    """Messages over TCP, in the form in which the Node.js package's default transport sends and reads them.

    Args:
        options: `host` and `port`, as in the Node.js package; any other argument may stand here too.
        host: Where peers are told to connect.
        port: The same; 0 for any free port.
        max_message_size: Bytes. A longer message is refused while it arrives, or while it inflates.
        compress_above: Bytes above which a message is deflated for peers that speak our extensions; None for never.
        max_connections: Connections that may be open at once, waiting for a message or an answer. Beyond it, the slowest is
            closed.
        readers: Threads that decode long messages. Python runs one at a time, so more only help if handlers wait.
        senders: Threads that connect and send.
        connect_timeout: Seconds, or a `timedelta`, for each address that a name resolves to.
        send_timeout: The same, for one message to leave.
        receive_timeout: The same, for one message to arrive: from the accept, or from the FIN of what it answers, to its FIN.

    Attributes:
        host: As above.
        port: As above; once a port of 0 is bound, the port that was free.

    Raises:
        TypeError, ValueError: An option is unknown or out of range; the error names it.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        host: str = "localhost",
        port: int = DEFAULT_PORT,
        max_message_size: int = MAX_MESSAGE_SIZE,
        compress_above: int | None = COMPRESS_ABOVE,
        max_connections: int = 256,
        readers: int = 8,
        senders: int = 8,
        connect_timeout: float | timedelta = 3,
        send_timeout: float | timedelta = 10,
        receive_timeout: float | timedelta = 10,
    ) -> None:
        super().__init__()
        given: dict[str, Any] = {
            "host": host, "port": port, "max_message_size": max_message_size, "compress_above": compress_above,
            "max_connections": max_connections, "readers": readers, "senders": senders, "connect_timeout": connect_timeout,
            "send_timeout": send_timeout, "receive_timeout": receive_timeout,
        }  # fmt: skip
        for name, value in (options or {}).items():
            if name not in given:
                raise unknown_option(name, given)
            given[name] = value
        self.host, self.port = _check_address(given["host"], given["port"])
        for name in ("max_message_size", "max_connections", "readers", "senders"):
            check_number(name, given[name], int, 1)
        if given["compress_above"] is not None:
            check_number("compress_above", given["compress_above"], int, 0)
        for name in ("connect_timeout", "send_timeout", "receive_timeout"):
            given[name] = seconds(name, given[name], 0.001, 3_600)
        self.max_message_size: int = given["max_message_size"]
        self.compress_above: int | None = given["compress_above"]
        self._packer = Packer(self.max_message_size, self.compress_above)
        self._server: Server | None = None
        self._loop = Loop(
            self._received, self._failed, readers=given["readers"], max_connections=given["max_connections"],
            max_message_size=self.max_message_size, receive_timeout=given["receive_timeout"],
            send_timeout=given["send_timeout"],
        )  # fmt: skip
        self._senders = Senders(
            threads=given["senders"], connect_timeout=given["connect_timeout"], send_timeout=given["send_timeout"],
            failed=self._failed, hear=self._loop.hear,
        )  # fmt: skip
        self._closed = False
        self._lifecycle_lock = threading.Lock()  # guards _server and _closed, which are read without it

    # Sending

    def send(self, to: RemotePeer, message: Message) -> None:
        """Send a message: see `Transport.send`. One without deltas replaces an earlier one that still waits for the peer."""
        try:
            parts = self._packer.pack(to, message)
        except Exception as error:  # JSON has no form for something in it
            self._failed(error)
            return
        if isinstance(to, Caller) and len(parts) == 1 and self._answer(to, parts[0]):
            return
        if not is_address(to.transport):
            reason = f"its transport must be a mapping with a host and a port, got {to.transport!r}"
            self._failed(SendError(f"can't send to peer {to.id!r}: {reason}", to))
            return
        try:
            self._senders.send(RemotePeer(to.id, to.transport), parts, replaceable=message.deltas is None)
        except RuntimeError as error:  # the system cannot start a thread
            self._failed(error)

    def _answer(self, caller: Caller, data: bytes) -> bool:
        """Answer on the connection that the caller's message came on; return whether it is still there."""
        connection = caller.take()
        return connection is not None and self._loop.answer(connection, data)

    # Receiving

    @property
    def address(self) -> Mapping[str, Any] | None:
        """`host` and `port` that peers are to be told, None while a port of 0 is not bound."""
        return {"host": self.host, "port": self.port} if self.port else None

    @property
    def bound(self) -> tuple[str, int] | None:
        """The host and port that the socket is bound to, None while it is not."""
        server = self._server
        return None if server is None else (str(server.server_address[0]), server.server_address[1])

    def listen(
        self,
        options: Mapping[str, Any] | Callable[[], None] | None = None,
        callback: Callable[[], None] | None = None,
    ) -> None:
        """Bind, start to serve on a thread of its own, emit `listening`, call `callback`; then return.

        Args:
            options: `host` and `port` to bind, where these differ from what peers are told. A host of "" is every address of
                this machine, IPv4 and IPv6. May be left out before a callback.
            callback: Called without arguments, on the caller's thread.

        Raises:
            OSError: The address cannot be bound.
            ClosedError: The transport has been closed.
            RuntimeError: It listens already.
        """
        host, port, callback = read_binding(options, callback, self.host, self.port)
        with self._lifecycle_lock:
            if self._closed:
                raise ClosedError("listen: this transport has been closed")
            if self._server is not None:
                raise RuntimeError(f"listen: this transport listens already, at {self.bound}")
            server = Server(host, port)
            self._loop.accept_from(server)
            self._server = server
            if self.port == 0:
                self.port = server.server_address[1]
        self.emit("listening")
        if callback is not None:
            callback()

    def _received(self, connection: Connection) -> None:
        source = connection.source
        try:
            message = decode(inflate(connection.data, self.max_message_size, source), source, is_address)
        except MessageError as error:
            self._loop.close(connection)
            self._failed(error)
            return
        caller = Caller(*message.sender)
        if not connection.dialled and message.digest is not None and message.digest.header is not None:
            caller.way_back = connection
        else:
            self._loop.close(connection)  # now, not after the handlers: a peer may wait for it
        try:
            if not self._closed:
                self._hand_out(message._replace(sender=caller))
        except Exception as error:
            self._failed(error)
        finally:
            if caller.take() is not None:
                self._loop.close(connection)

    def _failed(self, error: Exception) -> None:
        if not self._closed:  # what fails because of being closed is not news
            super()._failed(error)

    def close(self, callback: Callable[[], None] | None = None) -> None:
        """Stop listening, give messages to answering peers up to a second, close all sockets, and end all threads.

        It may be called again, and from a handler: the thread that calls it is not waited for. A thread inside the system's
        resolver, which cannot be interrupted, ends by itself.
        """
        with self._lifecycle_lock:
            first, self._closed = not self._closed, True
        if first:
            self._loop.stop()
            self._senders.close()
        if callback is not None:
            callback()


def read_binding(
    options: Mapping[str, Any] | Callable[[], None] | None, callback: Callable[[], None] | None, host: str, port: int
) -> tuple[str, int, Callable[[], None] | None]:
    """Return where to bind and what to call then, from the arguments of `listen` and from what peers are told.

    Raises:
        TypeError, ValueError: An option is unknown, of the wrong type or out of range; the error names it.
    """
    if callable(options):
        options, callback = None, options
    binding: dict[str, Any] = {"host": host, "port": port}
    for name, value in (options or {}).items():
        if name not in binding:
            raise unknown_option(name, binding)
        binding[name] = value
    return *_check_address(binding["host"], binding["port"], any_host=True), callback


def _check_address(host: Any, port: Any, any_host: bool = False) -> tuple[str, int]:
    if not isinstance(host, str):
        raise TypeError(f"host must be a string, got {host!r}")
    if not host and not any_host:
        raise ValueError("host must be a name or an address that peers can connect to, got ''")
    check_number("port", port, int, 0, 65535)
    return host, port
