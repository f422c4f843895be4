"""Seeds as callers write them, and the remote peers that come of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gossipmonger.errors import at, shown
from gossipmonger.state.message import RemotePeer
from gossipmonger.transport.address import read_address

__all__ = ["parse_seeds"]

_ADVICE = "each 'host:port', 'host', (host, port) or a mapping with a transport"


def parse_seeds(typed: str, given: Any, over_tcp: bool) -> tuple[RemotePeer, ...]:
    """Return the seeds that a caller gave.

    Args:
        typed: What the caller calls the option.
        given: A list of seeds. Each is a mapping with `transport` and maybe `id`, a mapping with `host` and maybe `port`,
            "host:port", "host", "[::1]:9742", (host, port), or a `RemotePeer`.
        over_tcp: Whether addresses are hosts and ports. If not, the transport of a mapping or a `RemotePeer` may be anything.

    Raises:
        TypeError, ValueError: One of them is no such thing; the error names its place.
    """
    if isinstance(given, (str, bytes, Mapping, RemotePeer)) or not isinstance(given, Iterable):
        advice = f"; for one seed write [{shown(given)}]" if isinstance(given, (str, Mapping, RemotePeer)) else f", {_ADVICE}"
        raise TypeError(f"{typed} must be a list of seeds, got {shown(given)}{advice}")
    return tuple(_seed(f"{typed}[{index}]", seed, over_tcp) for index, seed in enumerate(given))


def _seed(place: str, seed: Any, over_tcp: bool) -> RemotePeer:
    id: Any = None
    address, inner = seed, place
    if isinstance(seed, RemotePeer):
        id, address, inner = seed.id, seed.transport, f"{place}.transport"
    elif isinstance(seed, Mapping) and "host" not in seed:
        if "transport" not in seed:
            raise ValueError(f"{place} must have the key 'transport', or 'host' and 'port', got {shown(seed)}")
        id, address, inner = seed.get("id"), seed["transport"], f"{place}.transport"
    elif isinstance(seed, Mapping):
        id, address = seed.get("id"), {name: part for name, part in seed.items() if name != "id"}
    if id is not None and not isinstance(id, str):
        raise TypeError(f"{place}.id must be a string, got {shown(id)}")
    if over_tcp or inner == place:
        address = read_address(inner, address)
    elif isinstance(address, Mapping):
        address = dict(address)
    if id is None:  # what stands for it in errors and events, and what no node has reason to call itself
        id = f"seed at {at(address) if isinstance(address, dict) else address}"
    return RemotePeer(id, address)
