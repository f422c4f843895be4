"""A follower: builds a mirror from the changes that a watch tells, and finds out what is wrong with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gossipmonger import Change, Gossipmonger

State = dict[tuple[str, str], Any]


def state_of(node: Gossipmonger, prefix: str = "", peer: str | None = None) -> State:
    """What a watch of a node should have told by now: peer id, key -> value."""
    return {
        (id, key): value
        for id, view in node.peers().items()
        if (view.state == "live" or id == node.local_peer.id) and peer in (None, id)
        for key, value in view.data.items()
        if key.startswith(prefix)
    }


class Follower:
    """A mirror of what a node knows.

    Every value is a number that is issued once, so a value tells when it was set.

    Args:
        node: The node.
        prefix: As for `watch`.
        peer: As for `watch`.
        replay: As for `watch`; without it, the mirror begins with what there is now.
        order: Returns a number that has to rise from one value of a peer to the next, given the peer, the key and the value;
            None if their order is not known.

    Attributes:
        mirror: peer id, key -> value.
        wrong: What was wrong.
        told: How many changes there were.
    """

    def __init__(
        self,
        node: Gossipmonger,
        prefix: str = "",
        peer: str | None = None,
        *,
        replay: bool = True,
        order: Callable[[str, str, Any], int | None] = lambda *_: None,
    ) -> None:
        self.node = node
        self.arguments: dict[str, Any] = {"prefix": prefix, "peer": peer, "replay": replay}
        self.mirror: State = {} if replay else state_of(node, prefix, peer)
        self.wrong: list[str] = []
        self.told = 0
        self._order = order
        self._last: dict[str, int] = {}
        self._prefix, self._peer = prefix, peer
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return f"a follower of {self.node.local_peer.id} with {self.arguments}"

    def hear(self, change: Change) -> None:
        """Take a change."""
        id, key, value, kind = change
        place = id, key
        with self.lock:
            self.told += 1
            if self._peer not in (None, id) or not key.startswith(self._prefix):
                self.wrong.append(f"{change} is not watched")
            if kind == "set":
                if self.mirror.get(place) == value:
                    self.wrong.append(f"{change} was told twice")
                number, last = self._order(id, key, value), self._last.get(id, -1)
                if number is not None:
                    if number <= last:
                        self.wrong.append(f"{change}, which is {number}, was told after {last}")
                    self._last[id] = number
                self.mirror[place] = value
                return
            if value is not None or self.mirror.pop(place, None) is None:
                self.wrong.append(f"{change} of what was not there")
            if kind == "gone" or not any(owner == id for owner, _ in self.mirror):
                self._last.pop(id, None)  # if it is forgotten, it may be told of again from the beginning

    def differences(self) -> list[str]:
        """What is wrong with the mirror or was wrong with the changes, now that all have been told."""
        state = state_of(self.node, self._prefix, self._peer)
        with self.lock:
            mirror, wrong = dict(self.mirror), list(self.wrong)
        if mirror != state:
            places = sorted(place for place in mirror.keys() | state.keys() if mirror.get(place) != state.get(place))
            wrong += [f"{place} is {state.get(place)}, and was told as {mirror.get(place)}" for place in places[:5]]
        return [f"{self!r}: {what}" for what in wrong]
