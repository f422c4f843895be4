"""The UDP transport: datagrams where they do, and TCP on the same port for everything else.

Who can take datagrams says so in its address, `{"host", "port", "udp": true}`, which TCP transports and Node nodes pass on and
ignore. What goes to such a peer and fits into a few datagrams goes as these: see `gossipmonger.transport.datagrams`. Over TCP
goes what is longer, what is for anybody else, what answers a message that came over TCP, and what is for a host by a name that
has not been resolved yet.

Threads, daemons as TCP's: `gossipmonger-udp` receives, decodes and emits; up to two named `gossipmonger-udp-resolver` resolve
names; and those of the TCP side. Datagrams are sent on the caller's thread, which never waits: a datagram that the system has
no room for is lost, as it could be anywhere on its way.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from gossipmonger.errors import ClosedError, MessageError, SendError, report
from gossipmonger.options import check_number
from gossipmonger.peer import Kin, RemotePeer
from gossipmonger.transport import checks
from gossipmonger.transport.addresses import Address, Addresses
from gossipmonger.transport.base import Transport
from gossipmonger.transport.compression import inflate
from gossipmonger.transport.connection import Caller
from gossipmonger.transport.datagrams import pack
from gossipmonger.transport.reader import Reader
from gossipmonger.transport.tcp import TcpTransport, read_binding

__all__ = ["UdpTransport"]

#: Bytes. Every path of IPv6 takes packets of 1,280, whose headers, UDP's among them, have 48: so nobody cuts such a datagram in
#: pieces of which each may be lost, nor drops it, not in a tunnel either. Ethernet would take a fifth more.
_DATAGRAM_SIZE = 1_232

#: Bytes of the largest that IPv4 carries.
_LARGEST = 65_507

#: Bytes that are asked of the system for datagrams that wait while one is handled. It may give less.
_BUFFER = 1 << 20

#: Ports that are tried for a port of 0, until one is free for both protocols. Each of the last minute's outgoing connections of
#: this machine has taken one of TCP's, and there may be very many.
_ATTEMPTS = 100

#: Seconds without a look at a socket that can't be read, for want of memory, say.
_PAUSE = 0.1


class UdpTransport(Transport):
    """Messages over UDP, and over TCP where UDP does not do. Nodes with this, with `TcpTransport` and of Node form one cluster.

    Args:
        options: As for `TcpTransport`, and `max_datagram_size`.
        max_datagram_size: Bytes of payload in one datagram that is sent, 512 to 65,507; longer ones are received too.
        **keywords: All arguments of `TcpTransport`, for the TCP side; `host`, `port` and `max_message_size` hold for both.

    Raises:
        TypeError, ValueError: An option is unknown or out of range; the error names it.
    """

    validates = True

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, max_datagram_size: int = _DATAGRAM_SIZE, **keywords: Any
    ) -> None:
        super().__init__()
        given = {"max_datagram_size": max_datagram_size, **keywords, **(options or {})}
        check_number("max_datagram_size", given["max_datagram_size"], int, 512, _LARGEST)
        self.max_datagram_size: int = given.pop("max_datagram_size")
        self._tcp = TcpTransport(given)
        self._tcp.on("digest", lambda sender, digest: self.hand_out(sender, None, digest))
        self._tcp.on("deltas", lambda sender, deltas: self.hand_out(sender, deltas, None))
        self._tcp.on("exchange", self.hand_out)
        self._tcp.on("error", self._failed)
        self.max_message_size = self._tcp.max_message_size
        self._addresses = Addresses()
        self._reader = Reader(checks.is_address)
        self._sockets: dict[int, socket.socket] = {}  # by family, to send with; those that `listen` binds receive too
        self._opened: list[socket.socket] = []  # all, to be closed
        self._waker: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._sending = 0  # threads that send
        self._closed = threading.Event()
        self._sockets_lock = threading.Lock()  # guards the six above
        self._sent = threading.Condition(self._sockets_lock)

    # Sending

    def digest(self, remote_peer: RemotePeer, local_peer: RemotePeer, digest_to_send: list[Any]) -> None:
        """Send a digest: see `Transport.digest`. It may go in parts, which say so."""
        if not self._send(remote_peer, local_peer, None, digest_to_send):
            self._tcp.digest(remote_peer, local_peer, digest_to_send)

    def deltas(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas_to_send: list[list[Any]]) -> None:
        """Send deltas: see `Transport.deltas`."""
        if not self._send(remote_peer, local_peer, deltas_to_send, None):
            self._tcp.deltas(remote_peer, local_peer, deltas_to_send)

    def exchange(
        self,
        remote_peer: RemotePeer,
        local_peer: RemotePeer,
        deltas_to_send: list[list[Any]],
        digest_to_send: list[Any],
    ) -> None:
        """Send deltas and a digest: see `Transport.exchange`."""
        if not self._send(remote_peer, local_peer, deltas_to_send, digest_to_send):
            self._tcp.exchange(remote_peer, local_peer, deltas_to_send, digest_to_send)

    def _send(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas: Any, digest: Any) -> bool:
        """Send datagrams, or fail to; return False if it is for TCP to send."""
        to = remote_peer.transport
        if isinstance(remote_peer, Caller) or not checks.is_address(to) or to.get("udp") is not True:
            return False  # a caller waits for its answer on a connection that is there
        try:
            address = self._addresses.find(to["host"], int(to["port"]))
            if address is None:
                return False
            sender = RemotePeer(local_peer.id, local_peer.transport)
            largest = self._tcp.max_message_size
            entries = None if digest is None else checks.as_entries(digest)
            datagrams = pack(sender, deltas, entries, min(self.max_datagram_size, largest), largest)
            if datagrams is None or (len(datagrams) > 1 and entries and entries[-1].rumor):
                return False  # cut off from their digest, a rumour's deltas would be no news
            return self._transmit(address, datagrams)
        except OSError as error:
            name = f"peer {remote_peer.id!r} at {to['host']}:{to['port']}"
            refusal = SendError(f"can't send to {name}: {error}", RemotePeer(remote_peer.id, to))
            refusal.__cause__ = error
            self._failed(refusal)
        except Exception as error:  # it is the message that is wrong
            self._failed(error)
        return True

    def _transmit(self, address: Address, datagrams: list[bytes]) -> bool:
        with self._sockets_lock:
            if self._closed.is_set():
                return True
            sender = self._sockets.get(address.family)
            if sender is None:
                sender = self._sockets[address.family] = _socket(address.family)
                self._opened.append(sender)
            self._sending += 1
        try:
            for datagram in datagrams:
                sender.sendto(datagram, address.at)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:  # the system's limit is below ours
                return False
            raise
        finally:
            with self._sockets_lock:
                self._sending -= 1
                self._sent.notify_all()
        return True

    # Receiving

    @property
    def host(self) -> str:
        """Where peers are told to send and connect."""
        return self._tcp.host

    @property
    def port(self) -> int:
        """The same, of both protocols; of a port 0, once it is bound, the one that was free."""
        return self._tcp.port

    @property
    def address(self) -> Mapping[str, Any] | None:
        """`host`, `port` and `udp` that peers are to be told, None while a port of 0 is not bound."""
        address = self._tcp.address
        return None if address is None else {**address, "udp": True}

    @property
    def bound(self) -> tuple[str, int] | None:
        """The host and port that the sockets are bound to, None when they are not."""
        return self._tcp.bound

    def listen(
        self,
        options: Mapping[str, Any] | Callable[[], None] | None = None,
        callback: Callable[[], None] | None = None,
    ) -> None:
        """Bind both protocols to one port, start to serve, emit `listening`, call `callback`; return when all that is done.

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
        if self._closed.is_set():
            raise ClosedError("listen: this transport has been closed")
        if self.bound is not None:
            raise RuntimeError(f"listen: this transport listens already, at {self.bound}")
        self._serve(self._bind(host, port))
        self.emit("listening")
        if callback is not None:
            callback()

    def _bind(self, host: str, port: int) -> list[socket.socket]:
        """Bind UDP, then TCP to the same port: it may be told again to listen if it could not, but not to stop."""
        for attempt in range(_ATTEMPTS):
            bound: list[socket.socket] = []
            try:
                _bind(host, port, bound)
                self._tcp.listen({"host": host, "port": bound[0].getsockname()[1]})
                return bound
            except BaseException as error:
                _close(bound)
                taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
                if port != 0 or not taken or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _serve(self, bound: list[socket.socket]) -> None:
        with self._sockets_lock:
            closed = self._closed.is_set()
            if not closed:
                self._waker, wakeup = socket.socketpair()
                self._sockets.update({each.family: each for each in bound})
                self._opened += [*bound, self._waker, wakeup]
                thread = threading.Thread(target=self._run, args=(bound, wakeup), name="gossipmonger-udp", daemon=True)
                thread.start()
                self._thread = thread
        if closed:
            _close(bound)
            raise ClosedError("listen: this transport has been closed")

    def _run(self, bound: list[socket.socket], wakeup: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (*bound, wakeup):
                selector.register(each, selectors.EVENT_READ)
            while not self._closed.is_set():
                for key, _ in selector.select():
                    if key.fileobj is not wakeup:
                        self._read(key.fileobj)

    def _read(self, readable: Any) -> None:
        for _ in range(64):  # then the other family has its turn
            if self._closed.is_set():
                return
            try:
                data, source = readable.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except ConnectionError:  # what some systems say of a datagram that was sent earlier
                continue
            except OSError as error:
                self._failed(error)
                self._closed.wait(_PAUSE)
                return
            try:
                self._received(data, f"[{source[0]}]:{source[1]}" if ":" in source[0] else f"{source[0]}:{source[1]}")
            except BaseException as error:  # nothing ends the thread, not even SystemExit out of a listener
                report(error)

    def _received(self, data: bytes, source: str) -> None:
        try:
            message = self._reader.read(inflate(data, self._tcp.max_message_size, source), source)
        except MessageError as error:
            self._failed(error)
            return
        sender = Kin(*message.sender)
        try:
            self.hand_out(sender, message.deltas, message.digest)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if self._closed.is_set():
            return  # what fails by being closed is no news
        try:
            self.emit("error", error)
        except Exception as unheard:
            report(unheard)

    def close(self, callback: Callable[[], None] | None = None) -> None:
        """Stop listening, close the sockets, end the thread; close the TCP side, see `TcpTransport.close`.

        Idempotent, and safe from a handler: the thread that calls it is not waited for.
        """
        with self._sockets_lock:
            first = not self._closed.is_set()
            self._closed.set()
        if first:
            if self._waker is not None:
                self._waker.send(b"\0")
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.join(1)  # it may be in a handler that does not return
            with self._sent:
                self._sent.wait_for(lambda: not self._sending)  # no send takes long
            _close(self._opened)
            self._addresses.close()
            self._tcp.close()
        if callback is not None:
            callback()


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def _bind(host: str, port: int, bound: list[socket.socket]) -> None:
    """Bind to a host, for "" by IPv4 and by IPv6 if there is, and add the sockets to `bound`."""
    if not host:
        _bind("0.0.0.0", port, bound)
        if socket.has_dualstack_ipv6():
            _bind("::", bound[0].getsockname()[1], bound)
        return
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    for index, (family, _, _, _, address) in enumerate(found):
        made = None
        try:
            made = _socket(family)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
        except OSError as error:
            if made is not None:
                made.close()
            # A name may have an address that this machine does not; a port in use is in use.
            if error.errno == errno.EADDRINUSE or index == len(found) - 1:
                raise OSError(error.errno, f"can't listen at {host}:{port} over UDP: {error.strerror}") from error
        else:
            bound.append(made)
            with suppress(OSError):  # it is more than this system gives to anyone
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            return


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
