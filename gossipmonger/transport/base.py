"""The transport interface, and its adapters to the interface of the Node.js package.

A transport carries messages and does not know what they mean. It emits, on any thread,

* `message` (message), for each `Message` that came in;
* `error` (error), for whatever failed, whenever it failed;
* `listening` (), once it can be reached;
* `link` (remote_peer, what), if it keeps connections: what the kernel said of that peer's address. "accepted": it accepted a
  dial. "refused": it refused one, so nobody listens there. "ended": a kept link ended without a frame that says so. A time-out
  proves nothing and is never reported. And what a transport knows beyond that: "itself": the address is this node's own.
  "silent" and "foreign": who accepted a dial has answered nothing, or something that no node says. "tls": with who accepted
  it, TLS has failed.

The Node.js package's transports have two methods and two events in place of `send` and `message`: `deltas` (remote_peer,
deltas) and `digest` (remote_peer, digest), with deltas as lists and digests as lists of dicts. Both directions are bridged.
Each `Transport` has the two methods too, and emits the two events to those who listen for them; and `SeedTransport` makes a
`Transport` out of an object that has nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from gossipmonger.errors import MessageError, SealError, SendError, release, report, shown
from gossipmonger.process import Emitter, Latch, PatientTimer
from gossipmonger.state.message import ExtendedPeer, Message, RemotePeer
from gossipmonger.transport.traffic import Traffic
from gossipmonger.wire import DEFAULT_LIMITS, MARK, Greeter, Keyring, Limits, as_dicts, as_lists, greeter, message_of

__all__ = ["DEFAULT_PORT", "Callback", "Listening", "SeedTransport", "Transport", "TransportLike"]

#: The Node.js package's port.
DEFAULT_PORT = 9742

#: What `listen` and `close` call when they are done; and the first argument of `listen`: where to listen, or that callback.
Callback = Callable[[], None] | None
Listening = Mapping[str, Any] | Callback


class TransportLike(Protocol):
    """What a transport has to have, for those who check types: the Node.js package's interface.

    `Transport` says what each method does, and what is optional. `on` registers handlers of `digest`, `deltas` and `error`.
    """

    def digest(self, remote_peer: RemotePeer, local_peer: RemotePeer, digest_to_send: list[dict[str, Any]], /) -> object:
        """See `Transport.digest`."""

    def deltas(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas_to_send: list[list[Any]], /) -> object:
        """See `Transport.deltas`."""

    def on(self, event: str, f: Callable[..., Any], /) -> object:
        """Call `f` at each event of this name."""


class Transport(Emitter, ABC):
    """What the endpoint uses to reach other nodes.

    * Messages: `send`, and the event `message`
    * Who listens: `dial`, and the event `link`
    * What a name stands for: `addresses`
    * Shared keys: `keyring`; and for transports themselves, `seal`, `open_sealed` and `greeter`
    * Time: `timer`, `wait`
    * The same as in the Node.js package: `digest`, `deltas`, `exchange`, and the events of these names
    * Life: `listen`, `address`, `close`

    Attributes:
        max_message_size: The most bytes in a message, None for no limit. `update` refuses a value that cannot fit.
        begun: Whether it has threads or sockets, which a forked child has no use for.
        local: How this node names itself, for a transport whose connections begin with that; None before it is known.
        linger: Seconds that `close` gives what still has to leave.
        cluster: The name of the node's cluster, likewise; None if it has none.
        keyring: What all that is sent is sealed with, and all that comes is opened with; None to send and take it in plain.
        seals: Whether it does so. A node refuses a keyring for a transport that does not.
        limits: What a part of a message may have.
        traffic: What it counts of its messages, for each protocol that it uses. If it counts none, the endpoint counts what it
            hands over and is handed, without bytes.
        observer: Whether the node is an observer. The transport then does what `greets` promises.
        greets: Whether it can send an observer's messages to none but our nodes. A Node.js node would take it for a peer, so
            nothing goes to an address before a node of ours has shown itself there.
    """

    max_message_size: int | None = None
    local: RemotePeer | None = None
    linger: float = 1.0
    begun: bool = False
    cluster: str | None = None
    keyring: Keyring | None = None
    seals: bool = False
    limits: Limits = DEFAULT_LIMITS
    traffic: tuple[Traffic, ...] = ()
    observer: bool = False
    greets: bool = False

    # Messages

    @abstractmethod
    def send(self, to: RemotePeer, message: Message) -> None:
        """Send a message, and return at once: a round of gossip must not wait for a peer that does not answer.

        What goes wrong is an `error` event. The deltas of a message that is too large may go in several, in their order, and
        the digest after them.

        Args:
            to: Whom to send it to; `transport` says where. It may be the very object that came as the sender of a message.
            message: The message. Its sender's `id` and `transport` reach the other side unaltered.
        """

    def dial(self, to: RemotePeer) -> None:
        """Connect to a peer and hang up, to learn whether somebody listens there; return at once.

        The event `link` tells what came of it. A transport that cannot dial does nothing: it has no refusals.
        """

    def addresses(self, at: Any, then: Callable[[object], None], lifetime: float) -> list[Any] | None:
        """Return all transports that a seed's transport stands for, without this node's own, and do not wait.

        That is the given one, unless it is a name.

        Args:
            at: A seed's transport.
            then: Called on any thread with an answer, or an exception, if the name is asked for because of this.
            lifetime: Seconds after which an answer is old, and is asked for again.

        Returns:
            None if that is not known yet. It is asked for then.
        """
        return [at]

    def trust(self, transports: Iterable[Any]) -> None:
        """Take it that nodes live at these addresses, the seeds'; others are sent little before they have answered."""

    def begin(self) -> None:
        """Start the threads that sending needs. `gossip` calls this, so that none has to be started later and may be refused.

        Raises:
            RuntimeError: The system cannot start a thread.
        """

    def timer(self, seconds: float, function: Callable[[], None]) -> Any:
        """Return what calls a function once, so many seconds after its `start()`, unless its `cancel()` is called.

        By default that takes a thread for each. A transport that has a thread which knows the time saves that.
        """
        return PatientTimer(seconds, function)

    def wait(self, event: Latch, seconds: float) -> bool:
        """Wait until an event is set that a message may bring, at most so many seconds; return whether it is."""
        return event.wait(seconds)

    def seal(self, data: bytes) -> bytes:
        """Return a message as it is sent: sealed, if there is a keyring."""
        return data if self.keyring is None else self.keyring.seal(data, self.cluster)

    def open_sealed(self, data: bytes, source: object) -> bytes:
        """Return a message that came, as it was before it was sealed.

        Raises:
            SealError: No key opens it; or it is not sealed though there is a keyring, or sealed though there is none.
        """
        if self.keyring is not None:
            return self.keyring.open(data, self.cluster, source=source)
        if data[:1] == MARK:
            raise SealError("the message is sealed and this node has no keyring", source)
        return data

    def greeter(self, dialled: bool) -> Greeter:
        """Return what greets the other end of a connection that is kept, which was dialled from here or from there."""
        return greeter(self.keyring, self.cluster, dialled, self.limits)

    def _hand_out(self, message: Message) -> None:
        """Emit a message that came in, also as the Node.js package does to those who listen for that."""
        self.emit("message", message)
        sender, deltas, digest = message
        if deltas is not None and digest is not None and self.listeners("exchange"):
            self.emit("exchange", sender, as_lists(deltas), as_dicts(digest))
            return
        if deltas is not None and self.listeners("deltas"):
            self.emit("deltas", sender, as_lists(deltas))
        if digest is not None and self.listeners("digest"):
            self.emit("digest", sender, as_dicts(digest))

    def _refuse_address(self, to: RemotePeer) -> None:
        """Emit an error: a peer's transport is not an address with a host and a port."""
        reason = f"its transport must be a mapping with a host and a port, got {shown(to.transport)}"
        self._failed(SendError(f"can't send to peer {shown(to.id)}: {reason}", RemotePeer(*to), "address"))

    def _count_with(self, traffic: Traffic) -> None:
        """Add to `traffic` what is counted of one protocol."""
        self.traffic = (*self.traffic, traffic)

    def _later(self, call: Callable[..., None], *args: Any) -> None:
        """Make a call that was deferred: nobody can catch what it raises."""
        try:
            call(*args)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Emit an error, which holds no message any more; without a listener it is logged, since no caller could catch it."""
        try:
            self.emit("error", release(error))
        except Exception as unheard:
            report(unheard)

    # The Node.js package's methods

    def digest(self, remote_peer: RemotePeer, local_peer: RemotePeer, digest_to_send: list[dict[str, Any]]) -> None:
        """Send a digest.

        Args:
            remote_peer: Whom to send it to.
            local_peer: The sender.
            digest_to_send: A dict for each peer, with `id`, `maxVersionSeen` and `transport`. A malformed digest is an `error`
                event.
        """
        self._send_parts(remote_peer, local_peer, None, digest_to_send)

    def deltas(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas_to_send: list[list[Any]]) -> None:
        """Send deltas, each a list `[peer id, key, value, version]`, as `digest` sends a digest."""
        self._send_parts(remote_peer, local_peer, deltas_to_send, None)

    def exchange(
        self,
        remote_peer: RemotePeer,
        local_peer: RemotePeer,
        deltas_to_send: list[list[Any]],
        digest_to_send: list[dict[str, Any]],
    ) -> None:
        """Send deltas and a digest in one message, which a Node.js node cannot read."""
        self._send_parts(remote_peer, local_peer, deltas_to_send, digest_to_send)

    def _send_parts(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas: Any, digest: Any) -> None:
        try:
            message = message_of(local_peer, deltas, digest, limits=self.limits)
        except MessageError as error:
            self._failed(error)
        else:
            self.send(remote_peer, message)

    # Life

    @property
    def address(self) -> Mapping[str, Any] | None:
        """What peers need to reach this transport, once that is known; it completes what `peer_info` left open."""
        return None

    def listen(self, options: Listening = None, callback: Callback = None) -> None:
        """Start to receive, emit `listening`, and call `callback`, which may also be the first argument.

        Raises:
            OSError: It cannot, for example because the port is taken.
        """
        raise NotImplementedError

    def close(self, callback: Callback = None) -> None:
        """Stop, release threads and sockets, then call `callback`. May be called again, and from a handler."""
        raise NotImplementedError


class SeedTransport(Transport):
    """A `Transport` made of an object with the Node.js package's interface.

    Everything the object emits is checked. What is malformed becomes one `error` event.

    Args:
        transport: An object with the methods `digest`, `deltas` and `on`. It may also have `exchange`, `listen`, `close`,
            `address` and `max_message_size`.

    Attributes:
        wrapped: That object.
    """

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self.wrapped = transport
        self.max_message_size: int | None = getattr(transport, "max_message_size", None)
        transport.on("digest", lambda sender, digest: self._receive(sender, None, digest))
        transport.on("deltas", lambda sender, deltas: self._receive(sender, deltas, None))
        transport.on("exchange", self._receive)
        transport.on("error", self._failed)
        transport.on("listening", lambda *_: self.emit("listening"))

    def send(self, to: RemotePeer, message: Message) -> None:
        """Send a message by the object's own methods. It goes in two calls if the object has no `exchange`.

        Raises:
            Exception: What these methods raised.
        """
        sender, deltas, digest = message
        exchange = getattr(self.wrapped, "exchange", None)
        if exchange is not None and deltas is not None and digest is not None:
            exchange(to, sender, as_lists(deltas), as_dicts(digest))
            return
        if deltas is not None:
            self.wrapped.deltas(to, sender, as_lists(deltas))
        if digest is not None:
            self.wrapped.digest(to, sender, as_dicts(digest))

    def _receive(self, sender: Any, deltas: Any, digest: Any) -> None:
        try:
            message = message_of(sender, deltas, digest, limits=self.limits)
        except MessageError as error:
            self._failed(error)
            return
        if isinstance(sender, ExtendedPeer):  # it may carry the way back
            message = message._replace(sender=sender)
        self._hand_out(message)

    @property
    def address(self) -> Mapping[str, Any] | None:
        """The object's `address`, if it has one."""
        address: Mapping[str, Any] | None = getattr(self.wrapped, "address", None)
        return address

    def listen(self, options: Listening = None, callback: Callback = None) -> None:
        """Call the object's `listen` with the same arguments."""
        self.wrapped.listen(options, callback)

    def close(self, callback: Callback = None) -> None:
        """Call the object's `close` with the same arguments; without one, only the callback is called."""
        close = getattr(self.wrapped, "close", None)
        if close is not None:
            close(callback)
        elif callback is not None:
            callback()
