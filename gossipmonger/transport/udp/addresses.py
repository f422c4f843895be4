"""Addresses: where the datagrams for a host and a port go, without waiting for a resolver.

The system's resolver blocks, for seconds if a name server does not answer, so names are resolved on a thread. Until that is
done a name has no address, and the message goes another way. An address that has become old is used once more while its name
is resolved again.
"""

from __future__ import annotations

import math
import socket
import threading
from time import monotonic
from typing import Any, NamedTuple

from gossipmonger.transport.tcp.pool import Pool

__all__ = ["Address", "Addresses"]

#: Seconds for which a name's address is used before it is resolved again, since names may move.
_LIFETIME = 30.0

#: Addresses that are remembered, and names that may wait for the resolver.
_CAPACITY = 10_000


class Address(NamedTuple):
    """The address of a socket.

    Attributes:
        family: `socket.AF_INET` or `socket.AF_INET6`.
        at: What `sendto` takes.
    """

    family: int
    at: Any


class Addresses:
    """The addresses of hosts and ports, as far as they are known.

    Args:
        lifetime: Seconds after which a name is resolved again.
    """

    def __init__(self, lifetime: float = _LIFETIME) -> None:
        self._lifetime = lifetime
        self._known: dict[tuple[str, int], tuple[Address, float]] = {}  # with the time at which it becomes old
        self._asked: set[tuple[str, int]] = set()
        self._addresses_lock = threading.Lock()  # guards the two above; _known is read without it
        self._pool: Pool[tuple[str, int]] = Pool("gossipmonger-udp-resolver", 2, self._resolve)

    def find(self, host: str, port: int) -> Address | None:
        """Return the address for `host` and `port`; None for a name that is not resolved yet, which this begins to do."""
        key = (host, port)
        known = self._known.get(key)
        if known is None:
            address = _first(host, port, socket.AI_NUMERICHOST)
            if address is not None:
                self._keep(key, address, math.inf)
                return address
        if known is None or known[1] <= monotonic():
            self._ask(key)
        return None if known is None else known[0]

    def _ask(self, key: tuple[str, int]) -> None:
        with self._addresses_lock:
            if key in self._asked or len(self._asked) == _CAPACITY:
                return
            self._asked.add(key)
        try:
            taken = self._pool.put(key)
        except RuntimeError:  # the system cannot start a thread; the next message asks again
            taken = False
        if not taken:
            with self._addresses_lock:
                self._asked.discard(key)

    def _resolve(self, key: tuple[str, int]) -> None:
        address = _first(*key)
        if address is not None:
            self._keep(key, address, monotonic() + self._lifetime)
        with self._addresses_lock:
            self._asked.discard(key)
            if address is None:
                self._known.pop(key, None)

    def _keep(self, key: tuple[str, int], address: Address, until: float) -> None:
        with self._addresses_lock:
            self._known[key] = (address, until)
            if len(self._known) > _CAPACITY:
                del self._known[next(iter(self._known))]

    def close(self) -> None:
        """End the threads. One that is inside the resolver, which cannot be interrupted, ends by itself."""
        self._pool.close()
        self._pool.wait_closed(1)


def _first(host: str, port: int, flags: int = 0) -> Address | None:
    """Return the first address of `host` that this machine has a route to, None if there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)
    except (OSError, ValueError):  # no such name, or not a name at all
        return None
    for family, kind, protocol, _, at in found:
        if flags or len(found) == 1:
            return Address(family, at)
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(at)  # sends nothing, and fails where there is no route
        except OSError:
            continue
        return Address(family, at)
    return None
