"""Metrics: what a node tells of its work, in numbers. What counts is where things happen; here it is put together."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypedDict

from gossipmonger.endpoint.calls import asks
from gossipmonger.errors import FAILURES, REFUSALS, MessageError, SendError
from gossipmonger.process import BOUNDS, Tally, Times, marked
from gossipmonger.protocol import Output, Send
from gossipmonger.state import Message
from gossipmonger.transport import Traffic, Transport

if TYPE_CHECKING:
    from gossipmonger.endpoint.dispatcher import Dispatcher
    from gossipmonger.endpoint.engine import Engine
    from gossipmonger.endpoint.options import Options

__all__ = ["Counters", "Durations", "Measured", "Metrics", "failure_of"]

_WAYS = ("sent", "received")

#: What the system says if there is no way to an address.
_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EHOSTDOWN)


class Durations(TypedDict):
    """How long something took, each time.

    Attributes:
        buckets: Upper bound in seconds, such as "0.25", -> how often it took at most that long; "+Inf" is the last bound.
        count: How often it was.
        sum: Seconds altogether.
    """

    buckets: dict[str, int]
    count: int
    sum: float


class Metrics(TypedDict):
    """What `Gossipmonger.metrics` returns: plain dicts with texts for keys, which JSON can carry.

    What is so "now" rises and falls. All else is counted from when the node was made, and only ever rises. A transport that
    somebody else wrote counts no bytes and has no links, so these are absent.

    Attributes:
        peers: "live", "dead" and "left" -> other nodes that are so now.
        peer_transitions: "new", "live", "dead", "left" and "forgotten" -> how often another node became so.
        messages: "sent" and "received" -> transport -> kind -> messages. The transports are "tcp", "udp", "simulated", and
            "custom" for those that somebody else wrote. The kinds are "round", "reply", "rumor", "part", "farewell", "deltas"
            and "hello".
        message_bytes: "sent" and "received" -> transport -> bytes of messages, as they go to the system: deflated, without what
            TLS, TCP and IP add. Received are also those that are refused then.
        messages_refused: A reason -> messages that were refused for it: "malformed", "oversized", "late", "truncated", "busy"
            (too many connections), "cluster" (it is of another one), "tls", "memory", "other".
        send_errors: A reason -> messages that could not be sent: "refused", "timeout", "unreachable", "broken", "unresolved"
            (the name has no address), "slow" (the peer takes fewer than come), "address", "other".
        deltas: "sent" and "received" -> deltas in messages, whether news or not.
        links: "dialled" and "accepted" -> connections to other nodes that are kept open now.
        rounds: Rounds of gossip.
        round_duration_seconds: How long each round took.
        round_lateness_seconds: How long after its time each round began; none for one that `gossip` does at once.
        events_queued: Events that wait for handlers now.
        handler_seconds: How long each call of a handler took, those of watches among them.
        keys: "self" -> keys of this node now, "others" -> keys of all other live nodes that it knows now.
        phi: The id of a peer -> its phi now; only if it was asked for.
    """

    peers: dict[str, int]
    peer_transitions: dict[str, int]
    messages: dict[str, dict[str, dict[str, int]]]
    message_bytes: dict[str, dict[str, int]]
    messages_refused: dict[str, int]
    send_errors: dict[str, int]
    deltas: dict[str, int]
    links: dict[str, int]
    rounds: int
    round_duration_seconds: Durations
    round_lateness_seconds: Durations
    events_queued: int
    handler_seconds: Durations
    keys: dict[str, int]
    phi: dict[str, float]


class Counters:
    """What the endpoint itself counts.

    Args:
        carrier: The transport.

    Attributes:
        traffic: What the transport counts, or what is counted here on its behalf.
        own: The latter; None if the transport counts.
        refused: Messages that were refused, by reason.
        failed: Messages that could not be sent, by reason.
        due: When the next round is to begin, in milliseconds of the node's clock; None if nobody has said so.
    """

    def __init__(self, carrier: Transport) -> None:
        self.own: Traffic | None = None if carrier.traffic else Traffic("custom", sized=False)
        self.traffic: tuple[Traffic, ...] = (self.own,) if self.own is not None else carrier.traffic
        self.refused: Tally = Tally()
        self.failed: Tally = Tally()
        self.durations: Times = Times()
        self.latenesses: Times = Times()
        self.due: float | None = None

    def note(self, error: BaseException) -> None:
        """Count an error that the transport has emitted. Transports of the Node.js package's kind emit the system's own."""
        if isinstance(error, MessageError):
            self.refused.add(error.kind)
        elif isinstance(error, SendError) or (self.own is not None and isinstance(error, OSError)):
            self.failed.add(failure_of(error))

    def count(self, output: Output) -> None:
        """Count the messages of an output, if the transport does not. This requires the engine's lock."""
        own = self.own
        if own is not None:
            for item in output:
                if type(item) is Send:
                    own.sent.note(item.message)

    def step(self, step: Callable[[float, Message], Output], now: float, message: Message) -> Output:
        """Count a message that came to a transport that does not count, and take it. This requires the engine's lock."""
        if self.own is not None:
            self.own.received.note(message)
        return step(now, message)

    def begin_round(self, now: float) -> None:
        """Count how late a round begins."""
        due, self.due = self.due, None
        if due is not None:
            self.latenesses.add((now - due) / 1000)


class Measured:
    """The part of `Gossipmonger` that tells what it has counted."""

    options: Options
    _engine: Engine
    _dispatcher: Dispatcher

    @asks
    def metrics(self, *, phi: bool = False) -> Metrics:
        """Return what this node counts of its work: see `Metrics`.

        To count costs next to nothing, and to ask takes as long as to look at each peer once. `gossipmonger.metrics` has a
        collector for `prometheus_client`.

        Args:
            phi: Whether to tell each peer's phi too.
        """
        engine, counters, dispatcher = self._engine, self._engine.counters, self._dispatcher
        now = self.options.clock()
        with marked(), engine.lock:
            local, *others = engine.known.peers(live=False)
            states = [peer.state for peer in others]
            keys = {"self": local.key_count, "others": sum(peer.key_count for peer in others if peer.state == "live")}
            membership = engine.protocol.membership
            phis = {peer.id: membership.phi(now, peer) for peer in others} if phi else {}
            rounds, foreign = membership.rounds, engine.protocol.border.refused
            transitions = dict(dispatcher.transitions)
        refused = _numbers(REFUSALS, counters.refused)
        refused["cluster"] += foreign
        counted = [(traffic, traffic.read()) for traffic in counters.traffic]
        return {
            "peers": {state: states.count(state) for state in ("live", "dead", "left")},
            "peer_transitions": {event.replace("peer", "").strip(): number for event, number in transitions.items()},
            "messages": {way: {each.name: dict(ways[way].kinds) for each, ways in counted} for way in _WAYS},
            "message_bytes": {way: {each.name: ways[way].bytes for each, ways in counted if each.sized} for way in _WAYS},
            "messages_refused": refused,
            "send_errors": _numbers(FAILURES, counters.failed),
            "deltas": {way: sum(ways[way].deltas for _, ways in counted) for way in _WAYS},
            "links": {side: number for each, _ in counted if each.links for side, number in each.links().items()},
            "rounds": rounds,
            "round_duration_seconds": _durations(counters.durations),
            "round_lateness_seconds": _durations(counters.latenesses),
            "events_queued": dispatcher.waiting,
            "handler_seconds": _durations(dispatcher.handled),
            "keys": keys,
            "phi": phis,
        }


def failure_of(error: BaseException) -> str:
    """Return the word for why a message could not be sent, one of `FAILURES`."""
    if isinstance(error, SendError):
        return error.kind or ("other" if error.__cause__ is None else failure_of(error.__cause__))
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError):
        return "broken"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, socket.gaierror):
        return "unresolved"
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return "unreachable"
    return "other"


def _numbers(words: Iterable[str], tally: Tally) -> dict[str, int]:
    """Return how often each of these words was counted; a word that is none of them is the last one."""
    numbers = dict.fromkeys(words, 0)
    for word, (number, _) in tally.read().items():
        numbers[str(word) if word in numbers else [*numbers][-1]] += number
    return numbers


def _durations(times: Times) -> Durations:
    numbers, total = times.read()
    bounds = [str(bound) for bound in BOUNDS]
    return {"buckets": dict(zip([*bounds, "+Inf"], numbers, strict=True)), "count": numbers[-1], "sum": total}
