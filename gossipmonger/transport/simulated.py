"""A simulated network, and the transport that uses it.

Messages are really encoded and decoded, so what could not travel over a socket does not travel here. What happens to a message
on its way is random: whether it is lost, whether it arrives twice, and its latency, so that messages overtake each other. The
network has no clock; it is given a function that calls another one later.

What a kernel tells of its connections is told here after one latency, by the event `link`. A host keeps a link to each host
that has accepted a dial of it, for as long as that host lives. An answer goes back on the link of what it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from random import Random
from typing import Any, Protocol

from gossipmonger.errors import ClosedError, MessageError, SendError, at, shown
from gossipmonger.process import Latch
from gossipmonger.state import Clusters
from gossipmonger.state.arguments import check_number
from gossipmonger.state.message import MAX_TTL, ExtendedPeer, Message, RemotePeer
from gossipmonger.transport.base import DEFAULT_PORT, Callback, Listening, Transport
from gossipmonger.transport.traffic import Traffic
from gossipmonger.wire import COMPRESS_ABOVE, MAX_MESSAGE_SIZE, Packer, decode, inflate, is_address

__all__ = ["LONGEST", "Network", "Receiver", "SimulatedTransport"]

#: The longest time in a simulation, in milliseconds: the longest ttl.
LONGEST = MAX_TTL * 1000


class Receiver(Protocol):
    """What is attached to a `Network`."""

    def receive(self, data: bytes, source: str) -> None:
        """Take the bytes of one message, which came from the host `source`."""


class Network:
    """Hosts, by their names, and what happens to messages between them.

    Args:
        later: Called with milliseconds, the host that is to act, and a function without arguments, to call it then.
        random: Draws latency, loss and duplication.
        latency: Milliseconds from one host to another, or the least and the most.
        loss: The share of messages that are lost.
        duplication: The share of messages that arrive twice.

    Attributes:
        latency, loss, duplication: As above; they may be changed at any time, and are checked.
        messages: Messages sent.
        bytes: Bytes that these had.
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
        self._refusing: set[str] = set()
        self._links: dict[str, dict[str, Callable[[str], None]]] = {}  # host -> who has a link to it -> how to tell that one
        self._islands: list[frozenset[str]] = []
        self.latency = latency
        self.loss = loss
        self.duplication = duplication
        self.messages: int = 0
        self.bytes: int = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("loss", "duplication"):
            check_number(name, value, float, 0, 1)
        elif name == "latency":
            pair = value if isinstance(value, tuple) else (value, value)
            if len(pair) != 2:
                raise TypeError(f"latency must be a number of ms or a pair of them, got {shown(value)}")
            check_number("latency", pair[1], float, 0, LONGEST, "ms")
            check_number("latency", pair[0], float, 0, pair[1], "ms")
        super().__setattr__(name, value)

    def attach(self, host: str, receiver: Receiver) -> None:
        """Make a host reachable.

        Raises:
            OSError: There is a host of this name.
        """
        if host in self._hosts:
            raise OSError(f"can't listen at {host}: there is such a host")
        self._hosts[host] = receiver
        self._refusing.discard(host)

    def detach(self, host: str, receiver: Receiver, *, silent: bool = False) -> None:
        """Make a host unreachable. What is on its way to it is lost, and dials to it are refused, unless it is `silent`."""
        if self._hosts.get(host) is not receiver:
            return
        del self._hosts[host]
        if not silent:
            self._refusing.add(host)
        self._links.pop(host, None)
        for links in self._links.values():
            links.pop(host, None)

    def end_links(self, host: str) -> None:
        """End the links of others to a host, so that they are told."""
        for source, tell in self._links.pop(host, {}).items():
            self._later(self._draw_latency(), source, partial(self._tell, source, host, tell, "ended"))

    def has_link(self, source: str, host: str) -> bool:
        """Return whether a host has a link to another."""
        return source in self._links.get(host, ())

    def count_links(self, source: str) -> int:
        """Return to how many others a host has a link."""
        return sum(source in links for links in [*self._links.values()])

    def refuses(self, source: str, host: str) -> bool:
        """Return whether a host's address refuses dials from another host."""
        return host in self._refusing

    def greets(self, host: str) -> bool:
        """Return whether a node of ours is at a host, which would answer a `HELLO`."""
        return isinstance(self._hosts.get(host), SimulatedTransport)

    def dial(self, source: str, host: str, tell: Callable[[str], None], *, keep: bool = False) -> None:
        """Dial a host; `tell` is told "accepted" or "refused" after one latency, and nothing if the host is silent.

        A link that is to be kept is known to `has_link` from then on, and `tell` will be told that it "ended".
        """
        if self._passes(source, host):
            self._later(self._draw_latency(), source, partial(self._answer, source, host, tell, keep))

    def _answer(self, source: str, host: str, tell: Callable[[str], None], keep: bool) -> None:
        if self.refuses(source, host):
            self._tell(source, host, tell, "refused")
        elif host in self._hosts:
            if keep and self.connected(source, host):
                self._links.setdefault(host, {})[source] = tell
            self._tell(source, host, tell, "accepted")

    def _tell(self, source: str, host: str, tell: Callable[[str], None], what: str) -> None:
        if self.connected(source, host):
            tell(what)

    def partition(self, hosts: Iterable[str]) -> None:
        """Cut these hosts off from all others, both ways, in addition to the partitions there are."""
        self._islands.append(frozenset(hosts))

    def heal(self) -> None:
        """Undo all partitions."""
        self._islands.clear()

    def connected(self, one: str, other: str) -> bool:
        """Return whether no partition lies between two hosts."""
        return not any((one in island) != (other in island) for island in self._islands)

    def send(self, source: str, host: str, data: bytes) -> None:
        """Send one message. It is lost if a partition lies between the two when it is sent or when it arrives."""
        self.messages += 1
        self.bytes += len(data)
        copies = 1 + (self.duplication > 0 and self._random.random() < self.duplication)
        for _ in range(copies):
            if self._passes(source, host):
                self._later(self._draw_latency(), host, lambda: self._arrive(source, host, data))

    def _passes(self, source: str, host: str) -> bool:
        return self.connected(source, host) and not (self.loss > 0 and self._random.random() < self.loss)

    def _draw_latency(self) -> float:
        if isinstance(self.latency, tuple):
            return self._random.uniform(*self.latency)
        return self.latency

    def _arrive(self, source: str, host: str, data: bytes) -> None:
        receiver = self._hosts.get(host)
        if receiver is not None and self.connected(source, host):
            receiver.receive(data, source)


class _Caller(ExtendedPeer):
    """The sender of a message. What goes to it goes back on the link that the message came by, if there is one."""

    __slots__ = ()


class SimulatedTransport(Transport):
    """Messages over a `Network`. Addresses look like TCP's, mappings with `host` and `port`, but only the `host` counts.

    Args:
        network: The network.
        host: This host's name.
        compress_above: Bytes above which a message is deflated for peers that speak our extensions; None for never.
        pass_time: Lets so many seconds pass, or less if an event is set; without it, none pass while somebody waits.

    Attributes:
        virtual: Says that time passes only when a caller lets it pass.
    """

    max_message_size: int = MAX_MESSAGE_SIZE
    greets: bool = True
    virtual: bool = True
    seals: bool = True

    def __init__(
        self,
        network: Network,
        host: str,
        compress_above: int | None = COMPRESS_ABOVE,
        pass_time: Callable[[Latch, float], None] | None = None,
    ) -> None:
        super().__init__()
        self._pass_time = pass_time
        self._network = network
        self._traffic = Traffic("simulated", links=lambda: {"dialled": network.count_links(host)})
        self._count_with(self._traffic)
        self._packer = Packer(self.max_message_size, compress_above)
        self._closed = False
        self._silent: set[str] = set()  # hosts of which it has been said that they answer no `HELLO`
        self.host = host

    def __repr__(self) -> str:
        return f"SimulatedTransport({self.host!r})"

    def send(self, to: RemotePeer, message: Message) -> None:
        """Send a message: see `Transport.send`."""
        if type(to) is not _Caller and not is_address(to.transport):
            self._refuse_address(to)
            return
        try:
            parts = self._packer.pack(message, to.speaks_extensions)
            if self.keyring is not None:
                parts = [self.seal(part) for part in parts]
        except Exception as error:  # JSON has no form for something in it
            self._failed(error)
            return
        host = to.transport["host"]
        if self._closed or (type(to) is not _Caller and not self._may_send(to, host)):
            return
        self._traffic.sent.note(message, sum(map(len, parts)))
        for part in parts:
            self._network.send(self.host, host, part)

    def _may_send(self, to: RemotePeer, host: str) -> bool:
        """Return whether there is a link to a host, or it does not refuse the dial for one, nor must hear nothing."""
        if self._network.has_link(self.host, host):
            return True
        ours = not self.observer or self._network.greets(host)
        self._network.dial(self.host, host, partial(self._told if ours else self._told_node_js, to), keep=ours)
        return ours and not self._network.refuses(self.host, host)

    def dial(self, to: RemotePeer) -> None:
        """Dial a peer: see `Transport.dial`."""
        if not self._closed and is_address(to.transport):
            self._network.dial(self.host, to.transport["host"], partial(self._told, to))

    def _told(self, to: RemotePeer, what: str) -> None:
        if not self._closed:
            self.emit("link", to, what)

    def _told_node_js(self, to: RemotePeer, what: str) -> None:
        """Take what came of the dial to a host that answers no `HELLO`: it is told nothing."""
        self._told(to, what)
        if what != "accepted":
            return
        self._told(to, "silent")
        if to.transport["host"] not in self._silent:
            self._silent.add(to.transport["host"])
            reason = Clusters(lambda: None, lambda: True).only_ours
            self._failed(SendError(f"can't send to peer {shown(to.id)} at {at(to.transport)}: {reason}", RemotePeer(*to)))

    def wait(self, event: Latch, seconds: float) -> bool:
        """Let virtual time pass until an event is set, at most so many seconds; return whether it is."""
        if self._pass_time is not None:
            self._pass_time(event, seconds)
        return event.is_set()

    def receive(self, data: bytes, source: str) -> None:
        """Take one message from the network."""
        try:
            plain = inflate(self.open_sealed(data, source), self.max_message_size, source)
            message = decode(plain, source, is_address, limits=self.limits)
        except MessageError as error:
            self._traffic.received.note(None, len(data))
            self._failed(error)
            return
        self._traffic.received.note(message, len(data))
        self._hand_out(message._replace(sender=_Caller(*message.sender)))

    def _failed(self, error: Exception) -> None:
        if not self._closed:  # what fails because of being closed is not news
            super()._failed(error)

    @property
    def address(self) -> Mapping[str, Any]:
        """`host` and `port` that peers are told."""
        return {"host": self.host, "port": DEFAULT_PORT}

    def listen(self, options: Listening = None, callback: Callback = None) -> None:
        """Become reachable under the host's name: see `Transport.listen`. There is nothing that `options` could say.

        Raises:
            OSError: There is a host of this name.
            ClosedError: The transport has been closed.
        """
        if self._closed:
            raise ClosedError("listen: this transport has been closed")
        self._network.attach(self.host, self)
        self.emit("listening")
        callback = options if callable(options) else callback
        if callback is not None:
            callback()

    def close(self, callback: Callback = None) -> None:
        """Become unreachable, and refuse dials: see `Transport.close`."""
        self._closed = True
        self._network.detach(self.host, self)
        if callback is not None:
            callback()
