"""The parser, its arguments and its lessons: each example of `--help` is one that is taken."""

from __future__ import annotations

import re
import shlex

import pytest

from gossipmonger.cli.arguments import ARGUMENTS
from gossipmonger.cli.lessons import LESSONS
from gossipmonger.cli.parser import COMMANDS, make_parser
from tests.cli.commands import run

EXAMPLES = [(command, line.strip()) for command, (_, examples) in LESSONS.items() for line in examples.strip().splitlines()]


def test_each_command_has_arguments_and_a_lesson() -> None:
    assert list(COMMANDS) == list(LESSONS)
    assert {*COMMANDS} == {*ARGUMENTS}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command: str) -> None:
    done = run(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert f"usage: gossipmonger {command}" in done.out
    assert "examples:\n  " in done.out
    assert "--json" in done.out
    assert max(map(len, done.out.splitlines())) <= 110


@pytest.mark.parametrize(("command", "line"), EXAMPLES)
def test_each_example_is_taken(command: str, line: str) -> None:
    found = re.search(r"gossipmonger [a-z].*?(?= +(\||&&|>|in ~)|   |\)|$)", line)
    assert found is not None
    words = shlex.split(found[0])
    assert make_parser().parse_args(words[1:]).command in COMMANDS
    assert command in line


def test_help_lists_the_commands_and_exit_codes() -> None:
    done = run("--help")
    assert all(f"\n  {command} " in done.out for command in COMMANDS)
    assert "exit codes: 0 success; 1 absent or false; 2 wrong usage; 3 no agent" in done.out
    assert run("-h") == done


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "give a command; `gossipmonger --help` lists them"),
        (["membrs"], "unknown command 'membrs'; did you mean 'members'?"),
        (["\x1b[2J"], "unknown command "),
        (["get"], "required: KEY (`gossipmonger get --help` says more)"),
        (["members", "--sed", "x"], "unrecognized arguments: --sed x"),
        (["members", "--jsn"], "unrecognized arguments: --jsn; did you mean --json? (`gossipmonger members --help` says more)"),
        (["--json", "members"], "; the command comes first, and options such as '--json' after it"),
        (["--socket", "x", "members"], "unknown command 'x'; the command comes first, and options such as '--socket' after it"),
        (["wait", "x", "--timeout", "-1s"], "one that begins with - is given as --timeout=VALUE"),
        (["set", "load", "-x"], "required: VALUE; those that begin with - come after -- "),
        (["members", "--socket", ""], "--socket '' names no agent: leave it out, or ask any node with --seed HOST:PORT"),
        (["localtest", "--interval", "0s"], "--interval: gossip_interval must be from 1 to 86400000 ms, got 0.0"),
        (["agent", "--set", "role"], "must be NAME=VALUE, got 'role'"),
        (["wait", "--timeout", "5"], "must be a duration such as 250ms, 1s or 5m, got '5'; with a unit it is 5s or 5ms"),
        (["wait", "--peers", "0"], "must be a number of at least 1, got '0'"),
        (["watch", "--count", "x"], "must be a number of at least 1, got 'x'"),
        (["members", "--state", "gone"], "invalid choice: 'gone'"),
        (["localtest", "--web", "localhost"], "must be an address with a port, such as '127.0.0.1:8042'"),
        (["localtest", "--web", "http://x"], "must be an address to bind"),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_to_do(argv: list[str], said: str) -> None:
    done = run(*argv)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.rstrip("\n").isprintable()
