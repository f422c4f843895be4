"""The journal: events of a node as records, and records as lines for people.

A record is an object with `time`, `event` and what the event is about: `peer`, `address`, `key`, `value`, or `error`, `text`
and `advice`. A message, which only `localtest` tells of, has `peer` and `about`: the peers or keys in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from gossipmonger import (
    ClusterError,
    DuplicateError,
    Gossipmonger,
    LonelyError,
    RemotePeer,
    SendError,
)
from gossipmonger.cli.output import Output, name, value_text
from gossipmonger.errors import at, words

__all__ = ["EVENTS", "Journal", "advice", "line", "stamp"]

#: The events that are told, in the order of a node's life.
EVENTS = ("new peer", "peer live", "peer dead", "peer left", "peer forgotten", "update", "delete", "error")

#: What each means, as colours go.
_MEANINGS = {"new peer": "live", "peer live": "live", "peer dead": "dead", "peer left": "left", "error": "error"}

#: Peers that are remembered to be unreachable.
_MAX_UNREACHABLE = 10_000

#: Columns of an event's name.
_WIDE = max(map(len, EVENTS))


def stamp() -> str:
    """Return the time in UTC, to the millisecond, as RFC 3339 has it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """Turns the events of a node into records, and hands each to whoever has asked for it.

    Records are handed over on the thread that runs the node's handlers, in the order of the events. That a peer cannot be
    reached is told once, until it has come back.

    Args:
        node: The node.
    """

    def __init__(self, node: Gossipmonger) -> None:
        self._takers: tuple[Callable[[dict[str, Any]], object], ...] = ()  # always replaced as a whole
        self._takers_lock = threading.Lock()  # held by who replaces it
        self._unreachable: dict[str, None] = {}  # ids of peers of which it has been told that they cannot be reached
        node.on("update", lambda peer, key, value: self._tell("update", peer=peer, key=key, value=value))
        node.on("delete", lambda peer, key: self._tell("delete", peer=peer, key=key))
        node.on("new peer", lambda peer: self._tell_peer("new peer", peer))
        node.on("peer live", lambda peer: self._tell_peer("peer live", peer))
        node.on("peer dead", lambda peer: self._tell_peer("peer dead", peer))
        node.on("peer left", lambda peer: self._tell_peer("peer left", peer))
        node.on("peer forgotten", lambda peer: self._tell_peer("peer forgotten", peer))
        node.on("error", self._tell_error)

    def follow(self, taker: Callable[[dict[str, Any]], object]) -> Callable[[], None]:
        """Hand each record to a function from now on; return what ends that. The function should neither block nor raise."""
        with self._takers_lock:
            self._takers += (taker,)

        def end() -> None:
            with self._takers_lock:
                self._takers = tuple(each for each in self._takers if each is not taker)

        return end

    def _tell(self, event: str, **about: Any) -> None:
        record = {"time": stamp(), "event": event, **about}
        for taker in self._takers:
            taker(record)

    def _tell_peer(self, event: str, peer: RemotePeer) -> None:
        self._unreachable.pop(peer.id, None)
        self._tell(event, peer=peer.id, address=at(peer.transport))

    def _tell_error(self, error: Exception) -> None:
        if isinstance(error, SendError) and isinstance(error.remote_peer, RemotePeer):
            id = error.remote_peer.id
            if id in self._unreachable:
                return  # each round fails to reach it; that it is live again will be told
            self._unreachable[id] = None
            if len(self._unreachable) > _MAX_UNREACHABLE:
                del self._unreachable[next(iter(self._unreachable))]
        hint = advice(error)
        self._tell("error", error=type(error).__name__, text=words(error), **({"advice": hint} if hint else {}))


def advice(error: BaseException) -> str:
    """Return what to do about an error, in a few words; "" if its text says so, or there is nothing to do."""
    if isinstance(error, LonelyError):
        address = next(iter(error.tried), "HOST:PORT")
        return f"check the seeds, and that a firewall lets their ports through; `gossipmonger ping {address}` says more"
    if isinstance(error, DuplicateError):
        return "give each agent an --id of its own"
    if isinstance(error, ClusterError):
        return "give all agents the same --cluster, or take this address out of the seeds"
    return ""


def line(record: Mapping[str, Any], output: Output, prefix: str = "") -> str:
    """Return a record as a line for people, safe to print."""
    event = str(record.get("event"))
    clock = str(record.get("time", ""))[11:23]
    head = f"{output.paint(clock, 'dim')}  {prefix}{output.paint(event.ljust(_WIDE), _MEANINGS.get(event, ''))}"
    return f"{head}  {' '.join(_about(record))}".rstrip()


def _about(record: Mapping[str, Any]) -> Iterator[str]:
    if "about" in record:  # a message
        yield f"{'to  ' if str(record.get('event')).endswith('send') else 'from'} {name(str(record['peer']))}:"
        yield ", ".join(name(str(each)) for each in record["about"]) or "nothing"
    elif "peer" in record:
        yield name(str(record["peer"]))
    if "address" in record:
        yield f"at {record['address']}"
    if "key" in record:
        yield name(str(record["key"]))
    if "value" in record:
        yield f"= {value_text(record['value'])}"
    if "text" in record:
        yield f"{record.get('error')}: {record['text']}"
    if record.get("advice"):
        yield f"({record['advice']})"
