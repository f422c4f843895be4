"""Handshakes of TLS: how one goes on without waiting, what it fails of, and what is told of that.

Nothing here loads the module `ssl`, which only transports with TLS need: see `tls`.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from gossipmonger.errors import TlsError, shown
from gossipmonger.state.message import RemotePeer
from gossipmonger.transport.loop import READ, WRITE, Loop

if TYPE_CHECKING:
    from gossipmonger.transport.tcp.dial import Dial
    from gossipmonger.transport.tcp.tls import Tls

__all__ = [
    "NAME",
    "REFUSAL",
    "Notices",
    "Secured",
    "TlsFailure",
    "begins_tls",
    "check_id",
    "is_refusal",
    "named",
    "shake",
    "shake_hands",
]

#: Where a seed's address has the name that was resolved to it, for that is what a certificate has to show.
NAME = "tls_name"

#: What answers a connection that begins in the clear: the alert "protocol version", as TLS writes it before any key is agreed.
REFUSAL = b"\x15\x03\x01\x00\x02\x02\x46"

#: Seconds between two errors about one source and one reason, and how many of these are remembered.
_REPORT_EVERY, _CAPACITY = 60.0, 1_000


class TlsFailure(ConnectionError):
    """A connection cannot go on because of TLS. Its text says why, of the other side: "it ..."."""


class Secured(socket.socket):
    """A connection that is encrypted, as the rest of TCP sees it: see `TlsSocket`.

    Attributes:
        touched: Whether anything has come.
        ids: The ids that the certificate of the other side names; None if they are not checked.
    """

    touched: bool = False
    ids: frozenset[str] | None = None

    @property
    def unsent(self) -> int:
        """Bytes that wait for room, though `send` has taken them or has not been asked."""
        raise NotImplementedError

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is finished, and all of it has left.

        Raises:
            OSError: It has failed, or the connection is gone.
        """
        raise NotImplementedError


def begins_tls(data: bytes | bytearray) -> bool:
    """Whether what has come first on a connection is the beginning of a handshake. No message begins so."""
    return data[:1] == b"\x16"


def is_refusal(data: bytes | bytearray) -> bool:
    """Whether what answers a `HELLO` in the clear is an alert of TLS."""
    return data[:2] == REFUSAL[:2]


def named(to: RemotePeer) -> tuple[RemotePeer, str]:
    """Return a peer with the address that it tells, and the host that its certificate has to name."""
    transport: Mapping[str, Any] = to.transport
    name, host = transport.get(NAME), str(transport["host"])
    if name is None:
        return to, host
    told = {key: value for key, value in transport.items() if key != NAME}
    return RemotePeer(to.id, told), name if isinstance(name, str) else host


def check_id(connected: socket.socket, peer: RemotePeer | None) -> TlsFailure | None:
    """Return why a connection cannot carry what a peer says; None if its certificate names the id, or need not."""
    ids = connected.ids if isinstance(connected, Secured) else None
    if ids is None or peer is None or peer.id in ids:
        return None
    names = ", ".join(map(shown, sorted(ids)[:5])) or "nobody"
    return TlsFailure(f"it speaks as {shown(peer.id)}, but its certificate names {names}")


class Notices:
    """Reports failures of TLS, once a minute for each source and reason, since nodes retry. On the loop's thread only.

    Args:
        failed: Called with the errors.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._times: OrderedDict[tuple[str, str], float] = OrderedDict()  # the latest last

    def tell(self, source: str, failure: TlsFailure, dialled: bool = True) -> None:
        """Tell, unless it was told a short while ago.

        Args:
            source: Where it came from, as errors show it.
            failure: Why.
            dialled: Whether the connection was dialled from here. If not, the port of `source` is a new one each time.
        """
        key, now = (source if dialled else source.rpartition(":")[0], str(failure)), monotonic()
        if now - self._times.get(key, -_REPORT_EVERY) < _REPORT_EVERY:
            return
        self._times[key] = now
        self._times.move_to_end(key)
        if len(self._times) > _CAPACITY:
            self._times.popitem(last=False)
        self._failed(TlsError(str(failure), source))


def shake(loop: Loop, connected: Secured, done: Callable[[], None], failed: Callable[[OSError], None]) -> None:
    """Take a handshake as far as it goes now, and continue whenever the loop finds more to do.

    Whoever begins it sees to its deadline, by unwatching the socket.

    Args:
        loop: Watches the socket.
        connected: The socket.
        done: Called when both sides have finished. Something may have been read that comes after the handshake.
        failed: Called with why it has failed.
    """
    try:
        finished = connected.shake_hands()
        if not finished:
            events = READ | WRITE if connected.unsent else READ
            loop.watch(connected, events, partial(shake, loop, connected, done, failed))
    except OSError as error:
        failed(error)
        return
    if finished:
        done()


def shake_hands(loop: Loop, tls: Tls, host: str, seconds: float, then: Callable[[Dial], None], dial: Dial) -> None:
    """Shake hands on a connected dial, as its client.

    Args:
        loop: Watches the socket.
        tls: Says how.
        host: The host that was dialled, as it was typed: the certificate has to name it.
        seconds: For the whole handshake.
        then: Called with the dial when that is done.
        dial: The dial, which tries its next address if the handshake fails.
    """
    try:
        connected = tls.dial(dial.socket, host)
    except (OSError, TypeError, ValueError) as error:
        dial.go_on(TlsFailure(f"no certificate can name {shown(host)}: {error}"))
        return
    dial.become(connected)
    step = partial(shake, loop, connected, partial(then, dial), dial.go_on)
    late = TlsFailure(f"it has not finished a TLS handshake within {seconds:g} s; is it a node without TLS?")
    dial.wait(READ, seconds, step, partial(dial.go_on, late))
    if dial.socket is connected:  # or it could not be watched
        step()
