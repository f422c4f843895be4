"""The README: its examples run as they stand, and its tables say what the code says."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gossipmonger
from gossipmonger import Gossipmonger, Options

from .cluster import free_port, free_ports
from .programs import LIMIT, ROOT, Program

README = (ROOT / "README.md").read_text(encoding="utf-8")

#: The Python in it, by what tells one block from the other.
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

#: The Python in the how-tos that is not run with the documentation, since it goes on for ever.
HOW_TOS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "howto.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without those of its head."""
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"}


def terminal(*arguments: str) -> Program:
    return Program([sys.executable, *arguments], ROOT, PYTHONUNBUFFERED="1", PYTHONWARNINGS="error")


def test_there_are_three_examples() -> None:
    assert len(PYTHON) == 3  # each has a test here
    assert "sys.argv" in PYTHON[0]
    assert "with Gossipmonger" in PYTHON[1]
    assert "Simulation" in PYTHON[2]


def test_the_usage_example_in_two_terminals(tmp_path: Path) -> None:
    program = tmp_path / "node.py"
    program.write_text(PYTHON[0], encoding="utf-8")
    a_port, b_port = map(str, free_ports(2))
    with terminal(str(program), "a", a_port, b_port) as a, terminal(str(program), "b", b_port, a_port) as b:
        a.expect("peer b updated key foo with bar of b")
        b.expect("peer a updated key foo with bar of a")
        assert f"found new peer b at {{'host': 'localhost', 'port': {b_port}}}" in a.lines
        assert not [line for line in b.lines if "Traceback" in line]


def test_the_usage_example_ends_by_itself_and_needs_no_arguments(tmp_path: Path) -> None:
    a_port, b_port = map(str, free_ports(2))
    short = PYTHON[0].replace("9742", a_port).replace("9743", b_port).replace("node.wait(60)", "node.wait(0.05)")
    assert short.count(a_port) == 1
    assert short.count("node.wait(0.05)") == 1
    program = tmp_path / "node.py"
    program.write_text(short, encoding="utf-8")
    done = subprocess.run([sys.executable, str(program)], env=environment(), capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_seed_of_the_wsgi_how_to_is_one(tmp_path: Path) -> None:
    (program,) = [block for block in HOW_TOS if "seed.wait()" in block]
    (tmp_path / "seed.py").write_text(program, encoding="utf-8")
    port = str(free_port())
    with (
        terminal(str(tmp_path / "seed.py"), port),
        Gossipmonger({"id": "web", "transport": {"host": "127.0.0.1", "port": 0}}, seeds=[f"127.0.0.1:{port}"]) as web,
    ):
        web.on("error", lambda error: None)  # until the seed listens
        web.wait_for_peers(2, timeout=LIMIT)
        assert set(web.live()) == {"web", f"seed-{port}"}


def test_the_example_in_one_process() -> None:
    done = subprocess.run([sys.executable, "-c", PYTHON[1]], env=environment(), capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["mail", "d live {}", "c live {'duty': 'mail'}"]


def test_the_example_on_a_virtual_clock() -> None:
    done = subprocess.run([sys.executable, "-c", PYTHON[2]], env=environment(), capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+\.\d virtual ms\n", done.stdout)


def default(field: dataclasses.Field[Any]) -> str:
    """How the table writes a default: as one would write it in Python, whatever the machine."""
    made = field.default_factory is not dataclasses.MISSING
    value: Any = field.default_factory if made else field.default
    name = f"{value.__module__}.{value.__qualname__}" if callable(value) else repr(value)
    return f"`{name}()`" if made else f"`{name}`"


def test_the_options_table_has_every_option_and_its_default() -> None:
    options = [[f"`{field.name}`", default(field)] for field in dataclasses.fields(Options)]
    assert [row[:2] for row in table("Options")] == options


def test_the_events_table_has_every_event() -> None:
    listed = [row[0].strip("`") for row in table("Events")]
    assert len(set(listed)) == len(listed)
    documented = re.search(r"\* Events, through `on`:(.*?)\n\s*Args:", Gossipmonger.__doc__ or "", re.DOTALL)
    assert documented
    assert set(listed) == set(re.findall(r"`([a-z ]+)`", documented[1]))  # `RemotePeer` has capitals, `on` stands before
    room = Path(gossipmonger.__file__).parent / "protocol"
    code = "".join(path.read_text(encoding="utf-8") for path in room.glob("*.py"))
    assert set(listed) == set(re.findall(r'[Ee]vent\(\(?"([a-z ]+)"', code))


def test_the_make_targets_it_names_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"make ([a-z-]+)", README)
    assert {"demo", "test"} <= set(named) <= targets


def test_the_files_it_names_are_there() -> None:
    for name in ("docs", "CHANGELOG.md", "CONTRIBUTING.md"):
        assert f"`{name}" in README
        assert (ROOT / name).exists()
