"""The steps: one lock around the protocol, and what is done with its output.

`lock` guards the storage, every peer in it, and the protocol. While holding it, a call asks the protocol what there is to do,
and queues the events that happened, so they keep their order. It then releases the lock, and only after that sends messages and
calls handlers. A handler may therefore call any method of its node.

A node's life begins when others can first hear of it: when its transport listens, when it gossips, or when a message comes. Not
before that are its versions and its heartbeat fixed, so a node that was made before a fork lives in the process that starts it.

A signal handler may raise an exception in the midst of a step. The next one finds that, and mends what was cut in two.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from gossipmonger.endpoint.calls import later
from gossipmonger.endpoint.dispatcher import Dispatcher
from gossipmonger.endpoint.exit import doomed
from gossipmonger.endpoint.flush import Flush
from gossipmonger.endpoint.metrics import Counters, failure_of
from gossipmonger.endpoint.options import Options
from gossipmonger.endpoint.timer import Timer
from gossipmonger.endpoint.watches import Watches
from gossipmonger.errors import ClosedError, ForkedError, ObserverError
from gossipmonger.process import after_fork, fresh, here, marked
from gossipmonger.protocol import Dial, Output, Protocol, Send
from gossipmonger.state.peer import Peer
from gossipmonger.transport import Transport

__all__ = ["Failed", "Steps"]

#: Now and when more is due, in milliseconds; None if nothing is.
_Due = tuple[float, float] | None

#: Takes an error.
Failed = Callable[[Exception], None]


class Steps:
    """Lets the protocol take its steps. The base of `Engine`, which sets what it does not make itself.

    * Own state: `write`
    * Other peers: `forget`
    * Keys whose ttl has passed: `lapse`
    * Peers, without waiting for a lock: `count_live`
    * Forks: `fork_lock`, `after_fork`

    Args:
        options: The options in use.
        storage: Where peers are kept.
        carrier: The transport.
        dispatcher: Calls handlers.
        is_new: Whether versions begin with this life, and not where a former one stopped.

    Attributes:
        local_peer: The node's own peer.
        protocol: The state machine.
        flush: Those who wait until a live peer holds everything of this node.
        watches: The watches, and the callers that wait.
        fail: Delivers an error as an `error` event.
        counters: What it counts.
        lock: Guards the storage, every peer in it, and the protocol.
        lapses: When to `lapse`, in milliseconds since the epoch; infinite for never.
        started: Whether the node's life has begun.
        forked: Whether this is a forked child's copy of a node whose life has begun in the parent.
    """

    local_peer: Peer
    protocol: Protocol
    flush: Flush
    watches: Watches

    def __init__(self, options: Options, storage: Any, carrier: Transport, dispatcher: Dispatcher, is_new: bool) -> None:
        self._storage = storage
        self._carrier = carrier
        self._dispatcher = dispatcher
        self.fail: Failed = dispatcher.fail
        self.counters: Counters = Counters(carrier)
        self._clock = options.clock
        self._random = options.random
        self._is_new = is_new
        self._observer = options.observer
        self._torn = False  # whether a step has begun and not come to its end
        self.lapses: float = math.inf
        self.started: bool = False
        self.forked: bool = False
        self._round_timer = Timer(options.timer, options.gossip_interval, partial(self.round, self.fail))
        soon = carrier.timer if options.timer is threading.Timer else options.timer  # a thread that runs anyway
        self._rumor_timer = Timer(soon, options.rumor_interval, partial(self._receive, _nothing))
        self.lock: threading.Lock = threading.Lock()
        after_fork(self)

    def round(self, failed: Failed) -> None:
        """Do one round, and start the interval to the next. What goes wrong is given to `failed`."""
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._round_timer.closed

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
            ObserverError: The node is an observer.
            Exception: What `write` raised, as long as it has changed nothing. Whatever fails after that is an `error` event.
        """
        if self.forked:
            raise ForkedError(name, f"the node {self.local_peer.id!r}")
        if self._observer:
            raise ObserverError(name)
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
        due, failures = None, None
        with marked(), self.lock:
            if self._round_timer.closed:
                if doomed():
                    return False
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
                failures = [error]
        self._carry_out(output, due, self.fail, failures)
        return True

    # Other peers

    def forget(self, id: str) -> bool:
        """Drop a peer, everywhere; return whether it was known. Raises ObserverError, or what `Orders.give` does."""
        if self._observer:
            raise ObserverError("forget")
        output: Output = []
        with marked(), self.lock:
            if self.closed and not doomed():
                raise ClosedError("forget: this endpoint has been closed")
            self.mend()
            now = self._clock()
            self._torn = True
            known = self.protocol.orders.give(now, id, output)
            due = self._spread(now, output)
            self._torn = False
        self._carry_out(output, due, self.fail)
        return known

    # Time

    def lapse(self) -> None:
        """Delete and hide keys whose ttl has passed, as timers do where they run, before somebody reads what there is.

        Raises:
            Exception: What the storage raised.
        """
        if self.closed or self.lapses > self._clock():
            return
        output: Output = []
        with marked(), self.lock:
            self.mend()
            now = self._clock()
            self._torn = True
            output += self.protocol.lapse(now)
            due = self._spread(now, output)
            self._torn = False
        self._carry_out(output, due, self.fail)

    # In and out

    def _receive(self, step: Callable[..., Output], *args: Any) -> None:
        thread = here()
        if (self._round_timer.closed and not self.flush.waiting) or self.forked:
            return
        if thread.mark._is_owned() and thread.defer(object(), partial(self._receive, step, *args)):
            return
        try:
            self._step(self.fail, step, *args)
        except Exception as error:
            self.fail(error)
        if args and self._dispatcher.log.unreachable:
            self._dispatcher.tell(self._dispatcher.log.hears(*args))
        if thread.deferred:
            thread.settle()

    def _step(self, failed: Failed, step: Callable[..., Output], *args: Any) -> Output:
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
            self.flush.look(now)
        self._dispatcher.post(output)
        if self.counters.own is not None:
            self.counters.count(output)
        expiry = self.protocol.membership.expiry
        self.lapses = expiry.due if expiry.heap else math.inf
        if self.watches.followers:
            self.watches.note(output)
            self.watches.note_keys(expiry.changed)
        expiry.changed.clear()
        return None if due is None else (now, due)

    def _carry_out(self, output: Output, due: _Due, failed: Failed, failures: list[Exception] | None = None) -> None:
        """Send what is to be sent, and get what was queued delivered. No lock may be held: handlers may run right here."""
        failures = failures or []
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
                self.counters.failed.add(failure_of(error))
                failures.append(error)
        self._dispatcher.kick()
        if self.watches.news:
            self.watches.wake()
        if self._round_timer.lapsed:
            self._arm(self.fail)
        for failure in failures:
            failed(failure)

    def _arm(self, failed: Failed) -> None:
        try:
            self._round_timer.arm()
        except Exception as error:  # the system cannot start a thread, for a timer that takes one for each round
            failed(error)

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


def _nothing(now: float) -> Output:
    return []
