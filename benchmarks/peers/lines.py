"""What the node programs in Python have in common: how they read commands and say what happened. See `benchmarks.peers`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Updates", "commands", "fill", "say"]


def say(event: str, at: float | None = None, **more: Any) -> None:
    """Say it, in one write, so that threads don't get into each other's lines."""
    line = json.dumps({"at": time.time() if at is None else at, "event": event, **more}) + "\n"
    os.write(1, line.encode())


def commands() -> Iterator[dict[str, Any]]:
    """What is to be done, until the end of stdin or the word to quit."""
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "quit":
            return
        yield command


def fill(command: dict[str, Any], update: Callable[[str, str], Any]) -> None:
    """Set many keys at once."""
    at = time.time()
    for number in range(command["count"]):
        update(f"{command['name']}/{command['count']}/{number}", "v")
    say("filled", at, name=command["name"])


class Updates:
    """Tells of single updates, and of many that were made at once when the last of them is there."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], int] = {}

    def __call__(self, id: str, key: str, value: Any) -> None:
        name, _, rest = key.partition("/")
        if not rest:
            say("update", id=id, key=key, value=value)
            return
        seen = self.seen[id, name] = self.seen.get((id, name), 0) + 1
        if seen == int(rest.partition("/")[0]):
            say("has", id=id, name=name)
