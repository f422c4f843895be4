"""The endpoint: wires storage, protocol and transport to threads, a timer and handlers.

One plain lock, `_state_lock`, guards the storage, the peers in it and the protocol. Under it the protocol is asked what there
is to do, and the events that happened are queued, so that they are delivered in the order in which they happened. Then the
lock is let go, and only then is anything sent or handled. So a handler may call whatever it likes on its node.

What fails finds its way to `error` handlers. Where there are none: an error is raised to the caller if its call is what
failed, and goes to `threading.excepthook` otherwise.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any

from gossipmonger import values
from gossipmonger.emitter import Emitter
from gossipmonger.entry import as_dicts
from gossipmonger.errors import ClosedError, GossipmongerError
from gossipmonger.options import Options, check_number
from gossipmonger.output import Output, Send
from gossipmonger.peer import Peer, RemotePeer
from gossipmonger.peer_info import PeerInfo
from gossipmonger.protocol import Protocol
from gossipmonger.rounds import Rounds
from gossipmonger.storage import MemoryStorage
from gossipmonger.transport import TcpTransport, checks, messages
from gossipmonger.view import PeerView, Snapshot

__all__ = ["Gossipmonger"]

#: Milliseconds that `close` waits for the handler that runs, so that one that never returns does not keep it from ending.
_CLOSE_TIMEOUT = 5_000

#: Seconds that `wait` blocks at a time. Python runs a signal's handler between two steps of the main thread; one that comes as
#: the thread is about to block would otherwise wait with it, for ever.
_WAIT_SLICE = 0.5


class Gossipmonger(Emitter):
    """A gossip endpoint: owns a map of keys and values, and knows those of all others.

    Every method may be called from any thread and from a handler. Handlers are called one at a time, in the order things
    happened, on the thread `gossipmonger-events` (or by the option `executor`); an exception in one becomes an `error` event.

    * Life: `gossip`, `stop`, `leave`, `close`, `wait`, and the `with` statement, which listens and gossips on entry, closes on
      exit
    * Own state: `update`, `delete`
    * Others' state: `get`, `peer`, `peers`
    * Events, through `on`: `update` (peer_id, key, value), `delete` (peer_id, key), `new peer`, `peer dead`, `peer live`,
      `peer left`, `peer forgotten` (each a `RemotePeer`), `error` (exception); and for those who look inside: `digest send`,
      `digest receive`, `deltas send`, `deltas receive` (remote_peer, payload), `unknown peer` (peer_id)

    Args:
        peer_info: `id`, and optionally `transport`, for TCP a mapping with `host` ("localhost") and `port` (9742; 0 for any);
            `data`, key -> [value, version]; `maxVersionSeen`, also spelled `max_version_seen`. Without the last, versions
            start at the clock's microseconds, so that no two lives of one id share a version.
        options: See `Options`; in upper or lower case.
        **keywords: The same, in front of `options`.

    Attributes:
        local_peer: The node's own peer. To be read only, and not while others write: `peer` gives a copy.
        storage: The storage in use.
        transport: The transport in use; it has to be told to `listen`.
        seeds: The seeds, each a `RemotePeer`.
        options: The options in use.

    Raises:
        TypeError, ValueError: An argument is unknown, of the wrong type or out of range; the error names it.
    """

    local_peer: Peer
    storage: Any
    transport: Any
    seeds: tuple[RemotePeer, ...]
    options: Options

    def __init__(self, peer_info: Mapping[str, Any], options: Mapping[str, Any] | None = None, **keywords: Any) -> None:
        info = PeerInfo.parse(peer_info)
        self.options = Options.parse(options, keywords)
        super().__init__(self.options.executor)
        self.seeds = self.options.seeds
        self.storage = MemoryStorage() if self.options.storage is None else self.options.storage
        self.transport = self.options.transport
        if self.transport is None:
            info = info.over_tcp()
            self.transport = TcpTransport(
                host=info.transport["host"], port=info.transport["port"], compress_above=self.options.compress_above
            )
        self._state_lock = threading.Lock()  # guards the storage, every Peer in it, and the protocol
        self._rounds = Rounds(self.options.timer, self.options.gossip_interval, self._tick)
        self._rumors = Rounds(self.options.timer, self.options.rumor_interval, self._tell)
        self._closed = threading.Event()
        now = self.options.clock()
        self.local_peer = info.local_peer(self.storage, now)
        self._protocol = Protocol(self.local_peer, self.storage, self.options, now)
        self._complete_transport()
        if hasattr(self.storage, "on"):
            self.storage.on("error", self._failed)
        self.transport.on("digest", self._on_digest)
        self.transport.on("deltas", self._on_deltas)
        self.transport.on("exchange", self._receive)
        self.transport.on("error", self._failed)
        self.transport.on("listening", self._complete_transport)

    def __repr__(self) -> str:
        return f"Gossipmonger({self.local_peer.id!r} at {self.local_peer.transport!r})"

    # Life

    def __enter__(self) -> Gossipmonger:
        """Listen and gossip."""
        try:
            self.transport.listen()
            self.gossip()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def gossip(self) -> None:
        """Do one round now, on the caller's thread, and then one every GOSSIP_INTERVAL until `stop` or `close`.

        A round, in this order: a digest to GOSSIP_FANOUT random live peers; maybe one to a random dead peer; one to a random
        seed if live peers are fewer than MINIMUM_LIVE_PEERS; then live peers whose phi is above DEAD_PEER_PHI are dead, and
        dead ones whose phi is below it live; then the timer is set. Called again, it does a round at once and starts the
        interval anew. A node that has left is there again.

        Raises:
            ClosedError: The endpoint has been closed.
            Exception: What the storage or the transport raised in this first round, if no `error` handler is there.
        """
        if not self._rounds.begin():
            raise ClosedError("gossip: this endpoint has been closed")
        self._rumors.begin()
        with self._state_lock:
            self._protocol.join()
        self._round(self._raise)

    def _tick(self) -> None:
        self._round(self._failed)

    def _round(self, failed: Callable[[Exception], None]) -> None:
        try:
            self._act(self._protocol.round, failed)
        except Exception as error:
            failed(error)
        finally:
            self._rounds.arm()

    def _tell(self) -> None:
        try:
            self._act(_nothing, self._failed)
        except Exception as error:
            self._failed(error)

    def stop(self) -> None:
        """Gossip no more rounds and tell no news, until `gossip` is called again. Digests that come are still answered."""
        self._rounds.stop()
        self._rumors.stop()

    def leave(self) -> None:
        """Say good-bye and stop: a few peers are told at once, and tell the others, that nobody need wait for our silence.

        They emit `peer left`. It returns when the messages are handed to the transport. `gossip` brings the node back.

        Raises:
            ClosedError: The endpoint has been closed, and has left by that.
        """
        if self.closed:
            raise ClosedError("leave: this endpoint has been closed")
        self.stop()
        self._farewell()

    def _farewell(self) -> None:
        with self._state_lock:
            output = [] if self.local_peer.left else self._protocol.leave()
            self._post(output)
        self._send(output, self._failed)

    def close(self) -> None:
        """Leave, close the transport, end every thread, close the storage. What is closed stays closed.

        Idempotent; from a handler too, which is then the last one to run. Events that were not delivered yet are dropped. A
        handler that runs in another thread is given 5 s to return.

        Raises:
            Exception: What closing the transport or the storage raised, after everything else has been closed.
        """
        if not self._rounds.close():
            return
        self._rumors.close()
        failures: list[Exception] = []
        for step in (self.stop, self._farewell, self._close(self.transport), self._close_delivery, self._close(self.storage)):
            try:
                step()
            except Exception as error:
                failures.append(error)
        self._closed.set()
        if failures:
            raise failures[0]

    @staticmethod
    def _close(thing: Any) -> Callable[[], None]:
        return getattr(thing, "close", None) or (lambda: None)

    def _close_delivery(self) -> None:
        if not self._delivery.close(_CLOSE_TIMEOUT):
            raise GossipmongerError(f"a handler did not return within {_CLOSE_TIMEOUT} ms of close()")

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._rounds.closed

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the endpoint is closed, at most `timeout` milliseconds; return whether it is."""
        if timeout is not None:
            check_number("timeout", timeout, float, 0)
        deadline = math.inf if timeout is None else monotonic() + timeout / 1000
        while not self._closed.wait(max(0.0, min(_WAIT_SLICE, deadline - monotonic()))):
            if monotonic() >= deadline:
                return self._closed.is_set()
        return True

    # Own state

    def update(self, key: str, value: Any) -> bool:
        """Set a key of the local peer; gossip carries it to all others.

        Args:
            key: The key, any string but "__proto__", which a Node node can't hold.
            value: A JSON value; it is copied. What can't go in one message of the transport is refused.

        Returns:
            Whether anything changed: not if the key has this very value already.

        Raises:
            TypeError, ValueError: The key is no such string, or JSON can't carry the value.
            ClosedError: The endpoint has been closed.
        """
        key, value = values.copied_key(key), values.copied(value)
        if values.is_tombstone(value):
            raise ValueError(f"value: {value!r} is what stands for a deleted key; use delete()")
        limit = getattr(self.transport, "max_message_size", None)
        if limit is not None and not messages.fits({key: value} if len(key) > 128 else value, limit):
            raise ValueError(f"value: too large for a message of {limit} bytes")
        if self.closed:
            raise ClosedError("update: this endpoint has been closed")
        with self._state_lock:
            changed = self._protocol.update(self.options.clock(), key, value)
        if changed:
            self._act(_nothing, self._failed)
        return changed

    def delete(self, key: str) -> bool:
        """Delete a key of the local peer; gossip carries that to all others, however long they were away.

        Args:
            key: The key.

        Returns:
            Whether it was there.

        Raises:
            TypeError, ValueError: It is nothing that can be a key.
            ClosedError: The endpoint has been closed.
        """
        key = values.copied_key(key)
        if self.closed:
            raise ClosedError("delete: this endpoint has been closed")
        with self._state_lock:
            changed = self._protocol.delete(self.options.clock(), key)
        if changed:
            self._act(_nothing, self._failed)
        return changed

    # Others' state

    def get(self, peer_id: str, key: str, default: Any = None) -> Any:
        """Return a copy of what `key` is at a peer, the local one included; `default` if there is no such peer or key."""
        with self._state_lock:
            peer = self._find(peer_id)
            if peer is self.local_peer:
                value = self._protocol.newest(key, _MISSING)
            else:
                value = _MISSING if peer is None else peer.get(key, _MISSING)
        return default if value is _MISSING else values.copied(value)

    def peer(self, peer_id: str) -> PeerView | None:
        """Return a peer as it is now, None if there is none with this id."""
        with self._state_lock:
            peer = self._find(peer_id)
            seen = None if peer is None else self._seen(peer)
        return None if seen is None else seen.view()

    def peers(self) -> dict[str, PeerView]:
        """Return all peers as they are now, the local one first, by their ids. It copies: `peer` and `get` cost less."""
        with self._state_lock:
            live, dead = self._protocol.membership.others()
            seen = [self._seen(peer) for peer in (self.local_peer, *live, *dead)]
        return {each.id: each.view() for each in seen}

    def digest(self, live_peers: Iterable[Peer] = ()) -> list[dict[str, Any]]:
        """Return the digest that a round sends: an entry for each of `live_peers`, then the local peer's."""
        with self._state_lock:
            return as_dicts(self._protocol.digest(list(live_peers)))

    def _find(self, id: str) -> Peer | None:
        """Return the peer with this id. This requires holding `_state_lock`."""
        assert self._state_lock.locked()
        found: Peer | None = self.local_peer if id == self.local_peer.id else self.storage.get(id)
        return found

    def _seen(self, peer: Peer) -> Snapshot:
        """Return what `view` needs of a peer. This requires holding `_state_lock`."""
        assert self._state_lock.locked()
        if peer is self.local_peer:
            return Snapshot(peer, 0.0, self._protocol.waiting)
        return Snapshot(peer, peer.phi(self.options.clock()))

    # What the transport brings

    def _on_digest(self, remote_peer: Any, digest: Any) -> None:
        self._receive(remote_peer, None, digest)

    def _on_deltas(self, remote_peer: Any, deltas: Any) -> None:
        self._receive(remote_peer, deltas, None)

    def _receive(self, sender: Any, deltas: Any, digest: Any) -> None:
        if self.closed:
            return
        try:
            if not getattr(self.transport, "validates", False):
                sender, deltas, digest = checks.validate(sender, deltas, digest)
            self._act(lambda now: self._protocol.receive(now, sender, deltas, digest), self._failed)
        except Exception as error:
            self._failed(error)

    def _complete_transport(self) -> None:
        """Let peers know where the transport is reached, where `peer_info` left that open."""
        local = self.local_peer
        address = getattr(self.transport, "address", None)
        if not isinstance(address, Mapping):
            return
        given = {} if local.transport is None else local.transport
        if isinstance(given, dict):
            completed = {**address, **{name: part for name, part in given.items() if part or name != "port"}}
            if completed != given:
                with self._state_lock:
                    local.transport = completed
                    self._protocol.membership.put(local)

    # Output

    def _act(self, step: Callable[[float], Output], failed: Callable[[Exception], None]) -> None:
        """Let the protocol take a step, and tell what is new if it is time for that; then send and deliver what comes of it."""
        due = None
        with self._state_lock:
            now = self.options.clock()
            output = step(now)
            if self._rumors.going:
                output += self._protocol.spread(now)
                due = self._protocol.rumor_due
            self._post(output)
        if due is not None:
            self._rumors.arm_within(max(1.0, due - now))
        self._send(output, failed)

    def _send(self, output: Output, failed: Callable[[Exception], None]) -> None:
        for item in output:
            if isinstance(item, Send):
                try:
                    self._hand_over(*item)
                except Exception as error:
                    failed(error)
        self._delivery.kick()

    def _hand_over(self, remote_peer: RemotePeer, deltas: Any, digest: Any) -> None:
        transport, local = self.transport, self.local_peer
        if digest is not None and not getattr(transport, "validates", False):
            digest = as_dicts(digest)
        if deltas is not None and digest is not None and hasattr(transport, "exchange"):
            transport.exchange(remote_peer, local, deltas, digest)
            return
        if deltas is not None:
            transport.deltas(remote_peer, local, deltas)
        if digest is not None:
            transport.digest(remote_peer, local, digest)


_MISSING = object()


def _nothing(now: float) -> Output:
    return []
