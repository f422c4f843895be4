"""A simulated network, and the transport that uses it.

Messages are encoded and decoded for real, so what could not travel over a socket does not travel here. What happens to a
message on its way is drawn: lost or not, delivered once or twice, after a latency from a range, so that messages overtake
each other. The network has no time of its own; it is handed a function that calls another one later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, Protocol

from gossipmonger.errors import ClosedError, MessageError
from gossipmonger.options import Options
from gossipmonger.peer import Kin, RemotePeer
from gossipmonger.transport import messages
from gossipmonger.transport.base import Transport
from gossipmonger.transport.checks import is_address
from gossipmonger.transport.compression import deflate_for, inflate

__all__ = ["Network", "Receiver", "SimulatedTransport"]


class Receiver(Protocol):
    """What can be attached to a `Network`."""

    def receive(self, data: bytes, source: str) -> None:
        """Take one message's bytes, which came from the host `source`."""


class Network:
    """Hosts by their names, and what happens between them.

    Args:
        later: Called with milliseconds, the host that is to act, and a function of no arguments to call then.
        random: Draws latency, loss and duplication.
        latency: Milliseconds from one host to another, or the least and the most.
        loss: Share of messages that are lost.
        duplication: Share of messages that arrive twice.

    Attributes:
        latency, loss, duplication: As above; they may be changed at any time.
        messages: How many were sent.
        bytes: How many they had.
    """

    def __init__(
        self,
        later: Callable[[float, str, Callable[[], None]], None],
        random: Random,
        *,
        latency: float | tuple[float, float] = 5,
        loss: float = 0,
        duplication: float = 0,
    ) -> None:
        self._later = later
        self._random = random
        self._hosts: dict[str, Receiver] = {}
        self._islands: list[frozenset[str]] = []
        self.latency = latency
        self.loss = loss
        self.duplication = duplication
        self.messages = 0
        self.bytes = 0

    def attach(self, host: str, receiver: Receiver) -> None:
        """Let a host be reached.

        Raises:
            OSError: The host is there already.
        """
        if host in self._hosts:
            raise OSError(f"can't listen at {host}: it is taken")
        self._hosts[host] = receiver

    def detach(self, host: str, receiver: Receiver) -> None:
        """Let it be reached no more; what is on its way to it is lost."""
        if self._hosts.get(host) is receiver:
            del self._hosts[host]

    def partition(self, hosts: Iterable[str]) -> None:
        """Cut these hosts off from all others, both ways, on top of the partitions there are."""
        self._islands.append(frozenset(hosts))

    def heal(self) -> None:
        """Undo all partitions."""
        self._islands.clear()

    def connected(self, one: str, other: str) -> bool:
        """Whether no partition lies between two hosts."""
        return not any((one in island) != (other in island) for island in self._islands)

    def send(self, source: str, host: str, data: bytes) -> None:
        """Send one message. Whether the two are connected counts when it is sent and when it arrives."""
        self.messages += 1
        self.bytes += len(data)
        copies = 1 + (self.duplication > 0 and self._random.random() < self.duplication)
        for _ in range(copies):
            if self.connected(source, host) and not (self.loss > 0 and self._random.random() < self.loss):
                self._later(self._draw_latency(), host, lambda: self._arrive(source, host, data))

    def _draw_latency(self) -> float:
        if isinstance(self.latency, tuple):
            return self._random.uniform(*self.latency)
        return self.latency

    def _arrive(self, source: str, host: str, data: bytes) -> None:
        receiver = self._hosts.get(host)
        if receiver is not None and self.connected(source, host):
            receiver.receive(data, source)


class SimulatedTransport(Transport):
    """Messages over a `Network`. Transports look like TCP's, mappings with `host` and `port`, but only the `host` counts.

    Args:
        network: The network.
        host: This host's name.
        compress_above: Bytes above which a message to a peer of our kind is deflated; None: never.
    """

    validates = True
    max_message_size = messages.MAX_MESSAGE_SIZE

    def __init__(self, network: Network, host: str, compress_above: int | None = Options.compress_above) -> None:
        super().__init__()
        self._compress_above = compress_above
        self._network = network
        self._closed = False
        self.host = host

    @property
    def address(self) -> Mapping[str, Any]:
        """`host` and `port` that peers are told."""
        return {"host": self.host, "port": 9742}

    def digest(self, remote_peer: RemotePeer, local_peer: RemotePeer, digest_to_send: list[Any]) -> None:
        """Send a digest: see `Transport.digest`."""
        self._send(remote_peer, messages.encode(RemotePeer(local_peer.id, local_peer.transport), digest=digest_to_send))

    def deltas(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas_to_send: list[list[Any]]) -> None:
        """Send deltas: see `Transport.deltas`."""
        self._send(remote_peer, messages.encode(RemotePeer(local_peer.id, local_peer.transport), deltas=deltas_to_send))

    def exchange(
        self,
        remote_peer: RemotePeer,
        local_peer: RemotePeer,
        deltas_to_send: list[list[Any]],
        digest_to_send: list[Any],
    ) -> None:
        """Send both in one message: see `Transport.exchange`."""
        sender = RemotePeer(local_peer.id, local_peer.transport)
        self._send(remote_peer, messages.encode(sender, deltas=deltas_to_send, digest=digest_to_send))

    def _send(self, remote_peer: RemotePeer, data: bytes) -> None:
        if not self._closed:
            data = deflate_for(remote_peer, data, self._compress_above)
            self._network.send(self.host, remote_peer.transport["host"], data)

    def receive(self, data: bytes, source: str) -> None:
        """Take one message from the network."""
        try:
            message = messages.decode(inflate(data, self.max_message_size, source), source, is_address)
        except MessageError as error:
            self.emit("error", error)
            return
        sender = Kin(*message.sender)
        self.hand_out(sender, message.deltas, message.digest)

    def listen(
        self,
        options: Mapping[str, Any] | Callable[[], None] | None = None,
        callback: Callable[[], None] | None = None,
    ) -> None:
        """Be reached under the host's name: see `Transport.listen`. There is nothing that `options` could say.

        Raises:
            OSError: The host is there already.
            ClosedError: The transport has been closed.
        """
        if self._closed:
            raise ClosedError("listen: this transport has been closed")
        self._network.attach(self.host, self)
        self.emit("listening")
        callback = options if callable(options) else callback
        if callback is not None:
            callback()

    def close(self, callback: Callable[[], None] | None = None) -> None:
        """Be reached no more: see `Transport.close`."""
        self._closed = True
        self._network.detach(self.host, self)
        if callback is not None:
            callback()
