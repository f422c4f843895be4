"""The resolver: the addresses of hosts, without waiting for them.

The system's resolver blocks, for seconds if a name server does not answer, so names are resolved on threads of their own. A
host that is an address already takes none of that. Each name is asked for anew whenever it is needed, since names may move;
where a moment decides, `known` has what the last answer was.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from ipaddress import ip_address
from time import monotonic
from typing import Any, NamedTuple

from gossipmonger.errors import report, shown

__all__ = ["Address", "Resolver"]

#: Threads. A name whose server is silent takes one of them for some seconds.
_THREADS = 8

#: Of these, how many may be at names that took long the last time.
_SLOW_THREADS = 4

#: Seconds from which on a name counts as slow.
_SLOW = 1.0

#: Seconds for which `known` returns an answer without asking again.
_LIFETIME = 30.0

#: Names that are remembered.
_CAPACITY = 10_000


class Address(NamedTuple):
    """The address of a socket.

    Attributes:
        family: `socket.AF_INET` or `socket.AF_INET6`.
        at: What `connect` and `sendto` take.
    """

    family: int
    at: Any


#: Called with the addresses, or with why there are none.
Then = Callable[["list[Address] | Exception"], None]


class Resolver:
    """Resolves names on daemon threads, which are started when they are needed and stay until `close`."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[Address], float]] = {}  # with the time of the answer
        self._slow: set[str] = set()  # names that took long
        self._waiting: dict[str, list[tuple[int, Then]]] = {}  # names that are queued or being resolved
        self._queue: deque[str] = deque()
        self._slow_queue: deque[str] = deque()
        self._threads: list[threading.Thread] = []
        self._slow_busy = 0
        self._closed = False
        self._resolver_lock = threading.Lock()  # guards all of the above
        self._changed = threading.Condition(self._resolver_lock)

    def resolve(self, host: str, port: int, then: Then) -> None:
        """Call `then` with the addresses of a host, all it has: here and now for a number, or else on a resolver's thread.

        Once this is closed, `then` is never called.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        numeric = _numeric(host, port)
        if numeric is not None:
            then([numeric])
            return
        with self._changed:
            if self._closed:
                return
            waiting = self._waiting.get(host)
            if waiting is not None:
                waiting.append((port, then))
                return
            if len(self._threads) < _THREADS and len(self._waiting) >= len(self._threads):
                self._start_thread()
            self._waiting[host] = [(port, then)]
            (self._slow_queue if host in self._slow else self._queue).append(host)
            self._changed.notify()

    def known(self, host: str, port: int) -> list[Address] | None:
        """Return the addresses of a host that are known now; None for none. Old ones are returned while they are asked for.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        numeric = _numeric(host, port)
        if numeric is not None:
            return [numeric]
        with self._resolver_lock:
            found = self._known.get(host)
        if found is None or monotonic() - found[1] > _LIFETIME:
            self.resolve(host, port, _nothing)
        return None if found is None else _with_port(found[0], port)

    def close(self) -> None:
        """End the threads. One that is inside the system's resolver, which cannot be interrupted, ends by itself."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def _start_thread(self) -> None:
        """Start one more thread. This requires holding `_resolver_lock`."""
        assert self._resolver_lock.locked()
        # A daemon: a program that ends need not wait for a name server.
        thread = threading.Thread(target=self._work, name="gossipmonger-resolver", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _take(self) -> str | None:
        """Wait for a name and take it; None once this is closed. This requires holding `_resolver_lock`."""
        assert self._resolver_lock.locked()
        while not self._closed:
            if self._queue:
                return self._queue.popleft()
            if self._slow_queue and self._slow_busy < _SLOW_THREADS:
                return self._slow_queue.popleft()
            self._changed.wait()
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                host = self._take()
                if host is None:
                    return
                slow = host in self._slow
                self._slow_busy += slow
            begun = monotonic()
            found = _resolve(host)
            now = monotonic()
            with self._changed:
                self._slow_busy -= slow
                self._remember(host, found, now, slow=now - begun > _SLOW)
                waiting = self._waiting.pop(host, [])
                self._changed.notify()
            for port, then in waiting:
                try:
                    then(found if isinstance(found, Exception) else _with_port(found, port))
                except BaseException as error:  # nothing ends the thread
                    report(error)

    def _remember(self, host: str, found: list[Address] | Exception, now: float, slow: bool) -> None:
        """Note what came of resolving a name. This requires holding `_resolver_lock`."""
        assert self._resolver_lock.locked()
        self._known.pop(host, None)
        if not isinstance(found, Exception):
            self._known[host] = (found, now)
        self._slow.discard(host)
        if slow:
            self._slow.add(host)
        if len(self._known) > _CAPACITY:
            del self._known[next(iter(self._known))]
        if len(self._slow) > _CAPACITY:
            self._slow.pop()


def _nothing(_: object) -> None:
    pass


def _with_port(found: list[Address], port: int) -> list[Address]:
    return [Address(family, (at[0], port, *at[2:])) for family, at in found]


def _numeric(host: str, port: int) -> Address | None:
    """Return the address that a host is, if it is one."""
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    if version == 4:
        return Address(socket.AF_INET, (host, port))
    if "%" not in host:
        return Address(socket.AF_INET6, (host, port, 0, 0))
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return None
    return Address(socket.AF_INET6, found[0][4])


def _resolve(host: str) -> list[Address] | Exception:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # no such name, or not a name at all
        return error
    addresses = [Address(family, at) for family, _, _, _, at in found if family in (socket.AF_INET, socket.AF_INET6)]
    return list(dict.fromkeys(addresses)) or OSError(f"{shown(host)} has no address")
