"""Where the command line begins: the parser, the command, and how whatever happens becomes an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from gossipmonger import __version__
from gossipmonger.cli.outcome import INTERRUPTED, SUCCESS, USAGE, CommandError
from gossipmonger.cli.output import Output, PipeClosedError
from gossipmonger.cli.parser import Help, make_parser
from gossipmonger.errors import words

__all__ = ["main"]

#: Commands that go on until Ctrl-C, which is their proper end.
_ENDLESS = frozenset({"agent", "watch", "events", "localtest"})


def main(
    argv: Sequence[str] | None = None,
    *,
    stdin: IO[str] | None = None,
    stdout: IO[str] | None = None,
    stderr: IO[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Run one command, and return its exit code. A user's mistake is one line on stderr.

    Args:
        argv: The arguments without the program's name; by default those of the process.
        stdin: By default the process's, and so for what follows.
        stdout: Where answers are printed.
        stderr: Where errors and notes are printed.
        environ: The environment.
    """
    stdin, stdout, stderr = stdin or sys.stdin, stdout or sys.stdout, stderr or sys.stderr
    environ = os.environ if environ is None else environ
    output = Output(stdout, stderr, environ)
    arguments = argparse.Namespace(command=None)
    try:
        parser = make_parser()
        if "_ARGCOMPLETE" in environ:
            from gossipmonger.cli.completion import complete

            complete(parser)
        arguments = parser.parse_args([*(sys.argv[1:] if argv is None else argv)])
        output = Output(stdout, stderr, environ, bool(getattr(arguments, "json", None)))
        return _run(arguments, output, stdin, environ)
    except Help as help:
        return _print(output, str(help).rstrip("\n"))
    except PipeClosedError:
        return SUCCESS
    except KeyboardInterrupt:
        return SUCCESS if arguments.command in _ENDLESS else INTERRUPTED
    except CommandError as error:
        if str(error):
            output.note(str(error))
        return error.code


def _print(output: Output, text: str) -> int:
    try:
        output.line(text)
    except PipeClosedError:
        pass
    except CommandError as error:
        output.note(words(error))
        return error.code
    return SUCCESS


def _run(arguments: argparse.Namespace, output: Output, stdin: Any, environ: Mapping[str, str]) -> int:
    if arguments.version:
        return _print(output, f"gossipmonger {__version__}")
    if arguments.command is None:
        raise CommandError("give a command; `gossipmonger --help` lists them", USAGE)
    return _command(arguments.command)(arguments, output, stdin, environ)


def _command(name: str) -> Callable[[argparse.Namespace, Output, Any, Mapping[str, str]], int]:
    """Return the command of a name. What only one of them needs is imported for that one."""
    if name == "agent":
        from gossipmonger.cli.agent_command import run_agent

        return run_agent
    if name == "ping":
        from gossipmonger.cli.ping import ping

        return ping
    if name == "localtest":
        from gossipmonger.cli.localtest import localtest

        return localtest
    if name == "keygen":
        from gossipmonger.cli.keygen import keygen

        return keygen
    if name == "completion":
        from gossipmonger.cli.completion import completion

        return completion
    from gossipmonger.cli.commands import QUESTIONS
    from gossipmonger.cli.inquiry import inquire

    def run(arguments: argparse.Namespace, output: Output, stdin: Any, environ: Mapping[str, str]) -> int:
        with inquire(arguments, environ) as ask:
            return QUESTIONS[name](arguments, ask, output, stdin)

    return run
