from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gossipmonger.cli import localtest
from tests.cli.commands import LIMIT, ROOT, process_environment, read_until, run, start

MODULES = ROOT / "tests" / "node" / "node_modules"

needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "gossipmonger").is_dir(), reason="no Node.js original here"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localtest, "_PAUSE", 0.1)


def test_five_nodes_show_messages_and_events() -> None:
    done = run("localtest", "--for", "600ms", "--interval", "100ms")
    assert (done.code, done.err) == (0, "")
    for number in range(1, 6):
        assert re.search(rf"^[\d:.]+  id{number}   new peer        id\d at 127\.0\.0\.1:\d+$", done.out, re.MULTILINE)
    assert re.search(r"^[\d:.]+  id\d   digest send     to   id\d: id\d", done.out, re.MULTILINE)
    assert re.search(r"^[\d:.]+  id\d   deltas receive  from id\d: id\d/key\d", done.out, re.MULTILINE)
    assert re.search(r"^[\d:.]+  id\d   update          id\d key\d = [\d.e-]+$", done.out, re.MULTILINE)
    assert "\x1b" not in done.out


def test_quiet_leaves_messages_out_and_json_is_json() -> None:
    done = run("localtest", "--for", "300ms", "--interval", "100ms", "--nodes", "3", "--quiet", "--json")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert {record["node"] for record in records} == {"id1", "id2", "id3"}
    assert {record["event"] for record in records} <= {"new peer", "update", "peer left", "error"}


@needs_node
def test_node_js_originals_take_part() -> None:
    done = run("localtest", "--for", "2s", "--interval", "100ms", "--nodes", "3", "--node", "--node-modules", str(MODULES),
               environ=dict(os.environ))  # fmt: skip
    assert done.code == 0
    assert re.search(r"id3   listening", done.out)
    assert re.search(r"id1   new peer        id3 at", done.out)
    assert re.search(r"id3   (digest|deltas) (send|receive)", done.out)


def test_without_the_original_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", {"node": "/usr/bin/node"}.get)
    done = run("localtest", "--node", "--node-modules", str(tmp_path))
    assert (done.code, done.out) == (1, "")
    assert "`npm install gossipmonger@0.1.10`" in done.err
    monkeypatch.chdir(tmp_path)
    assert run("localtest", "--node").err == done.err
    monkeypatch.setattr(shutil, "which", {}.get)
    assert "no `node` on the PATH" in run("localtest", "--node").err


def test_ctrl_c_is_its_proper_end() -> None:
    process = start("localtest", "--interval", "100ms")
    try:
        read_until(process, "new peer")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")


def test_on_a_terminal_it_is_in_colour() -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gossipmonger", "localtest", "--for", "500ms", "--nodes", "2", "--quiet"],
        stdout=its, stderr=its, env=process_environment(TERM="xterm"),
    )  # fmt: skip
    os.close(its)
    output = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            output += chunk
    except OSError:
        pass  # Linux says so when the last writer has gone
    finally:
        os.close(ours)
    assert process.wait(LIMIT) == 0
    assert b"\x1b[32mnew peer" in output
