"""Programs that never call `close`: they hand on what is new and leave when they end, whatever ends them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gossipmonger import Gossipmonger
from gossipmonger.endpoint import exit as exit_module
from gossipmonger.endpoint.exit import leave_at_exit, stay_at_exit

ROOT = Path(__file__).parent.parent.parent

#: Rounds are an hour apart, so nothing but the end of the program can have told it.
PROGRAM = """
import os, sys, threading, time
from gossipmonger import Gossipmonger
node = Gossipmonger({{"id": "job", "transport": {{"host": "127.0.0.1", "port": 0}}}}, seeds={seeds}, gossip_interval=3_600_000)
node.transport.listen()
node.gossip()
node.update("k", 1)
{end}
"""

ENDS = {
    "the end of the main thread": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("raise KeyError('nobody catches this')", 1),
    "sys.exit in a thread, and the end": ("thread = threading.Thread(target=sys.exit); thread.start(); thread.join()", 0),
    "a thread that is no daemon": (
        "threading.Thread(target=lambda: (threading.main_thread().join(), node.update('k', 1))).start()",
        0,
    ),
    "an atexit function of its own": ("import atexit; node.update('k', 0); atexit.register(lambda: node.update('k', 1))", 0),
    "a handler": ("node.on('new peer', lambda peer: None); node.on('peer left', print)", 0),
}


@pytest.fixture
def seed() -> Iterator[Gossipmonger]:
    with Gossipmonger({"id": "seed", "transport": {"host": "127.0.0.1", "port": 0}}, gossip_interval=3_600_000) as node:
        node.on("error", lambda error: None)
        yield node


def ended(seed: Gossipmonger | None, end: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    seeds = [] if seed is None else [{"id": "seed", "transport": seed.local_peer.transport}]
    program = PROGRAM.format(seeds=seeds, end=end)
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_ends_hands_on_and_leaves(seed: Gossipmonger, end: str) -> None:
    left = threading.Event()
    seed.on("peer left", lambda peer: left.set())
    statement, status = ENDS[end]
    program = ended(seed, statement)
    assert left.wait(10)
    assert seed.get("job", "k") == 1
    assert program.returncode == status
    assert program.stdout == ""
    assert ("nobody catches this" in program.stderr) if status == 1 else not program.stderr


def test_nothing_is_said_for_a_program_that_is_killed(seed: Gossipmonger) -> None:
    ended(seed, "node.flush(30); os._exit(0)")
    assert seed.get("job", "k") == 1
    assert seed.peers()["job"].state == "live"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_does_not_leave_in_its_parent_s_name(seed: Gossipmonger) -> None:
    program = ended(seed, "node.flush(30); child = os.fork(); child or sys.exit(0); os.waitpid(child, 0); os._exit(0)")
    assert program.stderr == ""
    assert seed.peers()["job"].state == "live"


def test_a_program_without_peers_ends_at_once() -> None:
    began = monotonic()
    assert ended(None, "").returncode == 0
    alone = monotonic() - began
    began = monotonic()
    assert ended(None, "os._exit(0)").returncode == 0
    assert alone - (monotonic() - began) < 5  # on a loaded machine; it takes a hundredth


# The module itself


class Leaver:
    def __init__(self, said: list[Any], fails: bool = False) -> None:
        self._said = said
        self._fails = fails

    def begin_to_hand_on(self) -> object:
        self._said.append("begins")
        if self._fails:
            raise OSError("no")
        return self

    def quit(self, begun: Any, deadline: float) -> None:
        assert begun is self
        assert deadline - monotonic() <= exit_module.PATIENCE
        self._said.append("quits")


def test_all_nodes_begin_before_the_first_waits_and_none_keeps_another_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exit_module, "_nodes", weakref.WeakKeyDictionary())
    said: list[Any] = []
    nodes = [Leaver(said), Leaver(said, fails=True), Leaver(said), Leaver(said)]
    for node in nodes:
        leave_at_exit(node)
    stay_at_exit(nodes[3])
    stay_at_exit(nodes[3])
    exit_module._leave_all()
    assert said == ["begins"] * 3 + ["quits"] * 2
    said.clear()
    monkeypatch.setattr(os, "getpid", lambda: -1)  # a child's
    exit_module._leave_all()
    assert said == []
