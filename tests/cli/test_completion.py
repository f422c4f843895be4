from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import Running, agent, process_environment, run

pytest.importorskip("argcomplete")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    done = run("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "gossipmonger" in done.out


def test_bash_takes_its_script() -> None:
    script = run("completion", "bash").out
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def complete(line: str, *more: str) -> set[str]:
    """What a shell is offered for a line, as argcomplete's script asks for it."""
    read, write = os.pipe()
    environ = process_environment(
        _ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_IFS="\n", _ARGCOMPLETE_SUPPRESS_SPACE="1",
        _ARGCOMPLETE_STDOUT_FILENAME=f"/dev/fd/{write}", GOSSIPMONGER_SOCKET=more[0] if more else "/none",
    )  # fmt: skip
    program = "import sys; from gossipmonger.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", program], env=environ, pass_fds=[write], timeout=60, check=False)
    os.close(write)
    with open(read, encoding="utf-8") as said:
        return {word.strip() for word in said.read().split("\n")}


def test_commands_and_options_are_completed() -> None:
    assert complete("gossipmonger ke") == {"keys", "keygen", "keyring"}
    assert "--check-config" in complete("gossipmonger agent --ch")


def test_nodes_and_keys_are_those_that_the_agent_knows(tmp_path: Path) -> None:
    def ask(line: str, of: Running) -> set[str]:
        return complete(line, of.socket)

    with agent(tmp_path, "web-1", values={"role": "web", "release": 5, "\x1b": 1}) as a:
        assert ask("gossipmonger get r", a) == {"role", "release"}
        assert ask("gossipmonger get role --peer w", a) == {"web-1"}
    assert complete("gossipmonger get r", str(tmp_path / "none")) == {""}


def test_without_argcomplete_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    done = run("completion", "bash")
    assert done.code == 2
    assert "pip install 'gossipmonger[cli]'" in done.err
