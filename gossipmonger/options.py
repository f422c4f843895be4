"""Options: their defaults, the reasons for these, and the check that names what is wrong."""

from __future__ import annotations

import difflib
import math
import random as random_module
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from gossipmonger.clock import monotonic_clock
from gossipmonger.peer import RemotePeer

__all__ = ["DELTA_ORDERS", "Options", "check_number", "unknown_option"]


#: What DELTA_ORDER may be.
DELTA_ORDERS = ("depth", "breadth")


def unknown_option(name: object, known: Iterable[str]) -> TypeError:
    """Return the error for an option that there is not, with the nearest one that there is."""
    near = difflib.get_close_matches(str(name).lower(), list(known), n=1, cutoff=0.4)
    return TypeError(f"unknown option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def check_number(name: str, value: Any, kind: type, least: float, most: float = math.inf) -> None:
    """Check that `value` is an int (`kind` int) or any number (`kind` float) from `least` to `most`.

    Raises:
        TypeError: It is no such number.
        ValueError: It is out of range, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise TypeError(f"{name}: {value!r} is no {'integer' if kind is int else 'number'}")
    if not least <= value <= most:
        raise ValueError(f"{name}: {value!r} is not between {least:g} and {most:g}")


@dataclass(frozen=True, eq=False)
class Options:
    """What an endpoint is told beside its `peer_info`. Times are in milliseconds."""

    #: Phi above which a peer is dead. 8 means about one wrong verdict in 10**8, if intervals were truly exponential.
    dead_peer_phi: float = 8
    #: From one round to the next. A second keeps the traffic of a node that has no news at a message or two a second.
    gossip_interval: float = 1000
    #: Live peers of our kind that each piece of news is told at once; 0 leaves it to the rounds, as the Node package does.
    rumor_fanout: int = 3
    #: Milliseconds between rumours. News of this time go together.
    rumor_interval: float = 50
    #: Deltas in one message. The Node package's; raise it where peers own many keys.
    max_deltas_per_gossip: int = 5
    #: Live peers that a round sends a digest to. Each has its cost in messages; 3 see a death in a third of the time.
    gossip_fanout: int = 1
    #: Replies between two nodes within one interval: enough for a newcomer to be level with a large cluster in a few rounds.
    max_exchanges_per_gossip: int = 64
    #: Which deltas go first where there is no room for all: "depth", those of the peer with most of them, or "breadth".
    delta_order: str = "depth"
    #: Milliseconds that a peer has been dead for before it is forgotten. A day: most that come back do so before.
    forget_dead_peers_after: float = 86_400_000
    #: Bytes above which a message to a peer of our kind goes deflated; None: never. From a kilobyte on that leaves a quarter or
    #: less, for a tenth of a millisecond. 300 nodes at rest then send 0.8 KB a second and not 3.7; 50 say nothing so long.
    compress_above: int | None = 1024
    #: Whether updates wait in their owner when they are more than the cluster can carry.
    flow_control: bool = False
    #: With fewer live peers than this, each round asks a seed too.
    minimum_live_peers: int = 1
    #: Where to find the cluster at first, and peers of last resort.
    seeds: tuple[RemotePeer, ...] = ()
    #: Where peers are kept; None for a new `MemoryStorage`.
    storage: Any = None
    #: What carries messages; None for a new `TcpTransport` at the local peer's `transport`.
    transport: Any = None
    #: () -> milliseconds since the epoch, never backwards.
    clock: Callable[[], float] = field(default_factory=monotonic_clock)
    #: Chooses partners.
    random: random_module.Random = field(default_factory=random_module.Random)
    #: (seconds, function) -> an object with `start()` and `cancel()`, like `threading.Timer`.
    timer: Callable[[float, Callable[[], None]], Any] = threading.Timer
    #: An object whose `submit(function)` runs handlers, like `concurrent.futures.Executor`; None for a thread of our own.
    executor: Any = None

    @classmethod
    def parse(cls, given: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> Options:
        """Return the options out of a mapping, in upper or lower case, and keywords, which win.

        Raises:
            TypeError: An option is unknown or of the wrong type.
            ValueError: It is out of range.
        """
        known = [option.name for option in fields(cls)]
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"options: {given!r} is no mapping")
        chosen: dict[str, Any] = {}
        for source in (given or {}, keywords):
            for name, value in source.items():
                if not isinstance(name, str) or name.lower() not in known:
                    raise unknown_option(name, known)
                chosen[name.lower()] = value
        chosen["seeds"] = _seeds(chosen.get("seeds", ()))
        options = cls(**chosen)
        check_number("DEAD_PEER_PHI", options.dead_peer_phi, float, 0.1, 1000)
        check_number("GOSSIP_INTERVAL", options.gossip_interval, float, 1, 86_400_000)
        check_number("MAX_DELTAS_PER_GOSSIP", options.max_deltas_per_gossip, int, 1)
        check_number("MINIMUM_LIVE_PEERS", options.minimum_live_peers, int, 0)
        check_number("GOSSIP_FANOUT", options.gossip_fanout, int, 1, 1000)
        check_number("RUMOR_FANOUT", options.rumor_fanout, int, 0, 1000)
        check_number("RUMOR_INTERVAL", options.rumor_interval, float, 1, 86_400_000)
        check_number("MAX_EXCHANGES_PER_GOSSIP", options.max_exchanges_per_gossip, int, 0)
        check_number("FORGET_DEAD_PEERS_AFTER", options.forget_dead_peers_after, float, 1)
        if options.compress_above is not None:
            check_number("COMPRESS_ABOVE", options.compress_above, int, 0)
        if options.delta_order not in DELTA_ORDERS:
            raise ValueError(f"DELTA_ORDER: {options.delta_order!r} is none of {', '.join(map(repr, DELTA_ORDERS))}")
        if not isinstance(options.flow_control, bool):
            raise TypeError(f"FLOW_CONTROL: {options.flow_control!r} is neither True nor False")
        for name in ("clock", "timer"):
            if not callable(getattr(options, name)):
                raise TypeError(f"{name}: {getattr(options, name)!r} can't be called")
        _check_methods("storage", options.storage, "get", "put", "live_peers", "dead_peers")
        _check_methods("transport", options.transport, "digest", "deltas", "on")
        _check_methods("executor", options.executor, "submit")
        if options.random is None:
            raise TypeError("random: None has no method random()")
        _check_methods("random", options.random, "random")
        return options


def _seeds(given: Any) -> tuple[RemotePeer, ...]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"seeds: {given!r} is no list of seeds")
    return tuple(_seed(index, seed) for index, seed in enumerate(given))


def _seed(index: int, seed: Any) -> RemotePeer:
    if isinstance(seed, RemotePeer):
        return seed
    if not isinstance(seed, Mapping):
        raise TypeError(f"seeds[{index}]: {seed!r} is no mapping with id and transport")
    for name in ("id", "transport"):
        if name not in seed:
            raise ValueError(f"seeds[{index}]: {seed!r} has no {name}")
    if not isinstance(seed["id"], str):
        raise TypeError(f"seeds[{index}].id: {seed['id']!r} is no string")
    return RemotePeer(seed["id"], seed["transport"])


def _check_methods(name: str, thing: Any, *methods: str) -> None:
    for method in methods:
        if thing is not None and not callable(getattr(thing, method, None)):
            raise TypeError(f"{name}: {thing!r} has no method {method}()")
