"""A simulated network that carries messages in pieces, each by itself, as datagrams are: some are lost, some come too early."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from gossipmonger.transport import messages
from gossipmonger.transport.compression import inflate
from gossipmonger.transport.simulated import Network


def send_in_pieces(network: Network, chance: Random, whole: Callable[[str], bool]) -> None:
    """Let most messages be cut, but for those from or to a host that is to get them `whole`."""
    send = network.send

    def send_pieces(source: str, host: str, data: bytes) -> None:
        if whole(source) or whole(host) or chance.random() < 0.2:
            send(source, host, data)
            return
        for piece in _pieces(json.loads(inflate(data, messages.MAX_MESSAGE_SIZE)), chance.randint(1, 3)):
            send(source, host, json.dumps(piece).encode())

    network.send = send_pieces  # type: ignore[method-assign]


def _pieces(message: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    sender, deltas, digest = message["sender"], message.get("deltas", []), message.get("digest")
    for start in range(0, len(deltas), size):
        yield {"deltas": deltas[start : start + size], "sender": sender}
    if digest is None:
        return
    own = [entry for entry in digest if entry["id"] == sender["id"]]
    others = [entry for entry in digest if entry["id"] != sender["id"]]
    if len(others) > size:
        own = [{**entry, "part": True} for entry in own]
    for start in range(0, len(others) or 1, size):
        yield {"digest": others[start : start + size] + own, "sender": sender}
