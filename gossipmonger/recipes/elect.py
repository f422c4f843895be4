"""Which node leads, as a hint: the one that has stood longest of those that are live.

    node.update("standing", node.options.clock())  # since when, in milliseconds; before it gossips

    if elect(node.values("standing")) == node.local_peer.id:
        tidy_up()

It needs no keys but that one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["elect"]


def elect(ids: Mapping[str, Any]) -> str | None:
    """Return the id that stands longest, or None if nobody stands.

    Whoever may lead says since when, once in each of its lives, and withdraws by deleting that key. A newcomer therefore
    replaces no leader, and a leader that restarts goes to the end of the line. Nodes that agree on who is live, and since when
    each stands, elect the same.

    **This is not a lock.** For some seconds after a death, in a partition, or before news has spread, two nodes may each
    believe that they lead. Use it to save work that would do no harm if it were done twice; for anything else, use a lock
    service. A node whose clock is behind seems to have stood longer than it has.

    Args:
        ids: Since when each candidate stands, as id -> a number, such as milliseconds since the epoch: what
            `node.values("standing")` returns for the live nodes. Of two that stand equally long, the lower id leads. What is
            not a number does not stand.

    Raises:
        TypeError: `ids` is not a mapping: ids alone do not tell who is older.
    """
    if not isinstance(ids, Mapping):
        raise TypeError(f'ids must be a mapping, id -> since when, such as node.values("standing"), got {ids!r}')
    standing = [(since, id) for id, since in ids.items() if _is_number(since)]
    return min(standing)[1] if standing else None


def _is_number(since: object) -> bool:
    return type(since) is int or (type(since) is float and math.isfinite(since))
