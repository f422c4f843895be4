"""A log of writes, sorted by version, in which each key has one current write.

Every write has a version above all before it, so writes are appended to a log that is sorted by construction:

    versions   3     5     6     9     12          array of 64-bit integers, bisected
    keys       a     -     c     b     d           "-" is a hole: b was written again
    values     1           x     y     z
    slots      {a: 0, c: 2, b: 3, d: 4}            where each key's one current write is
    holes      1                                   sorted

What comes after version v is a bisection and a walk; a run of holes is leapt by a second bisection. The log is rebuilt
without its holes once they are more than a quarter of it, so a write costs O(1) amortized, and a key costs one entry of a
dict and three slots of an array, whatever its history.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import Any

__all__ = ["Log"]

#: Holes that a log may have whatever its length, so that small maps are not rebuilt at every other write.
_FEW_HOLES = 32


class Log:
    """A map, key -> (value, version), that tells its writes in the order of their versions.

    Its length is the number of keys.
    """

    __slots__ = ("_holes", "_keys", "_slots", "_values", "_versions")

    def __init__(self) -> None:
        self._versions = array("q")
        self._keys: list[str | None] = []
        self._values: list[Any] = []
        self._slots: dict[str, int] = {}
        self._holes = array("l")

    def _set(self, writes: list[tuple[str, Any, int]]) -> None:
        versions = array("q", [version for _, _, version in writes])
        keys, values = [key for key, _, _ in writes], [value for _, value, _ in writes]
        slots, holes = {key: slot for slot, key in enumerate(keys)}, array("l")
        self._versions, self._keys, self._values, self._slots, self._holes = versions, [*keys], values, slots, holes

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def last(self) -> int:
        """The version of the latest write, -1 where there is none."""
        return self._versions[-1] if self._versions else -1

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`."""
        slot = self._slots.get(key)
        return default if slot is None else self._values[slot]

    def version_of(self, key: str) -> int:
        """Return the version of `key`, -1 if it is not there."""
        slot = self._slots.get(key)
        return -1 if slot is None else self._versions[slot]

    def write(self, key: str, value: Any, version: int, default: Any = None) -> Any:
        """Write `key`, in place of its earlier write, whose value it returns, or `default`; `version` must be above `last`."""
        values, slots = self._values, self._slots
        old = slots.get(key)
        self._versions.append(version)  # first of all the new write: see `mend`
        self._keys.append(key)
        values.append(value)
        slots[key] = len(values) - 1
        if old is not None:
            default = values[old]
            self._keys[old] = values[old] = None
            insort(self._holes, old)
        if old is not None and len(self._holes) > _FEW_HOLES + len(values) // 4:
            self._set(list(self.after(-1)))
        return default

    def mend(self) -> None:
        """Undo or complete a write that an exception out of a signal handler has cut short, at whatever point."""
        whole = zip(self._keys, self._values, self._versions, strict=False)
        latest = {key: (key, value, version) for key, value, version in whole if key is not None}
        self._set(sorted(latest.values(), key=itemgetter(2)))

    def after(self, version: int) -> Iterator[tuple[str, Any, int]]:
        """Iterate over the writes above `version`, as (key, value, version) in ascending version. O(log keys) to begin."""
        slot = bisect_right(self._versions, version)
        hole = bisect_left(self._holes, slot)
        holes, keys, written, versions = self._holes, self._keys, self._values, self._versions
        while slot < len(versions):
            if hole < len(holes) and holes[hole] == slot:
                # In a run of neighbouring holes, position minus index stays the same; behind it, it is higher.
                end = bisect_right(range(len(holes)), slot - hole, lo=hole, key=lambda index: holes[index] - index)
                slot, hole = slot + end - hole, end
                continue
            yield keys[slot], written[slot], versions[slot]  # type: ignore[misc]  # no hole, so it has a key
            slot += 1

    def first_after(self, version: int, limit: int | None = None) -> list[tuple[str, Any, int]]:
        """Return the first writes above `version`, at most `limit` of them, None for all, as `after` does."""
        if self._holes:
            return list(islice(self.after(version), limit))
        slot = bisect_right(self._versions, version)
        end = None if limit is None else slot + limit
        keys: list[Any] = self._keys[slot:end]
        return [*zip(keys, self._values[slot:end], self._versions[slot:end])]  # noqa: B905  # a third more with `strict`

    def count_after(self, version: int) -> int:
        """Return how many writes there are above `version`, without looking at them."""
        versions, holes = self._versions, self._holes
        if not versions or version < versions[0]:
            return len(self._slots)
        first = bisect_right(versions, version)
        count = len(versions) - first
        return count - len(holes) + bisect_left(holes, first) if holes else count

    def drop(self, version: int) -> list[tuple[str, Any]]:
        """Drop all writes at or below `version`; return their keys and values."""
        kept = self.count_after(version)
        if kept == len(self):
            return []
        dropped = [(key, value) for key, value, _ in islice(self.after(-1), len(self) - kept)]
        self._set(list(self.after(version)))
        return dropped

    def _check(self) -> None:
        """Assert what always holds between two calls."""
        assert list(self._versions) == sorted(set(self._versions))
        assert len(self._versions) == len(self._keys) == len(self._values)
        assert list(self._holes) == [slot for slot, key in enumerate(self._keys) if key is None]
        assert self._slots == {key: slot for slot, key in enumerate(self._keys) if key is not None}
