"""Options: their defaults with units and reasons, and the checks that name what is wrong as the caller typed it."""

from __future__ import annotations

import random as random_module
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from gossipmonger.endpoint.clock import monotonic_clock
from gossipmonger.endpoint.seeds import parse_seeds
from gossipmonger.endpoint.timer import MakeTimer
from gossipmonger.errors import shown
from gossipmonger.protocol import Config
from gossipmonger.state import values
from gossipmonger.state.arguments import check_number, unknown_option
from gossipmonger.state.message import INTERVAL, MAX_INTERVAL, RemotePeer
from gossipmonger.storage import StorageLike
from gossipmonger.transport import TcpTransport, TransportLike
from gossipmonger.transport.address import read_address
from gossipmonger.transport.tcp import TLS, read_tls
from gossipmonger.wire import COMPRESS_ABOVE, DEFAULT_LIMITS, MAX_CLUSTER, MAX_SIZE, Keyring, Limits, is_cluster

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["DELTA_ORDERS", "Options", "OptionsDict"]

#: What DELTA_ORDER may be.
DELTA_ORDERS = ("depth", "breadth")


class _Range(NamedTuple):
    """What a number may be, and its unit, "" for none."""

    kind: type
    least: float
    most: float
    unit: str = ""


_ANY = float("inf")

_NUMBERS: Mapping[str, _Range] = {
    "dead_peer_phi": _Range(float, 0.1, 1000),
    "gossip_interval": _Range(float, 1, MAX_INTERVAL, "ms"),
    "rumor_fanout": _Range(int, 0, 1000, "peers"),
    "rumor_interval": _Range(float, 1, MAX_INTERVAL, "ms"),
    "rumor_rate": _Range(float, 1, 10_000, "messages"),
    "max_deltas_per_gossip": _Range(int, 1, _ANY, "deltas"),
    "gossip_fanout": _Range(int, 1, 1000, "peers"),
    "max_exchanges_per_gossip": _Range(int, 0, _ANY, "replies"),
    "forget_dead_peers_after": _Range(float, 1, _ANY, "ms"),
    "compress_above": _Range(int, 0, _ANY, "bytes"),
    "minimum_live_peers": _Range(int, 0, _ANY, "peers"),
    "max_peers": _Range(int, 1, _ANY, "peers"),
    "max_keys_per_peer": _Range(int, 1, _ANY, "keys"),
    "max_id_size": _Range(int, 1, MAX_SIZE, "bytes"),
    "max_key_size": _Range(int, 1, MAX_SIZE, "bytes"),
    "max_nesting": _Range(int, 0, values.MAX_NESTING),
    "max_years_ahead": _Range(float, 0.01, 200, "years"),
}

_METHODS: Mapping[str, tuple[str, ...]] = {
    "storage": ("get", "put", "live_peers", "dead_peers"),
    "transport": ("digest", "deltas", "on"),
    "executor": ("submit",),
    "random": ("random",),
}

_FUNCTIONS: Mapping[str, str] = {
    "clock": "() -> milliseconds since the epoch",
    "timer": "(seconds, function) -> an object with start() and cancel()",
}

_PEER_INFO, _TRANSPORT = 'the first argument, as in {"id": "a", "transport": {"port": 9742}}', "TcpTransport or UdpTransport"

#: What is no option, but might be taken for one, and where it belongs.
_ELSEWHERE: Mapping[Any, str] = {
    **dict.fromkeys(("id", "host", "port", "data", "peer_info"), _PEER_INFO),
    **dict.fromkeys(
        ("max_message_size", "max_connections", "max_links", "connect_timeout", "send_timeout", "receive_timeout"),
        f"{_TRANSPORT}: make one, and give it as transport=",
    ),
}


class OptionsDict(TypedDict, total=False):
    """The options as keyword arguments, for those who check types: see `Options`. Times are in milliseconds."""

    dead_peer_phi: float
    gossip_interval: float | timedelta
    rumor_fanout: int
    rumor_interval: float | timedelta
    rumor_rate: float
    max_deltas_per_gossip: int | None
    gossip_fanout: int
    max_exchanges_per_gossip: int | None
    delta_order: Literal["depth", "breadth"]
    forget_dead_peers_after: float | timedelta
    compress_above: int | None
    flow_control: bool
    minimum_live_peers: int
    cluster: str | None
    keyring: Keyring | None
    observer: bool
    max_peers: int
    max_keys_per_peer: int
    max_id_size: int
    max_key_size: int
    max_nesting: int
    max_years_ahead: float
    seeds: Iterable[RemotePeer | Mapping[str, Any] | str | tuple[str, int]]
    storage: StorageLike | None
    listen: Mapping[str, Any] | str | tuple[str, int] | None
    transport: TransportLike | None
    tls_server: SSLContext | None
    tls_client: SSLContext | None
    tls_check_id: bool
    clock: Callable[[], float]
    random: random_module.Random
    timer: MakeTimer
    executor: Any


@dataclass(frozen=True, eq=False)
class Options:
    """What an endpoint is told beside its `peer_info`. Times are in milliseconds."""

    #: Phi above which a peer is dead. At 8, one verdict in about 10**8 would be wrong if intervals were truly exponential.
    dead_peer_phi: float = 8
    #: Milliseconds from one round to the next. At a second, a node without news costs a message or two a second.
    gossip_interval: float = INTERVAL
    #: Live peers that each piece of news is told at once; 0 leaves news to the rounds, as the Node.js package does. With 4 and
    #: one more later, a loss of 10 % keeps hardly any update from anybody.
    rumor_fanout: int = 4
    #: Milliseconds until each piece of news is told once more, longer than it takes to reach everybody.
    rumor_interval: float = 50
    #: Rumours a second that a node sends at most when there is always something new. With 25, nearly everybody has an update
    #: within 0.3 s, for a hundredth of a core.
    rumor_rate: float = 23
    #: Deltas in one message; None for as many as some 60 KB hold, and 5, its own default, to a Node.js node.
    max_deltas_per_gossip: int | None = None
    #: Live peers that a round sends a digest to. With 3, as in other systems, a silence is seen in a third of the time that 1
    #: takes, which is what the Node.js package has; on links a digest costs little.
    gossip_fanout: int = 3
    #: Replies between two nodes within one interval; None for no bound, as long as they bring what one of the two lacks.
    max_exchanges_per_gossip: int | None = None
    #: Which deltas go first when there is no room for all. "depth" is those of the peer with the most, "breadth" one of
    #: each peer in turn.
    delta_order: str = "depth"
    #: Milliseconds for which a peer stays dead before it is forgotten. Most peers that return do so within a day.
    forget_dead_peers_after: float = 86_400_000
    #: Bytes above which messages between nodes of this package are compressed; None for never.
    compress_above: int | None = COMPRESS_ABOVE
    #: Whether updates wait at their owner when there are more than the cluster can carry.
    flow_control: bool = False
    #: With fewer live peers than this, each round contacts a seed as well.
    minimum_live_peers: int = 1
    #: The cluster's name, the same in all its nodes. Nodes of another name, and Node.js nodes, are refused. None for no name.
    cluster: str | None = None
    #: The keys that all nodes of the cluster share. What they send is sealed, and what is not is refused, as are Node.js nodes.
    #: None to send and take everything in plain.
    keyring: Keyring | None = None
    #: Whether this node only reads. The others answer it and never know it, so it leaves nothing behind, however it ends.
    observer: bool = False
    #: Other peers that are known at a time, dead ones among them; those beyond are refused. The largest cluster that was
    #: measured is half of that, and an invented peer takes some 2.5 KB.
    max_peers: int = 20_000
    #: Keys of one peer. Everybody keeps them all, at some 200 bytes and what they hold.
    max_keys_per_peer: int = 100_000
    #: Bytes of an id in UTF-8. Every digest names all ids; a host's name has at most 253.
    max_id_size: int = DEFAULT_LIMITS.max_id_size
    #: Bytes of a key in UTF-8. Each write carries its key, so a longer text is better put into the value.
    max_key_size: int = DEFAULT_LIMITS.max_key_size
    #: Lists and objects inside each other in a value. It is the deepest that every peer's JSON parser takes.
    max_nesting: int = DEFAULT_LIMITS.max_nesting
    #: Years that versions and heartbeats may be ahead of the clock. Wrong clocks are mostly wrong by less, or by decades.
    max_years_ahead: float = 10
    #: Where to find the cluster at first, and peers of last resort. Each is "host:port", "host", (host, port), or a mapping
    #: with `transport` and maybe `id`; each address that a name has is a seed.
    seeds: tuple[RemotePeer, ...] = ()
    #: Where peers are kept; None for a new `MemoryStorage`.
    storage: StorageLike | None = None
    #: The address to bind, where it differs from what peers are told. It is "host:port", (host, port) or a mapping; a host of
    #: "" is every address of this machine, and a name is its first address that can be bound. What is left out is taken from
    #: what peers are told; None takes all of it from there.
    listen: Any = None
    #: What carries messages; None for a new `TcpTransport` at the local peer's `transport`.
    transport: TransportLike | None = None
    #: The `ssl.SSLContext` for connections from others. With both, all are encrypted, and each side shows a certificate.
    tls_server: SSLContext | None = None
    #: The same for connections to others. It may check that a certificate names the host that was dialled.
    tls_client: SSLContext | None = None
    #: Whether a certificate has to name the id of its node too, so that what is said under another id is refused.
    tls_check_id: bool = False
    #: () -> milliseconds since the epoch, never backwards.
    clock: Callable[[], float] = field(default_factory=monotonic_clock)
    #: Draws the partners of each round.
    random: random_module.Random = field(default_factory=random_module.Random)
    #: (seconds, function) -> an object with `start()` and `cancel()`, like `threading.Timer`.
    timer: MakeTimer = threading.Timer
    #: An object whose `submit(function)` calls handlers, like `concurrent.futures.Executor`; None for a thread of our own.
    executor: Any = None

    @classmethod
    def parse(cls, given: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> Options:
        """Return the options from a mapping, in upper or lower case, and from keywords, which win.

        Raises:
            TypeError: An option is unknown or of the wrong type.
            ValueError: An option is out of range.
        """
        known = [option.name for option in fields(cls)]
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"options must be a mapping, got {shown(given)}")
        chosen: dict[str, Any] = {}
        typed: dict[str, str] = {}
        for source in (given or {}, keywords):
            for name, value in source.items():
                if name in _ELSEWHERE:
                    raise TypeError(f"unknown option {name!r}: it belongs to {_ELSEWHERE[name]}")
                if not isinstance(name, str) or name.lower() not in known:
                    raise unknown_option(name, known)
                if isinstance(value, timedelta) and name.lower() in _NUMBERS and _NUMBERS[name.lower()].unit == "ms":
                    value = value / timedelta(milliseconds=1)
                chosen[name.lower()], typed[name.lower()] = value, name
        over_tcp = isinstance(chosen.get("transport"), (TcpTransport, type(None)))
        if "seeds" in chosen:
            chosen["seeds"] = parse_seeds(typed["seeds"], chosen["seeds"], over_tcp)
        if chosen.get("listen") is not None:
            chosen["listen"] = read_address(typed["listen"], chosen["listen"], binding=True, port=None)
        for name, value in chosen.items():
            _check(name, typed[name], value)
        _check_tls(chosen, typed)
        return cls(**chosen)

    def config(self) -> Config:
        """Return what the protocol needs to know of these."""
        return Config(**{option.name: getattr(self, option.name) for option in fields(Config)})

    def limits(self) -> Limits:
        """Return what decoders need to know of these."""
        limits = Limits(**{option.name: getattr(self, option.name) for option in fields(Limits)})
        return DEFAULT_LIMITS if limits == DEFAULT_LIMITS else limits


def _check(name: str, typed: str, value: Any) -> None:
    """Raise an error that calls the option as it was `typed`, if its value is not allowed."""
    if value is None and (getattr(Options, name, name) is None or name == "compress_above"):  # the default, or "never"
        return
    if name in _NUMBERS:
        check_number(typed, value, *_NUMBERS[name])
    elif name in _METHODS:
        if isinstance(value, type):
            raise TypeError(f"{typed} must be an object, got the class {value.__name__}: did you mean {value.__name__}()?")
        for method in _METHODS[name]:
            if not callable(getattr(value, method, None)):
                raise TypeError(f"{typed} must have a method {method}(), got {shown(value)}")
    elif name in _FUNCTIONS:
        if not callable(value):
            raise TypeError(f"{typed} must be callable, {_FUNCTIONS[name]}, got {shown(value)}")
    elif name == "delta_order":
        if value not in DELTA_ORDERS:
            raise ValueError(f"{typed} must be {' or '.join(map(repr, DELTA_ORDERS))}, got {shown(value)}")
    elif name == "cluster":
        if not isinstance(value, str):
            raise TypeError(f"{typed} must be a string, got {shown(value)}")
        if not is_cluster(value):
            raise ValueError(f"{typed} must be a string of 1 to {MAX_CLUSTER} characters, got {shown(value)}")
    elif name == "keyring" and not isinstance(value, Keyring):  # which may be a key, and is not shown
        raise TypeError(f"{typed} must be a Keyring, as of Keyring([key, ...]), got {type(value).__name__}")
    elif name in ("flow_control", "observer") and not isinstance(value, bool):
        raise TypeError(f"{typed} must be True or False, got {shown(value)}")


def _check_tls(chosen: Mapping[str, Any], typed: Mapping[str, str]) -> None:
    server, client, check_id = (chosen.get(name, getattr(Options, name)) for name in TLS)
    tls = read_tls(server, client, check_id, [typed.get(name, name) for name in TLS])
    if tls is not None and chosen.get("transport") is not None:
        given = next(typed[name] for name in TLS if name in typed)
        raise TypeError(f"{given} must be given to the transport, since there is one")
