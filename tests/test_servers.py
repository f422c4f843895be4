"""The programs of the page on forking, run as that page says: each worker of each server has a node, and says goodbye."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gossipmonger import Gossipmonger

from .cluster import free_port

SERVERS = Path(__file__).parent.parent / "examples" / "servers"
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.untraced, pytest.mark.skipif(os.name != "posix", reason="these servers run on POSIX alone")]


class Seed:
    """The node that the programs are told of, and what it sees."""

    def __init__(self) -> None:
        self.node = Gossipmonger({"id": "seed", "transport": {"host": "127.0.0.1", "port": 0}}, gossip_interval=200)
        self.node.on("error", lambda error: None)
        self.node.transport.listen()
        self.node.gossip()
        self.address = f"127.0.0.1:{self.node.transport.port}"

    def states(self, role: str) -> list[str]:
        return [peer.state for peer in self.node.peers().values() if peer.data.get("role") == role]


@pytest.fixture
def seed() -> Iterator[Seed]:
    seed = Seed()
    yield seed
    seed.node.close()


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    idle, deadline = threading.Event(), time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline or process.poll() is not None:
            process.kill()
            pytest.fail(process.communicate()[0])
        idle.wait(0.05)


def run(seed: Seed, role: str, command: list[str], check: Callable[[], object] = lambda: None) -> None:
    """Run a server until two of its processes are there, and end it."""
    environment = {**os.environ, "SEEDS": seed.address, "PYTHONPATH": f"{SERVERS}{os.pathsep}{SERVERS.parent.parent}"}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process: subprocess.Popen[str] = subprocess.Popen(command, cwd=SERVERS, env=environment, **output)  # type: ignore[call-overload]
    try:
        until(lambda: seed.states(role) == ["live"] * 2, process)
        check()
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[0]
        assert process.returncode == 0, said
        assert "Traceback" not in said
        assert sorted(seed.states(role)) == ["left"] * 2, said
    finally:
        process.kill()
        process.communicate()


def ask(port: int) -> Callable[[], None]:
    def check() -> None:
        idle, deadline = threading.Event(), time.monotonic() + 30
        while True:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            if len(lines) == 2:
                break
            assert time.monotonic() < deadline, lines
            idle.wait(0.1)
        assert all(line.endswith(" live") for line in lines)

    return check


def test_gunicorn(seed: Seed) -> None:
    port = free_port()
    run(seed, "web", [str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{port}"], ask(port))


def test_uwsgi(seed: Seed) -> None:
    port = free_port()
    run(seed, "web", [str(BIN / "uwsgi"), "--ini", "uwsgi.ini", "--http-socket", f"127.0.0.1:{port}"], ask(port))


def test_celery(seed: Seed, tmp_path: Path) -> None:
    run(seed, "jobs", [str(BIN / "celery"), "--app", "jobs", "worker", "--concurrency", "2", "--loglevel", "WARNING"])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(seed: Seed, method: str) -> None:
    environment = {**os.environ, "SEEDS": seed.address, "PYTHONPATH": str(SERVERS.parent.parent)}
    command = [sys.executable, "processes.py", method]
    done = subprocess.run(command, cwd=SERVERS, env=environment, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Traceback" not in done.stderr  # one that ends first may be a line of the other's log
    assert seed.states("process") == ["left"] * 2
