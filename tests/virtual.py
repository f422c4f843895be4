"""A virtual clock and network: endpoints whose timers, messages and handlers run in the test's own thread."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

from pyee.base import EventEmitter

from gossipmonger import Gossipmonger, RemotePeer
from gossipmonger.transport import messages


class Time:
    """Milliseconds since the epoch, and what is to happen when."""

    def __init__(self, now: float = 1_700_000_000_000) -> None:
        self.now = now
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, time: float, run: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time, next(self._count), run))

    def run(self, milliseconds: float) -> None:
        end = self.now + milliseconds
        while self._due and self._due[0][0] <= end:
            time, _, run = heapq.heappop(self._due)
            self.now = max(self.now, time)
            run()
        self.now = end

    def timer(self, seconds: float, function: Callable[[], None]) -> Timer:
        return Timer(self, seconds, function)


class Timer:
    def __init__(self, time: Time, seconds: float, function: Callable[[], None]) -> None:
        self.time, self.seconds, self.function, self.cancelled = time, seconds, function, False

    def start(self) -> None:
        self.time.at(self.time.now + self.seconds * 1000, lambda: None if self.cancelled else self.function())

    def cancel(self) -> None:
        self.cancelled = True


class Inline:
    """An executor that runs what it is given right here."""

    def submit(self, function: Callable[[], None]) -> None:
        function()


class VirtualTransport(EventEmitter):
    """Duck-typed on purpose: the seed's names and nothing else."""

    def __init__(self, network: Network, id: str) -> None:
        super().__init__()
        self.network, self.id = network, id
        self.sent: list[tuple[str, str, Any]] = []

    def digest(self, remote_peer: RemotePeer, local_peer: Any, digest_to_send: Any) -> None:
        self.sent.append((remote_peer.id, "digest", digest_to_send))
        self._send(remote_peer, messages.encode(RemotePeer(local_peer.id, local_peer.transport), digest=digest_to_send))

    def deltas(self, remote_peer: RemotePeer, local_peer: Any, deltas_to_send: Any) -> None:
        self.sent.append((remote_peer.id, "deltas", deltas_to_send))
        self._send(remote_peer, messages.encode(RemotePeer(local_peer.id, local_peer.transport), deltas=deltas_to_send))

    def _send(self, remote_peer: RemotePeer, data: bytes) -> None:
        self.network.time.at(self.network.time.now + 5, lambda: self.network.arrive(self.id, remote_peer.transport, data))

    def close(self) -> None:
        self.network.transports.pop(self.id, None)


class Network:
    """Endpoints by their ids, which are their addresses too; `cut` holds pairs that do not reach each other."""

    def __init__(self, seed: int = 0) -> None:
        self.time = Time()
        self.random = random.Random(seed)
        self.transports: dict[str, VirtualTransport] = {}
        self.cut: set[frozenset[str]] = set()

    def add(self, id: str, seeds: tuple[str, ...] = (), **options: Any) -> Gossipmonger:
        transport = self.transports[id] = VirtualTransport(self, id)
        return Gossipmonger(
            {"id": id, "transport": id},
            seeds=[{"id": seed, "transport": seed} for seed in seeds],
            transport=transport,
            clock=lambda: self.time.now,
            timer=self.time.timer,
            executor=Inline(),
            random=random.Random(self.random.random()),
            **options,
        )

    def arrive(self, sender: str, address: str, data: bytes) -> None:
        transport = self.transports.get(address)
        if transport is None or frozenset((sender, address)) in self.cut:
            return
        message = messages.decode(data)
        name, payload = ("digest", message.digest) if message.deltas is None else ("deltas", message.deltas)
        transport.emit(name, message.sender, payload)
