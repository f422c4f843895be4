"""Completion of commands, options, nodes and keys in shells, by argcomplete, which is in the extra `cli`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any

from gossipmonger.cli.client import ask
from gossipmonger.cli.control import default_path
from gossipmonger.cli.outcome import SUCCESS, USAGE, CommandError
from gossipmonger.cli.output import Output

__all__ = ["complete", "completion"]

#: Seconds that the agent is given: who presses a key does not want to wait.
_PATIENCE = 1.0


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what could come next, and end the process. Without argcomplete, do nothing."""
    try:
        import argcomplete
    except ImportError:
        return
    _name_completers(parser)
    argcomplete.autocomplete(parser, always_complete_options=False)


def completion(arguments: argparse.Namespace, output: Output, _: Any, environ: Mapping[str, str]) -> int:
    """Print the script for a shell."""
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise CommandError("completion needs one more package: pip install 'gossipmonger[cli]'", USAGE) from None
    output.line(shellcode(["gossipmonger"], shell=arguments.shell).rstrip("\n"))
    return SUCCESS


def _name_completers(parser: argparse.ArgumentParser) -> None:
    """Let arguments that are ids or keys be completed with those that the agent knows."""
    subparsers = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    for command, sub in subparsers.choices.items():
        for action in sub._actions:
            if action.metavar == "ID" and command != "agent":
                action.completer = _known("members", "id")
            elif action.metavar in ("KEY", "PREFIX") and command not in ("keyring", "agent"):
                action.completer = _known("keys", "key")


def _known(question: str, field: str) -> Callable[..., list[str]]:
    def known(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        path = getattr(parsed_args, "socket", None) or default_path(os.environ)
        try:
            found = [str(each[field]) for each in ask(path, {"ask": question}, _PATIENCE)]
        except CommandError:
            return []
        return [each for each in found if each.isprintable()]

    return known
