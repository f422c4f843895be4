"""The page on asyncio: its FastAPI program runs as written, in a test client and under uvicorn."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gossipmonger import Gossipmonger

from .cluster import free_ports
from .programs import LIMIT, ROOT, Program, python_in

PAGE = ROOT / "docs" / "asyncio.md"

#: How a browser begins to follow.
UPGRADE = (
    b"GET /changes HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

pytestmark = pytest.mark.untraced


@pytest.fixture
def seed() -> Iterator[Gossipmonger]:
    with Gossipmonger({"id": "seed", "transport": {"host": "127.0.0.1", "port": 0}}, gossip_interval=200) as seed:
        seed.on("error", lambda error: None)
        yield seed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The program, in the file that the page names."""
    (program,) = [each for each in python_in(PAGE) if "FastAPI" in each]
    assert "`api.py`" in PAGE.read_text(encoding="utf-8")
    path = tmp_path / "api.py"
    path.write_text(program, encoding="utf-8")
    return path


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("api", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:Using `httpx`")
def test_the_lifespan_starts_a_node_and_closes_it(seed: Gossipmonger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    monkeypatch.setenv("SEEDS", f"127.0.0.1:{seed.transport.port}")
    app = load(path).app
    with TestClient(app) as client:
        node: Gossipmonger = app.state.node
        id = node.local_peer.id
        assert client.put("/load/0.5").status_code == 200
        assert seed.wait_for_key("load", id, timeout=LIMIT) == 0.5
        assert client.get("/load").json() == {id: 0.5}
        with client.websocket_connect("/changes") as browser:
            assert browser.receive_json() == [id, "load", 0.5, "set"]
            seed.update("load", 2)
            assert browser.receive_json() == ["seed", "load", 2, "set"]
            node.update("load", 1)
            assert browser.receive_json() == [id, "load", 1, "set"]
        assert client.get("/load").json() == {id: 1, "seed": 2}
    assert node.closed
    seed.wait_for(lambda: seed.peer(id).state == "left", LIMIT)  # type: ignore[union-attr]


def test_under_uvicorn(seed: Gossipmonger, path: Path) -> None:
    (port,) = free_ports(1)
    (command,) = re.findall(r"run `uvicorn (\S+)`", PAGE.read_text(encoding="utf-8"))
    arguments = [sys.executable, "-m", "uvicorn", command, "--port", str(port)]
    with Program(arguments, path.parent, SEEDS=f"127.0.0.1:{seed.transport.port}") as server:
        server.expect(lambda line: "startup complete" in line)
        (id,) = [each for each in seed.wait_for_peers(2, LIMIT) if each != "seed"]
        assert seed.wait_for_key("role", id, timeout=LIMIT) == "api"
        seed.update("load", 3)
        seed.flush(LIMIT)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/load", timeout=10) as answer:
            assert answer.read() == b'{"seed":3}'
        with socket.create_connection(("127.0.0.1", port), LIMIT) as browser:  # which does not go by itself
            browser.sendall(UPGRADE)
            received = b""
            while b'["seed","load",3,"set"]' not in received:
                received += (new := browser.recv(4096))
                assert new, received
            server.end(signal.SIGTERM)
        seed.wait_for(lambda: seed.peer(id).state == "left", LIMIT)  # type: ignore[union-attr]
    assert not [line for line in server.lines if "Traceback" in line]


def test_the_bridge_ends_with_the_node(path: Path) -> None:
    changes = load(path).changes
    node = Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}})
    node.update("load", 1)

    async def follow() -> list[Any]:
        return [await asyncio.to_thread(_close, node, change) async for change in changes(node, "load")]

    assert asyncio.run(asyncio.wait_for(follow(), LIMIT)) == [("a", "load", 1, "set")]


def _close(node: Gossipmonger, change: Any) -> Any:
    node.close()
    return change


def test_the_page_shows_one_bridge() -> None:
    """What is run with the documentation and what is in the program are the same lines."""
    bridges = re.findall(r"^async def changes.*?(?=^\S|^$\n^\S|\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(bridges) == 2
    assert len({each.strip() for each in bridges}) == 1
