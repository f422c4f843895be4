"""The TCP transport: one message per connection, ended by the sender's FIN, and maybe one that answers it, on the way back.

Threads, all daemons, since a program that ends need not wait for gossip:

* `gossipmonger-tcp` accepts and reads, decodes what is small and emits it. It watches whatever is slow, so that that costs
  no thread.
* up to `readers` threads `gossipmonger-tcp-reader` decode and emit what is long.
* `gossipmonger-sender` threads connect, send, and emit an answer that comes at once. Each destination is served by one at a
  time, in turn with the others, and one that failed last time by a pair of threads of their own: peers that do not answer
  wait for each other and for nobody else.

Events are emitted on the thread on which they happen: `listening` on the caller's of `listen`, messages on any of these,
errors on any at all. A handler that blocks keeps its thread from what else it has to do.

A message's sender is a `Caller`, a `RemotePeer` that carries the way back, if the message is a digest of our kind. The first
message to it, while it is handled, goes on the connection that it came on. Later ones are sent on connections of their own, as
is one that has no room in one message, or whose receiver is there no more. Nobody else reads an answer, and so their
connections end before their messages are handled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gossipmonger.errors import ClosedError, MessageError, report
from gossipmonger.options import Options, check_number, unknown_option
from gossipmonger.peer import RemotePeer
from gossipmonger.transport import checks, messages
from gossipmonger.transport.base import Transport
from gossipmonger.transport.compression import deflate_for, inflate
from gossipmonger.transport.connection import Caller, Connection
from gossipmonger.transport.reader import Reader
from gossipmonger.transport.senders import Senders
from gossipmonger.transport.server import Server
from gossipmonger.transport.watcher import Watcher

__all__ = ["DEFAULT_PORT", "TcpTransport", "read_binding"]

#: The Node package's.
DEFAULT_PORT = 9742


class TcpTransport(Transport):
    """Messages over TCP, as the Node package's default transport sends and reads them.

    Args:
        options: `host` (by default "localhost") and `port` (by default 9742; 0 for any free one), which peers are told;
            any other argument may stand here too.
        max_message_size: Bytes; a larger message is refused while it arrives, and while it inflates.
        compress_above: Bytes above which a message to a peer of our kind is deflated; None: never.
        max_connections: How many may be open at once, waiting for an answer or for a message, before the slowest is closed to
            make room.
        readers: Threads that decode what is long. Python runs one at a time, so more only help where handlers wait.
        senders: Threads that connect and send.
        connect_timeout: Milliseconds for each address that a name resolves to.
        send_timeout: Milliseconds for one message to leave.
        receive_timeout: Milliseconds for one message to arrive: from the accept, or from the FIN of what it answers, to its
            own FIN.

    Attributes:
        host: Where peers are told to connect.
        port: The same; of a port 0, once it is bound, the one that was free.

    Raises:
        TypeError, ValueError: An option is unknown or out of range; the error names it.
    """

    validates = True

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        *,
        host: str = "localhost",
        port: int = DEFAULT_PORT,
        max_message_size: int = messages.MAX_MESSAGE_SIZE,
        compress_above: int | None = Options.compress_above,
        max_connections: int = 256,
        readers: int = 8,
        senders: int = 8,
        connect_timeout: float = 3_000,
        send_timeout: float = 10_000,
        receive_timeout: float = 10_000,
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
            check_number(name, given[name], float, 1, 3_600_000)
        self.max_message_size: int = given["max_message_size"]
        self.compress_above: int | None = given["compress_above"]
        self._reader = Reader(checks.is_address)
        self._server: Server | None = None
        self._watcher = Watcher(
            self._received, self._failed, readers=given["readers"], max_connections=given["max_connections"],
            max_message_size=self.max_message_size, receive_timeout=given["receive_timeout"],
            send_timeout=given["send_timeout"],
        )  # fmt: skip
        self._senders = Senders(
            threads=given["senders"], connect_timeout=given["connect_timeout"], send_timeout=given["send_timeout"],
            failed=self._failed, hear=self._watcher.hear,
        )  # fmt: skip
        self._closed = False
        self._lifecycle_lock = threading.Lock()  # guards _server and _closed

    # Sending

    def digest(self, remote_peer: RemotePeer, local_peer: RemotePeer, digest_to_send: list[Any]) -> None:
        """Send a digest: see `Transport.digest`. A later one to the same peer replaces one that still waits."""
        sender = RemotePeer(local_peer.id, local_peer.transport)
        self._send(remote_peer, "digest", lambda: [messages.encode(sender, digest=digest_to_send)])

    def deltas(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas_to_send: list[list[Any]]) -> None:
        """Send deltas: see `Transport.deltas`. What would be too large for one message goes in several."""
        sender = RemotePeer(local_peer.id, local_peer.transport)
        limit = self.max_message_size
        self._send(remote_peer, "deltas", lambda: messages.split(sender, deltas_to_send, None, limit))

    def exchange(
        self,
        remote_peer: RemotePeer,
        local_peer: RemotePeer,
        deltas_to_send: list[list[Any]],
        digest_to_send: list[Any],
    ) -> None:
        """Send deltas and a digest: see `Transport.exchange`. What would be too large for one message goes in several."""
        sender = RemotePeer(local_peer.id, local_peer.transport)
        limit = self.max_message_size
        self._send(remote_peer, "deltas", lambda: messages.split(sender, deltas_to_send, digest_to_send, limit))

    def _send(self, remote_peer: RemotePeer, kind: str, encode: Callable[[], Iterable[bytes]]) -> None:
        def deflated() -> Iterator[bytes]:
            return (deflate_for(remote_peer, message, self.compress_above) for message in encode())

        if isinstance(remote_peer, Caller) and self._answer(remote_peer, deflated):
            return
        if checks.is_address(remote_peer.transport):
            self._senders.send(RemotePeer(remote_peer.id, remote_peer.transport), kind, deflated)
        else:
            reason = f"peer {remote_peer.id!r} has the transport {remote_peer.transport!r}, which is no host and port"
            self._failed(ValueError(reason))

    def _answer(self, caller: Caller, encode: Callable[[], Iterable[bytes]]) -> bool:
        """Answer on the connection that a message came on, if there still is one; return whether that is done.

        If it can't be written, or is more than one message, it is to be sent on connections of its own.
        """
        connection = caller.take()
        if connection is None:
            return False
        try:
            message, *more = encode()
        except Exception as error:
            self._watcher.close(connection)
            self._failed(error)
            return True
        if more:
            self._watcher.close(connection)
            return False
        return self._watcher.answer(connection, message)

    # Receiving

    @property
    def address(self) -> Mapping[str, Any] | None:
        """`host` and `port` that peers are to be told, None while a port of 0 is not bound."""
        return {"host": self.host, "port": self.port} if self.port else None

    @property
    def bound(self) -> tuple[str, int] | None:
        """The host and port that the socket is bound to, None when it is not."""
        server = self._server
        return None if server is None else (str(server.server_address[0]), server.server_address[1])

    def listen(
        self,
        options: Mapping[str, Any] | Callable[[], None] | None = None,
        callback: Callable[[], None] | None = None,
    ) -> None:
        """Bind, start to serve on a thread of its own, emit `listening`, call `callback`; return when all that is done.

        Args:
            options: `host` and `port` to bind where these differ from what peers are told. A host of "" is every address of
                this machine, IPv4 and IPv6. May be left out before a callback.
            callback: Called without arguments, on the caller's thread.

        Raises:
            OSError: The address can't be bound.
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
            self._watcher.accept_from(server)
            self._server = server
            if self.port == 0:
                self.port = server.server_address[1]
        self.emit("listening")
        if callback is not None:
            callback()

    def _received(self, connection: Connection) -> None:
        try:
            data = inflate(connection.data, self.max_message_size, connection)
            message = self._reader.read(data, connection)
        except MessageError as error:
            error.source = connection.source  # a text that nobody has needed before
            self._watcher.close(connection)
            self._failed(error)
            return
        caller = Caller(*message.sender)
        if not connection.dialled and _reads_answers(message):
            caller.way_back = connection
        else:
            self._watcher.close(connection)  # rather than after what may take a while: a peer may wait for it
        try:
            if not self._closed:
                self.hand_out(caller, message.deltas, message.digest)
        except Exception as error:
            self._failed(error)
        finally:
            if caller.take() is not None:
                self._watcher.close(connection)

    def _failed(self, error: Exception) -> None:
        if self._closed:
            return  # what fails by being closed is no news
        try:
            self.emit("error", error)
        except Exception as unheard:
            report(unheard)

    def close(self, callback: Callable[[], None] | None = None) -> None:
        """Stop listening, give what waits to be sent to answering peers up to a second, close all sockets, end all threads.

        Idempotent, and safe from a handler: the thread that calls it is not waited for. The one thing that can't be cut
        short is the resolver: a thread inside it is left to end by itself.
        """
        with self._lifecycle_lock:
            first, self._closed = not self._closed, True
        if first:
            self._watcher.stop()
            self._senders.close()
        if callback is not None:
            callback()


def _reads_answers(message: checks.Message) -> bool:
    """Whether the sender reads answers on the connection: one of our kind, which in a digest tells its own heartbeat last."""
    digest = message.digest or []
    return bool(digest) and digest[-1].heartbeat >= 0


def read_binding(
    options: Mapping[str, Any] | Callable[[], None] | None, callback: Callable[[], None] | None, host: str, port: int
) -> tuple[str, int, Callable[[], None] | None]:
    """Return where to bind and what to call then, out of the arguments of `listen` and what peers are told.

    Raises:
        TypeError, ValueError: Something is unknown, of the wrong type or out of range; the error names it.
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
        raise TypeError(f"host: {host!r} is no string")
    if not host and not any_host:
        raise ValueError("host: '' is nowhere for peers to connect to")
    check_number("port", port, int, 0, 65535)
    return host, port
