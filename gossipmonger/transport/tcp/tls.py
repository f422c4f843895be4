"""TLS: the contexts of both sides, and sockets that encrypt.

A `TlsSocket` is a socket that does not block, and is used as any other: the rest of TCP does not know the difference once
hands are shaken. OpenSSL works on memory here, and what it makes is written and read as without it. So it never waits for the
network, nothing that was read hides from the selector, and what it has to write by itself, such as the answer to a change of
keys, is written with the next bytes.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import time
from typing import Any

from gossipmonger.errors import shown
from gossipmonger.process import marked, own
from gossipmonger.transport.tcp.handshake import REFUSAL, Secured, TlsFailure, begins_tls

__all__ = ["Tls", "TlsSocket"]

#: Bytes that are encrypted before they are written: four records. What does not leave waits, encrypted.
_SLICE = 1 << 16

#: Bytes of a record, at most.
_RECORD = 1 << 14

#: Bytes of one read in a handshake, and reads in a row that yield nothing before other sockets have their turn.
_CHUNK, _READS = 1 << 14, 16

#: Bytes that may wait to be written. Only a peer that asks for new keys time and again, and reads nothing, makes it so many.
_MOST_UNSENT = 1 << 18

#: Without TLS.
_send, _recv = socket.socket.send, socket.socket.recv

#: Names in a certificate that may be ids.
_ID_NAMES = ("DNS", "URI")

#: What OpenSSL says, in words that help.
_REASONS: Mapping[str, str] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has shown no certificate; does its tls_client have one?",
    "NO_SHARED_CIPHER": "no cipher suits both; does this node's tls_server have a certificate?",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "no signature suits both; does this node's tls_server have a certificate?",
    "UNSUPPORTED_PROTOCOL": "no version of TLS suits both",
    "ALERT_PROTOCOL_VERSION": "no version of TLS suits both",
    "ALERT_HANDSHAKE_FAILURE": "it refuses the handshake; does its tls_server have a certificate?",
    "ALERT_CERTIFICATE_REQUIRED": "it wants a certificate; does this node's tls_client have one?",
    "WRONG_VERSION_NUMBER": "it answers without TLS",
}


class _Closed:
    """Replaces the TLS of a closed socket, which another thread may be about to use."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionError("the connection is closed")


class Tls:
    """The TLS of a transport.

    Args:
        server: The context for connections that others dial.
        client: The context for those that are dialled here.
        check_id: Whether a peer's id has to be among the names of its certificate.
        names: What the caller calls the three, for errors.

    Attributes:
        server: As above.
        client: As above.

    Raises:
        TypeError, ValueError: One of them does not do; the error names it.
    """

    def __init__(
        self,
        server: Any,
        client: Any,
        check_id: Any = False,
        names: Sequence[str] = ("tls_server", "tls_client", "tls_check_id"),
    ) -> None:
        self._names = names
        if not isinstance(check_id, bool):
            raise TypeError(f"{names[2]} must be True or False, got {shown(check_id)}")
        if server is None or client is None:
            raise ValueError(f"{names[0]} and {names[1]} must be given together: a node is dialled, and dials")
        self.server: ssl.SSLContext = _checked(names[0], server, ssl.PROTOCOL_TLS_CLIENT)
        self.client: ssl.SSLContext = _checked(names[1], client, ssl.PROTOCOL_TLS_SERVER)
        self._check_id = check_id

    def renew(self, server: Any, client: Any) -> None:
        """Take other contexts for the handshakes from now on; None for the same.

        Raises:
            TypeError, ValueError: One of them does not do.
        """
        server = self.server if server is None else _checked(self._names[0], server, ssl.PROTOCOL_TLS_CLIENT)
        client = self.client if client is None else _checked(self._names[1], client, ssl.PROTOCOL_TLS_SERVER)
        self.server, self.client = server, client

    def accept(self, connected: socket.socket) -> TlsSocket:
        """Return a connection that was accepted, to shake hands on. The one given is its own from now on."""
        return own(partial(TlsSocket, connected, self.server, True, None, self._check_id))

    def dial(self, connected: socket.socket, host: str) -> TlsSocket:
        """Return a connection that was dialled, to shake hands on. The one given is its own from now on.

        Raises:
            TypeError, ValueError: The host is nothing that a certificate can name.
        """
        name = host.strip("[]").partition("%")[0].rstrip(".")
        return own(partial(TlsSocket, connected, self.client, False, name, self._check_id))


def _checked(name: str, context: Any, wrong: int) -> ssl.SSLContext:
    """Return a context if it can be one of its side.

    Raises:
        TypeError, ValueError: It cannot; the error calls it by this name.
    """
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"{name} must be an ssl.SSLContext, got {shown(context)}")
    if context.protocol == wrong:
        raise ValueError(f"{name} must be a context for its side, got one made with {context.protocol.name}")
    if context.verify_mode != ssl.CERT_REQUIRED:
        raise ValueError(f"{name} must have the verify_mode ssl.CERT_REQUIRED, or anybody could take part")
    return context


class TlsSocket(Secured):
    """A connection that is encrypted. It does not block.

    Any thread may write and read. As with OpenSSL itself, a `send` that raises `BlockingIOError` is to be repeated with the
    same bytes in front.

    Args:
        connected: The connection, which is this object's from now on.
        context: How to encrypt, and whom to trust.
        server: Whether the other side has dialled.
        name: The name that its certificate has to have, if the context checks that.
        check_id: Whether ids are checked.

    Attributes:
        expires: When the certificate of the other side expires; seconds since the epoch.

    Raises:
        TypeError, ValueError: No certificate can have the name, or the context is for the other side.
    """

    def __init__(
        self, connected: socket.socket, context: ssl.SSLContext, server: bool, name: str | None, check_id: bool
    ) -> None:
        self._pid = os.getpid()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: Any = context.wrap_bio(self._incoming, self._outgoing, server_side=server, server_hostname=name)
        self._server = server
        self._check_id = check_id
        self._shaken = False
        self._ended = False  # whether the other side has finished
        self._taken = 0  # bytes of `send` that are encrypted, and that have not all left
        self._unsent = bytearray()
        self._tls_lock = threading.Lock()  # guards all of the above; OpenSSL wants one thread at a time
        self.touched: bool = False
        self.ids: frozenset[str] | None = None
        self.expires: float = float("inf")
        super().__init__(connected.family, connected.type, connected.proto, fileno=connected.detach())
        self.setblocking(False)

    @property
    def unsent(self) -> int:
        """Bytes that are encrypted and wait for room."""
        return len(self._unsent)

    def shake_hands(self) -> bool:
        """Go on with the handshake: see `Secured`."""
        with marked(), self._tls_lock:
            for _ in range(_READS):
                if self._shaken:
                    return self._flush()
                if not self._step():
                    break
            return False

    def _step(self) -> bool:
        """Go one step further; return False if that has to wait. This requires holding `_tls_lock`."""
        assert self._tls_lock.locked()
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return self._read_handshake()
        except ssl.SSLError as error:
            with suppress(OSError):
                self._flush()  # an alert, which tells the other side why
            raise TlsFailure(_words(error)) from error
        self._know(self._tls.getpeercert() or {})
        return True

    def _read_handshake(self) -> bool:
        """Read more of a handshake; return whether there was anything. This requires holding `_tls_lock`."""
        assert self._tls_lock.locked()
        try:
            data = _recv(self, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionError("it ended within the TLS handshake")
        if not self.touched and self._server and not begins_tls(data):
            self.touched = True
            with suppress(OSError):
                _send(self, REFUSAL)
            raise TlsFailure("it begins without TLS, and this node takes nothing else; does it have tls_server and tls_client?")
        self.touched = True
        self._incoming.write(data)
        return True

    def _know(self, certificate: Mapping[str, Any]) -> None:
        """Note what the certificate of the other side says."""
        self._shaken = True
        if "notAfter" in certificate:
            self.expires = ssl.cert_time_to_seconds(certificate["notAfter"])
        if self._check_id:
            names = certificate.get("subjectAltName", ())
            self.ids = frozenset(name for kind, name in names if kind in _ID_NAMES)

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Encrypt and write as much as the system takes at once; return how much of the data that was.

        Raises:
            BlockingIOError: It takes nothing now.
            OSError: The connection is broken.
        """
        sent = 0
        with marked(), self._tls_lock:
            while sent < len(data):
                if not self._taken:
                    try:
                        self._taken = self._tls.write(data if len(data) <= _SLICE and not sent else data[sent : sent + _SLICE])
                    except ssl.SSLError as error:
                        super().shutdown(socket.SHUT_RDWR)  # so whoever reads finds out
                        raise TlsFailure(_words(error)) from error
                if not self._flush():
                    break
                sent, self._taken = sent + self._taken, 0
        if not sent:
            raise BlockingIOError
        return sent

    def _flush(self) -> bool:
        """Write what is encrypted; return whether all has left. This requires holding `_tls_lock`.

        Raises:
            OSError: The connection is broken.
        """
        assert self._tls_lock.locked()
        unsent = self._unsent
        data: bytes | bytearray = self._outgoing.read()
        if unsent:
            unsent += data
            data = unsent
        if not data:
            return True
        try:
            left = _send(self, data)
        except BlockingIOError:
            left = 0
        if data is unsent:
            del unsent[:left]
        elif left < len(data):
            unsent += data[left:]
        return not unsent

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Read up to so many encrypted bytes; return all that they say, so that nothing more waits here, b"" at the end.

        Raises:
            BlockingIOError: There is nothing now.
            OSError: The connection is broken, or somebody has altered what came, or the other side's certificate has expired.
        """
        with marked(), self._tls_lock:
            if time() > self.expires:
                raise TlsFailure("its certificate has expired since the handshake")
            for _ in range(_READS):
                if self._ended:
                    return b""
                if self._incoming.pending:
                    data = self._decrypt()
                    if data:
                        return data
                else:
                    read = _recv(self, size)
                    self._ended = not read  # maybe without a word of TLS about it; whether a frame is whole, frames tell
                    self._incoming.write(read)
            raise BlockingIOError

    def _decrypt(self) -> bytes:
        """Return all that can be decrypted of what came. This requires holding `_tls_lock`."""
        assert self._tls_lock.locked()
        parts: list[bytes] = []
        failure: TlsFailure | None = None
        try:
            while self._incoming.pending and not self._ended:
                part = self._tls.read(_RECORD)
                parts.append(part)
                self._ended = not part
        except ssl.SSLWantReadError:  # a part of a record, or one that is for TLS alone
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            failure = TlsFailure(_words(error))
            failure.__cause__ = error
        if self._outgoing.pending:  # an alert, or an answer to a change of keys
            with suppress(OSError):  # the next read finds out
                self._flush()
            if failure is None and len(self._unsent) > _MOST_UNSENT:
                failure = TlsFailure("it makes this node answer, and does not read")
        if failure is not None:
            raise failure
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the socket, and free its buffers and OpenSSL's state: timers may hold the socket for some seconds.

        It takes no lock, as it also runs in a forked child. There it frees nothing: the parent may have been inside OpenSSL.
        """
        super().close()
        if os.getpid() == self._pid:
            self._ended, self._tls, self._taken, self._unsent = True, _Closed(), 0, bytearray()
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def shutdown(self, how: int, /) -> None:
        """End the writing side, or both. Of the first, TLS tells the other side."""
        if how == socket.SHUT_WR:
            with marked(), self._tls_lock:
                with suppress(OSError, ValueError):
                    with suppress(ssl.SSLError):  # that the other side has not done the same yet
                        self._tls.unwrap()
                    self._flush()
        super().shutdown(how)


def _words(error: ssl.SSLError) -> str:
    """Return what OpenSSL says of the other side."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message.rstrip('.')}"
    reason = error.reason or str(error)
    alert = reason[reason.index("ALERT_") :] if "ALERT_" in reason else reason
    if alert in _REASONS:
        return _REASONS[alert]
    said = alert.removeprefix("ALERT_").replace("_", " ").lower()
    if alert is reason:
        return f"TLS fails: {said}"
    about = "certificate" in said or said in ("unknown ca", "access denied")
    return f"it refuses this node's certificate: {said}" if about else f"it gives TLS up: {said}"
