"""The dialling half of TCP: which connection carries a message to an address.

What lives at an address shows in how it answers a `HELLO`, the line that every conversation with an unknown address begins
with:

| the address | a message to it goes |
|---|---|
| unknown | after a `HELLO`, and as to one of the other two from then on |
| one of our nodes | on the link to it, which is dialled when there is none and kept while it is used |
| a Node.js node, or anything that answers no `HELLO` | on a connection of its own, ended by FIN |

In a cluster with a name, and from an observer, nothing goes to the last kind.

An address can pass from one kind to the other. A link that ends makes its address unknown. One of our nodes at an address that
counts as a Node.js node's shows itself by its own `HELLO`, or by the header of its digests; and now and then the address is
asked again.

Only the loop's thread dials. Messages wait for it in one queue for each address, which is bounded; a digest replaces one that
waits. So an address that does not answer delays nobody but itself.
"""

from __future__ import annotations

import random
import socket
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from time import monotonic

from gossipmonger.errors import ClusterError, SendError
from gossipmonger.process import Bell, marked
from gossipmonger.state import Message, RemotePeer
from gossipmonger.transport.address import Address
from gossipmonger.transport.resolver import Resolver
from gossipmonger.transport.tcp.dial import Dial, Greeting, ReachedItself, SingleMessage
from gossipmonger.transport.tcp.handshake import TlsFailure, shake_hands
from gossipmonger.transport.tcp.link import Link
from gossipmonger.transport.tcp.place import Place, Places
from gossipmonger.transport.tcp.side import Side
from gossipmonger.wire import encode, split

__all__ = ["Dialler"]

#: Seconds after which `flush` looks again in any case: several threads may wait there, and one ring wakes one of them.
_LOOK_AGAIN = 0.1

#: Seconds after which an address that answered no `HELLO` is sent one again, beside the messages.
_ASK_AGAIN = 60.0


class Dialler:
    """Sends messages to addresses.

    * From any thread: `send`, `probe`, `flush`
    * On the loop's thread only: `forget`

    Args:
        side: What all connections share.
        places: Knows the addresses that messages go to.
        resolver: Finds the addresses of names.
        told: Called on the loop's thread with a remote peer and "accepted", "refused" or "itself", for each dial that ended so;
            and with "silent" or "foreign" if no `HELLO` came back, but nothing, or something else.
        heard: Returns the source of the link that a place's peer has used since the place was last sent a `HELLO`; "" for none.
        max_links: Links that are kept. Beyond it, the least recently used is closed.
        connect_timeout: Seconds for each address that a name has.
        send_timeout: Seconds for a message to a Node.js node.
    """

    def __init__(
        self,
        side: Side,
        places: Places,
        resolver: Resolver,
        told: Callable[[RemotePeer, str], None],
        heard: Callable[[Place], str],
        *,
        max_links: int,
        connect_timeout: float,
        send_timeout: float,
    ) -> None:
        self._side = side
        self._loop = side.loop
        self._links = side.links
        self._failed = side.failed
        self._resolver = resolver
        self._told = told
        self._heard = heard
        self._max_links = max_links
        self._connect_timeout = connect_timeout
        self._send_timeout = send_timeout
        self._places = places
        self._linked: OrderedDict[Link, Place] = OrderedDict()  # least recently used first; `places.lock` guards it
        self._dials: set[socket.socket] = set()  # only for the loop's thread
        self._settled = Bell()  # rung when something has left that waited

    # From any thread

    def send(self, to: RemotePeer, message: Message) -> None:
        """Send a message to an address, which is a mapping with a host and a port.

        Raises:
            TypeError, ValueError: A peer's transport is something that JSON has no form for.
            RuntimeError, OSError: The system has no thread or descriptor for it.
        """
        with marked(), self._places.lock:
            place = self._places.find(to)
            link = place.link
            if link is not None:
                self._linked.move_to_end(link)
        if link is not None and self._links.send(link, message):
            return
        begins = False
        try:
            with marked(), self._places.lock:
                if place.link is link:
                    place.link = None
                dropped = place.put(to, message)
                begins, place.dialling = not place.dialling, True
            if dropped:
                reason = f"{place} takes messages slower than they come: one dropped"
                self._failed(SendError(reason, RemotePeer(*place.peer), "slow"))
        finally:  # whatever a signal handler raises: nobody else would begin
            if begins:
                self._call_begin(place)

    def probe(self, to: RemotePeer) -> None:
        """Dial an address, only to learn whether somebody accepts."""
        with marked(), self._places.lock:
            place = self._places.find(to)
        self._loop.call(partial(self._dial, place, Dial.close, aside=True))

    def flush(self, timeout: float) -> None:
        """Wait up to so many seconds until nothing waits to be sent."""
        deadline = monotonic() + timeout
        while not self._is_settled():
            left = deadline - monotonic()
            if left <= 0:
                return
            self._settled.wait(min(left, _LOOK_AGAIN))

    def _is_settled(self) -> bool:
        with marked(), self._places.lock:
            return not self._places.busy and not any(link.waiting for link in self._linked)

    def settle(self) -> None:
        """Let `flush` look again."""
        self._settled.ring()

    def _call_begin(self, place: Place) -> None:
        try:
            self._loop.call(partial(self._begin, place))
        except BaseException:
            with marked(), self._places.lock:
                place.dialling = False
            raise

    # On the loop's thread: what to do about a place

    def _begin(self, place: Place) -> None:
        """Send what waits for a place, in the way that is right for it."""
        if not place.shown and self._resolver.is_from(place.host, self._heard(place)):  # it hung, or has restarted
            place.answer()
        if not place.node_js:
            if self._may_send(place, self._hello_size(place)):
                self._dial(place, self._greeting(place, False))
            return
        if monotonic() - place.asked > _ASK_AGAIN and self._places.may_return(place.peer, self._hello_size(place)):
            place.asked = monotonic()
            self._dial(place, self._greeting(place, True), aside=True)
        self._send_next(place)

    def _name_for(self, place: Place) -> RemotePeer | None:
        """Return how this node names itself at a place: an observer not at all, so that others send it only answers."""
        with marked(), self._places.lock:
            sender = place.waiting[0][1].sender if place.waiting else None
        return None if self._side.clusters.observer else self._side.named() or sender

    def _hello_size(self, place: Place) -> int:
        try:
            return len(self._side.hello(self._side.greeter(True), self._name_for(place)))
        except (TypeError, ValueError):  # JSON has no form for the name, so none will be sent
            return 0

    def _may_send(self, place: Place, size: int) -> bool:
        """Whether so many bytes may be sent to a place. If not, what waits there is dropped."""
        with marked(), self._places.lock:
            may_send = place.may_send(size, monotonic())
        if may_send:
            return True
        self._fail(place, ConnectionError("it has not answered, and is sent no more for now"))
        return False

    def _done(self, place: Place) -> None:
        """Note that a place is not being dialled any more, and begin again if something has come to wait for it."""
        with marked(), self._places.lock:
            place.dialling = bool(place.waiting)
            again = place.dialling
        self.settle()
        if again:
            self._begin(place)

    def _fail(self, place: Place, error: Exception, known: bool = False) -> None:
        """Drop what waits for a place that cannot be reached. That it is this node itself is no error, nor is what is known."""
        with marked(), self._places.lock:
            place.waiting.clear()
            place.parts = iter(())
            place.dialling = False
        self.settle()
        if isinstance(error, ClusterError):
            self._told(RemotePeer(*place.peer), "cluster")
            self._side.refuse(error)
        elif isinstance(error, TlsFailure):
            self._told(RemotePeer(*place.peer), "tls")
            self._side.notices.tell(str(place), error)
        if known or isinstance(error, (ClusterError, ReachedItself, TlsFailure)):
            return
        failure = SendError(f"can't send to {place}: {error}", RemotePeer(*place.peer))
        failure.__cause__ = error
        self._failed(failure)

    def forget(self, link: Link) -> None:
        """Note that a link is closed."""
        with marked(), self._places.lock:
            place = self._linked.pop(link, None)
            if place is not None and place.link is link:
                place.link = None
        self.settle()

    # On the loop's thread: dialling

    def _dial(self, place: Place, connected: Callable[[Dial], None], aside: bool = False) -> None:
        """Dial a place and call `connected`. On a dial that is aside no message waits, so a failure is no error."""
        dial = Dial(
            self._loop, self._connect_timeout, self._dials, connected,
            failed=lambda error: None if aside else self._fail(place, error),
            told=lambda what: self._told(RemotePeer(*place.peer), what),
        )  # fmt: skip

        def found(addresses: list[Address] | Exception) -> None:
            if isinstance(addresses, Exception):
                self._loop.call(partial(dial.fail, addresses))
            else:
                self._loop.call(partial(dial.begin, random.sample(addresses, len(addresses))))

        try:
            self._resolver.resolve(place.host, place.port, found)
        except RuntimeError as error:  # the system cannot start a thread
            dial.fail(error)

    def _greeting(self, place: Place, aside: bool) -> Callable[[Dial], None]:
        greet = partial(self._greet, place, aside)
        if self._side.tls is None:
            return greet
        return partial(shake_hands, self._loop, self._side.tls, place.name, self._connect_timeout, greet)

    def _greet(self, place: Place, aside: bool, dial: Dial) -> None:
        place.asked = monotonic()
        greeter = self._side.greeter(True)

        def silent(what: str) -> None:
            self._told(RemotePeer(*place.peer), what)
            place.shown &= place.node_js  # if it was one of ours that lived there, that is over
            has = "keys" if greeter.seals else "TLS" if self._side.tls else ""
            ours = f"it answers no HELLO, as each node with {has} does" if has else self._side.clusters.only_ours
            place.node_js = not ours
            if place.node_js and not aside:
                self._send_next(place)
            elif not aside:
                known, place.silent = place.silent, self._side.clusters.observer
                self._fail(place, ConnectionError(ours), known)

        linked = partial(self._link, place, aside)
        Greeting(dial, self._side, greeter, self._name_for(place), linked=linked, silent=silent, late=place.answer)

    def _link(self, place: Place, aside: bool, link: Link, rest: bytes) -> None:
        """Keep a link, and send on it what waits."""
        place.answer()
        with marked(), self._places.lock:
            former, place.link = place.link, None
            if former is not None:
                del self._linked[former]
        if former is not None:  # a dial that was aside came first, and the other side, too, keeps the later link
            self._links.retire(former)
        self._links.open(link)
        kept = False
        while not link.closed:
            with marked(), self._places.lock:
                if not place.waiting:
                    place.link = link
                    self._linked[link] = place
                    kept = True
                    break
                message = place.waiting.popleft()[1]
            try:
                if not self._links.send(link, message):
                    break
            except Exception as error:  # JSON has no form for something in it
                self._failed(error)
        if rest and not link.closed:  # maybe that the link is to be closed, which is obeyed once everything has been said
            self._links.take(link, rest)
        self._evict()
        if kept and not aside:
            self._done(place)
        elif not aside:  # to dial again at once might never end
            self._fail(place, ConnectionError("it has ended the link at once"))

    def _evict(self) -> None:
        with marked(), self._places.lock:
            if len(self._linked) <= self._max_links:
                return
            link, place = self._linked.popitem(last=False)
            if place.link is link:
                place.link = None
        self._links.retire(link)

    def _send_next(self, place: Place) -> None:
        """Send the next message, or the next part of one, that waits for a Node.js node."""
        while True:
            try:
                part = next(place.parts, None)
            except Exception as error:  # JSON has no form for something in the message
                self._failed(error)
                part = None
            if part is not None:
                break
            with marked(), self._places.lock:
                message = place.waiting.popleft()[1] if place.waiting else None
            if message is None:
                self._done(place)
                return
            place.parts = ((message, data) for data in split(message, self._side.max_message_size, encode))

        if not self._may_send(place, len(part[1])):
            return

        def connected(dial: Dial) -> None:
            self._links.traffic.sent.note(part[0], len(part[1]))
            SingleMessage(dial, part[1], self._send_timeout, partial(self._send_next, place))

        self._dial(place, connected)

    def close(self) -> None:
        """Close all that is being dialled. The loop must not run any more, or this be its thread."""
        for each in [*self._dials]:
            each.close()
        self._dials.clear()
