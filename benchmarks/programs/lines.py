"""The other end of `Program`: takes lines from stdin, answers on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["CONFIG", "fatal", "serve"]

#: What the program was told at its start.
CONFIG: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].startswith("{") else {}


def serve(**commands: Callable[..., Any]) -> None:
    """Say that the program is ready; then call what each line names under "do" with the rest, and answer what it returns."""
    _say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        _say(commands[request.pop("do")](**request))


def fatal(error: Exception) -> None:
    """End the program, from any thread: what it measures has gone wrong."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)
