"""An observer for a moment: what answers a command's questions where there is no agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gossipmonger.cli.answers import Answers
from gossipmonger.cli.outcome import UNREACHABLE, CommandError
from gossipmonger.cli.sources import Given

__all__ = ["observe"]


@contextmanager
def observe(flags: Mapping[str, Given], environ: Mapping[str, str], path: str | None) -> Iterator[Answers]:
    """Join as an observer, learn what there is, and give what answers questions about it."""
    if flags:
        raise CommandError("not yet", UNREACHABLE)
    yield Answers(*([None] * 4))  # type: ignore[arg-type]
