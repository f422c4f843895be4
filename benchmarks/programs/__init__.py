"""Programs that run in processes of their own, in three kinds: the Node original, ours on `pyee` alone, ours with `msgspec`.

A program is told its configuration by its one argument and what to do by lines of JSON on stdin, and answers each with a line
on stdout. It ends when its stdin does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = [
    "FAST",
    "NAMES",
    "ORIGINAL",
    "PLAIN",
    "Program",
    "bind",
    "cores",
    "free_ports",
    "kinds",
    "missing",
    "start",
]

ORIGINAL = "original"
PLAIN = "plain"
FAST = "fast"

#: What tables call them.
NAMES = {ORIGINAL: "the original", PLAIN: "ours, pyee alone", FAST: "ours, msgspec"}

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_MODULES = _ROOT / "tests" / "node" / "node_modules"

#: Runs a module as if there were no msgspec.
_WITHOUT_MSGSPEC = (
    "import runpy, sys; sys.modules['msgspec'] = None; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def missing() -> dict[str, str]:
    """Return the kinds that can't be run here, and why."""
    reasons = {}
    if shutil.which("node") is None:
        reasons[ORIGINAL] = "there is no node"
    elif not (_MODULES / "gossipmonger").exists():
        reasons[ORIGINAL] = "its npm package is not installed in tests/node"
    if importlib.util.find_spec("msgspec") is None:
        reasons[FAST] = "msgspec is not installed"
    return reasons


def kinds() -> list[str]:
    """Return the kinds that can be run here."""
    reasons = missing()
    return [kind for kind in (ORIGINAL, PLAIN, FAST) if kind not in reasons]


def cores() -> tuple[int | None, int | None]:
    """Return two cores, for what is measured and for what measures; None where a process can't be bound to one."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    there = sorted(os.sched_getaffinity(0))
    return there[0], there[-1]


def bind(pid: int, core: int | None) -> None:
    """Bind a process to a core, if there is one to bind it to."""
    if core is not None:
        os.sched_setaffinity(pid, {core})


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at, below those that systems give to outgoing connections."""
    ports: set[int] = set()
    while len(ports) < count:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            ports.add(port)
    return [*ports]


class Program:
    """A process that answers lines of JSON. Use it with `with`: it is killed at the end.

    Args:
        command: What to run.
        core: The core to bind it to, None for any.
    """

    def __init__(self, command: list[str], core: int | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "NODE_PATH": str(_MODULES), "PYTHONPATH": str(_ROOT)},
        )
        bind(self.process.pid, core)

    def ask(self, **request: Any) -> Any:
        """Send a line, wait for the answer, return it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> Any:
        """Wait for a line, return it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Program:
        """Nothing begins."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()


def start(kind: str, name: str, core: int | None = None, **config: Any) -> Program:
    """Start the program `name` of a kind and wait until it says that it is ready."""
    if kind == ORIGINAL:
        command = ["node", "--max-old-space-size=8192", "--expose-gc", str(_HERE / f"{name}.js")]
    elif kind == PLAIN:
        command = [sys.executable, "-c", _WITHOUT_MSGSPEC, f"benchmarks.programs.{name}"]
    else:
        command = [sys.executable, "-m", f"benchmarks.programs.{name}"]
    program = Program([*command, json.dumps(config)], core)
    try:
        program.hear()
    except BaseException:
        program.__exit__()
        raise
    return program
