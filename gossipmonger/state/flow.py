"""Flow control: how fast an owner may update, so that gossip can carry what all owners update together.

Van Renesse et al. (LADIS 2008), section 4. Each node has a desired rate rho and a maximum rate tau, in updates a second.
Updates above tau wait at their owner, where a later value of a key takes the place of the one that waits, so that overload
costs intermediate values and not staleness.

* *Redistribution.* Two nodes that gossip share what they may update, so that the one that needs more gets it from the one that
  needs less, and the sum of their rates stays the same. A digest's header tells [rho, tau]; the node that answers takes its new
  share at once and returns the difference, the *grant*, in its own header: [rho, tau, grant].
* *Adaptation*, as in TCP. A gossip overflows if deltas had to be cut short and the rest did not go before the next round. When
  several in a row do, tau is multiplied by alpha; each that does not adds beta. What is multiplied is the rate in use: an
  allowance that nobody uses congests nothing, and would take its time to shrink before it made a difference.

The paper leaves alpha, beta and the number of gossips open; the values here were found with its own experiment, `make paper`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Flow"]

#: With 3/4 the backlog of a limit that is halved keeps values stale for two seconds longer.
_ALPHA = 0.6

#: Updates per interval, at each gossip. With ten times as much, rates settle where every other gossip overflows.
_BETA = 0.02

#: Gossips in a row that overflow before tau shrinks. With three, owners update a fifth more between them, so near to what can
#: be carried that after a cut values stay stale for four seconds longer.
_PATIENCE = 2

#: Gossips after that for which nothing raises tau: others see the same congestion a little later, and what they have not given
#: up yet must not be shared out anew meanwhile.
_HOLD = 6

#: Updates per interval that every node may make, so that a rate can grow again.
_LEAST = 0.05

#: Weight of the last interval in the measured rate of updates: a mean over about four intervals.
_WEIGHT = 0.25

#: Share of tau that a grant must have to be worth a reply by itself.
_WORTH_TELLING = 0.1


class Flow:
    """What one node wants to update, what it may, and what waits.

    Args:
        interval: GOSSIP_INTERVAL, in milliseconds.
        deltas: How many deltas one peer can be told in an interval; nothing that is sent faster arrives sooner.
        now: Milliseconds since the epoch.

    Attributes:
        tau: Updates a second that this node may make.
    """

    def __init__(self, interval: float, deltas: int, now: float) -> None:
        self._interval = interval / 1000
        self._most = deltas / self._interval
        self._least = _LEAST / self._interval
        self.tau: float = self._most
        self._alone = True  # nobody has told of its rates yet
        self._waiting: dict[str, Any] = {}
        self._offered = 0
        self._rate = 0.0  # updates offered a second, a moving mean
        self._credit = 1.0
        self._credited = now
        self._overflows = 0
        self._hold = 0

    # Updates

    @property
    def waiting(self) -> Mapping[str, Any]:
        """What waits, key -> value, in the order in which it is to be admitted."""
        return self._waiting

    def offer(self, now: float, key: str, value: Any) -> bool:
        """Offer an update; return whether it is admitted at once. If not, it waits, in place of an earlier one of its key."""
        self._offered += 1
        self._earn(now)
        if self._waiting or self._credit < 1:
            self._waiting[key] = value
            return False
        self._credit -= 1
        return True

    def admit(self, now: float, everything: bool = False) -> Iterator[tuple[str, Any]]:
        """Begin a round: measure the rate, and yield what waits as far as tau admits it, or everything."""
        self._rate += _WEIGHT * (self._offered / self._interval - self._rate)
        self._offered = 0
        self._earn(now)
        while self._waiting and (everything or self._credit >= 1):
            self._credit -= 1
            key = next(iter(self._waiting))
            yield key, self._waiting[key]
            self._waiting.pop(key, None)  # not before it has been written

    def _earn(self, now: float) -> None:
        self._credit += max(0.0, now - self._credited) / 1000 * self.tau
        if not self._waiting:  # what was not used in an interval is lost
            self._credit = min(self._credit, max(1.0, self.tau * self._interval))
        self._credited = now

    # Rates

    @property
    def rho(self) -> float:
        """Updates a second that this node would make, by what it is offered and what waits, within an interval."""
        return self._rate + len(self._waiting) / self._interval

    def entry(self) -> list[float]:
        """Return what the node's own entry in a digest says: [rho, tau]."""
        return [round(self.rho, 3), round(self.tau, 3)]

    def grant_for(self, rho: float, tau: float) -> float:
        """Return what of our tau a peer of these rates is to have, less than 0 if we are to have of its."""
        both, mine = self.tau + tau, self.rho
        if mine + rho <= both:
            new = mine + (both - mine - rho) / 2
        elif min(mine, rho) >= both / 2:
            new = both / 2
        else:
            new = mine if mine < rho else both - rho
        return self.tau - new

    def worth_telling(self, grant: float, tau: float) -> bool:
        """Whether a grant is worth a reply to a peer of this tau, if there is nothing else to reply."""
        return abs(grant) > _WORTH_TELLING * max(tau, self._least)

    def give(self, grant: float) -> list[float]:
        """Give it; return what the node's own entry in the reply says: [rho, tau, grant]."""
        self._set(self.tau - grant)
        return [*self.entry(), round(grant, 3)]

    def take(self, grant: float) -> None:
        """Take what a peer's reply grants."""
        self._set(self.tau + grant)

    def meet(self, tau: float) -> None:
        """Hear of a peer's tau: who comes new takes the rate that others have found."""
        if self._alone:
            self._alone = False
            self._set(min(self.tau, tau))

    def gossiped(self, overflowed: bool) -> None:
        """Note a gossip, and whether there was more to say than could be."""
        self._hold = max(0, self._hold - 1)
        if not overflowed:
            self._overflows = 0
            self._set(self.tau + _BETA / self._interval)
            return
        self._overflows += 1
        if self._overflows == _PATIENCE:
            self._overflows = 0
            self._set(_ALPHA * min(self.tau, self.rho))
            self._hold = _HOLD

    def _set(self, tau: float) -> None:
        if tau < self.tau or not self._hold:
            self.tau = min(self._most, max(self._least, tau))
