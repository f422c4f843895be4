"""Writes: what a node itself sets and deletes, and what of that gossip tells.

Flow control may hold a write back, and then a later one of the same key takes its place. A key with a ttl is deleted once that
has passed since it was set last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossipmonger.protocol.config import Config
from gossipmonger.protocol.expiry import Expiry
from gossipmonger.protocol.forgetting import TELLING
from gossipmonger.protocol.membership import Membership
from gossipmonger.protocol.output import Event, Output
from gossipmonger.protocol.rumors import Rumors
from gossipmonger.state import Flow, Peer, values
from gossipmonger.state.peer import NOTHING

__all__ = ["Writes"]


class Writes:
    """The part of `Protocol` that is about the node's own state."""

    membership: Membership
    _config: Config
    _deleted: float
    _expiry: Expiry
    _flow: Flow | None
    _local: Peer
    _rumors: Rumors | None

    def update(self, now: float, key: str, value: Any, ttl: float = 0.0) -> bool:
        """Set a key of the local peer, to be deleted after `ttl` seconds, 0 for never; return whether that changed anything.

        If the key has this value and ttl already, its time begins anew, which nobody has to be told: this node lives.
        """
        old = self.newest(key, NOTHING)
        if old is NOTHING:
            self.membership.capacity.check_own(key, self.waiting)
        elif values.same(old, value) and self._expiry.ttl_of(key) == ttl:
            self._expiry.set(now, key, ttl)
            return False
        self._offer(now, key, value, ttl)
        return True

    def delete(self, now: float, key: str) -> bool:
        """Delete a key of the local peer; return whether it was there."""
        if self.newest(key, NOTHING) is NOTHING:
            return False
        self._offer(now, key, values.TOMBSTONE)
        return True

    def newest(self, key: str, default: Any = None) -> Any:
        """Return what a key of the local peer was set to last, whether gossip tells it yet or not."""
        value = self._flow.waiting.get(key, NOTHING) if self._flow is not None else NOTHING
        value = self._local.log.get(key, NOTHING) if value is NOTHING else value
        return default if value is NOTHING or (type(value) is dict and values.is_tombstone(value)) else value

    @property
    def waiting(self) -> Mapping[str, Any]:
        """What flow control has not admitted yet, key -> value, with a tombstone for a key that is deleted."""
        return {} if self._flow is None else self._flow.waiting

    def _offer(self, now: float, key: str, value: Any, ttl: float = 0.0) -> None:
        former = self._expiry.set(now, key, ttl) if ttl or self._expiry.own else None
        if self._flow is not None and not self._flow.offer(now, key, value):
            return
        old = self._local.log.get(key, values.TOMBSTONE)
        try:
            self._issue(now, key, value)
        except Exception:  # the storage refuses: what is raised to the caller has not taken effect
            self._local.mend()
            self._expiry.restore(key, former)
            if values.is_tombstone(old):
                self._local.delete_local(key)
            else:
                self._local.issue(key, old, self._expiry.ttl_of(key))
            raise

    def _issue(self, now: float, key: str, value: Any) -> None:
        local = self._local
        if self._rumors is not None:
            self._rumors.note(local.id, local.max_version_seen)
        if type(value) is not dict or not values.is_tombstone(value):
            local.issue(key, value, self._expiry.ttl_of(key) if self._expiry.own else 0.0)
        elif local.delete_local(key) is not None:
            self._deleted = now
            self._compact(now)
        self.membership.put(local)

    def _admit(self, now: float, everything: bool = False) -> None:
        """Issue what flow control admits of what waits, or everything."""
        for key, value in () if self._flow is None else self._flow.admit(now, everything):
            is_set = values.same(self._local.log.get(key, NOTHING), value)
            if not is_set or self._local.ttls.get(key, 0.0) != self._expiry.ttl_of(key):  # or it was set back while it waited
                self._issue(now, key, value)

    def _compact(self, now: float) -> None:
        """Forget tombstones once they outnumber keys. A Node.js node reads no floors and must see the tombstones first."""
        if not self._local.crowded:
            return
        is_seen = not self.membership.has_node_js() or now - self._deleted >= TELLING * self._config.gossip_interval
        if is_seen or self.membership.capacity.overflows:
            self._local.reissue(self._local.max_version_seen)

    def lapse(self, now: float, ahead: float = 0.0) -> Output:
        """Delete own keys whose ttl has passed, and hide those of others: see `Expiry.expire`."""
        output: Output = []
        if self._expiry.due <= now + ahead:
            for key in self._expiry.expire(now, output, ahead):
                if self.delete(now, key):
                    self._expiry.changed.append((self._local.id, key))
                    output.append(Event("delete", (self._local.id, key)))
        return output
