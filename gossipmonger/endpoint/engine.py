"""The engine: one lock around the protocol, and what is done with its output.

`lock` guards the storage, every peer in it, and the protocol. While holding it, a call asks the protocol what there is to do,
and queues the events that happened, so they keep their order. It then releases the lock, and only after that sends messages and
calls handlers. A handler may therefore call any method of its node.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any

from gossipmonger.endpoint.dispatcher import Dispatcher
from gossipmonger.endpoint.exit import leave_at_exit, stay_at_exit
from gossipmonger.endpoint.finder import Finder
from gossipmonger.endpoint.flush import Flush
from gossipmonger.endpoint.options import Options
from gossipmonger.endpoint.peer_info import PeerInfo
from gossipmonger.endpoint.timer import Timer
from gossipmonger.endpoint.views import Snapshot
from gossipmonger.errors import ClosedError, at
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


class Engine:
    """Lets the protocol take its steps: one for each round, write, message, and word of the kernel.

    * Life: `listen`, `begin`, `round`, `stop`, `farewell`, `close`, `closed`
    * Its end: `begin_to_hand_on`, `hand_on`, `quit`
    * Own state: `write`
    * Peers, with `lock` held: `find`, `snapshot`

    Args:
        info: What the local peer is made from.
        options: The options in use.
        storage: Where peers are kept.
        transport: The transport that the endpoint was given.
        dispatcher: Calls handlers.

    Attributes:
        local_peer: The node's own peer.
        protocol: The state machine.
        lock: Guards the storage, every peer in it, and the protocol.
        flush: Those who wait until a live peer holds everything of this node.
        there: Whether this node has begun to gossip, and has not left.
    """

    def __init__(self, info: PeerInfo, options: Options, storage: Any, transport: Any, dispatcher: Dispatcher) -> None:
        self._storage = storage
        self._transport = transport
        self._carrier: Transport = transport if isinstance(transport, Transport) else SeedTransport(transport)
        self._dispatcher = dispatcher
        self._clock = options.clock
        self._round_timer = Timer(options.timer, options.gossip_interval, partial(self.round, dispatcher.fail))
        soon = self._carrier.timer if options.timer is threading.Timer else options.timer  # a thread that runs anyway
        self._rumor_timer = Timer(soon, options.rumor_interval, partial(self._try_step, _nothing))
        self._begun = False
        self._real = options.timer is threading.Timer  # whether time passes by itself
        self.lock: threading.Lock = threading.Lock()
        self._interval = options.gossip_interval
        self._listen = options.listen
        given = {} if info.transport is None else info.transport
        named = given if isinstance(given, Mapping) else {}
        if isinstance(transport, TcpTransport):
            transport.adopt(named.get("host"), named.get("port"), options.listen)
        self._finder = Finder(options.seeds, self._carrier, named.get("host"), self._seeds_resolved)
        now = self._clock()
        self.local_peer: Peer = info.local_peer(storage, now)
        self.protocol: Protocol = Protocol(self.local_peer, storage, options.config(), options.random, now)
        self.there = False
        self.flush: Flush = Flush(self.local_peer, self.protocol, self._carrier, self._step_with_seeds)
        # What a storage says of the address is of a former life, so it counts only for a transport that does not know its own.
        self._given = {} if info.transport is None and isinstance(transport, TcpTransport) else info.transport
        self._carrier.local = RemotePeer(self.local_peer.id, self.local_peer.transport)
        self._complete_address()
        if hasattr(storage, "on"):
            storage.on("error", dispatcher.fail)
        self._carrier.on("message", partial(self._receive, self.protocol.step))
        self._carrier.on("link", self._finder.told)
        self._carrier.on("link", partial(self._receive, self.protocol.link))
        self._carrier.on("error", self._transport_failed)
        self._carrier.on("listening", self._listening)
        self._carrier.on("address", self._complete_address)

    # Life

    def begin(self) -> bool:
        """Let the timers run, and the node be there; return whether they will, which they do not once this is closed."""
        if not self._round_timer.begin():
            return False
        self._begun = True
        self._rumor_timer.begin()
        with self.lock:
            self.protocol.join()
        self.there = True
        if self._real:
            leave_at_exit(self)
        return True

    def round(self, failed: Callable[[Exception], None]) -> None:
        """Do one round, and start the interval to the next. What goes wrong is given to `failed`."""
        try:
            self._find()
            output = self._step(failed, self.protocol.round)
            self._dispatcher.tell(self._dispatcher.log.round(output))
            alone, local = self.protocol.membership.alone, self.local_peer.remote
            lonely = self._finder.loneliness(self._clock(), self._interval, alone, local)
            if lonely is not None:
                self._dispatcher.fail(lonely)
        except Exception as error:
            failed(error)
        finally:
            self._round_timer.arm()

    def _find(self) -> None:
        """Tell the protocol where the seeds are now."""
        places = self._finder.look(self.protocol.membership.alone)
        with self.lock:
            self.protocol.membership.seeds.place(places)

    def _step_with_seeds(self, step: Callable[..., Output]) -> None:
        self._find()
        self._step(self._dispatcher.fail, step)

    def _seeds_resolved(self) -> None:
        """Try seeds that had to wait: ask them, if somebody waits for that, or do a round, if nobody has been found yet."""
        step = self.protocol.ask if self.flush else self.protocol.round
        if self.flush or (self._round_timer.going and not self.closed and self.protocol.membership.alone):
            try:
                self._step_with_seeds(step)
            except Exception as error:
                self._dispatcher.fail(error)

    def _transport_failed(self, error: Exception) -> None:
        if self._finder.failed(error):
            self._dispatcher.fail(error)

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
        with self.lock:
            output = [] if self.local_peer.left else self.protocol.leave(self._clock())
            self._dispatcher.post(output)
        self._carry_out(output, None, self._dispatcher.fail)

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

    def close(self) -> bool:
        """Never `begin` again; return whether this was the first call. Messages are taken only while `flush` waits for them."""
        first = self._round_timer.close()
        self._rumor_timer.close()
        return first

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
        if not self.lock.acquire(blocking=False):
            return None
        try:
            return len(self.protocol.membership.others()[0])
        except Exception:  # the storage's, which may be closed
            return None
        finally:
            self.lock.release()

    # Own state

    def write(self, name: str, write: Callable[..., bool], *args: Any) -> bool:
        """Change the local state by `write(now, *args)` and spread the news, in one locked section.

        Raises:
            ClosedError: The endpoint has been closed; `name` says what was called.
        """
        with self.lock:
            if self.closed:
                raise ClosedError(f"{name}: this endpoint has been closed")
            now = self._clock()
            if not write(now, *args):
                return False
            output: Output = []
            due = self._spread(now, output)
        self._carry_out(output, due, self._dispatcher.fail)
        return True

    # Peers

    def find(self, id: str) -> Peer | None:
        """Return the peer with this id. This requires holding `lock`."""
        assert self.lock.locked()
        found: Peer | None = self.local_peer if id == self.local_peer.id else self._storage.get(id)
        return found

    def snapshot(self, peer: Peer) -> Snapshot:
        """Return what a view of a peer is made from. This requires holding `lock`."""
        assert self.lock.locked()
        if peer is self.local_peer:
            return Snapshot(peer, 0.0, self.protocol.waiting)
        return Snapshot(peer, self.protocol.membership.phi(self._clock(), peer))

    # In and out

    def _receive(self, step: Callable[..., Output], *args: Any) -> None:
        if self.closed and not self.flush:
            return
        self._try_step(step, *args)
        if self._dispatcher.log.unreachable:
            self._dispatcher.tell(self._dispatcher.log.hears(*args))

    def _try_step(self, step: Callable[..., Output], *args: Any) -> None:
        try:
            self._step(self._dispatcher.fail, step, *args)
        except Exception as error:
            self._dispatcher.fail(error)

    def _step(self, failed: Callable[[Exception], None], step: Callable[..., Output], *args: Any) -> Output:
        """Let the protocol take a step, then spread what news are due, then send and deliver what comes of both."""
        with self.lock:
            now = self._clock()
            output = step(now, *args)
            due = self._spread(now, output)
        self._carry_out(output, due, failed)
        return output

    def _spread(self, now: float, output: Output) -> tuple[float, float] | None:
        """Add what is due to `output`, queue its events; return now and when more is due. This requires `lock`."""
        assert self.lock.locked()
        due = None
        if self._rumor_timer.going:
            output += self.protocol.spread(now)
            due = self.protocol.due
        if self.flush:
            self.flush.look()
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

    def _listening(self, *_: object) -> None:
        self._complete_address()
        self._dispatcher.log.say(logging.INFO, f"listens at {at(self.local_peer.transport)}")

    def _complete_address(self) -> None:
        """Tell peers where the transport is reached, as far as `peer_info` left that open."""
        address = getattr(self._transport, "address", None)
        if not isinstance(address, Mapping):
            return
        local = self.local_peer
        with self.lock:
            given = self._given if self._given is not None else local.transport or {}
            if not isinstance(given, dict):
                return
            told = {name: part for name, part in given.items() if part is not None and (part or name != "port")}
            completed = {**address, **told}
            if completed != local.transport:
                local.transport = completed
                self.protocol.membership.put(local)
                self._carrier.local = RemotePeer(local.id, local.transport)


def _nothing(now: float = 0.0) -> Output:
    return []
