"""Peers that the storage contract puts, and whether what comes back is as good."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

from gossipmonger.state import Peer
from gossipmonger.state.values import TOMBSTONE, same

__all__ = ["NOW", "a_peer", "assert_equal", "ids"]

#: Milliseconds since the epoch: a day in 2023.
NOW = 1_700_000_000_000.0


def a_peer(id: str, live: bool = True) -> Peer:
    """Return a peer with something unusual in each of its attributes."""
    return Peer(
        id,
        data={"old": ("x", 2), "k": ({"nested": [1, 2.5, None, True, "é😀"]}, 5), "": ([], 9), "gone": (TOMBSTONE, 10)},
        intervals=[750.0, 0.1, 1e12, 1_000 / 3, 0.0],
        last_time=NOW + 0.125,
        live=live,
        max_version_seen=12,
        floor=1,
        whole=15,
        interval=30_000,
        heartbeat=1_700_000_000_000_000,
        left=not live,
        ttls={"k": 2.5, "": 60},
        transport={"host": "a.example", "port": 9742, "more": [1, {"two": None}]},
    )


def _facts(peer: Peer) -> dict[str, Any]:
    return {
        "id": peer.id,
        "transport": peer.transport,
        "live": peer.live,
        "max_version_seen": peer.max_version_seen,
        "deltas": [list(delta) for delta in peer.deltas_after_version(-1)],  # tombstones too, which `data` leaves out
        "floor": peer.floor,
        "whole": peer.whole,
        "interval": peer.interval,
        "heartbeat": peer.heartbeat,
        "left": peer.left,
        "ttls": dict(sorted(peer.ttls.items())),
        "last_time": peer.last_time,
        "intervals": peer.intervals,
    }


def assert_equal(kept: Peer | None, put: Peer) -> None:
    """Assert that a storage keeps a peer as it was put."""
    assert kept is not None, f"{put!r} was put, and None came back"
    facts = _facts(kept)
    for name, value in _facts(put).items():
        assert same(facts[name], value), f"{name}: {reprlib.repr(value)} was put, {reprlib.repr(facts[name])} came back"


def ids(peers: Iterable[Peer]) -> list[str]:
    """Return the ids of peers, sorted."""
    return sorted(peer.id for peer in peers)
