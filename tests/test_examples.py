"""The examples, run as they say: each does what its docstring promises."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest

from gossipmonger import Gossipmonger

from .cluster import free_ports
from .programs import LIMIT, ROOT, Program

EXAMPLES = ROOT / "examples"

pytestmark = [pytest.mark.untraced, pytest.mark.skipif(os.name != "posix", reason="gunicorn and signals are POSIX's")]


def until(condition: Callable[[], object]) -> None:
    idle, deadline = Event(), monotonic() + LIMIT
    while not condition():
        assert monotonic() < deadline
        idle.wait(0.05)


@pytest.fixture
def seed() -> Iterator[Gossipmonger]:
    with Gossipmonger({"id": "seed", "transport": {"host": "127.0.0.1", "port": 0}}, gossip_interval=200) as seed:
        seed.on("error", lambda error: None)
        yield seed


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    with ExitStack() as programs:
        yield programs


# Flags


def eight_free_ports() -> int:
    """The first of eight free ports in a row."""
    for first in range(10_000 + 8 * os.getpid() % 18_000, 30_000, 8):
        with ExitStack() as probes:
            try:
                for port in range(first, first + 8):
                    probe = probes.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return first
    raise AssertionError("no eight ports in a row are free")


class Site:
    """The application with the flags."""

    def __init__(self, port: int) -> None:
        self.at = f"http://127.0.0.1:{port}"

    def call(self, method: str, path: str, value: Any = None) -> Any:
        data = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(self.at + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    def answers(self) -> dict[int, Any]:
        """What each process knows, of those that answer some requests: whichever is free takes the next one."""
        given = [self.call("GET", "/") for _ in range(20)]
        return {each["process"]: each["flags"] for each in given}

    def serves(self) -> bool:
        try:
            return bool(self.answers())
        except OSError:
            return False

    def all_know(self, flags: dict[str, Any]) -> set[int]:
        """Wait until four processes have answered, and all know the same."""
        seen: dict[int, Any] = {}

        def agreed() -> bool:
            seen.update(self.answers())
            return len(seen) >= 4 and all(each == flags for each in seen.values())

        until(agreed)
        return {*seen}


def test_four_workers_of_gunicorn_share_flags_and_one_that_is_new_has_them_too(programs: ExitStack) -> None:
    (port,) = free_ports(1)
    gunicorn = programs.enter_context(
        Program(
            [str(Path(sys.executable).parent / "gunicorn"), "--bind", f"127.0.0.1:{port}"],
            EXAMPLES / "flags",
            FIRST_PORT=str(eight_free_ports()),
        )
    )
    site = Site(port)
    until(site.serves)
    site.call("PUT", "/flags/dark", True)
    site.call("PUT", "/flags/colour", {"r": 1})
    first = site.all_know({"dark": True, "colour": {"r": 1}})
    os.kill(min(first), signal.SIGKILL)
    site.call("DELETE", "/flags/colour")
    assert len(site.all_know({"dark": True}) - first) == 1
    assert gunicorn.end(signal.SIGTERM) == 0
    assert not [line for line in gunicorn.lines if "Traceback" in line]


# A script for cron


def run_script(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / "last_run.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, cwd=EXAMPLES / "flags", env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_a_script_for_cron_tells_of_its_last_run(seed: Gossipmonger) -> None:
    began = []
    for _ in range(2):
        done = run_script(SEEDS=f"127.0.0.1:{seed.transport.port}")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        said = seed.wait_for_key("last run", "nightly backup", timeout=LIMIT)
        assert said["files"] >= 2
        began.append(said["began"])
    assert began[0] < began[1]
    seed.wait_for(lambda: seed.peer("nightly backup").state == "left", LIMIT)  # type: ignore[union-attr]
    assert seed.get("nightly backup", "last run")["began"] == began[1]


def test_a_script_for_cron_fails_if_nobody_hears_it() -> None:
    (port,) = free_ports(1)
    done = run_script(SEEDS=f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert "no node has heard of this run" in done.stderr


# Shards


def test_workers_share_out_files_and_take_those_of_one_that_goes(tmp_path: Path, programs: ExitStack) -> None:
    ports = free_ports(3)
    workers = {
        id: programs.enter_context(
            Program.python(EXAMPLES / "shards.py", tmp_path, id, port, *(f"127.0.0.1:{each}" for each in ports))
        )
        for id, port in zip("abc", ports, strict=True)
    }

    def add(names: range) -> dict[str, int]:
        for number in names:
            (tmp_path / f"{number}.todo").touch()
        until(lambda: not [*tmp_path.glob("*.todo")])
        return {id: len([*tmp_path.glob(f"*.{id}")]) for id in "abc"}

    shares = add(range(60))
    assert sum(shares.values()) == 60
    assert min(shares.values()) > 0
    workers["a"].end(signal.SIGKILL)
    after = add(range(60, 100))
    assert after["a"] == shares["a"]
    assert after["b"] + after["c"] == 100 - shares["a"]
    assert workers["b"].end() == 0


# Services


def test_a_client_finds_a_service_that_is_live_and_well(programs: ExitStack) -> None:
    ports = free_ports(2)
    seeds = [f"127.0.0.1:{port}" for port in ports]
    a, b = (
        programs.enter_context(Program.python(EXAMPLES / "services.py", "serve", id, port, *seeds))
        for id, port in zip("ab", ports, strict=True)
    )
    address = a.expect(lambda line: line.startswith("serves at ")).split()[-1]
    b.expect(lambda line: line.startswith("serves at "))

    def ask() -> str:
        client = programs.enter_context(Program.python(EXAMPLES / "services.py", "ask", "client", 0, *seeds))
        return client.expect(lambda line: line.startswith("I am "))

    assert ask() in ("I am a", "I am b")
    with urllib.request.urlopen(f"http://{address}/sick", timeout=10):
        pass
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"http://{address}/", timeout=10).close()
    assert ask() == "I am b"  # sick, so looked up no more, or refused and passed over
    with urllib.request.urlopen(f"http://{address}/well", timeout=10):
        pass
    b.end(signal.SIGKILL)
    assert ask() == "I am a"
    assert a.end() == 0


def test_the_page_shows_all_examples() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    shown = {line.split("} ../", 1)[1] for line in page.splitlines() if line.startswith("```{literalinclude}")}
    there = {path.relative_to(ROOT).as_posix() for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("flags/*.py"))}
    assert shown == there - {"examples/demo.py"}
