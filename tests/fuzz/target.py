"""The target: a node in a small cluster, to which bytes are said, and what has to be so after each."""

from __future__ import annotations

import random
import types
from collections import deque
from collections.abc import Mapping, Set
from typing import Any

from gossipmonger import Gossipmonger, wire
from gossipmonger.errors import DuplicateError, MessageError, SendError
from gossipmonger.simulation import Simulation
from gossipmonger.state import CompactDigest
from gossipmonger.wire.json_decoder import JsonDecoder
from gossipmonger.wire.msgspec_decoder import MsgspecDecoder

__all__ = ["MAX_PEERS", "Target", "frozen"]

#: Small, so that fuzzing reaches the limits.
MAX_PEERS, MAX_KEYS = 12, 6

#: Messages after which the target begins anew, so that what is found can be found again.
LIFE = 300

#: What messages may be answered with by an `error` event.
EXPECTED = (MessageError, DuplicateError, SendError, OverflowError)

by_json, by_msgspec = JsonDecoder().decode, MsgspecDecoder().decode


class Target:
    """A node, `a`, that knows `b` and `c`.

    Attributes:
        taken: Messages that it has taken.
        refused: Messages that it has refused.
    """

    def __init__(self) -> None:
        self.taken = self.refused = 0
        self._count = 0
        self._begin()

    def _begin(self) -> None:
        self._errors: list[Exception] = []
        self._sim = Simulation(seed=self._count)
        for id in "abc":
            node = self._sim.add(id, seeds=["a"], max_peers=MAX_PEERS, max_keys_per_peer=MAX_KEYS, gossip_interval=200)
            node.on("error", self._errors.append)
            node.update("k", id)
        self._sim.run(1_000)
        self._errors.clear()
        self.node: Gossipmonger = self._sim.node("a")

    def take(self, data: bytes) -> None:
        """Say these bytes to the node.

        Raises:
            AssertionError: Something is not as it has to be. So is any other exception that comes out.
        """
        self._count += 1
        if self._count % LIFE == 0:
            self._begin()
        self._agree(data)
        before = frozen([self.node._protocol, self.node.storage])
        errors = len(self._errors)
        self.node.transport.receive(data, "fuzz")
        told = self._errors[errors:]
        assert all(isinstance(error, EXPECTED) for error in told), told
        if any(str(error).startswith("message from fuzz refused: ") for error in told):
            self.refused += 1
            assert len(told) == 1
            assert frozen([self.node._protocol, self.node.storage]) == before, "a refused message has changed something"
            return
        self.taken += 1
        self._sim.run(20)
        self._check()

    def _agree(self, data: bytes) -> None:
        """Assert that both decoders make the same of a message."""
        words = ""
        try:
            text = wire.inflate(data, 1 << 20)
            slow: Any = by_json(text, "fuzz")
        except MessageError as error:
            words = str(error)
        if words:
            assert len(words) < 1_000
            assert words.isprintable()
            assert data[:1] in (b"\x48", b"\x78") or by_msgspec(data) is None
        else:
            fast = by_msgspec(text)
            assert fast is None or _plain(fast) == _plain(slow)

    def _check(self) -> None:
        for error in self._errors:
            assert isinstance(error, EXPECTED), repr(error)
        self._errors.clear()
        for id in "abc":
            node = self._sim.node(id)
            storage = node.storage
            peers = storage.live_peers() + storage.dead_peers()
            assert len(peers) <= MAX_PEERS + 1
            for peer in peers:
                peer._check()
                assert len(peer.log) <= 8 * MAX_KEYS or peer is node.local_peer
            CompactDigest(peers).encode()
            for view in node.peers().values():
                repr(view)


def _plain(message: Any) -> Any:
    entries = message.digest and [
        [
            getattr(entry, name)
            for name in ("id", "version", "transport", "heartbeat", "floor", "heard", "left", "age", "interval")
        ]
        for entry in message.digest.entries
    ]
    deltas = None if message.deltas is None else [tuple(delta) for delta in message.deltas]
    return repr((tuple(message.sender), deltas, message.digest and message.digest[:2], entries))


def frozen(value: Any, seen: dict[int, int] | None = None) -> Any:
    """Return all that an object is made of, down to numbers and texts, to be compared with what it is made of later."""
    seen = {} if seen is None else seen
    if isinstance(
        value, (str, bytes, int, float, type(None), type, types.FunctionType, types.MethodType, types.BuiltinMethodType)
    ):
        return value
    if id(value) in seen:
        return ("again", seen[id(value)])
    seen[id(value)] = len(seen)
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, Mapping):
        return [(frozen(key, seen), frozen(item, seen)) for key, item in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return [frozen(item, seen) for item in value]
    if isinstance(value, Set):
        return sorted(repr(item) for item in value)
    parts = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                parts[name] = getattr(value, name)
    return (type(value), [(name, frozen(part, seen)) for name, part in parts.items()])
