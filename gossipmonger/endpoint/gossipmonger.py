"""The endpoint, as programs see it: what they may call and what it promises. `Engine` does the work.

Errors go to `error` handlers. Without one, an error is raised to the caller if the caller's own call failed, and logged
otherwise.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from gossipmonger.endpoint.calls import acts, asks
from gossipmonger.endpoint.dispatcher import Dispatcher
from gossipmonger.endpoint.engine import Engine
from gossipmonger.endpoint.events import Events
from gossipmonger.endpoint.exit import PATIENCE, doomed
from gossipmonger.endpoint.following import Following
from gossipmonger.endpoint.metrics import Measured
from gossipmonger.endpoint.observer import check_transport, observer_info
from gossipmonger.endpoint.options import Options, OptionsDict
from gossipmonger.endpoint.peer_info import PeerInfo
from gossipmonger.endpoint.views import PeerView
from gossipmonger.errors import ClosedError, ForkedError, GossipmongerError, at, report, shown
from gossipmonger.process import Latch, finish, here, marked
from gossipmonger.state import values
from gossipmonger.state.arguments import seconds
from gossipmonger.state.message import MAX_TTL, MIN_TTL, Digest, Kind, RemotePeer
from gossipmonger.state.peer import NOTHING, Peer
from gossipmonger.storage import MemoryStorage
from gossipmonger.transport import TcpTransport
from gossipmonger.transport.tcp import TLS
from gossipmonger.wire import as_dicts, fits

if TYPE_CHECKING:  # no program needs this package to run
    from typing_extensions import Unpack

__all__ = ["Gossipmonger"]

#: Seconds that `close` waits for the current handler, so that one that never returns cannot block it for good.
_CLOSE_TIMEOUT = 5.0


class Gossipmonger(Following, Measured, Events):
    """A gossip endpoint: owns a map of keys and values, and knows those of all other nodes.

    Any method may be called from any thread and from a handler. Handlers are called one at a time, in the order in which
    things happened, on the thread `gossipmonger-events` or by the option `executor`. An exception in one is an `error` event.

    * Life: `gossip`, `stop`, `leave`, `flush`, `close`, `closed`, `wait`, and the `with` statement, which listens and
      gossips on entry and closes on exit
    * Own state: `update`, `delete`
    * State of all nodes: `get`, `values`, `live`, `peer`, `peers`; and what becomes of it: `watch`, `wait_for`, `wait_for_key`,
      `wait_for_peers`; and `forget`
    * What it costs, and how it fares: `metrics`
    * Events, through `on`: `update` (peer_id, key, value), `delete` (peer_id, key), `new peer`, `peer dead`, `peer live`,
      `peer left`, `peer forgotten` (each with a `RemotePeer`), `error` (exception); and for a look inside: `digest send`,
      `digest receive`, `deltas send`, `deltas receive` (remote_peer, payload), `unknown peer` (peer_id)

    Args:
        peer_info: `id`, and optionally `transport`, for TCP a mapping with `host` ("localhost") and `port` (9742; 0 for any
            free one); `data`, key -> [value, version]; and `maxVersionSeen`, also spelled `max_version_seen`. Without the
            last, versions start at the clock's microseconds, so no two lives of one id share a version. An observer needs none
            of it.
        options: See `Options`; names in upper or lower case.
        **keywords: The same; they take precedence over `options`.

    Attributes:
        local_peer: The node's own peer. Read only, and not while other threads write: `peer` returns a copy. An observer's has
            an id that is partly random, and no other node ever has it.
        storage: The storage in use.
        transport: The transport in use. It has to be told to `listen`.
        seeds: The seeds, each a `RemotePeer`.
        options: The options in use.

    Raises:
        TypeError, ValueError: An argument is unknown, of the wrong type or out of range; the error names it.
    """

    def __init__(
        self,
        peer_info: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **keywords: Unpack[OptionsDict],
    ) -> None:
        super().__init__()
        self.options: Options = Options.parse(options, keywords)
        chosen = self.options
        info = observer_info(peer_info, chosen) if chosen.observer else PeerInfo.parse(peer_info, limits=chosen)
        self.seeds: tuple[RemotePeer, ...] = chosen.seeds
        self.storage: Any = MemoryStorage() if chosen.storage is None else chosen.storage
        self.transport: Any = chosen.transport
        if self.transport is None:
            info.check_over_tcp()
            tls = {name: getattr(chosen, name) for name in TLS}
            self.transport = TcpTransport(tls, compress_above=chosen.compress_above)
        if chosen.observer:
            check_transport(self.transport)
        self._dispatcher = Dispatcher(self, chosen.executor, info.id)
        self._engine = Engine(info, chosen, self.storage, self.transport, self._dispatcher)
        self._protocol = self._engine.protocol
        self.local_peer: Peer = self._engine.local_peer
        self._closed = Latch()
        self._to_close: list[Callable[[], object]] | None = None
        self._closing = threading.Lock()  # held by the thread that closes; nobody waits for it

    def __repr__(self) -> str:
        local = self.local_peer
        live = self._engine.count_live()
        known = "" if live is None else f", {live} live {'peer' if live == 1 else 'peers'}"
        return f"{type(self).__name__}({shown(local.id)} at {at(local.transport)}, {self._engine.state}{known})"

    # Life

    def __enter__(self) -> Gossipmonger:
        """Listen and gossip. Raises RuntimeError if the node runs already, because the end of the block would close it."""
        if self._engine.forked:
            raise ForkedError("with", repr(self))
        if self._engine.state not in ("not started", "closed"):
            raise RuntimeError(f"with: {self!r} runs already, and would be closed; use it as it is, or contextlib.closing()")
        try:
            self._engine.listen()
            self.gossip()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        finish([self.close])  # again after a Ctrl-C, say, which must not leave anything open

    @acts()
    def gossip(self) -> None:
        """Do one round now, on the caller's thread, and then one every GOSSIP_INTERVAL until `stop` or `close`.

        A round sends a digest to GOSSIP_FANOUT random live peers, sometimes to a dead one or a seed, and then judges who is
        dead and who lives again. The interval begins when the round is over. Called again, this does a round at once and starts
        the interval anew. A node that has left comes back.

        Raises:
            ClosedError: The endpoint has been closed.
            Exception: What the storage or the transport raised in this first round, if there is no `error` handler.
        """
        if not self._engine.begin():
            raise ClosedError("gossip: this endpoint has been closed")
        self._engine.round(self._dispatcher.fail_or_raise)

    @acts(inert=True)
    def stop(self) -> None:
        """Start no more rounds and spread no news until `gossip` is called again. Messages that come are still answered."""
        self._engine.stop()

    @acts()
    def leave(self) -> None:
        """Say goodbye and stop, so that nobody has to conclude from silence that this node has gone.

        A few peers are told at once and tell the others; they emit `peer left`. `gossip` brings the node back. An observer has
        nobody to say goodbye to: it stops.

        Raises:
            ClosedError: The endpoint has been closed.
        """
        self._engine.stop()
        self._engine.farewell()
        self._dispatcher.log.say(logging.INFO, "left")

    @acts(inert=True)
    def close(self) -> None:
        """Hand on what is new, leave, close the transport, end every thread, and close the storage, for good.

        If there is something that no live peer is known to hold, it is told to some of them and to all seeds, as by `flush`.
        That takes at most a second, and no longer than until one of them has it. A program that ends without `close` hands on
        and leaves in the same way.

        May be called again, and from a handler, which is then the last one to run. Events that were not delivered yet are
        dropped. A handler that runs on another thread is given 5 s to return. On a thread of the package's that everything else
        waits for, where a finalizer may call this, it returns at once, and a thread of its own closes.

        Raises:
            Exception: What closing the transport or the storage raised, after everything else has been closed.
        """
        if self._closed.is_set() or self._closing.locked():
            return
        self._engine.close()
        if self._dispatcher.delivering:
            self._dispatcher.close(0)  # the handler that calls this is the last to run
        if here().own:
            # No daemon: the program is to end after it.
            closing = threading.Thread(target=self._close_apart, name="gossipmonger-close", daemon=False)
            try:
                closing.start()
            except RuntimeError:  # the system has no thread for it, or the program is ending
                self._close()
        else:
            self._close()

    def _close_apart(self) -> None:
        try:
            self._close()
        except Exception as error:  # which nobody can catch
            report(error)

    def _close(self) -> None:
        with self._closing:
            if self._closed.is_set():
                return
            if self._to_close is None:
                engine, hand_on = self._engine, partial(self._hand_on, monotonic() + PATIENCE)
                handlers = partial(_end, "a handler", self._dispatcher.close)
                watches = partial(_end, "the handler of a watch", engine.watches.wait_for_handlers)
                transport, storage = partial(_close, self.transport), partial(_close, self.storage)
                steps = engine.watches.end, hand_on, engine.stop, engine.farewell, transport, handlers, watches, storage
                self._to_close = [*steps]
            try:
                finish(self._to_close)
            finally:
                if not self._to_close:
                    self._closed.set()
                    self._dispatcher.log.say(logging.INFO, "closed")

    def _hand_on(self, deadline: float) -> None:
        if not here().own:  # or no answer could come
            self._engine.hand_on(self._engine.begin_to_hand_on(), deadline)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._engine.closed

    @asks
    def wait(self, timeout: float | timedelta | None = None) -> bool:
        """Block until the endpoint is closed, or until `timeout` has passed.

        Args:
            timeout: Seconds, or a `timedelta`; None for no limit.

        Returns:
            Whether the endpoint is closed.

        Raises:
            TypeError, ValueError: The timeout is neither, or negative.
        """
        return self._closed.wait(None if timeout is None else seconds("timeout", timeout))

    # Own state

    def update(self, key: str, value: Any, ttl: float | timedelta | None = None) -> bool:
        """Set a key of the local peer; gossip carries it to all other nodes.

        With a ttl, this node deletes the key after that time, and emits `delete`, unless it is set again before. If this node
        dies, all others hide the key once the ttl has passed since they heard of this node last, and emit `delete`.

        Args:
            key: Any string of at most MAX_KEY_SIZE bytes but "__proto__", which a Node.js node cannot store.
            value: A JSON value, nested at most MAX_NESTING deep; it is copied.
            ttl: Seconds, or a `timedelta`; from a millisecond to ten years. None for a key that stays.

        Returns:
            Whether anything changed, which is not so if the key has this very value and ttl already. The time begins anew even
            then.

        Raises:
            TypeError, ValueError: The key is not such a string, JSON has no form for the value, no message of the transport
                has room for it, there are MAX_KEYS_PER_PEER keys already, or the ttl is neither or out of range.
            ClosedError: The endpoint has been closed.
            ObserverError: This node is an observer.
        """
        limits = self.options
        key, value = values.copied_key(key, limits.max_key_size), values.copied(value, "value", limits.max_nesting)
        if type(value) is dict and values.is_tombstone(value):
            raise ValueError(f"value must not be {value!r}, which stands for a deleted key; use delete()")
        limit = getattr(self.transport, "max_message_size", None)
        if limit is not None and not fits({key: value} if len(key) > 128 else value, limit):
            raise ValueError(f"value must fit in a message of {limit} bytes")
        lasting = 0.0 if ttl is None else seconds("ttl", ttl, MIN_TTL, MAX_TTL)
        return self._engine.write("update", self._protocol.update, key, value, lasting)

    def delete(self, key: str) -> bool:
        """Delete a key of the local peer; gossip carries that to all other nodes, however long they were away.

        Returns:
            Whether the key was there.

        Raises:
            TypeError, ValueError: The key is not a string, or is "__proto__".
            ClosedError, ObserverError: As for `update`.
        """
        return self._engine.write("delete", self._protocol.delete, values.copied_key(key))

    @asks
    def forget(self, peer_id: str) -> bool:
        """Drop a peer that is dead or has left: now, and at all nodes, rather than after FORGET_DEAD_PEERS_AFTER.

        Each node decides for itself: one that still sees the peer live drops it once it sees it die. Every node that drops it
        emits `peer forgotten`. If the peer is alive after all, its next heartbeat brings it back.

        Returns:
            Whether the peer was known here.

        Raises:
            TypeError: The id is not a string.
            ValueError: The peer is live, or is this node itself.
            NotImplementedError: The storage has no `remove`.
            ClosedError, ObserverError: As for `update`.
        """
        if not isinstance(peer_id, str):
            raise TypeError(f"peer_id must be a string, got {shown(peer_id)}")
        return self._engine.forget(peer_id)

    @asks
    def flush(self, timeout: float | timedelta) -> bool:
        """Block until a live peer is known to hold everything that is this node's by now, and will pass it on.

        It is enough to call it before something that must not come before the news, such as the end of the program by
        `os._exit`; `close` does the same. May be called from any thread and from a handler. In a `Simulation`, it lets virtual
        time pass.

        Args:
            timeout: Seconds, or a `timedelta`.

        Returns:
            Whether a peer holds it. False if none has shown that in time, as where there is none, or where there are only
            Node.js nodes, which acknowledge nothing. False at once if this node does not gossip, or has left. True at once
            for an observer, which has nothing to be held.

        Raises:
            TypeError, ValueError: The timeout is neither, or negative.
            RuntimeError: It is called on a thread of the package's that the answer has to come through.
            ClosedError: The endpoint has been closed.
        """
        left = seconds("timeout", timeout)
        if here().own:
            raise RuntimeError("flush: on this thread the package receives, so no answer could come while it waits")
        if self.closed and not doomed():
            raise ClosedError("flush: this endpoint has been closed")
        if self.options.observer:
            return True
        return self._engine.there and self._engine.flush.end(self._engine.flush.begin(), left)

    # State of all nodes

    @asks
    def get(self, peer_id: str, key: str, default: Any = None) -> Any:
        """Return a copy of the value of `key` at a peer, the local one included; `default` if there is no such peer or key."""
        with marked(), self._engine.lock:
            value = self._engine.known.value(self._engine.known.find(peer_id), key)
        return default if value is NOTHING else values.copied(value)

    @asks
    def peer(self, peer_id: str) -> PeerView | None:
        """Return a peer as it is now; None if there is none with this id."""
        with marked(), self._engine.lock:
            peer = self._engine.known.find(peer_id)
            view = None if peer is None else self._engine.known.snapshot(peer, self.options.clock())
        return None if view is None else view()

    @asks
    def peers(self) -> dict[str, PeerView]:
        """Return all peers as they are now, by their ids, the local one first. The other reads copy, and cost, far less.

        An observer's own is none.
        """
        with marked(), self._engine.lock:
            known, now = self._engine.known, self.options.clock()
            snapshots = [known.snapshot(peer, now) for peer in known.peers(live=False)]
        return {view.id: view for view in [snapshot() for snapshot in snapshots]}

    @asks
    def digest(self, live_peers: Iterable[Peer] = ()) -> list[dict[str, Any]]:
        """Return the digest that a round sends: an entry for each of `live_peers`, then the local peer's."""
        with marked(), self._engine.lock:
            entries = self._protocol.membership.digest([*live_peers])
        return as_dicts(Digest(Kind.ROUND, None, entries))

    def _emit_run(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._dispatcher.run(f, args, kwargs)
        self._engine.watches.waits.ring()  # who waits may go by what the handler has done


def _end(what: str, close: Callable[[float], bool]) -> None:
    if not close(_CLOSE_TIMEOUT):
        raise GossipmongerError(f"{what} did not return within {_CLOSE_TIMEOUT:g} s of close()")


def _close(thing: Any) -> None:
    getattr(thing, "close", lambda: None)()  # a storage or a transport need not have it
