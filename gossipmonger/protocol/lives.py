"""Lives: how one ends, and when the next one counts.

A node that restarts without its data begins anew, and its floor says that nothing of its former life exists any more. While its
floor is its version, it has said nothing, and may be a program that is about to set the keys of its last run again. So the
former life is kept until the new one tells a key, until its heartbeat has risen for an interval, which says that it means to
stay as it is, or until it leaves.

Who has left is still told of: at first to everybody, and then to newcomers, until all forget it at the same time.
"""

from __future__ import annotations

from collections.abc import Container

from gossipmonger.state import Entry, Peer

__all__ = ["departed", "elders", "is_silent"]

#: Peers that left of which a newcomer is told.
_MOST = 100


def is_silent(entry: Entry, peer: Peer) -> bool:
    """Return whether an entry is of a life that has said nothing yet, and leaves the keys of the former one alone."""
    if entry.left or entry.version != entry.floor or not peer.awaited:
        return False
    return 0 <= (peer.last_time or 0.0) - (peer.silent_since or 0.0) < peer.interval  # clocks may go back


def elders(live: list[Peer]) -> list[Peer]:
    """Return the third of the live peers that have lived longest, of those that speak our extensions.

    Whoever has lived for long is likely to live on, and a program that is about to end itself is not among them. Heartbeats
    begin at the clock's microseconds, so the lowest is the oldest. Clocks that are wrong make no more than a worse choice.
    """
    speakers = sorted([peer for peer in live if peer.speaks_extensions], key=lambda peer: peer.heartbeat)
    return speakers[: (len(speakers) + 2) // 3]


def departed(dead: list[Peer], named: Container[str]) -> list[Peer]:
    """Return those that left and have not been named, the latest first."""
    left = [peer for peer in dead if peer.left and peer.id not in named]
    return sorted(left, key=lambda peer: peer.last_time or 0.0, reverse=True)[:_MOST]
