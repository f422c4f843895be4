"""The engine: the life of a node, from the first round to the farewell. How the protocol takes its steps is in `Steps`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic, perf_counter
from typing import Any

from gossipmonger.endpoint.dispatcher import Dispatcher
from gossipmonger.endpoint.exit import PATIENCE, leave_at_exit, stay_at_exit
from gossipmonger.endpoint.finder import Finder
from gossipmonger.endpoint.flush import Flush
from gossipmonger.endpoint.known import Known
from gossipmonger.endpoint.options import Options
from gossipmonger.endpoint.peer_info import PeerInfo, complete
from gossipmonger.endpoint.sealing import SealErrors, share
from gossipmonger.endpoint.steps import Failed, Steps
from gossipmonger.endpoint.watches import Watches
from gossipmonger.errors import SealError, at
from gossipmonger.process import here, marked
from gossipmonger.protocol import Output, Protocol
from gossipmonger.state import Peer
from gossipmonger.state.arguments import check_number
from gossipmonger.state.message import RemotePeer
from gossipmonger.transport import SeedTransport, TcpTransport, Transport

__all__ = ["Engine"]

#: Seconds for the farewell to leave, after what is new has been handed on: on links that are open it leaves at once. Whoever
#: misses it hears of it from others.
_LINGER = 0.25

#: The same if nobody has shown that it holds what is new.
_PARTING = 0.1


class Engine(Steps):
    """Lives: lets the protocol do a round at each interval, and take what comes meanwhile.

    * Life: `listen`, `begin`, `round`, `stop`, `farewell`, `close`, `state`
    * Its end: `begin_to_hand_on`, `hand_on`, `quit`
    * What `Steps` has

    Args:
        info: What the local peer is made from.
        options: The options in use.
        storage: Where peers are kept.
        transport: The transport that the endpoint was given.
        dispatcher: Calls handlers.

    Attributes:
        known: What is known of all peers.
        virtual: Whether time passes only when a caller lets it pass, as in a simulation.
        there: Whether this node has begun to gossip, and has not left.
    """

    def __init__(self, info: PeerInfo, options: Options, storage: Any, transport: Any, dispatcher: Dispatcher) -> None:
        carrier = transport if isinstance(transport, Transport) else SeedTransport(transport)
        is_new = info.max_version_seen is None and storage.get(info.id) is None
        super().__init__(options, storage, carrier, dispatcher, is_new)
        self.known: Known = Known(self, storage, options.observer)
        self.virtual: bool = getattr(transport, "virtual", False)
        self.watches: Watches = Watches(self, dispatcher, options.executor)
        self._transport = transport
        self._begun = False
        self._real = options.timer is threading.Timer  # whether rounds come by themselves
        self._interval = options.gossip_interval
        self._listen = options.listen
        given = {} if info.transport is None else info.transport
        named = given if isinstance(given, Mapping) else {}
        if isinstance(transport, TcpTransport):
            transport.adopt(named.get("host"), named.get("port"), options.listen)
        self._finder = Finder(options.seeds, self._carrier, named.get("host"), self._seeds_resolved)
        now = self._clock()
        check_number("clock()", now, float, 0, unit="milliseconds")
        self.local_peer: Peer = info.local_peer(storage, now)
        self.protocol: Protocol = Protocol(self.local_peer, storage, options.config(), options.random, now)
        self.there: bool = False
        self.flush: Flush = Flush(self.local_peer, self.protocol, self._carrier, self._step_with_seeds)
        # What a storage says of the address is of a former life, so it counts only for a transport that does not know its own.
        self._given = {} if info.transport is None and isinstance(transport, TcpTransport) else info.transport
        self._carrier.cluster, self._carrier.observer = options.cluster, options.observer
        self._carrier.limits = options.limits()
        if options.keyring is not None:
            share(options.keyring, transport)
        self._seal_errors = SealErrors()
        self._carrier.local = RemotePeer(self.local_peer.id, self.local_peer.transport)
        self._complete_address()
        if hasattr(storage, "on"):
            storage.on("error", self.fail)
        step = self.protocol.step if self.counters.own is None else partial(self.counters.step, self.protocol.step)
        self._carrier.on("message", partial(self._receive, step))
        self._carrier.on("link", self._finder.told)
        self._carrier.on("link", partial(self._receive, self.protocol.link))
        self._carrier.on("error", self._transport_failed)
        self._carrier.on("listening", self._listening)
        self._carrier.on("address", self._complete_address)

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
        if not (self._begun or self._observer or getattr(self._transport, "bound", True)):
            without = "others can't reach it" if self._carrier.address else "others refuse what it says, as it has no port"
            self._dispatcher.log.say(logging.WARNING, f"gossips without listening: call listen() first, or {without}")
        self._begun = True
        self.counters.due = None
        self._rumor_timer.begin()
        with marked(), self.lock:
            self._start()
            self.protocol.join()
        self.there = True
        if self._real and not self._observer:
            leave_at_exit(self)
        return True

    def _listening(self, *_: object) -> None:
        thread = here()
        if thread.marked and thread.defer((id(self), "listening"), self._listening):
            return
        try:
            self._complete_address()
            with marked(), self.lock:
                self._start()
            doing = "observes" if self._observer else f"listens at {at(self.local_peer.transport)}"
            self._dispatcher.log.say(logging.INFO, doing)
            self._dispatcher.start()  # last, because the system may have no thread for it
        except Exception as error:  # it listens all the same
            self.fail(error)

    def round(self, failed: Failed) -> None:
        """Do one round: see `Steps.round`."""
        thread = here()
        if thread.marked and thread.defer((id(self), "round"), partial(self.round, self.fail)):
            return
        began = perf_counter()
        try:
            self.counters.begin_round(self._clock())
            self._find()
            self.watches.news = True  # retry watches that the executor refused, or whose thread could not be started
            output = self._step(failed, self.protocol.round)
            self._dispatcher.tell(self._dispatcher.log.round(output))
            alone = self.protocol.membership.alone
            now = self._clock()
            lonely = self._finder.loneliness(now, self._interval, alone, self.local_peer.remote)
            if lonely is not None:
                self.fail(lonely)
            self.counters.due = now + self._interval
        except Exception as error:
            failed(error)
        finally:
            self._arm(failed)
            self.counters.durations.add(perf_counter() - began)

    def _find(self) -> None:
        """Tell the protocol where the seeds are now."""
        places = self._finder.look(self.protocol.membership.alone)
        self._carrier.trust(seed.transport for place in places for seed in (place.at, place.given))
        with marked(), self.lock:
            self.protocol.membership.seeds.place(places)

    def _step_with_seeds(self, step: Callable[..., Output]) -> None:
        self._find()
        self._step(self.fail, step)

    def _seeds_resolved(self) -> None:
        """Try seeds that had to wait: ask them, if somebody waits for that, or do a round, if nobody has been found yet."""
        alone = self._round_timer.going and not self.closed and self.protocol.membership.alone
        if not self.forked and (self.flush.waiting or alone):
            self._find()
            self._receive(self.protocol.ask if self.flush.waiting else self.protocol.round)

    def _transport_failed(self, error: Exception) -> None:
        self.counters.note(error)
        if isinstance(error, SealError) and not self._seal_errors.is_news(self._clock(), error):
            return
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
            self.counters.count(output)
        self._carry_out(output, None, self.fail)

    def begin_to_hand_on(self) -> Any:
        """Begin to hand on what is new; return what `hand_on` takes."""
        if not self.there or self._observer:
            return None
        self._find()
        return self.flush.begin(hand_on=True, hopeful=self._finder.waits)

    def hand_on(self, begun: Any, deadline: float) -> None:
        """Wait until somebody holds what is new, but leave time for what follows to end by `deadline` on the monotonic clock.

        Virtual time is not measured by that clock, so in a simulation the whole of `PATIENCE` is always left.
        """
        held = begun is None or self.flush.end(begun, self._left(deadline) - _PARTING)
        left = self._left(deadline)
        self._carrier.linger = 0.0 if self._observer else min(left, _LINGER) if held else left

    def _left(self, deadline: float) -> float:
        return PATIENCE if self.virtual else max(0.0, deadline - monotonic())

    def quit(self, begun: Any, deadline: float) -> None:
        """Do the same, leave, and close the transport, as the program ends: no handler is called any more."""
        self._dispatcher.close(0)
        self.hand_on(begun, deadline)
        self.close()  # or a node that is answered now would count on this one to pass its news on
        self.farewell()
        getattr(self._transport, "close", lambda: None)()

    def close(self) -> None:
        """Never `begin` again. Messages are taken only while `flush` waits for them."""
        self._round_timer.close()
        self._rumor_timer.close()

    @property
    def state(self) -> str:
        """What the node is doing, in a word."""
        if self.closed:
            return "closed"
        if self._round_timer.going:
            return "gossiping"
        return "left" if self.local_peer.left else "stopped" if self._begun else "not started"

    def _complete_address(self) -> None:
        """Tell peers where the transport is reached, as far as `peer_info` left that open."""
        local, address = self.local_peer, getattr(self._transport, "address", None)
        with marked(), self.lock:
            completed = complete(self._given if self._given is not None else local.transport or {}, address)
            if completed not in (None, local.transport):
                local.transport = completed
                self.protocol.membership.put(local)
                self._carrier.local = RemotePeer(local.id, local.transport)
