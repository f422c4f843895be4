"""The page on the command line: its commands print what the page says, apart from times and numbers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.cli.commands import LIMIT, process_environment
from tests.cluster import free_ports

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")

#: Each command and the lines that it prints.
SESSION = [
    (command, output.splitlines())
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]

#: The ports that the page has.
PORTS = ("9742", "9743", "9744", "9799")


def normal(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"^[0-9a-f]{8} ", "KEY ", line)  # the id of a key
    line = re.sub(r"\d+(\.\d+)?", "N", line)
    return " ".join(re.sub(r"N(ms|s) ago", "N ago", line).split())


class Session:
    """A shell in a folder, for which `gossipmonger` is the program of this repository."""

    def __init__(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        program = folder / "bin" / "gossipmonger"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gossipmonger "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        (toml,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        (folder / "gossipmonger.toml").write_text(toml, encoding="utf-8")
        self._folder = folder
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._environ = process_environment(XDG_RUNTIME_DIR=str(folder), PATH=path, TZ="UTC")
        self.agents: list[tuple[subprocess.Popen[str], list[str], threading.Thread]] = []

    def _typed(self, command: str) -> str:
        return re.sub("|".join(PORTS), lambda found: self._ports[found[0]], command)

    def run(self, command: str) -> list[str]:
        """What a command prints. An agent goes on."""
        given = {
            "cwd": self._folder,
            "env": self._environ,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }
        if command.startswith("gossipmonger agent") and "--check-config" not in command:
            process = subprocess.Popen(shlex.split(self._typed(command)), **given)  # type: ignore[call-overload]
            lines: list[str] = []

            def read() -> None:
                for line in process.stdout:
                    lines.append(line.rstrip("\n"))

            reader = threading.Thread(target=read)
            reader.start()
            self.agents.append((process, lines, reader))
            return lines
        done = subprocess.run(["bash", "-c", self._typed(command)], timeout=2 * LIMIT, check=False, **given)  # type: ignore[call-overload]
        return list(done.stdout.splitlines())

    def end(self) -> None:
        for process, _, reader in self.agents:
            process.kill()
            process.wait(LIMIT)
            reader.join(LIMIT)
            process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path)
    yield made
    made.end()


@pytest.mark.timeout(240)
def test_the_page_is_a_session(session: Session) -> None:
    assert len(SESSION) > 20
    for command, wanted in SESSION:
        expected = [normal(line) for line in wanted]
        printed = session.run(command)
        if command.startswith("gossipmonger agent") and "--check-config" not in command:
            deadline = monotonic() + LIMIT
            while len(printed) < len(expected) and monotonic() < deadline:
                sleep(0.01)
            printed = [line for line in printed if not line.startswith("gossipmonger: no seeds")][: len(expected)]
        elif expected[-1:] == ["..."]:
            printed, expected = sorted(printed[: len(expected) - 1]), sorted(expected[:-1])
        assert [normal(line) for line in printed] == expected, command
    for process, _, _ in session.agents:
        assert process.wait(LIMIT) == 0
