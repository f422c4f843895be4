from __future__ import annotations

import io
import sys

import pytest

import gossipmonger
from gossipmonger.cli import main as package_main
from gossipmonger.cli.outcome import CommandError
from tests.cli.commands import run, start


def test_the_version() -> None:
    assert run("--version") == (0, f"gossipmonger {gossipmonger.__version__}\n", "")


def test_the_package_is_a_program() -> None:
    process = start("--version")
    assert process.communicate(timeout=60) == (f"gossipmonger {gossipmonger.__version__}\n", "")
    assert process.returncode == 0


def test_the_program_is_installed_under_its_name() -> None:
    import configparser

    from tests.cli.commands import ROOT

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert setup["options.entry_points"]["console_scripts"].strip() == "gossipmonger = gossipmonger.cli:main"
    assert callable(package_main)


@pytest.mark.parametrize(("command", "code"), [("members", 130), ("watch", 0), ("events", 0)])
def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, command: str, code: int) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["gossipmonger.cli.main"], "_run", interrupted)
    assert run(command) == (code, "", "")


def test_an_error_without_words_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise CommandError("", 3)

    monkeypatch.setattr(sys.modules["gossipmonger.cli.main"], "_run", fails)
    assert run("members") == (3, "", "")


def test_the_arguments_are_those_of_the_process_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gossipmonger", "--version"])
    out = io.StringIO()
    assert package_main(stdout=out) == 0
    assert out.getvalue().startswith("gossipmonger ")
