from __future__ import annotations

import json
import queue
import socket
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gossipmonger.cli.hooks import Hook, Runner, read_hooks
from gossipmonger.cli.outcome import USAGE, CommandError
from tests.cli.commands import until

#: Appends stdin and the variables to a file.
WRITE = """
import json, os, sys
about = {name: value for name, value in os.environ.items() if name.startswith("GOSSIPMONGER_")}
with open(sys.argv[1], "a") as file:
    file.write(json.dumps([json.load(sys.stdin), about]) + "\\n")
"""


def record(event: str, **about: Any) -> dict[str, Any]:
    return {"time": "now", "event": event, **about}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "command must be a list"), ({"command": "rm -rf"}, "command must be a list"),
        ({"command": []}, "command must be a list"), ({"command": ["x"], "timeout": 5}, "timeout must be a duration"),
        ({"command": ["x"], "event": []}, "unknown key 'event' in .*; did you mean 'events'"),
        ({"command": ["x"], "events": ["peer died"]}, "events must be a list of some of new peer"),
        ({"command": ["x"], "prefix": 5}, "prefix must be a string"), ({"command": ["x", "\0"]}, "a list of texts without NUL"),
    ],
)  # fmt: skip
def test_a_wrong_hook_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(CommandError, match=said) as error:
        read_hooks([{"command": ["x"]}, table], "on_event")
    assert "on_event, number 2" in str(error.value)
    assert error.value.code == USAGE


@pytest.mark.parametrize("value", [5, [5], {}])
def test_hooks_are_a_list_of_tables(value: Any) -> None:
    with pytest.raises(CommandError, match="must be a list of tables"):
        read_hooks(value, "on_event")


def test_a_hook_is_for_its_events_and_prefix() -> None:
    hook = Hook(["x"], ["update", "peer dead"], "load/")
    assert hook.wants(record("update", peer="b", key="load/cpu"))
    assert hook.wants(record("peer dead", peer="b"))
    assert not hook.wants(record("update", peer="b", key="role"))
    assert not hook.wants(record("peer live", peer="b"))


def test_a_command_gets_the_event_and_no_control_characters_in_variables(tmp_path: Path) -> None:
    path, failures = tmp_path / "said", list[str]()
    runner = Runner(Hook([sys.executable, "-c", WRITE, str(path)]), failures.append)
    told = record("update", peer="b\n\0\x1b[2J", key="role", value="$(reboot)")
    try:
        runner.take(told)
        until(lambda: path.exists() and path.read_text(encoding="utf-8").endswith("\n"))
    finally:
        runner.close()
    said, about = json.loads(path.read_text(encoding="utf-8"))
    assert said == told
    expected = {"EVENT": "update", "PEER": '"b\\n\\u0000\\u001b[2J"', "KEY": "role"}
    assert about == {f"GOSSIPMONGER_{name}": value for name, value in expected.items()}
    assert failures == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/no/such/program"], "on_event '/no/such/program' can't be run: No such file"),
        ([sys.executable, "-c", "raise SystemExit(7)"], "ended with 7 for 'peer dead'"),
        ([sys.executable, "-c", "import threading; threading.Event().wait()"], "took more than 0.2 s and was killed"),
    ],
)
def test_a_command_that_fails_is_said_and_ends_nothing(command: list[str], said: str) -> None:
    failures, came = list[str](), threading.Semaphore(0)

    def failed(text: str) -> None:
        failures.append(text)
        came.release()

    limit = timedelta(seconds=0.2) if "wait" in command[-1] else timedelta(seconds=30)
    runner = Runner(Hook(command, timeout=limit), failed)
    try:
        for _ in range(2):
            runner.take(record("peer dead", peer="b"))
            assert came.acquire(timeout=30)
    finally:
        runner.close()
    assert len(failures) == 2
    assert all(said in failure for failure in failures)


def test_events_that_are_too_many_are_dropped_and_that_is_said() -> None:
    failures: queue.SimpleQueue[str] = queue.SimpleQueue()
    wait = """
import contextlib, socket, sys
with contextlib.suppress(OSError):
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))).recv(1)
"""
    with socket.create_server(("127.0.0.1", 0)) as gate:
        gate.settimeout(30)
        runner = Runner(Hook([sys.executable, "-c", wait, str(gate.getsockname()[1])]), failures.put)
        try:
            for _ in range(1005):
                runner.take(record("peer dead", peer="b"))
            gate.accept()[0].close()  # which ends the first command
            assert "is too slow: " in failures.get(timeout=30)
        finally:
            gate.close()  # which ends the next one
            runner.close()
