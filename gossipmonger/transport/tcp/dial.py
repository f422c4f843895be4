"""Dialling: one attempt to connect, over the addresses that a name has, and what is said first on the connection.

That is a `HELLO`, or the one message that a Node.js node can take. All of it happens on the loop's thread.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from gossipmonger.errors import MessageError
from gossipmonger.process import own
from gossipmonger.state.message import RemotePeer
from gossipmonger.transport.address import Address
from gossipmonger.transport.loop import READ, WRITE, Handle, Loop
from gossipmonger.transport.tcp.caller import source_of
from gossipmonger.transport.tcp.handshake import Secured, TlsFailure, check_id, is_refusal
from gossipmonger.transport.tcp.link import Link
from gossipmonger.transport.tcp.links import CHUNK
from gossipmonger.transport.tcp.side import Side
from gossipmonger.wire import Greeter

__all__ = ["Dial", "Greeting", "ReachedItself", "SingleMessage"]

#: What `connect` says when it has begun.
_BEGUN = (0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK))

_REFUSED = (errno.ECONNREFUSED, getattr(errno, "WSAECONNREFUSED", errno.ECONNREFUSED))


class ReachedItself(Exception):
    """A dial has led back to this very process."""


class Dial:
    """Connects, and waits for what is to happen on the socket then. On the loop's thread only.

    Args:
        loop: Watches the socket.
        timeout: Seconds for each address.
        sockets: Where the socket stands while it belongs to this.
        connected: Called with this, once it is connected.
        failed: Called with the last address's error if none is left.
        told: Called with "accepted" if an address was, or with "refused" if all were. At the end, with "itself" if one led back
            to this process and none to anybody else.

    Attributes:
        socket: The socket, while there is one.
        source: The address that it leads to, for errors.
    """

    def __init__(
        self,
        loop: Loop,
        timeout: float,
        sockets: set[socket.socket],
        connected: Callable[[Dial], None],
        failed: Callable[[Exception], None],
        told: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._sockets = sockets
        self._connected = connected
        self._failed = failed
        self._told = told
        self._addresses: list[Address] = []
        self._all_refused = True
        self._reached_itself = False
        self._timer: Handle | None = None
        self.socket: socket.socket = None  # type: ignore[assignment]  # handlers of this run while there is one
        self.source: str = ""

    def begin(self, addresses: list[Address]) -> None:
        """Connect to the last of these addresses, and to the one before it if that fails."""
        self._addresses = addresses
        self._next(None)

    def go_on(self, error: Exception) -> None:
        """Give this address up for the next one, because of this error."""
        self.close()
        self._all_refused &= isinstance(error, OSError) and error.errno in _REFUSED
        self._reached_itself |= isinstance(error, ReachedItself)
        self._next(error)

    def _next(self, error: Exception | None) -> None:
        if not self._addresses:
            if error is not None and self._all_refused:
                self._told("refused")
            if self._reached_itself:
                self._told("itself")
                error = ReachedItself(str(error))
            self._failed(error or OSError("it has no address"))
            return
        family, at = self._addresses.pop()
        self.source = source_of(at)
        try:
            self.socket = own(partial(socket.socket, family, socket.SOCK_STREAM))
            self._sockets.add(self.socket)
            self.socket.setblocking(False)
            number = self.socket.connect_ex(at)
            if number not in _BEGUN:
                raise OSError(number, os.strerror(number))
        except OSError as failure:
            self.go_on(failure)
            return
        late = TimeoutError(f"no answer within {self._timeout:g} s")
        self.wait(WRITE, self._timeout, self._finish, partial(self.go_on, late))

    def _finish(self) -> None:
        number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.go_on(OSError(number, os.strerror(number)))
            return
        try:
            itself = self.socket.getsockname() == self.socket.getpeername()
        except OSError as error:
            self.go_on(error)
            return
        if itself:  # nobody listens, and the system has taken the very port that is dialled for this end
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leave the port free
            self.go_on(OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
            return
        self._stop_waiting()
        with suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._told("accepted")
        self._connected(self)

    def wait(self, events: int, seconds: float, ready: Callable[[], None], late: Callable[[], None]) -> None:
        """Call `ready` whenever the socket is, and `late` if that has not ended after so many seconds."""
        self._stop_waiting()
        try:
            self._loop.watch(self.socket, events, ready)
        except OSError as error:  # the system's limit on watched sockets
            self.fail(error)
            return
        self._timer = self._loop.after(seconds, late)
        self._timer.start()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.socket is not None:
            self._loop.unwatch(self.socket)

    def become(self, connected: socket.socket) -> None:
        """Go on with another object for the same connection."""
        self._sockets.discard(self.socket)
        self._sockets.add(connected)
        self.socket = connected

    def release(self) -> socket.socket:
        """Return the socket, which is the caller's from now on."""
        self._stop_waiting()
        self._sockets.discard(self.socket)
        released, self.socket = self.socket, None  # type: ignore[assignment]
        return released

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self.socket is not None:
            self.release().close()

    def fail(self, error: Exception) -> None:
        """Give up."""
        self.close()
        self._failed(error)


#: Seconds that a `HELLO` waits for its answer before the address counts as a Node.js node's. A loaded machine takes tenths.
_HELLO_TIMEOUT = 1.0

#: The same with TLS, where no Node.js node can be there.
_TLS_TIMEOUT = 5.0

#: Seconds that it waits for one that comes even later, to know better next time.
_LATE = 10.0


class Greeting:
    """Says `HELLO`, and hears whether that is answered.

    Args:
        dial: A connected dial.
        side: What all connections share.
        greeter: Says and hears the `HELLO`s.
        named: How this node names itself.
        linked: Called with the link that comes of it, and what has come on it already.
        silent: Called with "silent" if no `HELLO` comes in time, or with "foreign" if something else does.
        late: Called if one comes after all.
    """

    def __init__(
        self,
        dial: Dial,
        side: Side,
        greeter: Greeter,
        named: RemotePeer | None,
        *,
        linked: Callable[[Link, bytes], None],
        silent: Callable[[str], None],
        late: Callable[[], None],
    ) -> None:
        self._dial = dial
        self._side = side
        self._greeter = greeter
        self._named = named
        self._linked = linked
        self._silent = silent
        self._late = late
        self._heard = bytearray()
        try:
            said = side.hello(greeter, named)
            dial.socket.send(said)
            side.links.traffic.sent.greet(len(said))
        except Exception as error:  # it is gone already, or JSON has no form for the name
            dial.fail(error)
            return
        dial.wait(READ, _TLS_TIMEOUT if isinstance(dial.socket, Secured) else _HELLO_TIMEOUT, self._read, self._turn_away)

    def _read(self) -> None:
        try:
            data = self._dial.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except TlsFailure as error:  # the other side has judged this one's certificate by now
            self._dial.go_on(error)
            return
        except OSError:
            data = b""
        self._heard += data
        source, answer, rest = self._dial.source, None, b""
        if is_refusal(self._heard):
            self._dial.go_on(TlsFailure("it takes nothing but TLS, and this node has no tls_server and tls_client"))
            return
        try:
            begun = self._greeter.begun(self._heard, source)
            if begun is None and data:
                return
            if begun:
                answer, rest = self._greeter.read(self._heard, source)
                self._side.links.traffic.received.greet(len(self._heard) - len(rest))
        except MessageError as error:
            self._side.failed(error)
        if answer is None:
            self._dial.close()
            self._silent("foreign" if self._heard else "silent")
        elif answer.life == self._side.life() if answer.life else answer.sender is not None and answer.sender == self._named:
            self._dial.go_on(ReachedItself(f"{source} is this node itself"))
        elif (unnamed := check_id(self._dial.socket, answer.sender)) is not None:
            self._dial.go_on(unnamed)
        elif answer.cluster != self._side.clusters.name:
            self._dial.go_on(self._side.clusters.error(answer.cluster, answer.sender, source))
        else:
            link = Link(
                self._dial.release(), source, dialled=True, named=self._named, peer=answer.sender,
                limit=self._side.max_message_size, cluster=answer.cluster, greeter=self._greeter,
            )  # fmt: skip
            self._linked(link, rest)

    def _turn_away(self) -> None:
        """Tell a Node.js node that nothing follows. Should it be one of ours that was slow, that is heard yet."""
        with suppress(OSError):
            self._dial.socket.shutdown(socket.SHUT_WR)
        self._dial.wait(READ, _LATE, self._read_late, self._dial.close)
        self._silent("silent")

    def _read_late(self) -> None:
        with suppress(OSError, MessageError):
            if self._greeter.begun(self._dial.socket.recv(CHUNK), self._dial.source):
                self._late()
        self._dial.close()


class SingleMessage:
    """Sends one message, ended by FIN, and waits until the other side has taken it.

    Args:
        dial: A connected dial.
        data: The message.
        timeout: Seconds for it to leave.
        done: Called when the connection is over.
    """

    def __init__(self, dial: Dial, data: bytes, timeout: float, done: Callable[[], None]) -> None:
        self._dial = dial
        self._left = memoryview(data)
        self._timeout = timeout
        self._done = done
        late = TimeoutError(f"not read within {timeout:g} s")
        dial.wait(WRITE, timeout, self._write, partial(dial.fail, late))

    def _write(self) -> None:
        try:
            self._left = self._left[self._dial.socket.send(self._left) :]
            if self._left:
                return
            self._dial.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError as error:
            self._dial.fail(error)
            return
        self._dial.wait(READ, self._timeout, self._finish, self._finish)

    def _finish(self) -> None:
        self._dial.close()
        self._done()
