"""Places: the addresses that messages go to, what is known of each, and how much may be sent to it.

Whoever can speak to a node can name any address as a peer's, in as many peers and to as many nodes as they like. So that a
cluster cannot be used to flood somebody else, an address has to *show* that a node is there:

* it has answered a `HELLO`;
* or a message came over TCP from the very host that the message, or its link, names as its sender's, as from a Node.js node,
  which answers no `HELLO`, or from one of ours that hung: nobody but that host could have made the connection;
* or it is a seed's, and so was named by the program itself.

To any other address goes no more than a small *allowance*, enough for a `HELLO` or two, and a few times as much as came in its
name. The allowance is renewed at intervals that double, so a node that could not be reached is found again. It belongs to the
address, however many peers are said to live there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from gossipmonger.errors import at, shown
from gossipmonger.process import marked, renew
from gossipmonger.state import Message, RemotePeer
from gossipmonger.transport.tcp.handshake import named
from gossipmonger.transport.tcp.link import Link

__all__ = ["ALLOWANCE", "RENEWED_AFTER", "RETURN", "Place", "Places"]

#: Addresses that are remembered.
_CAPACITY = 10_000

#: Bytes that go to an address that has shown nothing: a `HELLO` has some 130.
ALLOWANCE = 400

#: Seconds until it is renewed for the first time.
RENEWED_AFTER = 600.0

#: Bytes that may be sent to such an address for each byte that came in its name, as in QUIC (RFC 9000, section 8.1). An answer
#: is mostly about as long as what it answers; where it is longer, the address shows itself first.
RETURN = 3

#: Messages that may wait for one address. Gossip repeats the news of a lost one.
_MAX_WAITING = 64


@dataclass(eq=False, slots=True)
class Place:
    """An address. It does not lock: see `Places.lock`.

    Attributes:
        host, port: As others tell it.
        peer: The recipient of the last message.
        name: The host that a certificate has to name.
        trusted: Whether the program itself has named it.
        shown: Whether it has shown that a node is there.
        node_js: Whether it counts as a Node.js node's.
        silent: Whether it has been reported that it answers no `HELLO`, which an observer must have.
        asked: When it was sent a `HELLO` last.
        dialling: Whether it is being dialled.
        link: The link to it.
        waiting: Messages that wait for it.
        parts: The rest of the message that is on its way to a Node.js node.
    """

    host: str
    port: int
    peer: RemotePeer
    name: str
    trusted: bool = False
    shown: bool = False
    node_js: bool = False
    silent: bool = False
    asked: float = 0.0
    dialling: bool = False
    link: Link | None = None
    waiting: deque[tuple[RemotePeer, Message]] = field(default_factory=deque)
    parts: Iterator[tuple[Message, bytes]] = field(default_factory=lambda: iter(()))
    _left: int = ALLOWANCE
    _returns: int = 0  # bytes that may be sent in return for what came in its name
    _renewed: float | None = None  # when the allowance was first used, or was renewed last
    _renewals: int = 0

    def put(self, to: RemotePeer, message: Message) -> bool:
        """Let a message wait; return whether another was dropped for it."""
        waiting = self.waiting
        if message.deltas is None:
            for index, (_, other) in enumerate(waiting):
                if other.deltas is None:
                    del waiting[index]
                    break
        waiting.append((to, message))
        if len(waiting) <= _MAX_WAITING:
            return False
        waiting.popleft()
        return True

    @property
    def busy(self) -> bool:
        """Whether something waits for it or is on its way."""
        return self.dialling or bool(self.waiting)

    def answer(self) -> None:
        """Note that it has answered a `HELLO`."""
        self.node_js = self.silent = False
        self.shown = True

    def came(self, size: int) -> None:
        """Note that so many bytes came in its name."""
        self._returns += RETURN * size

    def may_return(self, size: int) -> bool:
        """Whether so many bytes may be sent without the allowance; if so, count them."""
        if self.shown or self.trusted:
            return True
        if size > self._returns:
            return False
        self._returns -= size
        return True

    def may_send(self, size: int, now: float) -> bool:
        """Whether so many bytes may be sent at all; if so, count them."""
        if self.may_return(size):
            return True
        if self._renewed is None:
            self._renewed = now
        elif now - self._renewed >= RENEWED_AFTER * 2**self._renewals:
            self._left, self._renewed, self._renewals = ALLOWANCE, now, self._renewals + 1
        if size > self._left + self._returns:
            return False
        self._left -= size - self._returns
        self._returns = 0
        return True

    def __str__(self) -> str:
        return f"peer {shown(self.peer.id)} at {at({'host': self.host, 'port': self.port})}"


class Places:
    """All places.

    Attributes:
        lock: Guards each place's `waiting`, `dialling` and `link`, and what may be sent to it.
    """

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, int], Place] = OrderedDict()  # least recently used first
        self._trusted: frozenset[tuple[str, int]] = frozenset()
        self.lock: threading.Lock = threading.Lock()
        renew(self, "lock")

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._places)

    @property
    def busy(self) -> bool:
        """Whether something waits for any of them or is on its way."""
        return any(place.busy for place in self._places.values())

    def find(self, to: RemotePeer) -> Place:
        """Return the place that a peer's address is, which becomes the one that was used last. This requires `lock`."""
        assert self.lock.locked()
        to, name = named(to)
        key = _key(to.transport)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place(*key, to, name, key in self._trusted)
            for _ in range(len(self._places) - _CAPACITY):
                oldest = next(iter(self._places))
                if self._places[oldest].busy or self._places[oldest].link is not None:
                    self._places.move_to_end(oldest)
                else:
                    del self._places[oldest]
        else:
            place.peer, place.name = to, name
            self._places.move_to_end(key)
        return place

    def trust(self, transports: Iterable[Mapping[str, Any]]) -> None:
        """Take it that nodes live at these addresses, and at no others that were trusted before."""
        trusted = frozenset(map(_key, transports))
        with marked(), self.lock:
            former, self._trusted = self._trusted, trusted
            for key in former ^ trusted:
                if key in self._places:
                    self._places[key].trusted = key in trusted

    def learn(self, peer: RemotePeer, node_js: bool, shown: bool = True, size: int = 0) -> None:
        """Note what lives at an address: it has `shown` that, or a message of this `size` has said so."""
        with marked(), self.lock:
            place = self._places.get(_key(peer.transport))
            if place is None and (node_js or size):
                place = self.find(peer)
                place.asked = monotonic()
            if place is not None:
                place.shown |= shown
                place.came(size)
                place.node_js = node_js and (shown or place.node_js)

    def may_return(self, to: RemotePeer, size: int) -> bool:
        """Whether so many bytes may be sent to an address without its allowance; if so, count them."""
        with marked(), self.lock:
            return self.find(to).may_return(size)


def _key(transport: Mapping[str, Any]) -> tuple[str, int]:
    return transport["host"], int(transport["port"])
