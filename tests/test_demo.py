"""The demo, run as `make demo` runs it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"

#: What the summary measures, and the most seconds that each may have taken for the demo to have succeeded.
FIGURES = {
    "all know all": 10,
    "an update everywhere": 5,
    "the killed one seen dead": 20,
    "seen live again": 8,
    "its new value everywhere": 8,
}


def check(output: str) -> None:
    for name, limit in FIGURES.items():
        found = re.search(rf"^  {name} +([0-9.]+) s", output, re.MULTILINE)
        assert found is not None, name
        assert 0 <= float(found[1]) <= limit, name


@pytest.mark.timeout(90)
def test_without_a_terminal_it_tells_its_story_in_lines_and_measures() -> None:
    done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    story = [line.split(" s  ", 1)[1] for line in done.stdout.split("\nMeasured")[0].splitlines()]
    assert len(story) == 6
    assert "killed" in story[3]
    assert "dead" in story[4]
    assert "live again" in story[5]
    check(done.stdout)


@pytest.mark.timeout(90)
def test_on_a_terminal_it_draws_over_its_last_picture() -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen([sys.executable, str(DEMO)], stdout=its, stderr=its)
    os.close(its)
    output = b""
    try:
        while True:
            try:
                chunk = os.read(ours, 1 << 16)
            except OSError:  # Linux says so when the last writer has gone
                break
            if not chunk:
                break
            output += chunk
    finally:
        os.close(ours)
    assert process.wait(10) == 0
    text = output.decode().replace("\r\n", "\n")
    assert text.count("\x1b[2K") > 100
    assert re.search(r"d +\x1b\[0m +killed", text)
    check(text)
