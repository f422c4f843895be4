"""How a command ends: its exit codes, and the error that is one line on stderr and never a traceback."""

from __future__ import annotations

__all__ = ["ABSENT", "INTERRUPTED", "SUCCESS", "UNREACHABLE", "USAGE", "CommandError"]

#: Done; true; there.
SUCCESS = 0

#: What was asked for is absent or false, or the command could not be carried out.
ABSENT = 1

#: The command line, the configuration or an argument is wrong.
USAGE = 2

#: There is no agent, no node answers, or the time is over.
UNREACHABLE = 3

#: Ctrl-C ended a command that had not done yet what it was to do. Shells use 128 + the signal's number.
INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command. Its text says in one line what is wrong and what to do.

    Args:
        text: The line, "" if everything has been said.
        code: The exit code.

    Attributes:
        code: As above.
    """

    def __init__(self, text: str, code: int = ABSENT) -> None:
        super().__init__(text)
        self.code = code
