"""A map that all nodes share: the last write of a key wins, and every node keeps it.

    flags = SharedMap(node, "flags")
    flags["dark"] = True                # at any node
    flags.get("dark", False)            # at all nodes

Every write has a stamp: the clock's microseconds, but above every stamp that the writer has seen. This is a hybrid logical
clock (Kulkarni and others, 2014), with both parts in one number. So a write that follows another, because its writer knew of
that, wins over it however wrong the clocks are. Of writes that knew nothing of each other, the later by the clocks wins; of
equal stamps, that of the higher id.

Each node has a key for each key of the map, `map:NAME/KEY`, which holds `[stamp, writer, value]`, or `[stamp, writer]` if the
key was deleted. A node that hears of a higher stamp adopts the entry as its own. All entries of a key are in one order, which
is the same at all nodes, and nobody replaces an entry by a lower one; so nodes that hear of each other end with the same.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from copy import deepcopy
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from gossipmonger import MIN_TTL, Change, ClosedError, Gossipmonger, Watch
from gossipmonger.recipes._recipe import Recipe, Turns, check_function, check_string

__all__ = ["SharedMap"]

#: A stamp above this is ignored, by all nodes alike: the year 2112, in microseconds. So there is always room above.
_LAST_STAMP = 2**52

#: The value of a key that was deleted.
_GONE: Any = object()


class _Entry(NamedTuple):
    stamp: int
    writer: str
    value: Any

    @classmethod
    def read(cls, value: Any) -> _Entry | None:
        """Return the entry that a key of a node holds; None if it is something else."""
        if type(value) is not list or len(value) not in (2, 3):
            return None
        stamp, writer = value[:2]
        if type(stamp) is not int or type(writer) is not str or not 0 <= stamp <= _LAST_STAMP:
            return None
        return cls(stamp, writer, value[2] if len(value) == 3 else _GONE)

    def write(self) -> list[Any]:
        return [self.stamp, self.writer] + ([] if self.value is _GONE else [self.value])

    def beats(self, other: _Entry | None) -> bool:
        """Whether this entry takes the other's place: the order is the same at all nodes, and total."""
        if other is None or self[:2] != other[:2]:
            return other is None or self[:2] > other[:2]
        return self._text() > other._text()  # two lives of one id, between which its clock was set back

    def _text(self) -> str:
        return json.dumps(self.write(), sort_keys=True)


class SharedMap(Recipe, MutableMapping[str, Any]):
    """A mapping of strings to JSON values that has the same content at all nodes, as soon as they have heard of each other.

    It is a `MutableMapping`: `flags[key]`, `flags[key] = value`, `del flags[key]`, `get`, `items`, `update`, `len` and so on.
    What it returns are copies. Reading takes no lock and no network, so it may be done for each request. Any thread and any
    handler may use it. What this node has written, it reads at once. An observer reads it, and cannot write.

    Limits:

    * The last write of a key wins, and what it replaces is gone. Nothing is read and written in one step across nodes, so it
      is no place for counters or locks: give each node a key of its own.
    * Every node keeps every key, and every write is repeated by every node: N nodes send N updates for each. That suits some
      hundred keys that change some times a minute, at up to some dozen nodes.
    * At the start it is empty, until the first news come. So do not write defaults there, which would win over what others
      have: read with `get(key, default)`.
    * A node that was away for longer than `keep_deleted` brings back what was deleted meanwhile.
    * A write that no other node has heard of before its writer's end is lost.

    Args:
        node: The node, started or not.
        name: Which map; nodes share it if they call it the same. A node has one of each name.
        keep_deleted: Seconds, or a `timedelta`, for which it is remembered that a key was deleted. By default that is a day,
            after which nodes forget dead peers too.

    Raises:
        ClosedError: The node has been closed.
        TypeError, ValueError: An argument is of the wrong type or out of range, or the name is in use at this node.
    """

    def __init__(self, node: Gossipmonger, name: str = "shared", *, keep_deleted: float | timedelta = 86_400.0) -> None:
        super().__init__(node, "map", name, keep_deleted=keep_deleted)
        self._entries: dict[str, _Entry] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()  # keys of tombstones, the next to expire first, nearly
        self._last_stamp = 0
        self._turns = Turns(node)
        self._observes: bool = node.options.observer  # and so reads, and keeps nothing at the node
        node.on("update", self._updated)  # first this, and then what there is: what happens meanwhile may come twice
        for peer in node.peers().values():
            for key, value in peer.data.items():
                self._updated(peer.id, key, value)

    def _let_go(self) -> None:
        self._off("update", self._updated)

    # Reading

    def __getitem__(self, key: str) -> Any:
        """Return a copy of the value; raises KeyError if there is none."""
        value = self._value(key)
        if value is _GONE:
            raise KeyError(key)
        return deepcopy(value)

    def __contains__(self, key: object) -> bool:
        """Whether there is a value."""
        return self._value(key) is not _GONE

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys that there are now."""
        return iter([key for key, entry in [*self._entries.items()] if entry.value is not _GONE])

    def __len__(self) -> int:
        """Return how many keys there are."""
        return sum(entry.value is not _GONE for entry in [*self._entries.values()])

    def copy(self) -> dict[str, Any]:
        """Return a dict of what is there now."""
        return {key: deepcopy(entry.value) for key, entry in [*self._entries.items()] if entry.value is not _GONE}

    def items(self) -> ItemsView[str, Any]:
        """Return the keys and values that there are now."""
        return self.copy().items()

    def values(self) -> ValuesView[Any]:
        """Return the values that there are now."""
        return self.copy().values()

    def _value(self, key: Any) -> Any:
        entry = self._entries.get(key)
        return _GONE if entry is None else entry.value

    # Writing

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a key, here and at all nodes.

        Raises:
            ClosedError: The map or the node has been closed.
            TypeError, ValueError: The key is not a string, JSON has no form for the value, or no message has room for it.
        """
        self._check_open("set")
        check_string("key", key)
        self._turns.take(partial(self._write, key, value))

    def __delitem__(self, key: str) -> None:
        """Delete a key, here and at all nodes; raises KeyError if there is none, otherwise as for setting one."""
        self._check_open("delete")
        if key not in self:
            raise KeyError(key)
        self._turns.take(partial(self._write, key, _GONE))

    def _write(self, key: str, value: Any) -> None:
        stamp = max(self._last_stamp + 1, int(self.node.options.clock() * 1000))
        self._adopt(key, _Entry(stamp, self._id, value), True)

    # Adopting

    def _updated(self, peer_id: str, key: str, value: Any) -> None:
        """Take what a node has, this one included, when the map begins."""
        if not key.startswith(self._prefix) or self._closed:
            return
        entry = _Entry.read(value)
        if entry is not None:
            self._turns.take(partial(self._hear, key[len(self._prefix) :], entry))

    def _hear(self, key: str, entry: _Entry) -> None:
        self._last_stamp = max(self._last_stamp, entry.stamp)
        if not entry.beats(self._entries.get(key)):
            return
        try:
            self._adopt(key, entry, not self._observes)
        except ClosedError:  # the node is, just now
            pass

    def _adopt(self, key: str, entry: _Entry, publish: bool) -> None:
        """Make an entry this node's own: first at the node, which may refuse it."""
        if publish:
            self._publish(self._prefix + key, entry)
        if entry.value is _GONE:
            self._deleted[key] = None
            self._deleted.move_to_end(key)
        else:
            entry = entry._replace(value=json.loads(json.dumps(entry.value)))  # a copy, in the types that others read
            self._deleted.pop(key, None)
        self._last_stamp = max(self._last_stamp, entry.stamp)
        self._entries[key] = entry
        self._forget_deleted()

    def _publish(self, key: str, entry: _Entry) -> None:
        left = self._lasting - max(0.0, self.node.options.clock() - entry.stamp / 1000) / 1000
        if entry.value is not _GONE:
            self.node.update(key, entry.write())
        elif left >= MIN_TTL:
            self._put(key, entry.write(), left)
        else:
            self.node.delete(key)

    def _forget_deleted(self) -> None:
        """Forget tombstones that have expired, which the node does by itself."""
        before = self.node.options.clock() * 1000 - self._lasting * 1_000_000
        while self._deleted and self._entries[key := next(iter(self._deleted))].stamp <= before:
            del self._deleted[key], self._entries[key]

    # Following

    def watch(self, handler: Callable[[Change], object]) -> Watch:
        """Follow the map: a handler is told what there is, and then what changes. Also as a decorator.

        Args:
            handler: Called with a `Change` for each write that wins: `key` and `value` are those of the map, `peer_id` is who
                wrote it, and `kind` is "set" or "delete". It is called and ended as by `Gossipmonger.watch`.

        Returns:
            The watch; its `cancel` ends it.

        Raises:
            ClosedError: The map or the node has been closed.
            RuntimeError: The system cannot start a thread.
            TypeError: The handler cannot be called.
        """
        self._check_open("watch")
        told: dict[str, _Entry] = {}

        def changed(change: Change) -> object:
            entry, key = _Entry.read(change.value), change.key[len(self._prefix) :]
            if entry is None or not entry.beats(told.get(key)):
                return None  # gone with its node, or expired, or another node's copy
            was_there = key in told and told[key].value is not _GONE
            told[key] = entry
            if entry.value is not _GONE:
                return handler(Change(entry.writer, key, entry.value, "set"))
            if not self._observes:  # of which all nodes would tell again
                del told[key]
            return handler(Change(entry.writer, key, None, "delete")) if was_there else None

        check_function("handler", handler)
        return self._follow(self._prefix, changed, None if self._observes else self._id)
