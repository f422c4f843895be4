from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.cli.outcome import CommandError
from gossipmonger.cli.output import Output, PipeClosedError, json_text, name, value_text
from tests.cli.commands import process_environment

#: What a hostile node may call itself.
HOSTILE = ["\x1b[2J", "a\nb", "\x9b31m", "\u202eabc", "\0", "\ud800", "a\x7f", "\x85", "\u2028"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("text", HOSTILE)
def test_control_characters_are_escaped(text: str) -> None:
    for shown in (name(text), json_text(text), value_text(text), value_text({text: [text]})):
        assert shown.isascii()
        assert shown.isprintable()


@given(st.text())
def test_a_name_is_printable_and_can_be_told_from_any_other(text: str) -> None:
    shown = name(text)
    assert shown.isprintable()
    assert shown == text or shown == json_text(text)
    assert shown != text or not shown.startswith('"')


@pytest.mark.parametrize(("text", "shown"), [("web-1", "web-1"), ("käse", "käse"), ("", '""'), ("a b", '"a b"')])
def test_a_name_is_one_word(text: str, shown: str) -> None:
    assert name(text) == shown


def test_a_long_value_is_cut_in_lines_of_many() -> None:
    assert value_text("x" * 1000).endswith("... (1002 characters)")
    assert len(value_text("x" * 1000, short=False)) == 1002


def test_a_table_is_as_wide_as_its_cells_and_colours_only_what_it_is_told_to() -> None:
    out = Terminal()
    Output(out, None, {}).table(("ID", "STATE"), [("a", "live"), ("bbb", "dead")], meaning=1)
    assert out.getvalue().splitlines() == ["\x1b[1mID   STATE\x1b[0m", "a    \x1b[32mlive \x1b[0m", "bbb  \x1b[31mdead \x1b[0m"]


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(environ: dict[str, str]) -> None:
    assert Output(Terminal(), None, environ).paint("x", "dead") == "x"


def test_there_are_no_colours_in_a_file_and_in_json() -> None:
    assert Output(io.StringIO(), None, {}).paint("x", "dead") == "x"
    assert Output(Terminal(), None, {}, as_json=True).paint("x", "dead") == "x"
    assert Output(Terminal(), None, {"NO_COLOR": ""}).colour  # an empty variable says nothing


def test_a_terminal_that_knows_only_ascii_gets_no_more() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(stream, None, {}).line("käse")
    assert raw.getvalue() == b"k\\xe4se\n"


def test_nowhere_is_silent() -> None:
    output = Output(None, None, {})
    output.line("x")
    output.note("y")
    assert not output.terminal


def test_a_reader_that_has_gone_ends_the_command() -> None:
    output = Output(Broken(BrokenPipeError()), None, {})
    with pytest.raises(PipeClosedError):
        output.line("x")
    output.line("and nothing follows")


def test_a_full_disk_is_said() -> None:
    with pytest.raises(CommandError, match=r"can't write the output: .*No space left"):
        Output(Broken(OSError(28, "No space left on device")), None, {}).line("x")


def test_a_note_that_nobody_can_read_is_no_error() -> None:
    output = Output(None, Broken(OSError()), {})
    output.note("x")
    output.note("y")


def shell(command: str) -> subprocess.CompletedProcess[str]:
    given: Any = {"capture_output": True, "text": True, "timeout": 60, "env": process_environment(PYTHON=sys.executable)}
    return subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], check=False, **given)


def test_head_ends_it_silently() -> None:
    done = shell('"$PYTHON" -m gossipmonger localtest --interval 100ms | head -n 2')
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 2)


def test_a_closed_stdout_is_silent() -> None:
    done = shell('"$PYTHON" -m gossipmonger --help >&-')
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_device_is_one_line() -> None:
    done = shell('"$PYTHON" -m gossipmonger --help >/dev/full')
    assert (done.returncode, done.stderr) == (1, "gossipmonger: can't write the output: [Errno 28] No space left on device\n")
