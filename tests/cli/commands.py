"""Commands as tests run them: in this process, or as a process of their own; and agents that answer them."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

from gossipmonger.cli.agent import Agent
from gossipmonger.cli.main import main
from gossipmonger.cli.output import Output
from gossipmonger.cli.settings import Settings

ROOT = Path(__file__).parent.parent.parent

#: Seconds that anything may take, on a machine that does much else.
LIMIT = 30.0


class Done(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


def run(*argv: str, environ: Mapping[str, str] | None = None, stdin: str = "") -> Done:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = main(argv, stdin=io.StringIO(stdin), stdout=out, stderr=err, environ=environ or {})
    return Done(code, out.getvalue(), err.getvalue())


def process_environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOSSIPMONGER_", "COV_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


def start(*argv: str, **keywords: Any) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": process_environment(), **keywords}
    return subprocess.Popen([sys.executable, "-m", "gossipmonger", *argv], **given)


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read what a process prints up to the line that has this text."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"{text!r} did not come, but {lines} and {process.stderr and process.stderr.read()}")


def until(condition: Any) -> None:
    """Wait until something is so."""
    deadline = monotonic() + LIMIT
    while not condition():
        assert monotonic() < deadline, "it has not come true"
        sleep(0.01)


class Running(NamedTuple):
    """An agent in this process."""

    agent: Agent
    socket: str
    out: io.StringIO
    err: io.StringIO

    @property
    def address(self) -> str:
        transport = self.agent.node.local_peer.transport
        return f"{transport['host']}:{transport['port']}"

    def run(self, *argv: str, **keywords: Any) -> Done:
        """Run a command that asks this agent."""
        return run(*argv, "--socket", self.socket, **keywords)


@contextlib.contextmanager
def agent(
    folder: Path, id: str = "a", *, seeds: tuple[Any, ...] = (), as_json: bool = False, **settings: Any
) -> Iterator[Running]:
    """Run an agent in this process, whose socket is in a folder, until the end of the block."""
    out, err = io.StringIO(), io.StringIO()
    chosen: dict[str, Any] = {
        "id": id,
        "listen": {"host": "127.0.0.1", "port": 0},
        "socket": str(folder / f"{id}.sock"),
        "seeds": [each.agent.node.local_peer.transport if isinstance(each, Running) else each for each in seeds],
        "json": as_json,
        **settings,
    }
    running = Agent(Settings(**chosen), Output(out, err, {}, as_json), {})
    try:
        running.start()
        yield Running(running, chosen["socket"], out, err)
    finally:
        running.close()


def in_thread(target: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args)
    thread.start()
    return thread
