"""What goes wrong, and under which name.

```
GossipmongerError
├── MessageError      something from the network was malformed, too large or too slow
├── SendError         a message could not be handed to a peer
├── OverflowedError   handlers are slower than events come; some were dropped
├── DuplicateError    another live process has this node's id
└── ClosedError       the endpoint or transport was closed before it was used
```

Bad arguments are plain `TypeError` and `ValueError`, raised where they were passed. The classes here arrive as `error`
events, apart from `ClosedError`, which is raised.
"""

from __future__ import annotations

import threading
from contextlib import suppress

__all__ = ["ClosedError", "DuplicateError", "GossipmongerError", "MessageError", "OverflowedError", "SendError", "report"]


class GossipmongerError(Exception):
    """The base of every error of this package that is not a bad argument."""


class MessageError(GossipmongerError):
    """A message was refused; nothing of it was applied.

    Attributes:
        source: Where it came from, as the transport knows it: an address, or a peer's id.
    """

    def __init__(self, reason: str, source: object = None) -> None:
        super().__init__(reason if source is None else f"message from {source} refused: {reason}")
        self.source = source


class SendError(GossipmongerError):
    """A message could not be sent; its `__cause__`, if any, is the operating system's word on it.

    Gossip repairs a lost message by itself, so this is news and not an alarm: a dead peer is one for as long as it is
    dead.

    Attributes:
        remote_peer: The `RemotePeer` it was meant for.
    """

    def __init__(self, reason: str, remote_peer: object = None) -> None:
        super().__init__(reason)
        self.remote_peer = remote_peer


class OverflowedError(GossipmongerError):
    """Handlers were slower than the events that came, for so long that some were dropped.

    Attributes:
        dropped: How many. Never an `update` or a `delete`: those wait, one for each key.
    """

    def __init__(self, dropped: int) -> None:
        super().__init__(f"{dropped} events were dropped: handlers are slower than the events that come")
        self.dropped = dropped


class DuplicateError(GossipmongerError):
    """Another live process has this node's id: others hear two nodes as one, and each sees the other's state for its own.

    Emitted at most once a minute, for as long as it is so.

    Attributes:
        id: The id that both have.
    """

    def __init__(self, id: str) -> None:
        super().__init__(f"another live process has the id {id!r} too: ids belong to one process at a time")
        self.id = id


class ClosedError(GossipmongerError):
    """The endpoint or transport has been closed, and what is closed stays closed."""


def report(error: BaseException) -> None:
    """Hand an error that nobody listens for to `threading.excepthook`, which a program's crash reporting watches.

    It raises nothing, whatever the hook does and wherever stderr leads: its callers are loops that have to go on.
    """
    with suppress(BaseException):
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread())))
