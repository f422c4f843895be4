"""Types: right programs pass, planted mistakes are found by mypy and by pyright, and every public name has a type."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pyee
import pytest

import gossipmonger
from gossipmonger import Options, OptionsDict, PeerView
from gossipmonger.endpoint.events import EVENTS
from gossipmonger.state.message import State

ROOT = Path(gossipmonger.__file__).parent.parent

#: What a program may write. A line that ends with "# wrong" is a mistake, and nothing else is.
PROGRAM = '''
from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Literal

from gossipmonger import Gossipmonger, MemoryStorage, Peer, PeerView, RemotePeer, Storage, TcpTransport, UdpTransport
from gossipmonger.storage import StorageLike
from gossipmonger.transport import TransportLike


class Shelf:
    """A storage that inherits nothing."""

    def get(self, id: str) -> Peer | None: ...
    def put(self, id: str, peer: Peer) -> None: ...
    def live_peers(self) -> list[Peer]:
        return []
    def dead_peers(self) -> list[Peer]:
        return []


class Pigeons:
    """A transport with the Node.js package's interface."""

    def digest(self, remote_peer: RemotePeer, local_peer: RemotePeer, digest: list[dict[str, Any]]) -> None: ...
    def deltas(self, remote_peer: RemotePeer, local_peer: RemotePeer, deltas: list[list[Any]]) -> None: ...
    def on(self, event: str, f: Callable[..., Any]) -> None: ...


class Box:
    def get(self, id: str) -> Peer | None: ...


storages: list[StorageLike] = [Shelf(), MemoryStorage()]
transports: list[TransportLike] = [Pigeons(), TcpTransport(port=0), UdpTransport(port=0)]

node = Gossipmonger({"id": "a"}, {"GOSSIP_INTERVAL": 500}, gossip_interval=500, seeds=[{"id": "b", "transport": {}}])
Gossipmonger({"id": "a"}, gossip_interval=timedelta(seconds=1), storage=Shelf(), transport=Pigeons())
Gossipmonger({"id": "a"}, storage=MemoryStorage(), transport=TcpTransport(port=0), executor=ThreadPoolExecutor())
Gossipmonger({"id": "a"}, gosip_interval=500)  # wrong
Gossipmonger({"id": "a"}, gossip_interval="500")  # wrong
Gossipmonger({"id": "a"}, gossip_fanout=1.5)  # wrong
Gossipmonger({"id": "a"}, delta_order="width")  # wrong
Gossipmonger({"id": "a"}, storage=Box())  # wrong
Gossipmonger({"id": "a"}, transport=Box())  # wrong
Gossipmonger("a")  # wrong


@node.on("update")
def updated(peer_id: str, key: str, value: Any) -> None: ...


@node.on("delete")
def deleted(peer_id: str, key: str) -> None: ...


@node.once("peer dead")
def died(peer: RemotePeer) -> int:
    return len(peer.id)


@node.listens_to("error")
def failed(error: Exception) -> None: ...


@node.on("updat")  # wrong
def misspelt(peer_id: str, key: str, value: Any) -> None: ...


@node.on("update")  # wrong
def too_few(peer_id: str, key: str) -> None: ...


@node.once("error")  # wrong
def another(error: RemotePeer) -> None: ...


updated("b", "k", 1)
updated("b", "k")  # wrong
node.on("update", updated)
node.on("update", lambda peer_id, key, value: print(peer_id.upper(), key.upper(), value))
node.on("new peer", lambda peer: print(peer.id, peer.transport))
node.on("deltas receive", lambda peer, deltas: print(peer.id, deltas[0][0]))
node.on("digest send", lambda peer, digest: print(peer.id, digest[0]["id"]))
node.on("unknown peer", lambda peer_id: print(peer_id.upper()))
node.add_listener("peer left", died)
node.on("new peer", updated)  # wrong
node.on("peer_dead", died)  # wrong
node.on("delete", lambda peer_id, key, value: None)  # wrong
node.add_listener("update", deleted)  # wrong

view = node.peer("b")
view.id  # wrong
if view is not None:
    state: Literal["live", "dead", "left"] = view.state
    two: Literal["live", "dead"] = view.state  # wrong
    number: int = view.phi  # wrong
node.update(5, 1)  # wrong
node.get("b")  # wrong
changed: bool = node.update("k", [1, {"a": None}])
views: dict[str, PeerView] = node.peers()
node.wait(timedelta(seconds=1))
node.wait("1")  # wrong
node.peer("b").id  # wrong
'''

WRONG = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a checker on the program."""
    folder = tmp_path_factory.mktemp("types")
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        # pyright finds the package here as if it were installed beside pyee; of an editable install it knows nothing.
        path = os.pathsep.join([str(ROOT), str(Path(pyee.__file__).parent.parent)])
        environment = {**os.environ, "PYTHONPATH": path, "MYPYPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    for checker in ("mypy", "pyright"):
        if run(checker, "--version").returncode:
            pytest.skip(f"no {checker} here: `make install` brings it, if there is a network")
    return run


def found(output: str) -> set[int]:
    """The lines of the program that a checker complains about."""
    return {int(number) for number in re.findall(r"program\.py:(\d+):.*error", output)}


def test_mypy_finds_the_planted_mistakes_and_no_others(run: Run) -> None:
    checked = run("mypy", "--strict", "--strict-equality", "--cache-dir", ".mypy_cache", "program.py")
    assert found(checked.stdout) == WRONG, checked.stdout


def test_pyright_finds_the_planted_mistakes_and_no_others(run: Run) -> None:
    checked = run("pyright", "--pythonpath", sys.executable, "program.py")
    assert found(checked.stdout) == WRONG, checked.stdout


def test_every_public_name_has_a_type(run: Run) -> None:
    checked = run("pyright", "--pythonpath", sys.executable, "--verifytypes", "gossipmonger", "--ignoreexternal")
    assert "Type completeness score: 100%" in checked.stdout, checked.stdout


# What the types say is what happens


def test_the_options_are_those_that_are_taken() -> None:
    assert list(OptionsDict.__annotations__) == [option.name for option in fields(Options)]


def test_each_event_is_typed() -> None:
    source = (ROOT / "gossipmonger" / "endpoint" / "events.py").read_text(encoding="utf-8")
    assert {name for names in re.findall(r"Literal\[(.*?)\]", source) for name in re.findall(r'"(.*?)"', names)} == {*EVENTS}


def test_a_state_is_one_of_those_that_are_told() -> None:
    assert get_args(State) == ("live", "dead", "left")
    assert get_type_hints(PeerView)["state"] == State
