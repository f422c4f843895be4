"""The programs of `examples/tls`, run as the page on security says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .cluster import free_ports
from .programs import LIMIT, ROOT, Program

EXAMPLE = ROOT / "examples" / "tls"

#: The commands of the page, in their order, without the one that installs the package.
COMMANDS = re.findall(r"^    (python [^\n]+)$", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"), re.MULTILINE)

pytestmark = pytest.mark.untraced


def command(text: str, directory: Path, ports: dict[str, str]) -> list[str]:
    """What the page says, with free ports and a directory of the test's own."""
    for told, free in ports.items():
        text = text.replace(told, free)
    _, program, *arguments = shlex.split(text)
    return [sys.executable, str(EXAMPLE / program), *(str(directory) if each == "certificates" else each for each in arguments)]


def test_two_nodes_with_certificates_of_their_own_authority_meet_and_renew(tmp_path: Path) -> None:
    ports = dict(zip(("9742", "9743"), map(str, free_ports(2)), strict=True))
    make, first, second, renew = COMMANDS
    made = subprocess.run(command(make, tmp_path, ports), capture_output=True, text=True, timeout=LIMIT)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.split() == [str(tmp_path / name) for name in ("a.pem", "a.key", "b.pem", "b.key")]
    assert (tmp_path / "a.key").stat().st_mode & 0o077 == 0
    strict = {"PYTHONWARNINGS": "error"}
    with (
        Program(command(first, tmp_path, ports), ROOT, **strict) as a,
        Program(command(second, tmp_path, ports), ROOT, **strict) as b,
    ):
        a.expect_all("met b", f"b port {ports['9743']}")
        b.expect_all("met a", f"a port {ports['9742']}")
        assert subprocess.run(command(renew, tmp_path, ports), timeout=LIMIT, stdout=subprocess.DEVNULL).returncode == 0
        a.expect("renewed")
        assert not [line for line in (*a.lines, *b.lines) if line.startswith("error: TLS") or "Traceback" in line]


@pytest.mark.parametrize("program", ["certificates.py", "node.py"])
def test_without_arguments_they_say_what_they_want(program: str) -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE / program)], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1
    assert f"python {program} DIRECTORY" in done.stderr
