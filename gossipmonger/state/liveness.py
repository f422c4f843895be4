"""Liveness: how long a peer has been silent, and what is thought of it."""

from __future__ import annotations

from gossipmonger.state.message import State
from gossipmonger.state.phi import ANOTHER_LIFE, FIRST_INTERVAL, PhiAccrual

__all__ = ["Liveness"]


class Liveness:
    """The part of a `Peer` that is neither its map nor its address. Times are milliseconds since the epoch.

    Attributes:
        live: Whether it is thought to be alive.
        left: Whether it has said goodbye.
        heartbeat: How many digests it has sent, as far as known; -1 if nobody has counted.
        interval: Milliseconds between two of its rounds. A storage keeps it.
        arrivals: The window of intervals between its signs of life.
        silent_since: When this life of it was heard of first, as long as it has said nothing; None once it has.
    """

    __slots__ = ("arrivals", "heartbeat", "interval", "left", "live", "silent_since")

    arrivals: PhiAccrual
    heartbeat: int
    interval: int
    left: bool
    live: bool
    silent_since: float | None

    @property
    def state(self) -> State:
        """What is thought of it."""
        return "left" if self.left else "live" if self.live else "dead"

    def mark_live(self) -> None:
        """Consider it alive."""
        self.live = True

    def mark_dead(self) -> None:
        """Consider it dead."""
        self.live = False

    def mark_contact(self, now: float) -> None:
        """Note a sign of life at `now`; the time since the one before becomes a sample."""
        self.arrivals.contact(now)

    def hear(self, heartbeat: int, now: float) -> bool:
        """Note what somebody told of its heartbeat; return whether that has risen, which is the only sign of life.

        A rise by k after t milliseconds counts as k samples of t / k, so the mean is the time between the peer's digests
        however irregularly news of them arrive. A rise is not a sample if the peer was thought dead in between, or if it is
        faster than one a millisecond. If it is a leap, it means another life of the peer, and the window begins afresh.
        """
        arrivals, rise = self.arrivals, heartbeat - self.heartbeat
        if rise <= 0:
            return False
        silence = FIRST_INTERVAL if arrivals.last_time is None else now - arrivals.last_time
        if rise <= silence and self.live and self.heartbeat >= 0:
            arrivals.add(silence / rise, rise)
        elif rise > silence + ANOTHER_LIFE:
            self.silent_since = now
            arrivals.restart(self.interval)
        self.heartbeat = heartbeat
        arrivals.last_time = now
        return True

    def phi(self, now: float, least: float = 0.0) -> float:
        """Return how far its silence at `now` is from what is usual: see `PhiAccrual.phi`."""
        return self.arrivals.phi(now, least)

    @property
    def intervals(self) -> list[float]:
        """A copy of the last intervals between signs of life, in milliseconds, oldest first."""
        return self.arrivals.intervals

    @property
    def intervals_mean(self) -> float:
        """The mean of `intervals`, in milliseconds."""
        return self.arrivals.mean

    @property
    def sum(self) -> float:
        """All `intervals` together, in milliseconds."""
        return self.arrivals.sum

    @property
    def max_intervals(self) -> int:
        """How many intervals are kept."""
        return self.arrivals.max_intervals

    @property
    def last_time(self) -> float | None:
        """When it was last heard of, in milliseconds since the epoch; None if never."""
        return self.arrivals.last_time

    @last_time.setter
    def last_time(self, time: float | None) -> None:
        self.arrivals.last_time = time
