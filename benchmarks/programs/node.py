"""One node of ours, listening, that does not gossip. It counts the messages that it has handled."""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarks.programs.lines import CONFIG, serve
from gossipmonger import Gossipmonger

# The version is the original's at its start, so that one digest is in sync with both.
node = Gossipmonger({"id": "node", "transport": {"host": "127.0.0.1", "port": CONFIG["port"]}, "maxVersionSeen": 0})
handled: list[object] = []  # appended to by several threads, which takes no lock
node.transport.on("message", handled.append)

FAST = "gossipmonger.wire.msgspec_decoder" in sys.modules


def state() -> dict[str, Any]:
    """Return the messages handled, milliseconds of CPU, and whether msgspec decodes."""
    return {"messages": len(handled), "cpu": time.process_time() * 1000, "fast": FAST}


node.transport.listen()
serve(state=state)
