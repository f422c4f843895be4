"""The UDP transport: datagrams where they do, and TCP on the same port for everything else.

A node that takes datagrams says so in its address, `{"host", "port", "udp": true}`, which TCP transports and Node.js nodes pass
on and ignore. Messages to such a node that fit into a few datagrams go as datagrams: see `gossipmonger.wire.datagrams`. Over
TCP go longer messages, messages to all other nodes, answers to messages that came over TCP, messages to a host whose name has
not been resolved yet, and all that an observer sends.

Anybody can send a datagram in somebody else's name. So until an address has answered a `HELLO` over TCP, whose handshake shows
who is there, it is sent no more than a few times the bytes that came in its name: see `gossipmonger.transport.tcp.place`. What
is longer goes over TCP.

It has no threads of its own: the TCP side's thread watches the sockets of both, decodes and emits. Datagrams are sent on the
caller's thread, which never waits: a datagram that the system has no room for is lost, as it could be anywhere on its way.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from gossipmonger.errors import SendError, shown
from gossipmonger.errors import at as address_of
from gossipmonger.process import here, marked, own, renew
from gossipmonger.state.arguments import check_number
from gossipmonger.state.message import ExtendedPeer, Kind, Message, RemotePeer
from gossipmonger.transport.address import Address, to_bind
from gossipmonger.transport.loop import READ
from gossipmonger.transport.tcp.caller import Caller, source_of
from gossipmonger.transport.tcp.options import TLS
from gossipmonger.transport.tcp.transport import TcpTransport
from gossipmonger.transport.traffic import Traffic
from gossipmonger.wire import OVERHEAD, Encoder, decode, divide, inflate, is_address

__all__ = ["UdpTransport"]

#: Bytes. Every path of IPv6 carries packets of 1,280, of which headers take 48. So no router or tunnel has to fragment or drop
#: such a datagram. Ethernet alone would carry a fifth more.
_DATAGRAM_SIZE = 1_232

#: Bytes of the largest datagram that IPv4 carries.
_LARGEST = 65_507

#: Bytes that a datagram may have once it is inflated: what a sender deflates into one has at most five times the bytes.
_LARGEST_INFLATED = 5 * _LARGEST

#: Bytes that the system is asked to buffer while a datagram is handled. It may give less.
_BUFFER = 1 << 20

#: Ports that are tried for a port of 0, until one is free for both protocols. Each outgoing connection of the last minute has
#: taken one of TCP's, and there may be very many.
_ATTEMPTS = 100

#: Datagrams that are read from one socket before the other has its turn.
_READS_PER_TURN = 64

#: Seconds to leave a socket alone that cannot be read, for want of memory, say.
_PAUSE = 0.1


class UdpTransport(TcpTransport):
    """Messages over UDP, and over TCP where UDP does not do. It forms one cluster with `TcpTransport` and Node.js nodes.

    Args:
        options: As for `TcpTransport`, and `max_datagram_size`.
        max_datagram_size: Bytes of payload in one datagram that is sent, 512 to 65,507. Longer ones are received too.
        **keywords: The arguments of `TcpTransport`, for the TCP side; `host`, `port` and `max_message_size` hold for both.

    Raises:
        TypeError, ValueError: An option is unknown or out of range; the error names it.
    """

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, max_datagram_size: int = _DATAGRAM_SIZE, **keywords: Any
    ) -> None:
        given = {"max_datagram_size": max_datagram_size, **keywords, **(options or {})}
        check_number("max_datagram_size", given["max_datagram_size"], int, 512, _LARGEST)
        self.max_datagram_size: int = given.pop("max_datagram_size")
        for name in TLS:
            if given.get(name):
                raise ValueError(f"{name} is for TcpTransport: TLS does not encrypt datagrams, which a Keyring does")
        super().__init__(given)
        self._datagrams = Traffic("udp")
        self._count_with(self._datagrams)
        self._encoder = Encoder()
        self._sockets: dict[int, socket.socket] = {}  # by family, to send with; those that `listen` binds receive too
        self._opened: list[socket.socket] = []  # all, to be closed
        # Guards the two above, what was sent, and that nobody sends with a socket that is closed.
        self._sockets_lock = threading.Lock()
        renew(self, "_sockets_lock")

    # Sending

    def send(self, to: RemotePeer, message: Message) -> None:
        """Send a message: see `Transport.send`. A digest may go in parts, which say so."""
        thread = here()
        if thread.marked and thread.defer(object(), partial(self.send, to, message)):
            return
        if not self._send_datagrams(to, message):
            super().send(to, message)
        elif thread.deferred:
            thread.settle()

    def _send_datagrams(self, to: RemotePeer, message: Message) -> bool:
        """Send a message as datagrams, or emit why that failed; return False if it has to go over TCP."""
        at = to.transport
        if isinstance(to, Caller) or not is_address(at) or at.get("udp") is not True or self.loop.forked or self.observer:
            return False  # a caller waits for its answer on a link that is open, and an observer asks only who has said `HELLO`
        try:
            addresses = self.resolver.known(at["host"], int(at["port"]))
            if addresses is None:
                return False
            largest, overhead = self.max_message_size, 0 if self.keyring is None else OVERHEAD
            datagrams = divide(message, min(self.max_datagram_size - overhead, largest), largest, self._encoder.encode)
            if datagrams is None or not self._places.may_return(to, sum(map(len, datagrams)) + overhead * len(datagrams)):
                return False
            return self._transmit(addresses, [self.seal(datagram) for datagram in datagrams], message)
        except OSError as error:
            refusal = SendError(f"can't send to peer {shown(to.id)} at {address_of(at)}: {error}", RemotePeer(to.id, at))
            refusal.__cause__ = error
            self._failed(refusal)
        except Exception as error:  # JSON has no form for something in the message
            self._failed(error)
        return True

    def _transmit(self, addresses: list[Address], datagrams: list[bytes], message: Message) -> bool:
        """Send to the first address that there is a way to; return False if the system finds a datagram too long."""
        for index, (family, at) in enumerate(addresses):
            try:
                self._send_to(family, at, datagrams, message)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    return False
                if index == len(addresses) - 1:
                    raise
            else:
                break
        return True

    def _send_to(self, family: int, at: Any, datagrams: list[bytes], message: Message) -> None:
        with marked(), self._sockets_lock:
            if self._closed:
                return
            sender = self._sockets.get(family)
            if sender is None:
                sender = self._sockets[family] = _socket(family)
                self._opened.append(sender)
            for datagram in datagrams:
                sender.sendto(datagram, at)  # which never waits
            self._datagrams.sent.note(message, sum(map(len, datagrams)))

    # Receiving

    @property
    def address(self) -> Mapping[str, Any] | None:
        """`host`, `port` and `udp` that peers are to be told, None while a port of 0 is not bound."""
        address = super().address
        return address if address is None or self.observer else {**address, "udp": True}

    def _bind(self, host: str, port: int) -> None:
        """Bind UDP and then TCP to the same port: if the second fails, the first can be undone."""
        for attempt in range(_ATTEMPTS):
            bound: list[socket.socket] = []
            try:
                _bind(host, port, bound)
                super()._bind(host, bound[0].getsockname()[1])
                break
            except BaseException as error:
                _close(bound)
                taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
                if port != 0 or not taken or attempt == _ATTEMPTS - 1:
                    raise
        with marked(), self._sockets_lock:
            self._sockets.update({each.family: each for each in bound})
            self._opened += bound
        for each in bound:
            self.loop.call(partial(self._watch, each))

    # On the loop's thread

    def _watch(self, readable: socket.socket) -> None:
        self.loop.watch(readable, READ, partial(self._read, readable))

    def _read(self, readable: socket.socket) -> None:
        parts: dict[str, Message] = {}
        for _ in range(_READS_PER_TURN):
            try:
                data, source = readable.recvfrom(_LARGEST)
            except BlockingIOError:
                break
            except ConnectionError:  # how some systems report a datagram sent earlier
                continue
            except OSError as error:
                self._failed(error)
                self.loop.unwatch(readable)
                self.loop.after(_PAUSE, partial(self._watch, readable)).start()
                break
            self._take(data, source_of(source), parts)
            if self._closed:
                return
        for message in parts.values():
            self._received(message)

    def _take(self, data: bytes, source: str, parts: dict[str, Message]) -> None:
        """Take a datagram. Parts of one digest are kept until all that came are there, and answered together."""
        self._datagrams.received.note(None, len(data))
        try:
            text = inflate(self.open_sealed(data, source), min(self.max_message_size, _LARGEST_INFLATED), source)
            message = decode(text, source, is_address, limits=self.limits)
        except Exception as error:  # a lack of memory, too, costs only this datagram
            self._failed(error)
            return
        sender, deltas, digest = message
        self._datagrams.received.note(message)
        self._places.learn(sender, node_js=False, shown=False, size=len(data))
        message = message._replace(sender=ExtendedPeer(*sender))
        if deltas is not None or digest is None or digest.kind is not Kind.PART:
            self._received(message)
            return
        former, origin = parts.pop(sender.id, None), (sender, _cluster(message))
        if former is not None and former.digest is not None and (former.sender, _cluster(former)) == origin:
            digest = digest._replace(entries=[*former.digest.entries, *digest.entries])
            if former.digest.header is not None and former.digest.header.ask and digest.header is not None:
                digest = digest._replace(header=digest.header._replace(ask=True))
        elif former is not None:  # of a node that has moved
            self._received(former)
        parts[sender.id] = message._replace(digest=digest)

    def _close_sockets(self) -> None:
        with marked(), self._sockets_lock:
            opened, self._opened = self._opened, []
            _close(opened)
        super()._close_sockets()


def _cluster(message: Message) -> str | None:
    return None if message.digest is None or message.digest.header is None else message.digest.header.cluster


def _socket(family: int) -> socket.socket:
    made = own(partial(socket.socket, family, socket.SOCK_DGRAM))
    made.setblocking(False)
    return made


def _bind(host: str, port: int, bound: list[socket.socket]) -> None:
    """Bind to a host, for "" and "::" over IPv4 and, if there is, IPv6; add the sockets to `bound`."""
    if host in ("", "::"):
        _bind("0.0.0.0", port, bound)
        if socket.has_dualstack_ipv6():
            try:
                _bind_to("::", bound[0].getsockname()[1], bound)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise  # another port may be free for both; any other error is that of a system without IPv6
        return
    _bind_to(host, port, bound)


def _bind_to(host: str, port: int, bound: list[socket.socket]) -> None:
    """Bind to the first address of a host that can be bound."""
    found = to_bind(host, port, False)
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
            # A name may have addresses of other machines, which are skipped; a port in use is an error at once.
            if error.errno == errno.EADDRINUSE or index == len(found) - 1:
                raise OSError(error.errno, f"can't listen at {host}:{port} over UDP: {error.strerror}") from error
        else:
            bound.append(made)
            with suppress(OSError):  # the system gives less
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            return


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()
