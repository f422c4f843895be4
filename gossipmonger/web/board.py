"""The board: what the page shows of a node's cluster, in the order in which it changed.

Everything on it has a number, which is that of its last change. Whoever reads says up to where it has read, and gets what has a
higher number, as it is now. So a reader has no queue: what a slow one missed gives way to what is newer, and one that has gone
costs nothing.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from gossipmonger import Change, Gossipmonger, RemotePeer, SendError, __version__
from gossipmonger.errors import GossipmongerError, at, report, words

__all__ = ["Board", "preview", "row"]

#: Keys that are shown: those that changed last. With 250 bytes each, a browser has a megabyte to read at first.
MAX_KEYS = 5_000

#: Events that are shown, of peers and errors, and as many again of keys.
MAX_EVENTS = 200

#: Characters of a value that are shown; `/v1/keys/K` has all.
MAX_TEXT = 200

#: Characters of an error that are shown.
MAX_ERROR = 500

#: Values of phi of each peer that are shown as a line: a minute's worth.
MAX_PHIS = 60

#: Seconds from one look at the peers to the next, at least.
_PAUSE = 1.0

#: The pause is so many times what the look took, at least. A look copies all values, and should cost a fiftieth of a core.
_SHARE = 50

#: What phi is at most, here: beyond that, it tells nothing more, and JSON has no infinity.
_MAX_PHI = 999.0

#: Seconds that `close` waits for a look that is under way.
_CLOSE_TIMEOUT = 2.0

_Key = tuple[str, str]


def row(peer: Any, local: bool) -> dict[str, Any]:
    """Return what is shown of a peer; `heard` is in seconds, None if it never was."""
    return {
        "id": peer.id,
        "state": peer.state,
        "address": at(peer.transport),
        "heard": None if peer.last_heard is None else round(peer.age, 1),
        "phi": round(min(peer.phi, _MAX_PHI), 2),
        "keys": len(peer.data),
        "local": local,
    }


def preview(value: Any) -> tuple[str, bool]:
    """Return a value as JSON, and whether it was cut. It costs no more than what is shown."""
    if isinstance(value, str):
        text = json.dumps(value[: MAX_TEXT + 1], ensure_ascii=False)
    else:
        chunks: list[str] = []
        length = 0
        for chunk in json.JSONEncoder(ensure_ascii=False).iterencode(value):
            chunks.append(chunk)
            length += len(chunk)
            if length > MAX_TEXT:
                break
        text = "".join(chunks)
    return (text[:MAX_TEXT], True) if len(text) > MAX_TEXT else (text, False)


class Board:
    """Follows a node. It looks at the peers now and then on a thread of its own, and is told of keys and events as they change.

    Args:
        node: The node.

    Attributes:
        life: A random name. Numbers of another board mean nothing here.
    """

    def __init__(self, node: Gossipmonger) -> None:
        self.life: str = secrets.token_hex(4)
        self._node = node
        self._began = self._now()
        self._changed = threading.Condition()  # its lock guards what follows, and it tells that the number has risen
        self._number = 0
        self._peers: list[dict[str, Any]] = []
        self._peers_number = 0
        self._ids: set[str] = set()
        self._phis: dict[str, deque[float]] = {}
        self._keys: OrderedDict[_Key, tuple[int, dict[str, Any]]] = OrderedDict()
        self._happened: dict[str, deque[tuple[int, dict[str, Any]]]] = {
            "peers": deque(maxlen=MAX_EVENTS),
            "keys": deque(maxlen=MAX_EVENTS),
        }
        self._closed = False

        self._watch = node.watch("")
        for change in iter(lambda: self._watch.next(0), None):  # what there is: nobody knows since when
            self._take(change, replayed=True)
        self.look()
        self._handlers: list[tuple[Any, Callable[..., object]]] = [
            ("error", self._tell_error),
            *((name, self._teller(name)) for name in ("new peer", "peer live", "peer dead", "peer left", "peer forgotten")),
        ]
        for name, handler in self._handlers:
            node.on(name, handler)
        self._watch(self._take)
        # A daemon, since a program that ends without closing this has no need of it.
        self._thread = threading.Thread(target=self._follow, name="gossipmonger-web-board", daemon=True)
        self._thread.start()

    # What is told

    def about(self) -> dict[str, Any]:
        """Return what does not change."""
        options = self._node.options
        return {
            "id": self._node.local_peer.id,
            "cluster": options.cluster,
            "version": __version__,
            "dead_phi": options.dead_peer_phi,
            "began": self._began,
            "max_keys": MAX_KEYS,
            "max_events": MAX_EVENTS,
        }

    def news(self, number: int | None, timeout: float) -> tuple[int, dict[str, Any]] | None:
        """Return what is newer than a number, and the number that this is up to.

        Args:
            number: Up to where the caller has read; None for everything, which comes at once.
            timeout: Seconds to wait for something.

        Returns:
            None if nothing came, or if this has been closed.
        """
        with self._changed:
            known = 0 if number is None else min(number, self._number)
            if number is not None:
                self._changed.wait_for(lambda: self._closed or self._number > known, timeout)
            if self._closed or (number is not None and self._number <= known):
                return None
            told: dict[str, Any] = {"time": self._now()}
            if number is None:
                told.update(node=self.about(), phis={id: [*phis] for id, phis in self._phis.items()})
            if self._peers_number > known:
                told["peers"] = self._peers
            told["keys"] = [each for each in _newer(self._keys.values(), known) if number is not None or "removed" not in each]
            told["events"] = [each for events in self._happened.values() for each in _newer(events, known)]
            return self._number, told

    # What is followed

    def _follow(self) -> None:
        pause = _PAUSE
        while not self._wait(pause):
            began = monotonic()
            try:
                self.look()
            except GossipmongerError:  # this is a forked child's copy
                return
            except Exception as error:  # the storage's; there may be more to see later
                report(error)
            pause = max(_PAUSE, _SHARE * (monotonic() - began))

    def _wait(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, seconds)

    def look(self) -> None:
        """Look at the peers, as the thread does each second."""
        self.show(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Return what is to be shown of the peers now."""
        local = self._node.local_peer.id
        return [row(peer, peer.id == local) for peer in self._node.peers().values()]

    def show(self, rows: list[dict[str, Any]]) -> None:
        """Show these peers."""
        ids = {each["id"] for each in rows}
        with self._changed:
            self._peers = rows
            self._peers_number = self._next()
            for each in rows:
                self._phis.setdefault(each["id"], deque(maxlen=MAX_PHIS)).append(each["phi"])
            for id in self._phis.keys() - ids:
                del self._phis[id]
            if not self._ids <= ids:
                for key in [key for key in self._keys if key[0] not in ids]:
                    self._put(key, {"removed": True})
            self._ids = ids
            self._changed.notify_all()

    def _take(self, change: Change, replayed: bool = False) -> None:
        """Take a change of a key, on the thread of the watch."""
        key = (change.peer_id, change.key)
        text, cut = preview(change.value)
        with self._changed:
            _, old = self._keys.get(key, (0, {}))
            if change.kind == "set":
                same = "gone" in old and (old["text"], old["cut"]) == (text, cut)  # its peer is back
                when = old["time"] if same else None if replayed else self._now()
                self._put(key, {"text": text, "cut": cut, "time": when})
                if not (same or replayed):
                    self._tell("keys", {"event": "update", "peer": change.peer_id, "key": change.key, "text": text})
            elif change.kind == "gone" and "text" in old and change.peer_id in self._ids:
                self._put(key, {**old, "gone": True})
            elif old:
                self._put(key, {"removed": True})
            if change.kind == "delete":
                self._tell("keys", {"event": "delete", "peer": change.peer_id, "key": change.key})
            self._changed.notify_all()

    def _teller(self, name: str) -> Callable[[RemotePeer], None]:
        return lambda peer: self._tell("peers", {"event": name, "peer": peer.id, "text": at(peer.transport)})

    def _tell_error(self, error: Exception) -> None:
        peer = error.remote_peer if isinstance(error, SendError) else None
        about = {"peer": peer.id} if isinstance(peer, RemotePeer) else {}
        self._tell("peers", {"event": "error", **about, "text": f"{type(error).__name__}: {words(error)}"[:MAX_ERROR]})

    def _tell(self, kind: str, event: Mapping[str, Any]) -> None:
        """Put an event on the board. An error that is there already moves up, with how often it came: each round may fail."""
        with self._changed:
            events = self._happened[kind]
            times = 1
            if event["event"] == "error":
                for old in reversed(events):
                    if event.items() <= old[1].items():
                        times = old[1]["times"] + 1
                        events.remove(old)
                        break
            number = self._next()
            events.append((number, {"number": number, "time": self._now(), **event, "times": times}))
            self._changed.notify_all()

    def _put(self, key: _Key, shown: Mapping[str, Any]) -> None:
        self._keys[key] = (self._next(), {"peer": key[0], "key": key[1], **shown})
        self._keys.move_to_end(key)
        if len(self._keys) > MAX_KEYS:
            self._keys.popitem(last=False)

    def _now(self) -> int:
        """Milliseconds since the epoch, by the node's clock."""
        return round(self._node.options.clock())

    def _next(self) -> int:
        self._number += 1
        return self._number

    def close(self) -> None:
        """Follow no more. Whoever waits for news gets none."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for name, handler in self._handlers:
            with suppress(KeyError):
                self._node.remove_listener(name, handler)
        self._handlers.clear()
        self._watch.cancel()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_TIMEOUT)


def _newer(numbered: Iterable[tuple[int, dict[str, Any]]], known: int) -> list[dict[str, Any]]:
    """Return what is newer, oldest first."""
    found: list[dict[str, Any]] = []
    for number, each in reversed(numbered):  # type: ignore[call-overload]  # a deque, or the values of an OrderedDict
        if number <= known:
            break
        found.append(each)
    return found[::-1]
