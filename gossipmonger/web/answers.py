"""Answers: what is told of a node besides the page, for programs and for `curl`."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from gossipmonger import Gossipmonger
from gossipmonger.errors import shown
from gossipmonger.web.board import Board

__all__ = ["NOT_FOUND", "Answer", "Answers"]


class Answer(NamedTuple):
    """What is answered: a status, and JSON, or bytes of another type."""

    status: int
    body: Any
    type: str = "application/json"

    def encoded(self) -> bytes:
        """Return the body as bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, allow_nan=False).encode() + b"\n"


NOT_FOUND = Answer(404, {"error": "there is /, /v1/peers, /v1/keys/KEY, /v1/events, /healthz and /metrics"})


class Answers:
    """Answers about one node. May be asked on several threads at once.

    Args:
        node: The node.
        board: Knows its peers.
    """

    def __init__(self, node: Gossipmonger, board: Board) -> None:
        self._node = node
        self._board = board
        self._registry: Any = None

    def peers(self) -> Answer:
        """Return all peers."""
        return Answer(200, {"node": self._node.local_peer.id, "peers": self._board.rows()})

    def key(self, key: str, all: bool) -> Answer:
        """Return a key's values: those of live peers, or of all."""
        values = self._node.values(key, live=not all)
        if not values:
            return Answer(404, {"error": f"no{'' if all else ' live'} peer has a key {shown(key)}"})
        return Answer(200, {"key": key, "values": values})

    def health(self) -> Answer:
        """Return whether the node runs. That nobody else is there is no illness: a restart would not cure it."""
        if self._node.closed:
            return Answer(503, {"status": "closed"})
        return Answer(200, {"status": "ok", "live": len(self._node.live())})

    def metrics(self, accept: str) -> Answer:
        """Return metrics in the form that is asked for."""
        try:
            from prometheus_client import CollectorRegistry
            from prometheus_client.exposition import choose_encoder

            from gossipmonger.metrics import Collector
        except ImportError:
            return Answer(501, {"error": "metrics need one more package: pip install 'gossipmonger[prometheus]'"})
        if self._registry is None:
            registry = CollectorRegistry()
            registry.register(Collector(self._node))
            self._registry = registry
        encode, type = choose_encoder(accept)
        return Answer(200, encode(self._registry), type)
