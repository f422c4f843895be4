"""An inquiry: where a command's questions go, to an agent or to an observer that is one's own for the moment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gossipmonger.cli.client import ask
from gossipmonger.cli.control import default_path
from gossipmonger.cli.observer import observe
from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.cli.settings import flags_of

__all__ = ["Ask", "inquire"]

#: Takes a question, and the seconds that each answer may take or None; yields the answers.
Ask = Callable[[Mapping[str, Any], float | None], Iterator[dict[str, Any]]]


@contextmanager
def inquire(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Ask]:
    """Give what answers the questions of a command, for as long as that takes.

    Raises:
        CommandError: There is nobody who could.
    """
    if getattr(arguments, "seed", None):
        with observe(flags_of(arguments), environ, arguments.config) as answers:
            yield lambda question, timeout: answers.answer(question)
        return
    path = os.path.expanduser(default_path(environ) if arguments.socket is None else arguments.socket)
    if not path:
        raise CommandError("--socket '' names no agent: leave it out, or ask any node with --seed HOST:PORT", USAGE)
    yield lambda question, timeout: ask(path, question, timeout)
