"""The parser: every command with its arguments, what it is for, and examples to copy."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from gossipmonger.cli.arguments import ARGUMENTS
from gossipmonger.cli.lessons import LESSONS
from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.errors import shown
from gossipmonger.state.arguments import nearest

__all__ = ["COMMANDS", "Help", "Parser", "make_parser"]

#: The commands: a line on each.
COMMANDS = {
    "agent": "run a node until it is told to end",
    "members": "list the nodes: state, address, last heard, suspicion",
    "get": "print a key's value",
    "set": "set a key of the agent",
    "delete": "delete a key of the agent",
    "keys": "list keys, and who has them",
    "values": "print a key's value at every node",
    "watch": "follow changes of keys",
    "wait": "wait until a key or a number of nodes is there",
    "events": "follow what happens to nodes and keys",
    "ping": "find out whether a node can be reached, and what is wrong",
    "info": "describe the agent, for operators and bug reports",
    "leave": "let the agent say goodbye and end",
    "forget": "drop a dead node, here and at all others",
    "keygen": "make a key that seals messages",
    "keyring": "list the agent's keys; add, promote and remove them",
    "localtest": "watch five nodes gossip on this machine",
    "completion": "print what lets a shell complete commands",
}


class Help(Exception):
    """Ends the parsing with a text to print."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Gives the names of options more room, and takes no more columns than one reads with ease."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=min(shutil.get_terminal_size().columns - 2, 110))


class Parser(argparse.ArgumentParser):
    """An argument parser that prints nothing itself and never ends the program."""

    color: bool = False  # newer versions of Python would colour what they print, without asking us

    _typed: Sequence[str] = ("",)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as usual, but let each command reject its own unknown arguments, so that the error names that command."""
        self._typed = args or ("",)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            close = None if self._subparsers else nearest(unknown[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f"; did you mean {close}?" if close else ""))
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise the error of a wrong command line, with the nearest right word."""
        message = _clearer(message)
        if self._subparsers and self._typed[0].startswith("-"):
            message += f"; the command comes first, and options such as {shown(self._typed[0])} after it"
        elif message.startswith("the following") and any(each.startswith("-") for each in self._typed):
            message += "; those that begin with - come after --"
        raise CommandError(f"{message} (`{self.prog} --help` says more)", USAGE)

    def print_help(self, file: Any = None) -> None:
        """Raise the text instead of printing it."""
        raise Help(self.format_help())


def _clearer(message: str) -> str:
    """Return what argparse says of a wrong command or option, on one line and with the nearest known one."""
    message = " ".join(message.split())
    if message.startswith("argument COMMAND: invalid choice: "):
        typed = message.removeprefix("argument COMMAND: invalid choice: ").split(" (choose")[0].strip("'\"")
        close = nearest(typed, COMMANDS)
        return f"unknown command {shown(typed)}" + (f"; did you mean {close!r}?" if close else "")
    if message.endswith("expected one argument"):
        message += f"; one that begins with - is given as {message.split()[1].split('/')[0].strip(':')}=VALUE"
    return message if message.isprintable() else shown(message)


def make_parser() -> Parser:
    """Return the parser."""
    parser = Parser(
        prog="gossipmonger",
        allow_abbrev=False,
        formatter_class=_Formatter,
        usage="gossipmonger COMMAND [...]",
        description=_filled(
            "A small shared map of state, kept alive across a fleet: every node owns keys, gossip carries them to all others, "
            "and each node knows who is alive. `gossipmonger agent` is a node; the other commands look into one."
        )
        + "\n\ncommands (each has a --help):\n"
        + "\n".join(f"  {name:{max(map(len, COMMANDS))}}  {line}" for name, line in COMMANDS.items()),
        epilog=textwrap.dedent("""\
            try it in two terminals:
              gossipmonger agent --id a --listen 127.0.0.1:9742 --set role=web
              gossipmonger members
              gossipmonger set load 0.5
              gossipmonger watch

            exit codes: 0 success; 1 absent or false; 2 wrong usage; 3 no agent, no answer, or time over
        """),
    )
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", prog="gossipmonger", parser_class=Parser, help=argparse.SUPPRESS
    )
    for name in COMMANDS:
        description, examples = LESSONS[name]
        command = commands.add_parser(
            name,
            allow_abbrev=False,
            formatter_class=_Formatter,
            description=_filled(description),
            epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip("\n"), "  "),
        )
        ARGUMENTS[name](command)
        command.add_argument("--json", action="store_true", default=None, help="print every answer as one line of JSON")
    return parser


def _filled(text: str) -> str:
    return "\n\n".join(textwrap.fill(paragraph, 100) for paragraph in text.split("\n\n"))
