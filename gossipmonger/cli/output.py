"""What commands print: safe on a terminal, silent where nobody reads, in colour only where that helps.

Ids, keys, values and error texts come from other nodes, so they may hold anything. None of their control characters reaches the
output: what is not printable is written as JSON, in ASCII. With `--json` everything is.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from gossipmonger.cli.outcome import CommandError
from gossipmonger.errors import words

__all__ = ["Output", "PipeClosedError", "json_text", "name", "value_text"]

#: Colours by what they mean, as the numbers of the escape sequence.
_COLOURS = {"live": "32", "dead": "31", "left": "33", "error": "31", "head": "1", "dim": "2"}

#: Characters that a name without quotes may not have: it would be read as two, or as quoted.
_SPECIAL = frozenset(" \"'\\")

#: Characters of a value in a line of many; `get` and `--json` have all.
_SHORT = 200


class PipeClosedError(Exception):
    """Nobody reads the output any more: the command ends, and that is no error."""


def json_text(value: Any) -> str:
    """Return a value as JSON in ASCII, in which no control character is left."""
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": "))


def name(text: str) -> str:
    """Return an id or a key as it is if it is one printable word, and as JSON otherwise."""
    plain = text and text.isprintable() and not _SPECIAL.intersection(text)
    return text if plain else json_text(text)


def value_text(value: Any, short: bool = True) -> str:
    """Return a value as JSON that people can read: printable characters stand for themselves."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    text = text if text.isprintable() else json_text(value)
    return f"{text[:_SHORT]}... ({len(text)} characters)" if short and len(text) > _SHORT else text


class Output:
    """Where a command prints. Several threads may do so at once.

    Args:
        stdout: None, as Python has it where stdout is closed, for nowhere.
        stderr: The same.
        environ: The environment.
        as_json: Whether every answer is a line of JSON.

    Attributes:
        as_json: As above.
        terminal: Whether stdout is a terminal.
        colour: Whether it is one that shows colours, and the user wants them.
    """

    def __init__(
        self, stdout: IO[str] | None, stderr: IO[str] | None, environ: Mapping[str, str], as_json: bool = False
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self.as_json = as_json
        self.terminal: bool = _is_terminal(stdout)
        capable = environ.get("TERM", "") != "dumb" and not environ.get("NO_COLOR")
        self.colour: bool = self.terminal and capable and not as_json
        self._line_lock = threading.Lock()  # guards a line, so that those of two threads do not mix

    def line(self, text: str = "") -> None:
        """Print a line on stdout.

        Raises:
            CommandError: The output cannot be written, as on a full disk.
            PipeClosedError: Nobody reads it.
        """
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Print text on stdout at once. Raises as `line` does."""
        try:
            with self._line_lock:
                stream = self._stdout  # None if another thread has just found that it has no reader
                if stream is not None:
                    stream.write(_encodable(text, stream))
                    stream.flush()
        except BrokenPipeError:
            self._abandon()
            raise PipeClosedError from None
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._abandon()
            raise CommandError(f"can't write the output: {words(error)}") from None

    def _abandon(self) -> None:
        """Lead stdout nowhere, or Python would fail to flush it at its end and say so."""
        stream, self._stdout = self._stdout, None
        if stream is None or stream not in (sys.stdout, sys.__stdout__):
            return  # the caller's own
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass  # it has no descriptor, so there is nothing to flush to

    def record(self, record: Mapping[str, Any]) -> None:
        """Print an object as one line of JSON. Raises as `line` does."""
        self.line(json_text(record))

    def note(self, text: str) -> None:
        """Print a line on stderr, for people; it raises nothing."""
        if self._stderr is None:
            return
        try:
            with self._line_lock:
                self._stderr.write(_encodable(f"gossipmonger: {text}\n", self._stderr))
                self._stderr.flush()
        except (OSError, ValueError):
            self._stderr = None

    def paint(self, text: str, meaning: str) -> str:
        """Return text in the colour of what it means, where there are colours."""
        return f"\x1b[{_COLOURS[meaning]}m{text}\x1b[0m" if self.colour and meaning in _COLOURS else text

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], meaning: int | None = None) -> None:
        """Print a table whose last column is as wide as it likes. Raises as `line` does.

        Args:
            head: The names of the columns.
            rows: The cells of each row, which are safe to print.
            meaning: The column whose text says in which colour it is printed.
        """
        rows = [*rows]
        wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [self.paint(_row(head, wide), "head")]
        for row in rows:
            cells = [cell.ljust(size) for cell, size in zip(row, wide, strict=True)]
            if meaning is not None:
                cells[meaning] = self.paint(cells[meaning], row[meaning])
            lines.append("  ".join([*cells[:-1], cells[-1].rstrip()]).rstrip())
        self.write("".join(f"{line}\n" for line in lines))


def _row(cells: Sequence[str], wide: Sequence[int]) -> str:
    return "  ".join(cell.ljust(size) for cell, size in zip(cells, wide, strict=True)).rstrip()


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


def _encodable(text: str, stream: IO[str]) -> str:
    """Return text that a stream can encode: a terminal of another age may know no more than ASCII."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.encode("ascii", "backslashreplace").decode("ascii")
    return text
