"""Messages cut into fragments, wherever a transport may cut them.

`UdpTransport` sends a long message as several datagrams: first the deltas, cut anywhere, then the digest in parts, each of
which carries the sender's own entry, marked `part`. It never cuts a rumour. A transport without `exchange` sends deltas and
digest as two messages. Either way each fragment travels by itself, so it may be lost or overtake the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from gossipmonger.transport.simulated import Network
from gossipmonger.wire import MAX_MESSAGE_SIZE, inflate


def cut(message: dict[str, Any], size: Callable[[], int]) -> list[dict[str, Any]]:
    """Return the datagrams of a message; `size` says how many deltas or entries go into the next one."""
    sender, digest = message["sender"], message.get("digest")
    found: list[dict[str, Any]] = [{"deltas": part, "sender": sender} for part in _parts(message.get("deltas", []), size)]
    if digest is not None:
        own = [entry for entry in digest if entry["id"] == sender["id"]]
        parts = _parts([entry for entry in digest if entry["id"] != sender["id"]], size) or [[]]
        if len(parts) > 1:
            own = [{**entry, "part": True} for entry in own]
        found += [{"digest": part + own, "sender": sender} for part in parts]
    return found


def _parts(items: list[Any], size: Callable[[], int]) -> list[list[Any]]:
    parts, start = [], 0
    while start < len(items):
        end = start + size()
        parts.append(items[start:end])
        start = end
    return parts


def separate(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a transport without `exchange` makes of a message: deltas and digest each by themselves."""
    return [{name: message[name], "sender": message["sender"]} for name in ("deltas", "digest") if name in message]


def is_rumor(message: dict[str, Any]) -> bool:
    """Whether the message is a rumour."""
    return any(entry.get("rumor") for entry in message.get("digest", ()))


def is_compact(message: dict[str, Any]) -> bool:
    """Whether the message's digest is a compact one."""
    return any("roll" in entry for entry in message.get("digest", ()))


def send_in_fragments(network: Network, chance: Random, whole: Callable[[str], bool]) -> None:
    """Cut most messages on a simulated network, but none from or to a host that is to get them `whole`."""
    send = network.send

    def send_fragments(source: str, host: str, data: bytes) -> None:
        if whole(source) or whole(host) or chance.random() < 0.2:
            send(source, host, data)
            return
        size = chance.randint(1, 3)
        for fragment in cut(json.loads(inflate(data, MAX_MESSAGE_SIZE)), lambda: size):
            send(source, host, json.dumps(fragment).encode())

    network.send = send_fragments  # type: ignore[method-assign]
