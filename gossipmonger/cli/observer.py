"""Answers a command's questions by joining the cluster briefly as an observer, for hosts that run no agent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic

from gossipmonger import ClusterError, Gossipmonger, LonelyError
from gossipmonger.cli.answers import Answers
from gossipmonger.cli.journal import Journal
from gossipmonger.cli.nodes import make_observer, versions
from gossipmonger.cli.outcome import UNREACHABLE, CommandError
from gossipmonger.cli.ping import diagnose
from gossipmonger.cli.settings import Settings, resolve
from gossipmonger.cli.sources import Given
from gossipmonger.errors import at, words

__all__ = ["observe"]

#: Seconds to find somebody, and before it is looked at more closely why nobody answers.
_PATIENCE, _SOON = 10.0, 2.0

#: Seconds without news after which everything there was has been told, and how long to wait for that at most. Nodes answer each
#: other at once, so that it takes a few round trips.
_QUIET, _ENOUGH = 0.25, 5.0


#: Errors that are kept, to say why nobody answers.
_MOST = 100


@contextmanager
def observe(flags: Mapping[str, Given], environ: Mapping[str, str], path: str | None) -> Iterator[Answers]:
    """Join as an observer, learn what there is, and give what answers questions about it.

    Raises:
        CommandError: The settings are wrong, or nobody answers. The error says why.
    """
    settings = resolve(flags, environ, path)
    node = make_observer(settings)
    failures: deque[Exception] = deque(maxlen=_MOST)
    node.on("error", failures.append)
    heard = _Heard(node)
    journal = Journal(node)
    with node:
        _find(node, settings, failures)
        heard.wait()
        yield Answers(node, journal, lambda: {"observes": [at(seed) for seed in settings.seeds], **versions()}, None)


def _find(node: Gossipmonger, settings: Settings, failures: deque[Exception]) -> None:
    """Wait until somebody answers, or it is known why nobody does.

    Raises:
        CommandError: Nobody does.
    """
    if _is_found(node, failures, _SOON):
        return
    said = [diagnose(seed, settings) for seed in settings.seeds]
    if "" in said and _is_found(node, failures, _PATIENCE - _SOON):
        return
    if node.peers():  # by now
        return
    known = [problem for problem in said if problem] + [words(error) for error in failures]
    raise CommandError(known[0] if known else f"no answer within {_PATIENCE:g} s", UNREACHABLE)


def _is_found(node: Gossipmonger, failures: deque[Exception], timeout: float) -> bool:
    """Wait so many seconds for somebody to answer, and no longer if that is of no use; return whether somebody has."""
    final = ClusterError, LonelyError
    try:
        node.wait_for(lambda: node.peers() or any(isinstance(error, final) for error in failures), max(0.0, timeout))
    except TimeoutError:
        pass
    return bool(node.peers())


class _Heard:
    """When something new was heard last."""

    def __init__(self, node: Gossipmonger) -> None:
        self._node = node
        self._last = 0.0
        node.on("new peer", self._note)
        node.on("digest receive", self._note)
        node.on("deltas receive", self._note)

    def _note(self, *_: object) -> None:
        self._last = monotonic()

    def wait(self) -> None:
        """Wait until nothing new comes any more."""
        self._note()
        deadline = monotonic() + _ENOUGH
        while not self._node.closed and monotonic() < deadline and (left := self._last + _QUIET - monotonic()) > 0:
            self._node.wait(left)
