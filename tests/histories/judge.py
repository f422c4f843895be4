"""The judge: knows what every owner did, hears what every replica saw, and says when a promise was broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from gossipmonger.errors import LonelyError


class Wrong(AssertionError):
    """A promise was broken."""


class Judge:
    """Judges the events of all replicas.

    Every value is a number that is issued once, so a value tells when it was set.

    Args:
        clock: Returns the true time, in milliseconds.

    Attributes:
        truth: owner -> key -> value: what every owner's data are.
        exempt: Owners whose replicas are not judged before everything has healed.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self.truth: dict[str, dict[str, int]] = {}
        self.exempt: set[str] = set()
        self._moment = 0
        self._until: dict[int, float] = {}  # values with a ttl -> before when no replica may hide them; it may show them again
        self._fleeting: dict[tuple[str, str], int] = {}  # owner, key -> the latest such value
        self._ended: dict[tuple[str, str], int] = {}  # owner, key -> the last moment when it ceased to be there
        self._seen: dict[tuple[str, str, str], int] = {}  # replica, owner, key -> the latest value seen there
        self._gone: set[tuple[str, str, str]] = set()  # what was seen to go after its latest value

    # What owners did

    def set(self, owner: str, key: str, ttl: float | None = None) -> int:
        """Note that an owner sets a key, and return the value that it sets."""
        self._moment += 1
        if ttl is not None:
            self._fleeting[owner, key] = self._moment
            self.lasts(self._moment, ttl)
        self.truth[owner][key] = self._moment
        return self._moment

    def lasts(self, value: int, ttl: float) -> None:
        """Note that a value was given a ttl, maybe another one than before."""
        self._until[value] = min(self._until.get(value, math.inf), self._clock() + ttl * 1000)

    def deleted(self, owner: str, key: str) -> None:
        """Note that an owner deleted a key."""
        self._moment += 1
        self._ended[owner, key] = self._moment
        self.truth[owner].pop(key, None)

    def kept(self, owner: str, data: Mapping[str, int]) -> None:
        """Note that an owner began another life, with these data of its former one."""
        for key in self.truth[owner].keys() - data.keys():
            self.deleted(owner, key)
        self.truth[owner] = dict(data)

    # What replicas saw

    def saw(self, replica: str, event: str, args: tuple[Any, ...]) -> None:
        """Judge an event. If an owner tells that its own key is gone, then its ttl has passed.

        Raises:
            Wrong: It broke a promise, or it is an `error`.
        """
        if event == "update":
            self._saw_update(replica, *args)
        elif event == "delete" and replica == args[0]:
            if args[1] not in self.truth[replica] or self._is_early(self.truth[replica][args[1]]):
                raise Wrong(f"{replica}'s own {args[1]} is gone, though its ttl has not passed")
            self.deleted(*args)
        elif event == "delete":
            self._saw_delete(replica, *args)
        elif event == "peer forgotten":
            self.forgot(replica, args[0].id)
        elif event == "error" and not isinstance(args[0], LonelyError):  # that a seed is not there is no wrong
            raise Wrong(f"{replica} had an error: {args[0]!r}") from args[0]

    def _saw_update(self, replica: str, owner: str, key: str, value: int) -> None:
        if owner in self.exempt:
            return
        last = self._seen.get((replica, owner, key), 0)
        if value < last or (value == last and value not in self._until and (replica, owner, key) in self._gone):
            raise Wrong(f"{owner}'s {key}={value} is back at {replica}, which had {last}")
        self._seen[replica, owner, key] = value
        self._gone.discard((replica, owner, key))

    def _saw_delete(self, replica: str, owner: str, key: str) -> None:
        if owner in self.exempt:
            return
        last = self._seen.get((replica, owner, key), 0)  # 0 if what came and went in one message was told as gone
        latest = self._fleeting.get((owner, key), -1)  # a later value may have come when its ttl was over
        if self._ended.get((owner, key), -1) < last and (latest < last or (latest == last and self._is_early(last))):
            raise Wrong(f"{owner}'s {key}={last} vanished at {replica}, though it lives on at its owner")
        self._gone.add((replica, owner, key))

    def _is_early(self, value: int) -> bool:
        """Whether it is too early for a value to vanish."""
        return self._clock() < self._until.get(value, math.inf) - 0.01  # clocks are floating point

    def forgot(self, replica: str, owner: str | None = None) -> None:
        """Note that a replica forgot an owner, or all: it may learn again, from the beginning, what there is to know."""
        for seen in [seen for seen in self._seen if seen[0] == replica and owner in (None, seen[1])]:
            del self._seen[seen]
            self._gone.discard(seen)

    def restored(self, replica: str, views: Mapping[str, Mapping[str, int]]) -> None:
        """Note that a replica goes on from a storage that holds these views of all owners."""
        self.forgot(replica)
        for owner, view in views.items():
            for key, value in view.items():
                self._seen[replica, owner, key] = value
