"""The programs of `examples/tls`, run as the page on security says."""

from __future__ import annotations

import os
import queue
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import IO

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "tls"

#: Seconds that anything may take, on a machine that does much else.
LIMIT = 60

#: The commands of the page, in their order, without the one that installs the package.
COMMANDS = re.findall(r"^    (python [^\n]+)$", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"), re.MULTILINE)

pytestmark = pytest.mark.untraced


class Program:
    """A program that runs, and what it prints."""

    def __init__(self, command: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,))
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._new.put(line.rstrip("\n"))
        output.close()

    def expect(self, *lines: str) -> None:
        deadline = monotonic() + LIMIT
        while not {*lines} <= {*self.lines}:
            try:
                self.lines.append(self._new.get(timeout=max(0.01, deadline - monotonic())))
            except queue.Empty:
                pytest.fail(f"{lines} did not come, but {self.lines}")

    def end(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)
        self._reader.join(LIMIT)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def command(text: str, directory: Path, ports: dict[str, str]) -> list[str]:
    """What the page says, with free ports and a directory of the test's own."""
    for told, free in ports.items():
        text = text.replace(told, free)
    _, program, *arguments = shlex.split(text)
    return [sys.executable, str(EXAMPLE / program), *(str(directory) if each == "certificates" else each for each in arguments)]


def test_two_nodes_with_certificates_of_their_own_authority_meet_and_renew(tmp_path: Path, stack: ExitStack) -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = {told: str(each.getsockname()[1]) for told, each in zip(("9742", "9743"), sockets, strict=True)}
    for each in sockets:
        each.close()
    make, first, second, renew = COMMANDS
    made = subprocess.run(command(make, tmp_path, ports), capture_output=True, text=True, timeout=LIMIT)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.split() == [str(tmp_path / name) for name in ("a.pem", "a.key", "b.pem", "b.key")]
    assert (tmp_path / "a.key").stat().st_mode & 0o077 == 0
    a = Program(command(first, tmp_path, ports))
    stack.callback(a.end)
    b = Program(command(second, tmp_path, ports))
    stack.callback(b.end)
    a.expect("met b", f"b port {ports['9743']}")
    b.expect("met a", f"a port {ports['9742']}")
    assert subprocess.run(command(renew, tmp_path, ports), timeout=LIMIT, stdout=subprocess.DEVNULL).returncode == 0
    a.expect("renewed")
    assert not [line for line in (*a.lines, *b.lines) if line.startswith("error: TLS") or "Traceback" in line]


@pytest.mark.parametrize("program", ["certificates.py", "node.py"])
def test_without_arguments_they_say_what_they_want(program: str) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE / program)], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1
    assert f"python {program} DIRECTORY" in done.stderr
