"""The documentation of the page: its commands print what it says, apart from times and numbers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.cli.commands import read_until, start
from tests.cluster import free_ports

PAGE = (Path(__file__).parent.parent / "docs" / "web.md").read_text(encoding="utf-8")


def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    assert shutil.which("curl"), "the page's commands need curl"
    session = "".join(re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    typed = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    for port, free in zip(("9742", "8042"), map(str, free_ports(2)), strict=True):
        typed = [(command.replace(port, str(free)), wanted.replace(port, str(free))) for command, wanted in typed]
    (command, wanted), *others = typed
    agent = start(*command.split()[1:], "--socket", str(tmp_path / "a.sock"), stderr=subprocess.STDOUT)
    try:
        said, listening = wanted.splitlines()
        lines = read_until(agent, "listening")
        assert said + "\n" in lines
        assert lines[-1].split()[1:] == listening.split()[1:]
        assert len(others) == 4
        for command, wanted in others:
            assert subprocess.run(command.split(), capture_output=True, text=True, timeout=30).stdout == wanted
    finally:
        agent.terminate()
        agent.communicate(timeout=30)
    assert agent.returncode == 0
