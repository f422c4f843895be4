"""The tutorial: its three terminals show what the page says, apart from times and numbers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import process_environment
from tests.cluster import free_ports
from tests.programs import LIMIT, ROOT, Program

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")

#: Each block with its caption: a file, or a terminal.
BLOCKS = re.findall(r"^```\{code-block\} \w+\n:caption: ([^\n]*)\n\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

#: The ports that the page has.
PORTS = ("9742", "9743")

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a control socket, and signals that stop a process")


def normal(line: str) -> str:
    """A line without what differs from run to run."""
    return " ".join(re.sub(r"\b\d+(\.\d+)?(ms|s)? ?", "N ", line).split())


class Terminals:
    """Three shells in a folder, for which `gossipmonger` and `python` are those of this repository."""

    def __init__(self, folder: Path) -> None:
        (folder / "bin").mkdir()
        for name, arguments in (("gossipmonger", "-m gossipmonger "), ("python", "")):
            program = folder / "bin" / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n', encoding="utf-8")
            program.chmod(0o755)
        self._folder = folder
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._environment = process_environment(XDG_RUNTIME_DIR=str(folder), PATH=path)
        self._programs: dict[str, Program] = {}  # what runs in each terminal
        self.ended: list[Program] = []

    def _here(self, text: str) -> str:
        return re.sub("|".join(PORTS), lambda found: self._ports[found[0]], text)

    def save(self, name: str, text: str) -> None:
        (self._folder / name).write_text(self._here(text), encoding="utf-8")

    def show(self, terminal: str, block: str) -> None:
        """Type what a block has, and see what it shows."""
        commands: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ ") and line != "$ fg":
                commands.append((line[2:], []))
            elif commands:
                commands[-1][1].append(line)
            else:
                self._follow(terminal, line)
        for command, wanted in commands:
            if re.match(r"gossipmonger agent|python worker", command):
                self._start(terminal, command)
                for line in wanted:
                    self._follow(terminal, line)
            else:
                assert [*map(normal, self._run(command))] == [*map(normal, wanted)], command

    def _start(self, terminal: str, command: str) -> None:
        if terminal in self._programs:
            self.ended.append(self._programs[terminal])
        self._programs[terminal] = Program(["bash", "-c", f"exec {self._here(command)}"], self._folder, **self._environment)

    def _run(self, command: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", self._here(command)],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        return done.stdout.splitlines()

    def _follow(self, terminal: str, line: str) -> None:
        program = self._programs[terminal]
        if line == "^Z":
            program.process.send_signal(signal.SIGSTOP)  # as Ctrl-Z does, which needs a terminal
        elif line == "$ fg":
            program.process.send_signal(signal.SIGCONT)
        elif line == "^D":
            assert program.process.stdin is not None
            program.process.stdin.close()
            assert program.process.wait(LIMIT) == 0
        elif line.startswith("> "):
            program.type(line[2:])
        else:
            program.expect(lambda shown: normal(shown) == normal(line))

    def end(self) -> None:
        for program in (*self._programs.values(), *self.ended):
            program.__exit__()


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    made = Terminals(tmp_path)
    yield made
    made.end()


@pytest.mark.timeout(240)
def test_the_page_in_three_terminals(terminals: Terminals) -> None:
    seen = set()
    for caption, block in BLOCKS:
        place = caption.partition(",")[0]
        seen.add(place)
        if place.endswith(".py"):
            terminals.save(place, block)
        else:
            terminals.show(place, block)
    assert seen == {"worker.py", "report.py", "Terminal one", "Terminal two", "Terminal three"}
