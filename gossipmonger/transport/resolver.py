"""The resolver: the addresses of hosts, without waiting for them.

The system's resolver blocks, for seconds if a name server does not answer, so names are resolved on threads of their own. A
host that is an address already takes none of that. Each name is asked for anew whenever it is needed, since names may move;
where a moment decides, `known` has what the last answer was.

A thread inside the system's resolver cannot be interrupted. So that names that hang delay nobody else, names wait in three
lanes: those that have been resolved before, those that are new, and those that took long the last time. The last are given few
threads, and a few threads are for the first alone. When all threads have been busy for a moment, there are more of them, and
those end when they find nothing to do.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from gossipmonger.errors import report, shown
from gossipmonger.process import Bell, Latch, here, marked, renew
from gossipmonger.transport.address import Address, is_loopback, numeric, read_ip

__all__ = ["Resolver", "host_of"]

#: Threads that stay once they were started.
_THREADS = 8

#: Threads while names hang. Each costs some 100 KB, for as long as the name servers are silent.
_MOST_THREADS = 128

#: Of these, how many may be at names that took long the last time, and how many are kept for names that were resolved before.
_SLOW_THREADS, _RESERVED = 4, 4

#: Seconds from which on a name counts as slow.
_SLOW = 1.0

#: Seconds that names wait for the threads that stay, before there are more.
_PATIENCE = 0.2

#: Seconds for which `known` returns an answer without asking again.
_LIFETIME = 30.0

#: Names that are remembered.
_CAPACITY = 10_000


#: Called with the addresses, or with why there are none.
Then = Callable[["list[Address] | Exception"], None]


class Resolver:
    """Resolves names on daemon threads, which are started when they are needed and stay until `close`."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[Address], float]] = {}  # with the time of the answer
        self._slow: set[str] = set()  # names that took long
        self._waiting: dict[str, list[tuple[int, Then]]] = {}  # names that are queued or being resolved
        self._lanes: tuple[deque[str], deque[str], deque[str]] = (deque(), deque(), deque())  # known, new, slow
        self._threads: list[threading.Thread] = []
        self._busy = 0  # threads that resolve a name, and how many of these one that took long
        self._slow_busy = 0
        self._patient = False  # whether a thread waits to see whether more are needed
        self._closed = False
        self._resolver_lock = threading.Lock()  # guards all of the above
        self._changed = Bell()  # rung when there may be something to do for another thread
        self._ended = Latch()  # set with `_closed`
        renew(self, "_resolver_lock")

    def resolve(self, host: str, port: int, then: Then) -> None:
        """Call `then` with the addresses of a host, all it has: here and now for a number, or else on a resolver's thread.

        Once this is closed, `then` is never called.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        address = numeric(host, port)
        if address is not None:
            then([address])
            return
        with marked(), self._resolver_lock:
            if self._closed:
                return
            waiting = self._waiting.get(host)
            if waiting is not None:
                waiting.append((port, then))
                return
            lane = self._lanes[2 if host in self._slow else 0 if host in self._known else 1]
            lane.append(host)
            try:
                self._grow()
            except RuntimeError:
                lane.remove(host)
                raise
            self._waiting[host] = [(port, then)]
        self._changed.ring()

    def is_from(self, host: str, source: str) -> bool:
        """Whether "address:port" is of a host, as far as its addresses are known now."""
        ip = read_ip(source.rpartition(":")[0])
        here = read_ip(host)
        if here is not None:
            return here == ip
        with marked(), self._resolver_lock:
            found, _ = self._known.get(host, ([], 0.0))
        return any(read_ip(host_of(address.at)) == ip for address in found) or (is_loopback(host) and is_loopback(str(ip)))

    def known(self, host: str, port: int, then: Then | None = None, lifetime: float = _LIFETIME) -> list[Address] | None:
        """Return the addresses of a host that are known now; None for none. Old ones are returned while they are asked for.

        Args:
            host: A name or an address.
            port: The port of the addresses.
            then: Called as by `resolve`, if the name is asked for because of this.
            lifetime: Seconds after which an answer is old.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        address = numeric(host, port)
        if address is not None:
            return [address]
        with marked(), self._resolver_lock:
            found = self._known.get(host)
            asked = host in self._waiting
        if not asked and (found is None or monotonic() - found[1] > lifetime):
            self.resolve(host, port, then or (lambda _: None))
        return None if found is None else _with_port(found[0], port)

    def close(self) -> None:
        """End the threads. One that is inside the system's resolver, which cannot be interrupted, ends by itself."""
        with marked(), self._resolver_lock:
            self._closed = True
            self._waiting.clear()
        self._ended.set()
        self._changed.ring()

    def _grow(self) -> None:
        """Start a thread if none is free for what waits, or else one that waits a moment first.

        This requires holding `_resolver_lock`.

        Raises:
            RuntimeError: There is no thread, and the system cannot start one.
        """
        assert self._resolver_lock.locked()
        if self._lacking <= 0 or self._patient:
            return
        if len(self._threads) < _THREADS:
            self._start(self._work)
        elif len(self._threads) < _MOST_THREADS:
            self._patient = self._start(self._wait_and_work)

    @property
    def _lacking(self) -> int:
        """How many more threads would find something to do."""
        known, new, slow = map(len, self._lanes)
        return known + new + min(slow, _SLOW_THREADS - self._slow_busy) - (len(self._threads) - self._busy)

    def _start(self, target: Callable[[], None]) -> bool:
        """Start one more thread; return whether there is one. This requires holding `_resolver_lock`."""
        assert self._resolver_lock.locked()
        # A daemon: a program that ends need not wait for a name server.
        thread = threading.Thread(target=target, name="gossipmonger-resolver", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            return False
        self._threads.append(thread)
        return True

    def _wait_and_work(self) -> None:
        """Give the threads that stay a moment; if they do not get through by then, start as many as there are names."""
        self._ended.wait(_PATIENCE)
        with marked(), self._resolver_lock:
            self._patient = False
            for _ in range(min(self._lacking, _MOST_THREADS - len(self._threads))):
                if not self._start(self._work):
                    break
        self._work()

    def _take(self) -> str | None:
        """Take a name; None if there is none to take. This requires holding `_resolver_lock`."""
        assert self._resolver_lock.locked()
        known, new, slow = self._lanes
        if known:
            return known.popleft()
        free = _MOST_THREADS - _RESERVED - self._busy
        if new and free > 0:
            return new.popleft()
        if slow and free > 0 and self._slow_busy < _SLOW_THREADS:
            return slow.popleft()
        return None

    def _is_surplus(self) -> bool:
        """Return whether the calling thread, which has nothing to do, is to end. This requires holding `_resolver_lock`."""
        assert self._resolver_lock.locked()
        surplus = not self._closed and len(self._threads) > _THREADS
        if surplus:
            self._threads.remove(threading.current_thread())
        return surplus or self._closed

    def _work(self) -> None:
        thread = here()
        thread.own = True
        while True:
            thread.settle()
            with marked(), self._resolver_lock:
                host = None if self._closed else self._take()
                ends = host is None and self._is_surplus()
                slow = host in self._slow
                if host is not None:
                    self._busy, self._slow_busy = self._busy + 1, self._slow_busy + slow
            if host is None:
                if not ends:
                    self._changed.wait()
                    continue
                self._changed.ring()  # for the next one, which may have to end too
                return
            self._changed.ring()  # there may be more
            begun = monotonic()
            found = _resolve(host)
            now = monotonic()
            with marked(), self._resolver_lock:
                self._busy, self._slow_busy = self._busy - 1, self._slow_busy - slow
                self._remember(host, found, now, slow=now - begun > _SLOW)
                waiting = self._waiting.pop(host, [])
            self._changed.ring()
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


def host_of(at: Any) -> str:
    """Return the host of what `connect` takes, with the zone of an address that is valid on a single link."""
    host: str = at[0]
    return f"{host}%{at[3]}" if len(at) > 3 and at[3] and "%" not in host else host


def _with_port(found: list[Address], port: int) -> list[Address]:
    return [Address(family, (at[0], port, *at[2:])) for family, at in found]


def _resolve(host: str) -> list[Address] | Exception:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        addresses = [Address(family, at) for family, _, _, _, at in found if family in (socket.AF_INET, socket.AF_INET6)]
    except BaseException as error:  # an unknown or malformed name, no memory, a replaced `getaddrinfo`
        return error if isinstance(error, Exception) else OSError(f"{shown(host)}: resolving it raised {shown(error)}")
    return list(dict.fromkeys(addresses)) or OSError(f"{shown(host)} has no address")
