"""Attackers: somebody hostile at a node, with and without what it takes to be a member, whatever the node's transport."""

from __future__ import annotations

import base64
import os
import socket
import ssl
from typing import Any, NamedTuple

from gossipmonger import Keyring, TcpTransport, UdpTransport
from gossipmonger.wire import hello
from gossipmonger.wire.greeting import SealedGreeter
from gossipmonger.wire.records import begins_sealed, end_of
from tests.certificates import Certificates

__all__ = ["HOST", "MEMBERS", "WAYS", "Connection", "Way", "client_hello", "rss"]

HOST = "127.0.0.1"

#: The key that nodes share, and members that went bad have.
KEY = base64.b64encode(bytes(32)).decode()


class Way(NamedTuple):
    """What an attacker has to do with.

    Attributes:
        udp: Whether the nodes take datagrams.
        tls: Whether they want certificates.
        sealed: Whether they share a key.
        member: Whether the attacker has what they want: a certificate of their authority, and their key.
    """

    udp: bool = False
    tls: bool = False
    sealed: bool = False
    member: bool = True

    def transport(self, id: str, certificates: Certificates, **options: Any) -> TcpTransport:
        """Return the transport of a node."""
        make: type[TcpTransport] = UdpTransport if self.udp else TcpTransport
        tls = certificates.both(id) if self.tls else {}
        return make(host=HOST, port=0, keyring=Keyring([KEY]) if self.sealed else None, **tls, **options)

    def datagram(self, data: bytes) -> bytes:
        """Return a datagram that says this."""
        return Keyring([KEY]).seal(data) if self.sealed and self.member else data


WAYS = {
    "tcp": Way(),
    "udp": Way(udp=True),
    "tls": Way(tls=True),
    "tls, no certificate": Way(tls=True, member=False),
    "sealed": Way(sealed=True),
    "sealed, no key": Way(sealed=True, member=False),
    "sealed udp": Way(udp=True, sealed=True),
    "sealed udp, no key": Way(udp=True, sealed=True, member=False),
}

#: The ways of those that are members, or need not be.
MEMBERS = [name for name, way in WAYS.items() if way.member]


class Connection:
    """A connection to a node.

    Args:
        way: What its maker has to do with.
        port: The node's.
        certificates: Where a member's is from.
        room: Bytes that the system may keep for it until it reads.

    Attributes:
        socket: What it says goes into here: where it has a certificate, encrypted.
    """

    def __init__(self, way: Way, port: int, certificates: Certificates, room: int | None = None) -> None:
        self._way = way
        self._greeter = SealedGreeter(Keyring([KEY]), None, True)
        self.socket = socket.socket()
        if room is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.settimeout(10)
        try:
            self.socket.connect((HOST, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if way.tls and way.member:
                self.socket = certificates.client("evil").wrap_socket(self.socket, server_hostname=HOST)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hello(self) -> bytes:
        """Return what it says first: a `HELLO`; of who has no certificate a ClientHello, and of who has no key a recording."""
        if self._way.sealed:
            return self._greeter.hello(None)
        return hello(None) if self._way.member else client_hello()

    def greet(self) -> None:
        """Say that, and hear the answer that it takes to go on."""
        self.send(self.hello())
        if self._way.sealed and self._way.member:
            heard = b""
            while not begins_sealed(heard):
                data = self.socket.recv(1 << 16)
                if not data:
                    raise ConnectionError("it was closed")
                heard += data
            self._greeter.read(heard[: end_of(heard)], HOST)

    def frames(self, data: bytes) -> bytes:
        """Return what says these frames on the link."""
        records = self._greeter.records
        return data if records is None else records.seal(data)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def finish(self) -> None:
        """Say no more, and wait until the other side has closed it."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
            while self.socket.recv(1 << 16):
                pass
        except TimeoutError:
            raise
        except OSError:  # it was closed at once
            pass
        self.socket.close()


def client_hello() -> bytes:
    """Return how TLS begins."""
    outgoing = ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def rss() -> int:
    """Return the bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
