"""What goes wrong, and under which name; and how it is put into words, and reported where nobody listens.

```
GossipmongerError
├── MessageError      something from the network was malformed, too large or too slow
│   ├── ClusterError  it came from another cluster
│   ├── SealError     no key of this node opens it, or only one of the two nodes has keys
│   └── TlsError      a connection failed because of TLS, or its certificate names somebody else
├── SendError         a message could not be handed to a peer
├── OverflowedError   handlers are slower than events come; some were dropped
├── LonelyError       no other node was found, for ten intervals
├── DuplicateError    another live process has this node's id
├── ClosedError       the endpoint or transport was closed before it was used
├── ObserverError     an observer, which owns no state, was to change something
├── ForkedError       a forked child used its copy of what the parent had started
└── ReentrantError    a signal handler or finalizer asked for something while the call that it interrupted held the lock
```

Bad arguments are plain `TypeError` and `ValueError`, raised where they were passed. The classes here arrive as `error`
events, apart from the last four, which are raised.

The package logs under the name `gossipmonger`, by `tell` and `report`. It installs no handler, not even a `NullHandler`: in a
program that never configured `logging`, warnings and errors reach stderr, since a newcomer would otherwise meet silence.
"""

from __future__ import annotations

import copyreg
import logging
import reprlib
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from traceback import clear_frames
from typing import Any, TypeVar

__all__ = [
    "FAILURES", "REFUSALS", "ClosedError", "ClusterError", "DuplicateError", "ForkedError", "GossipmongerError", "LonelyError",
    "MessageError", "ObserverError", "OverflowedError", "ReentrantError", "Reporter", "SealError",
    "SendError", "TlsError", "at", "logs", "release", "report", "shown", "tell", "words",
]  # fmt: skip

_log = logging.getLogger("gossipmonger")

#: Characters of a text from the network that errors and logs show. A host's name has up to 253.
_MAX_SHOWN = 300

#: Errors of one class that are logged in a row, and seconds until one more is. So neither a peer that sends nonsense nor a
#: storage that fails at every step can fill a disk.
_BURST, _PAUSE = 10, 6.0

#: Addresses that the text of a `LonelyError` names.
_NAMED = 20

#: Why messages are refused, in words that are counted: it makes no sense; it is too long; it took too long; the connection
#: ended in its midst; too many connections are open; it is of another cluster; no key opens it; TLS fails; there is too little
#: memory; anything else.
REFUSALS = ("malformed", "oversized", "late", "truncated", "busy", "cluster", "sealed", "tls", "memory", "other")

#: Why messages cannot be sent: nobody listens; no answer in time; no way there; the connection broke; the name has no address;
#: the peer takes messages slower than they come; its address cannot be used; anything else.
FAILURES = ("refused", "timeout", "unreachable", "broken", "unresolved", "slow", "address", "other")

E = TypeVar("E", bound=BaseException)


class GossipmongerError(Exception):
    """The base of every error of this package, except for bad arguments. Errors can be pickled and copied."""

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # not by `__init__`


class MessageError(GossipmongerError):
    """A message was refused; nothing of it was applied.

    Attributes:
        source: Where it came from, as the transport knows it: an address, or a peer's id.
        kind: The reason in a word, one of `REFUSALS`, for whoever counts.
    """

    def __init__(self, reason: str, source: object = None, kind: str = "malformed") -> None:
        super().__init__(reason if source is None else f"message from {source} refused: {reason}")
        self.source = source
        self.kind: str = kind


class ClusterError(MessageError):
    """A node of another cluster was heard, at an address that this node dials or from which it is dialled. It is refused.

    Emitted at most once a minute for each source.

    Args:
        ours: The name of this node's cluster; None if it has none.
        theirs: The same for the other node; None also for a Node.js node, which cannot name one.
        id: The other node's id, "" if it is not known.
        where: Its address, in words.

    Attributes:
        cluster: The other node's cluster.
    """

    def __init__(self, ours: str | None, theirs: str | None, id: str, where: str) -> None:
        here = "this node has none" if ours is None else f"this node is of {shown(ours)}"
        there = "it names no cluster" if theirs is None else f"it is of the cluster {shown(theirs)}"
        reason = f"{there}, and {here}; the option `cluster` has to be the same in all nodes"
        super().__init__(reason, f"{shown(id)} at {where}" if id else where, "cluster")
        self.cluster = theirs


class SealError(MessageError):
    """A message was not opened: it is of another key, altered or not sealed, or it is sealed and this node has no keyring.

    It was not looked at any further, and nothing is answered. A node emits it at most once a minute for each host.
    """

    def __init__(self, reason: str, source: object = None) -> None:
        super().__init__(reason, source, "sealed")


class TlsError(MessageError):
    """A connection was given up because of TLS, by this side or the other, or a message on it was refused.

    A certificate is bad or names other ids, or one side has no TLS. Emitted at most once a minute for each source and reason.
    """

    def __init__(self, reason: str, source: object = None) -> None:
        super().__init__(reason if source is None else f"TLS with {source} refused: {reason}", kind="tls")
        self.source = source


class SendError(GossipmongerError):
    """A message could not be sent; its `__cause__`, if any, is the operating system's word on it.

    Gossip repairs a lost message by itself, so this is news and not an alarm: a dead peer is one for as long as it is
    dead.

    Attributes:
        remote_peer: The `RemotePeer` it was meant for.
        kind: The reason in a word, one of `FAILURES`; "" if it follows from the `__cause__`.
    """

    def __init__(self, reason: str, remote_peer: object = None, kind: str = "") -> None:
        super().__init__(reason)
        self.remote_peer = remote_peer
        self.kind: str = kind


class OverflowedError(GossipmongerError):
    """Handlers were slower than the events that came, for so long that some were dropped.

    Attributes:
        dropped: How many. Never an `update` or a `delete`: those wait, one for each key.
    """

    def __init__(self, dropped: int) -> None:
        super().__init__(f"events dropped: {dropped}; handlers are slower than the events that come")
        self.dropped = dropped


class LonelyError(GossipmongerError):
    """A node has found no other one for ten intervals, though it has seeds. Emitted once; the node keeps trying.

    Attributes:
        seconds: For how long it has tried.
        tried: Address -> what came of it.
    """

    def __init__(self, seconds: float, tried: Mapping[str, str]) -> None:
        named = [f"{address} ({outcome})" for address, outcome in [*tried.items()][:_NAMED]]
        unnamed = len(tried) - len(named)
        named += [f"{unnamed} more"] if unnamed else []
        super().__init__(f"no other node found in {seconds:.3g} s; tried {', '.join(named)}")
        self.seconds = seconds
        self.tried: dict[str, str] = dict(tried)


class DuplicateError(GossipmongerError):
    """Another live process has this node's id: others hear two nodes as one, and each sees the other's state for its own.

    Emitted at most once a minute, for as long as it is so.

    Attributes:
        id: The id that both have.
        transport: The other process's address, as it was heard; None if that is not known, or is this node's own.
    """

    def __init__(self, id: str, transport: Any = None) -> None:
        where = "" if transport is None else f", at {at(transport)}"
        super().__init__(f"another live process has the id {shown(id)} too{where}: ids belong to one process at a time")
        self.id = id
        self.transport = transport


class ClosedError(GossipmongerError):
    """The endpoint or transport has been closed, and what is closed stays closed."""


class ObserverError(GossipmongerError):
    """An observer was to change something: its node owns no keys, and tells the others nothing."""

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call}: this node is an observer, which owns no keys and tells the others nothing; "
            "for a node that takes part, leave out observer=True"
        )


class ForkedError(GossipmongerError):
    """This is a forked child's copy of something that the parent had started, and that runs in the parent alone."""

    def __init__(self, call: str, what: str) -> None:
        super().__init__(
            f"{call}: {what} was started before this process was forked, and runs in the parent alone; "
            "create it, or at least start it, after the fork"
        )


class ReentrantError(GossipmongerError):
    """A signal handler, finalizer or trace function asked for something while its thread may hold the lock that guards it.

    It interrupted another call of this package on the same thread, and no answer is possible before that call goes on. What
    changes something, such as `update`, may be called there: it is done when the interrupted call ends.
    """

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call}: can't answer here, in a signal handler, finalizer or trace function that interrupts another call of "
            "gossipmonger on the same thread, which may hold the lock; call it later or on another thread (update, delete, "
            "stop and close may be called here)"
        )


#: Errors whose words say all.
_PLAIN = (GossipmongerError, OSError)


# Words


class _Shortener(reprlib.Repr):
    """Shows enough of a text to know it by, and of anything else what `reprlib` shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100

    def repr_str(self, x: str, level: int) -> str:
        if len(x) <= self.maxstring:
            return repr(x)
        return f"{x[: self.maxstring // 2]!r}... ({len(x)} characters)"


_shortener = _Shortener()


def shown(value: object, most: int = _MAX_SHOWN) -> str:
    """Return a value as errors and logs show it, wherever it came from.

    Like `repr`, but short. It is one line, without control characters and halves of surrogate pairs.
    """
    try:
        text = _shortener.repr(value)
    except Exception:  # an integer with more digits than Python prints, or a `__repr__` that fails
        return f"a huge or broken {type(value).__name__}"
    if not text.isprintable():  # the work of a `__repr__` that is not Python's own
        text = repr(text)[1:-1]
    return text if len(text) <= most else f"{text[: most - 3]}..."


def at(transport: object) -> str:
    """Return an address in words: `host:port` if it has these, as browsers write it."""
    if not isinstance(transport, Mapping) or not {"host", "port"} <= transport.keys():
        return shown(transport)
    host, port = transport["host"], transport["port"]
    if not (isinstance(host, str) and 0 < len(host) <= 255 and host.isprintable() and " " not in host):
        return f"{shown(host)}:{shown(port)}"
    port = port if isinstance(port, int) else shown(port).strip("'")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def words(error: BaseException) -> str:
    """Return what an error says, in one line that is not too long."""
    try:
        text = str(error)
    except Exception:
        return "it can't say what is wrong"
    text = " ".join(text.splitlines())
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= 3 * _MAX_SHOWN else f"{text[: 3 * _MAX_SHOWN]}..."


# What an error holds on to


def release(error: E) -> E:
    """Let an error that has been caught hold no data any more, and return it.

    An error may wait for a slow handler. Its traceback would keep every variable of the functions that it passed through and of
    their callers, such as the message that was refused, in all its forms. An error whose words say all loses its traceback. Of
    any other the lines stay, and only what the functions held is dropped that it passed through.
    """
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or each in seen:
            continue
        seen.append(each)
        if isinstance(each, MessageError):
            each.__cause__ = None
        if each.__suppress_context__ or isinstance(each, MessageError):
            each.__context__ = None
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, _PLAIN):
            each.__traceback__ = None
        clear_frames(each.__traceback__)
    return error


# Logging


class _Local(threading.local):
    logging = False


_local = _Local()


def logs(level: int) -> bool:
    """Return whether lines of a level are logged. Takes no lock, unlike `Logger.isEnabledFor`, so any may be held."""
    return not _log.disabled and _log.manager.disable < level and _log.getEffectiveLevel() <= level


def tell(level: int, text: str, error: BaseException | None = None) -> None:
    """Log a line, with the traceback of an error if one is given. Hold no lock when you call this: a handler may call anything.

    It raises nothing, whatever a handler does and wherever stderr leads, since its callers are loops that have to go on. What a
    handler's own calls would log is not logged, or it might never end; and at the end of the program nothing is.
    """
    if _local.logging or sys.is_finalizing():
        return
    _local.logging = True
    try:
        with suppress(BaseException):
            _log.log(level, "%s", text, exc_info=error)
    finally:
        _local.logging = False


class Reporter:
    """Logs errors that have no caller and no handler, a line each, and only some if there are very many of a class.

    Args:
        prefix: Begins each line.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._credit: dict[str, float] = {}  # by class: how many may be logged at once, as of ...
        self._times: dict[str, float] = {}  # ... this time
        self._unlogged: dict[str, int] = {}

    def report(self, error: BaseException) -> None:
        """Log an error, as a warning if gossip mends it by itself. One that is not this package's own has its traceback."""
        name, now = type(error).__name__, monotonic()
        credit = self._credit.get(name, _BURST) + (now - self._times.get(name, now)) / _PAUSE
        self._times[name] = now
        self._credit[name] = min(credit, _BURST)
        if credit < 1:
            self._unlogged[name] = self._unlogged.get(name, 0) + 1
            return
        self._credit[name] -= 1
        unlogged = self._unlogged.pop(name, 0)
        mended = isinstance(error, (MessageError, OverflowedError, SendError))
        text = f"{self._prefix}{name}: {words(error)}" + (f" (and {unlogged} more of this kind)" if unlogged else "")
        tell(logging.WARNING if mended else logging.ERROR, text, None if isinstance(error, _PLAIN) else error)


_reporter = Reporter()


def report(error: BaseException) -> None:
    """Log an error that nobody listens for and nobody could catch: see `Reporter` and `tell`."""
    _reporter.report(error)
