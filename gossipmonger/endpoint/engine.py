"""The engine: one lock around the protocol, and what is done with its output.

`lock` guards the storage, every peer in it, and the protocol. While holding it, a call asks the protocol what there is to do,
and queues the events that happened, so they keep their order. It then releases the lock, and only after that sends messages and
calls handlers. A handler may therefore call any method of its node.

A node's life begins when others can first hear of it: when its transport listens, when it gossips, or when a message comes. Not
before that are its versions and its heartbeat fixed, so a node that was made before a fork lives in the process that starts it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any

from gossipmonger.endpoint.calls import later
from gossipmonger.endpoint.dispatcher import Dispatcher
from gossipmonger.endpoint.exit import leave_at_exit, stay_at_exit
from gossipmonger.endpoint.finder import Finder
from gossipmonger.endpoint.flush import Flush
from gossipmonger.endpoint.known import Known
from gossipmonger.endpoint.options import Options
from gossipmonger.endpoint.peer_info import PeerInfo, complete
from gossipmonger.endpoint.timer import Timer
from gossipmonger.endpoint.watches import Watches
from gossipmonger.errors import ClosedError, ForkedError, at
from gossipmonger.process import after_fork, fresh, here, marked
from gossipmonger.protocol import Dial, Output, Protocol, Send
from gossipmonger.state.message import RemotePeer
from gossipmonger.state.peer import Peer
from gossipmonger.transport import SeedTransport, TcpTransport, Transport

__all__ = ["Engine"]

#: Seconds for the farewell to leave, after what is new has been handed on: on links that are open it leaves at once. Whoever
#: misses it hears of it from others.
_LINGER = 0.25

#: The same if nobody has shown that it holds what is new.
_PARTING = 0.1
#: Now and when more is due, in milliseconds; None if nothing is.
_Due = tuple[float, float] | None
_Failed = Callable[[Exception], None]


class Engine:
    """Lets the protocol take its steps: one for each round, write, message, and word of the kernel.

    * Life: `listen`, `begin`, `round`, `stop`, `farewell`, `close`, `closed`, `forked`
    * Its end: `begin_to_hand_on`, `hand_on`, `quit`
    * Own state: `write`

    Args:
        info: What the local peer is made from.
        options: The options in use.
        storage: Where peers are kept.
        transport: The transport that the endpoint was given.
        dispatcher: Calls handlers.

    Attributes:
        local_peer: The node's own peer.
        protocol: The state machine.
        known: What is known of all peers.
        watches: The watches, and the callers that wait.
        fail: Delivers an error as an `error` event.
        lock: Guards the storage, every peer in it, and the protocol.
        flush: Those who wait until a live peer holds everything of this node.
        there: Whether this node has begun to gossip, and has not left.
        started: Whether the node's life has begun.
        forked: Whether this is a forked child's copy of a node whose life has begun in the parent.
    """

    def __init__(self, info: PeerInfo, options: Options, storage: Any, transport: Any, dispatcher: Dispatcher) -> None:
        self._storage = storage
        self._transport = transport
        self._carrier: Transport = transport if isinstance(transport, Transport) else SeedTransport(transport)
        self._dispatcher = dispatcher
        self.fail: Callable[[Exception], None] = dispatcher.fail
        self._clock = options.clock
        self._random = options.random
        self._torn = False  # whether a step has begun and not come to its end
        self.started: bool = False
        self.forked: bool = False
        self._round_timer = Timer(options.timer, options.gossip_interval, partial(self.round, self.fail))
        soon = self._carrier.timer if options.timer is threading.Timer else options.timer  # a thread that runs anyway
        self._rumor_timer = Timer(soon, options.rumor_interval, partial(self._receive, _nothing))
        self._begun = False
        self._real = options.timer is threading.Timer  # whether time passes by itself
        self.lock: threading.Lock = threading.Lock()
        self.known: Known = Known(self, storage)
        self.watches: Watches = Watches(self, dispatcher, options.executor, getattr(transport, "virtual", False))
        self._interval = options.gossip_interval
        self._listen = options.listen
        given = {} if info.transport is None else info.transport
        named = given if isinstance(given, Mapping) else {}
        if isinstance(transport, TcpTransport):
            transport.adopt(named.get("host"), named.get("port"), options.listen)
        self._finder = Finder(options.seeds, self._carrier, named.get("host"), self._seeds_resolved)
        now = self._clock()
        self._is_new = info.max_version_seen is None and storage.get(info.id) is None
        self.local_peer: Peer = info.local_peer(storage, now)
        self.protocol: Protocol = Protocol(self.local_peer, storage, options.config(), options.random, now)
        self.there: bool = False
        self.flush: Flush = Flush(self.local_peer, self.protocol, self._carrier, self._step_with_seeds)
        # What a storage says of the address is of a former life, so it counts only for a transport that does not know its own.
        self._given = {} if info.transport is None and isinstance(transport, TcpTransport) else info.transport
        self._carrier.local = RemotePeer(self.local_peer.id, self.local_peer.transport)
        self._complete_address()
        if hasattr(storage, "on"):
            storage.on("error", self.fail)
        self._carrier.on("message", partial(self._receive, self.protocol.step))
        self._carrier.on("link", self._finder.told)
        self._carrier.on("link", partial(self._receive, self.protocol.link))
        self._carrier.on("error", self._transport_failed)
        self._carrier.on("listening", self._listening)
        self._carrier.on("address", self._complete_address)
        after_fork(self)

    # Life

    def begin(self) -> bool:
        """Let the timers run, and the node be there; return whether they will, which they do not once this is closed.

        Raises:
            RuntimeError: The system cannot start a thread that the node needs. Nothing has begun then.
        """
        if not self.closed:
            self._dispatcher.start()
            self._carrier.begin()
        if not self._round_timer.begin():
            return False
        self._begun = True
        self._rumor_timer.begin()
        with marked(), self.lock:
            self._start()
            self.protocol.join()
        self.there = True
        if self._real:
            leave_at_exit(self)
        return True

    def mend(self) -> None:
        """Mend the protocol's state, if an exception has come out of a step. This requires holding `lock`."""
        assert self.lock.locked()
        if self._torn:
            self.protocol.mend()
            self.watches.note_failure()
            self._torn = False

    def _start(self) -> None:
        """Begin the node's life, if it has not begun. This requires holding `lock`."""
        assert self.lock.locked()
        if not self.started:
            self.started = True
            self.protocol.begin(self._clock(), self._is_new)

    def _listening(self, *_: object) -> None:
        thread = here()
        if thread.marked and thread.defer((id(self), "listening"), self._listening):
            return
        try:
            self._dispatcher.start()
            self._complete_address()
            with marked(), self.lock:
                self._start()
            self._dispatcher.log.say(logging.INFO, f"listens at {at(self.local_peer.transport)}")
        except Exception as error:  # it listens all the same
            self.fail(error)

    def round(self, failed: _Failed) -> None:
        """Do one round, and start the interval to the next. What goes wrong is given to `failed`."""
        thread = here()
        if thread.marked and thread.defer((id(self), "round"), partial(self.round, self.fail)):
            return
        try:
            self._find()
            output = self._step(failed, self.protocol.round)
            self._dispatcher.tell(self._dispatcher.log.round(output))
            alone = self.protocol.membership.alone
            lonely = self._finder.loneliness(self._clock(), self._interval, alone, self.local_peer.remote)
            if lonely is not None:
                self.fail(lonely)
        except Exception as error:
            failed(error)
        finally:
            self._arm(failed)

    def _arm(self, failed: _Failed) -> None:
        try:
            self._round_timer.arm()
        except Exception as error:  # the system cannot start a thread, for a timer that takes one for each round
            failed(error)

    def _find(self) -> None:
        """Tell the protocol where the seeds are now."""
        places = self._finder.look(self.protocol.membership.alone)
        with marked(), self.lock:
            self.protocol.membership.seeds.place(places)

    def _step_with_seeds(self, step: Callable[..., Output]) -> None:
        self._find()
        self._step(self._dispatcher.fail, step)

    def _seeds_resolved(self) -> None:
        """Try seeds that had to wait: ask them, if somebody waits for that, or do a round, if nobody has been found yet."""
        alone = self._round_timer.going and not self.closed and self.protocol.membership.alone
        if not self.forked and (self.flush.waiting or alone):
            self._find()
            self._receive(self.protocol.ask if self.flush.waiting else self.protocol.round)

    def _transport_failed(self, error: Exception) -> None:
        if self._finder.failed(error):
            self.fail(error)

    def listen(self) -> None:
        """Let the transport listen, at the address that the option `listen` says."""
        if self._listen is None or isinstance(self._transport, TcpTransport):  # which knows it already
            self._transport.listen()
        else:
            self._transport.listen(self._listen)

    def stop(self) -> None:
        """Start no more rounds and spread no news until `begin`."""
        self._round_timer.stop()
        self._rumor_timer.stop()

    def farewell(self) -> None:
        """Say goodbye, unless that has been done."""
        self.there = False
        stay_at_exit(self)
        with marked(), self.lock:
            if self._torn:
                self.mend()
            self._torn = True
            output = [] if self.local_peer.left else self.protocol.leave(self._clock())
            self._torn = False
            self._dispatcher.post(output)
        self._carry_out(output, None, self.fail)

    def begin_to_hand_on(self) -> Any:
        """Begin to hand on what is new; return what `hand_on` takes."""
        self._find()
        return self.flush.begin(hand_on=True, hopeful=self._finder.waits) if self.there else None

    def hand_on(self, begun: Any, deadline: float) -> None:
        """Wait until what is new is held, so that what follows has ended by this time of the monotonic clock."""
        held = begun is None or self.flush.end(begun, deadline - _PARTING - monotonic())
        left = max(0.0, deadline - monotonic())
        self._carrier.linger = min(left, _LINGER) if held else left

    def quit(self, begun: Any, deadline: float) -> None:
        """Do the same, leave, and close the transport, as the program ends: no handler is called any more."""
        self._dispatcher.close(0)
        self.hand_on(begun, deadline)
        self.farewell()
        getattr(self._transport, "close", _nothing)()

    def close(self) -> None:
        """Never `begin` again. Messages are taken only while `flush` waits for them."""
        self._round_timer.close()
        self._rumor_timer.close()

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._round_timer.closed

    @property
    def state(self) -> str:
        """What the node is doing, in a word."""
        if self.closed:
            return "closed"
        if self._round_timer.going:
            return "gossiping"
        return "left" if self.local_peer.left else "stopped" if self._begun else "not started"

    def count_live(self) -> int | None:
        """Return how many other peers are live; None if that can't be told now. Waits for no lock."""
        if self.forked or here().marked or self.lock.locked():
            return None
        try:
            with marked(), self.lock:
                return len(self.protocol.membership.others()[0])
        except Exception:  # the storage's, which may be closed
            return None

    # Own state

    def write(self, name: str, write: Callable[..., bool], key: str, *value: Any) -> bool:
        """Change a key by `write(now, key, *value)` and spread the news, in one locked section.

        Returns:
            What `write` returned. True also if this interrupts another call on the same thread, and is therefore deferred.

        Raises:
            ClosedError: The endpoint has been closed; `name` says what was called.
            ForkedError: This is a forked child's copy.
            Exception: What `write` raised, as long as it has changed nothing. Whatever fails after that is an `error` event.
        """
        if self.forked:
            raise ForkedError(name, f"the node {self.local_peer.id!r}")
        thread = here()
        if thread.deferred or thread.mark._is_owned():
            if self.closed:
                raise ClosedError(f"{name}: this endpoint has been closed")
            call = partial(later, self, self._write, name, write, key, *value)
            if thread.defer((id(self), "key", key), call, replace=True):
                return True
        try:
            return self._write(name, write, key, *value)
        finally:
            if thread.deferred:
                thread.settle()

    def _write(self, name: str, write: Callable[..., bool], *args: Any) -> bool:
        output: Output = []
        due, failures = None, []
        with marked(), self.lock:
            if self.closed:
                raise ClosedError(f"{name}: this endpoint has been closed")
            if self._torn:
                self.mend()
            now = self._clock()
            self._torn = True
            if not write(now, *args):
                self._torn = False
                return False
            if self.watches.followers:
                self.watches.note_own(args[0])
            try:
                due = self._spread(now, output)
                self._torn = False
            except Exception as error:
                failures.append(error)
        self._carry_out(output, due, self.fail, failures)
        return True

    # In and out

    def _receive(self, step: Callable[..., Output], *args: Any) -> None:
        thread = here()
        if (self.closed and not self.flush.waiting) or self.forked:
            return
        if thread.marked and thread.defer(object(), partial(self._receive, step, *args)):
            return
        try:
            self._step(self.fail, step, *args)
        except Exception as error:
            self.fail(error)
        if args and self._dispatcher.log.unreachable:
            self._dispatcher.tell(self._dispatcher.log.hears(*args))
        if thread.deferred:
            thread.settle()

    def _step(self, failed: _Failed, step: Callable[..., Output], *args: Any) -> Output:
        """Let the protocol take a step, then spread what news are due, then send and deliver what comes of both."""
        with marked(), self.lock:
            if not self.started:
                self._start()
            if self._torn:
                self.mend()
            now = self._clock()
            self._torn = True
            output = step(now, *args)
            due = self._spread(now, output)
            self._torn = False
        self._carry_out(output, due, failed)
        return output

    def _spread(self, now: float, output: Output) -> _Due:
        """Add what is due to `output`, queue its events; return now and when more is due. This requires `lock`."""
        assert self.lock.locked()
        due = None
        if self._rumor_timer.going:
            output += self.protocol.spread(now)
            due = self.protocol.due
        if self.flush.waiting:
            self.flush.look()
        self._dispatcher.post(output)
        if self.watches.followers:
            self.watches.note(output)
        return None if due is None else (now, due)

    def _carry_out(self, output: Output, due: _Due, failed: _Failed, failures: Sequence[Exception] = ()) -> None:
        """Send what is to be sent, and get what was queued delivered. No lock may be held: handlers may run right here."""
        failures = [*failures]
        if due is not None:
            try:
                self._rumor_timer.arm_by(*due)
            except Exception as error:  # the system cannot start a thread; the next step tries again
                failures.append(error)
        for item in output:
            try:
                if type(item) is Send:
                    self._carrier.send(item.to, item.message)
                elif type(item) is Dial:
                    self._carrier.dial(item.to)
            except Exception as error:
                failures.append(error)
        self._dispatcher.kick()
        if self.watches.news:
            self.watches.wake()
        if self._round_timer.lapsed:
            self._arm(self.fail)
        for failure in failures:
            failed(failure)

    def _complete_address(self) -> None:
        """Tell peers where the transport is reached, as far as `peer_info` left that open."""
        local, address = self.local_peer, getattr(self._transport, "address", None)
        with marked(), self.lock:
            completed = complete(self._given if self._given is not None else local.transport or {}, address)
            if completed not in (None, local.transport):
                local.transport = completed
                self.protocol.membership.put(local)
                self._carrier.local = RemotePeer(local.id, local.transport)

    # Forks

    def fork_lock(self) -> Any:
        """Return the lock that a fork waits for, so that a child that is to start the node finds nothing half done."""
        return None if self.started else self.lock

    def after_fork(self) -> None:
        """Be inert, in the child of a fork, if the life has begun in the parent; or else be ready for one here."""
        self.forked = self.started or self._carrier.begun
        for part in (self._round_timer, self._rumor_timer, self._dispatcher, self.watches):
            part.after_fork(self.forked)
        if not self.forked:
            self.lock = fresh(self.lock)
            if isinstance(self._random, random.Random):
                self._random.seed()  # or children would draw the same


def _nothing(now: float = 0.0) -> Output:
    return []
