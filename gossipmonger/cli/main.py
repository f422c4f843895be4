"""Where the command line begins: the parser, the command, and how whatever happens becomes an exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any

from gossipmonger import __version__
from gossipmonger.cli.outcome import INTERRUPTED, SUCCESS, USAGE, CommandError
from gossipmonger.cli.output import Output, PipeClosedError
from gossipmonger.cli.parser import Help, make_parser

__all__ = ["main"]

#: Commands that go on until Ctrl-C, which is their proper end.
_ENDLESS = frozenset({"agent", "watch", "events", "localtest"})

#: Commands that put no question to a node, each with its module and function.
_ALONE = {
    "agent": ("agent_command", "run_agent"), "ping": ("ping", "ping"), "localtest": ("localtest", "localtest"),
    "keygen": ("trust", "keygen"), "completion": ("completion", "completion"),
}  # fmt: skip


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
    typed = [*(sys.argv[1:] if argv is None else argv)]
    try:
        with _hangups_held(typed[:1] == ["agent"]):
            parser = make_parser()
            if "_ARGCOMPLETE" in environ:
                from gossipmonger.cli.completion import complete

                complete(parser)
            try:
                arguments = parser.parse_args(typed)
            except Help as help:
                output.line(str(help).rstrip("\n"))
                return SUCCESS
            output = Output(stdout, stderr, environ, bool(getattr(arguments, "json", None)))
            return _run(arguments, output, stdin, environ)
    except PipeClosedError:
        return SUCCESS
    except KeyboardInterrupt:
        return SUCCESS if arguments.command in _ENDLESS else INTERRUPTED
    except CommandError as error:
        if str(error):
            output.note(str(error))
        return error.code


@contextmanager
def _hangups_held(held: bool) -> Iterator[None]:
    """Hold back SIGHUP, which would end the process, until the agent handles it. Only the main thread handles signals."""
    if held and hasattr(signal, "pthread_sigmask") and threading.current_thread() is threading.main_thread():
        former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
    else:
        yield


def _run(arguments: argparse.Namespace, output: Output, stdin: Any, environ: Mapping[str, str]) -> int:
    if arguments.version:
        output.line(f"gossipmonger {__version__}")
        return SUCCESS
    if arguments.command is None:
        raise CommandError("give a command; `gossipmonger --help` lists them", USAGE)
    if arguments.command in _ALONE:  # each imports only what it needs
        module, function = _ALONE[arguments.command]
        code: int = getattr(import_module(f"gossipmonger.cli.{module}"), function)(arguments, output, stdin, environ)
        return code
    from gossipmonger.cli.commands import QUESTIONS
    from gossipmonger.cli.inquiry import inquire

    with inquire(arguments, environ) as ask:
        return QUESTIONS[arguments.command](arguments, ask, output, stdin)
