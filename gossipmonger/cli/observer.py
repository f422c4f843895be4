"""An observer for a moment: what answers a command's questions where there is no agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

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

#: Seconds to find somebody.
_PATIENCE = 10.0

#: Seconds without news after which everything there was has been told, and how long to wait for that at most. Nodes answer each
#: other at once, so that it takes a few round trips.
_QUIET, _ENOUGH = 0.25, 5.0


@contextmanager
def observe(flags: Mapping[str, Given], environ: Mapping[str, str], path: str | None) -> Iterator[Answers]:
    """Join as an observer, learn what there is, and give what answers questions about it.

    Raises:
        CommandError: The settings are wrong, or nobody answers. The error says why.
    """
    settings = resolve(flags, environ, path)
    node = make_observer(settings)
    failures: list[Exception] = []
    heard: list[float] = []
    node.on("error", failures.append)
    for event in ("new peer", "digest receive", "deltas receive"):
        _note(node, event, heard)
    journal = Journal(node)
    with node:
        _find(node, settings, failures)
        heard.append(monotonic())
        _learn(node, heard)
        yield Answers(node, journal, lambda: {"observes": [at(seed) for seed in settings.seeds], **versions()}, None)


def _note(node: Any, event: str, heard: list[float]) -> None:
    node.on(event, lambda *_: heard.append(monotonic()))


def _find(node: Gossipmonger, settings: Settings, failures: list[Exception]) -> None:
    """Wait until somebody answers, or it is known why nobody does."""
    try:
        node.wait_for(lambda: node.peers() or _final(failures), _PATIENCE)
    except TimeoutError:
        pass
    if node.peers():
        return
    said = [problem for problem in (diagnose(seed, settings) for seed in settings.seeds) if problem]
    said += [words(error) for error in failures]
    raise CommandError(said[0] if said else f"no answer within {_PATIENCE:g} s", UNREACHABLE)


def _final(failures: list[Exception]) -> bool:
    """Whether waiting longer is of no use."""
    return any(isinstance(error, (ClusterError, LonelyError)) for error in failures)


def _learn(node: Gossipmonger, heard: list[float]) -> None:
    """Wait until nothing new comes any more."""
    deadline = monotonic() + _ENOUGH
    while not node.closed and monotonic() < deadline and (left := heard[-1] + _QUIET - monotonic()) > 0:
        node.wait(left)
