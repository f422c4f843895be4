"""The endpoint: joins storage, protocol and transport, and connects them to threads, timers and handlers.

One plain lock, `_state_lock`, guards the storage, every peer in it, and the protocol. While holding it, a call asks the
protocol what there is to do and queues the events that happened, so they keep their order. It then releases the lock, and only
after that sends messages and calls handlers. A handler may therefore call any method of its node.

Errors go to `error` handlers. Without one, an error is raised to the caller if the caller's own call failed, and goes to
`threading.excepthook` otherwise.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

from pyee.base import EventEmitter

from gossipmonger.endpoint.dispatcher import Dispatcher
from gossipmonger.endpoint.options import Options
from gossipmonger.endpoint.peer_info import PeerInfo
from gossipmonger.endpoint.timer import Timer
from gossipmonger.endpoint.views import PeerView, Snapshot
from gossipmonger.errors import ClosedError, GossipmongerError
from gossipmonger.protocol import Dial, Output, Protocol, Send
from gossipmonger.state import values
from gossipmonger.state.arguments import seconds
from gossipmonger.state.message import Digest, Kind, RemotePeer
from gossipmonger.state.peer import Peer
from gossipmonger.storage import MemoryStorage
from gossipmonger.transport import SeedTransport, TcpTransport, Transport
from gossipmonger.wire import as_dicts, fits

__all__ = ["Gossipmonger"]

#: Seconds that `close` waits for the current handler, so that one that never returns cannot block it for good.
_CLOSE_TIMEOUT = 5.0

#: Seconds that `wait` blocks at a time. Python runs signal handlers between two steps of the main thread; a signal that arrives
#: just as the thread begins to block would otherwise wait with it, for ever.
_WAIT_SLICE = 0.5

_MISSING = object()


class Gossipmonger(EventEmitter):
    """A gossip endpoint: owns a map of keys and values, and knows those of all other nodes.

    Any method may be called from any thread and from a handler. Handlers are called one at a time, in the order in which
    things happened, on the thread `gossipmonger-events` or by the option `executor`. An exception in one is an `error` event.

    * Life: `gossip`, `stop`, `leave`, `close`, `closed`, `wait`, and the `with` statement, which listens and gossips on entry
      and closes on exit
    * Own state: `update`, `delete`
    * State of all nodes: `get`, `peer`, `peers`
    * Events, through `on`: `update` (peer_id, key, value), `delete` (peer_id, key), `new peer`, `peer dead`, `peer live`,
      `peer left`, `peer forgotten` (each with a `RemotePeer`), `error` (exception); and for a look inside: `digest send`,
      `digest receive`, `deltas send`, `deltas receive` (remote_peer, payload), `unknown peer` (peer_id)

    Args:
        peer_info: `id`, and optionally `transport`, for TCP a mapping with `host` ("localhost") and `port` (9742; 0 for any
            free one); `data`, key -> [value, version]; and `maxVersionSeen`, also spelled `max_version_seen`. Without the
            last, versions start at the clock's microseconds, so no two lives of one id share a version.
        options: See `Options`; names in upper or lower case.
        **keywords: The same; they take precedence over `options`.

    Attributes:
        local_peer: The node's own peer. Read only, and not while other threads write: `peer` returns a copy.
        storage: The storage in use.
        transport: The transport in use. It has to be told to `listen`.
        seeds: The seeds, each a `RemotePeer`.
        options: The options in use.

    Raises:
        TypeError, ValueError: An argument is unknown, of the wrong type or out of range; the error names it.
    """

    def __init__(self, peer_info: Mapping[str, Any], options: Mapping[str, Any] | None = None, **keywords: Any) -> None:
        super().__init__()
        info = PeerInfo.parse(peer_info)
        self.options = chosen = Options.parse(options, keywords)
        self.seeds = chosen.seeds
        self.storage: Any = MemoryStorage() if chosen.storage is None else chosen.storage
        self.transport: Any = chosen.transport
        if self.transport is None:
            info = info.over_tcp()
            host, port = info.transport["host"], info.transport["port"]
            self.transport = TcpTransport(host=host, port=port, compress_above=chosen.compress_above)
        self._carrier: Transport = self.transport if isinstance(self.transport, Transport) else SeedTransport(self.transport)
        self._clock = chosen.clock
        self._dispatcher = Dispatcher(self, chosen.executor)
        round_in_background = partial(self._round, self._dispatcher.fail)
        self._round_timer = Timer(chosen.timer, chosen.gossip_interval, round_in_background)
        soon = self._carrier.timer if chosen.timer is threading.Timer else chosen.timer  # a thread that runs anyway
        self._rumor_timer = Timer(soon, chosen.rumor_interval, partial(self._try_step, _nothing))
        self._closed = threading.Event()
        self._state_lock = threading.Lock()  # guards the storage, every Peer in it, and the protocol
        now = self._clock()
        self.local_peer = info.local_peer(self.storage, now)
        self._protocol = Protocol(self.local_peer, self.storage, chosen.config(), chosen.random, now)
        self._carrier.local = RemotePeer(self.local_peer.id, self.local_peer.transport)
        self._complete_address()
        if hasattr(self.storage, "on"):
            self.storage.on("error", self._dispatcher.fail)
        self._carrier.on("message", partial(self._receive, self._protocol.step))
        self._carrier.on("link", partial(self._receive, self._protocol.link))
        self._carrier.on("error", self._dispatcher.fail)
        self._carrier.on("listening", self._complete_address)

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

        A round sends a digest to GOSSIP_FANOUT random live peers, sometimes to a dead one or a seed, and then judges who is
        dead and who lives again. The interval begins when the round is over. Called again, this does a round at once and starts
        the interval anew. A node that has left comes back.

        Raises:
            ClosedError: The endpoint has been closed.
            Exception: What the storage or the transport raised in this first round, if there is no `error` handler.
        """
        if not self._round_timer.begin():
            raise ClosedError("gossip: this endpoint has been closed")
        self._rumor_timer.begin()
        with self._state_lock:
            self._protocol.join()
        self._round(self._dispatcher.fail_or_raise)

    def _round(self, failed: Callable[[Exception], None]) -> None:
        try:
            self._step(failed, self._protocol.round)
        except Exception as error:
            failed(error)
        finally:
            self._round_timer.arm()

    def stop(self) -> None:
        """Start no more rounds and spread no news until `gossip` is called again. Messages that come are still answered."""
        self._round_timer.stop()
        self._rumor_timer.stop()

    def leave(self) -> None:
        """Say goodbye and stop, so that nobody has to conclude from silence that this node has gone.

        A few peers are told at once and tell the others; they emit `peer left`. `gossip` brings the node back.

        Raises:
            ClosedError: The endpoint has been closed.
        """
        if self._round_timer.closed:
            raise ClosedError("leave: this endpoint has been closed")
        self.stop()
        self._farewell()

    def _farewell(self) -> None:
        with self._state_lock:
            output = [] if self.local_peer.left else self._protocol.leave(self._clock())
            self._dispatcher.post(output)
        self._carry_out(output, None, self._dispatcher.fail)

    def close(self) -> None:
        """Leave, close the transport, end every thread, and close the storage. What is closed stays closed.

        May be called again, and from a handler, which is then the last one to run. Events that were not delivered yet are
        dropped. A handler that runs on another thread is given 5 s to return.

        Raises:
            Exception: What closing the transport or the storage raised, after everything else has been closed.
        """
        if not self._round_timer.close():
            return
        self._rumor_timer.close()
        failures: list[Exception] = []
        close_transport, close_storage = partial(_close, self.transport), partial(_close, self.storage)
        for step in (self.stop, self._farewell, close_transport, self._close_dispatcher, close_storage):
            try:
                step()
            except Exception as error:
                failures.append(error)
        self._closed.set()
        if failures:
            raise failures[0]

    def _close_dispatcher(self) -> None:
        if not self._dispatcher.close(_CLOSE_TIMEOUT):
            raise GossipmongerError(f"a handler did not return within {_CLOSE_TIMEOUT:g} s of close()")

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._round_timer.closed

    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Block until the endpoint is closed, or until `timeout` has passed.

        Args:
            timeout: Seconds, or a `timedelta`; None for no limit.

        Returns:
            Whether the endpoint is closed.

        Raises:
            TypeError, ValueError: The timeout is neither, or negative.
        """
        deadline = math.inf if timeout is None else monotonic() + seconds("timeout", timeout)
        while not self._closed.wait(max(0.0, min(_WAIT_SLICE, deadline - monotonic()))):
            if monotonic() >= deadline:
                return self._closed.is_set()
        return True

    # Own state

    def update(self, key: str, value: Any) -> bool:
        """Set a key of the local peer; gossip carries it to all other nodes.

        Args:
            key: Any string but "__proto__", which a Node.js node cannot store.
            value: A JSON value; it is copied.

        Returns:
            Whether anything changed, which is not so if the key has this very value already.

        Raises:
            TypeError, ValueError: The key is not such a string, JSON has no form for the value, or no message of the transport
                has room for it.
            ClosedError: The endpoint has been closed.
        """
        key, value = values.copied_key(key), values.copied(value)
        if type(value) is dict and values.is_tombstone(value):
            raise ValueError(f"value must not be {value!r}, which stands for a deleted key; use delete()")
        limit = getattr(self.transport, "max_message_size", None)
        if limit is not None and not fits({key: value} if len(key) > 128 else value, limit):
            raise ValueError(f"value must fit in a message of {limit} bytes")
        return self._write("update", self._protocol.update, key, value)

    def delete(self, key: str) -> bool:
        """Delete a key of the local peer; gossip carries that to all other nodes, however long they were away.

        Returns:
            Whether the key was there.

        Raises:
            TypeError, ValueError: The key is not a string, or is "__proto__".
            ClosedError: The endpoint has been closed.
        """
        return self._write("delete", self._protocol.delete, values.copied_key(key))

    def _write(self, name: str, write: Callable[..., bool], *args: Any) -> bool:
        """Change the local state and spread the news, in one locked section."""
        with self._state_lock:
            if self._round_timer.closed:
                raise ClosedError(f"{name}: this endpoint has been closed")
            now = self._clock()
            if not write(now, *args):
                return False
            output: Output = []
            due = self._spread(now, output)
        self._carry_out(output, due, self._dispatcher.fail)
        return True

    # State of all nodes

    def get(self, peer_id: str, key: str, default: Any = None) -> Any:
        """Return a copy of the value of `key` at a peer, the local one included; `default` if there is no such peer or key."""
        with self._state_lock:
            peer = self._find(peer_id)
            if peer is self.local_peer:
                value = self._protocol.newest(key, _MISSING)
            else:
                value = _MISSING if peer is None else peer.get(key, _MISSING)
        return default if value is _MISSING else values.copied(value)

    def peer(self, peer_id: str) -> PeerView | None:
        """Return a peer as it is now; None if there is none with this id."""
        with self._state_lock:
            peer = self._find(peer_id)
            snapshot = None if peer is None else self._snapshot(peer)
        return None if snapshot is None else snapshot.view()

    def peers(self) -> dict[str, PeerView]:
        """Return all peers as they are now, by their ids, the local one first. `peer` and `get` copy, and cost, less."""
        with self._state_lock:
            live, dead = self._protocol.membership.others()
            snapshots = [self._snapshot(peer) for peer in (self.local_peer, *live, *dead)]
        return {snapshot.id: snapshot.view() for snapshot in snapshots}

    def digest(self, live_peers: Iterable[Peer] = ()) -> list[dict[str, Any]]:
        """Return the digest that a round sends: an entry for each of `live_peers`, then the local peer's."""
        with self._state_lock:
            entries = self._protocol.membership.digest([*live_peers])
        return as_dicts(Digest(Kind.ROUND, None, entries))

    def _find(self, id: str) -> Peer | None:
        """Return the peer with this id. This requires holding `_state_lock`."""
        assert self._state_lock.locked()
        found: Peer | None = self.local_peer if id == self.local_peer.id else self.storage.get(id)
        return found

    def _snapshot(self, peer: Peer) -> Snapshot:
        """Return what a view of a peer is made from. This requires holding `_state_lock`."""
        assert self._state_lock.locked()
        if peer is self.local_peer:
            return Snapshot(peer, 0.0, self._protocol.waiting)
        return Snapshot(peer, peer.phi(self._clock()))

    # In and out

    def _receive(self, step: Callable[..., Output], *args: Any) -> None:
        if not self._round_timer.closed:
            self._try_step(step, *args)

    def _try_step(self, step: Callable[..., Output], *args: Any) -> None:
        try:
            self._step(self._dispatcher.fail, step, *args)
        except Exception as error:
            self._dispatcher.fail(error)

    def _step(self, failed: Callable[[Exception], None], step: Callable[..., Output], *args: Any) -> None:
        """Let the protocol take a step, then spread what news are due, then send and deliver what comes of both."""
        with self._state_lock:
            now = self._clock()
            output = step(now, *args)
            due = self._spread(now, output)
        self._carry_out(output, due, failed)

    def _spread(self, now: float, output: Output) -> tuple[float, float] | None:
        """Add what is due to `output`, queue its events; return now and when more is due. This requires `_state_lock`."""
        assert self._state_lock.locked()
        due = None
        if self._rumor_timer.going:
            output += self._protocol.spread(now)
            due = self._protocol.due
        self._dispatcher.post(output)
        return None if due is None else (now, due)

    def _carry_out(self, output: Output, due: tuple[float, float] | None, failed: Callable[[Exception], None]) -> None:
        """Send what is to be sent, and get what was queued delivered. No lock may be held: handlers may run right here."""
        if due is not None:
            self._rumor_timer.arm_by(*due)
        failures: list[Exception] = []
        for item in output:
            try:
                if type(item) is Send:
                    self._carrier.send(item.to, item.message)
                elif type(item) is Dial:
                    self._carrier.dial(item.to)
            except Exception as error:
                failures.append(error)
        self._dispatcher.kick()
        for failure in failures:
            failed(failure)

    def _complete_address(self) -> None:
        """Tell peers where the transport is reached, as far as `peer_info` left that open."""
        address = getattr(self.transport, "address", None)
        if not isinstance(address, Mapping):
            return
        local = self.local_peer
        with self._state_lock:
            given = {} if local.transport is None else local.transport
            if not isinstance(given, dict):
                return
            completed = {**address, **{name: part for name, part in given.items() if part or name != "port"}}
            if completed != given:
                local.transport = completed
                self._protocol.membership.put(local)
                self._carrier.local = RemotePeer(local.id, local.transport)

    def _emit_run(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._dispatcher.run(f, args, kwargs)


def _nothing(now: float) -> Output:
    return []


def _close(thing: Any) -> None:
    getattr(thing, "close", lambda: None)()  # a storage or a transport need not have it
