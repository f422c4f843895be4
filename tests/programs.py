"""Programs out of the documentation that run, are typed at, and say something."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import IO

import pytest

__all__ = ["ROOT", "Program", "python_in"]

ROOT = Path(__file__).parent.parent

#: Seconds that anything may take, on a machine that does much else.
LIMIT = 45


def python_in(page: Path) -> list[str]:
    """The Python that a page shows and does not run with the documentation."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


class Program:
    """A program that runs, and the lines it has printed so far. It is killed at the end of a `with` block.

    It flushes what it prints line by line. Unbuffered, a line of the log could come between a line and its end.
    """

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        paths = os.pathsep.join([str(ROOT), *([environment["PYTHONPATH"]] if "PYTHONPATH" in environment else [])])
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "", **environment, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,))
        self._reader.start()

    @classmethod
    def python(cls, path: Path, *arguments: object) -> Program:
        return cls([sys.executable, str(path), *map(str, arguments)], path.parent)

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._new.put(line.rstrip("\n"))
        output.close()

    def expect(self, wanted: str | Callable[[str], object]) -> str:
        """Wait for a line, and return it. Lines before it are passed over."""
        deadline = monotonic() + LIMIT
        while True:
            try:
                line = self._new.get(timeout=max(0.01, deadline - monotonic()))
            except queue.Empty:
                pytest.fail(f"{wanted!r} did not come, but {self.lines}")
            self.lines.append(line)
            if line == wanted or (callable(wanted) and wanted(line)):
                return line

    def expect_all(self, *wanted: str) -> None:
        """Wait until all these lines have come, in any order."""
        while left := {*wanted} - {*self.lines}:
            self.expect(left.__contains__)

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self, by: int = signal.SIGINT) -> int:
        """End it by a signal, as Ctrl-C does; return its exit status."""
        self.process.send_signal(by)
        return self.process.wait(LIMIT)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        assert self.process.stdin is not None
        self.process.stdin.close()
