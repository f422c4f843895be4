from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest

from gossipmonger import Gossipmonger
from gossipmonger.cli.outcome import ABSENT, USAGE, CommandError
from gossipmonger.cli.services import serve_web
from tests.cli.commands import agent


@pytest.fixture
def taken() -> Iterator[dict[str, Any]]:
    """An address at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"host": "127.0.0.1", "port": server.getsockname()[1]}


def free() -> dict[str, Any]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return {"host": "127.0.0.1", "port": server.getsockname()[1]}


def refused(folder: Path, code: int, said: str, **settings: Any) -> None:
    with pytest.raises(CommandError, match=said) as error:
        with agent(folder, **settings):
            pass
    assert error.value.code == code


def test_metrics_are_served_until_the_agent_ends(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    address = free()
    with agent(tmp_path, metrics=address):
        with urlopen(f"http://127.0.0.1:{address['port']}/metrics", timeout=30) as page:
            text = page.read().decode()
    assert "gossipmonger_peers{" in text
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{address['port']}/metrics", timeout=30)


def test_an_address_that_is_taken_is_one_line(tmp_path: Path, taken: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path, ABSENT, "can't serve metrics at 127.0.0.1:", metrics=taken)

    def serve(node: object, host: str, port: int) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setitem(sys.modules, "gossipmonger.web", module := ModuleType("gossipmonger.web"))
    monkeypatch.setattr(module, "serve", serve, raising=False)
    refused(
        tmp_path, ABSENT, "can't serve the page at 127.0.0.1:1: Address already in use", web={"host": "127.0.0.1", "port": 1}
    )


def test_the_page_is_served_until_the_agent_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def serve(node: Any, host: str, port: int) -> Any:
        told.append((node.local_peer.id, host, port))
        return SimpleNamespace(url="http://x/", close=lambda: told.append("ended"))

    monkeypatch.setitem(sys.modules, "gossipmonger.web", module := ModuleType("gossipmonger.web"))
    monkeypatch.setattr(module, "serve", serve, raising=False)
    with agent(tmp_path, web={"host": "127.0.0.1", "port": 8042}):
        assert told == [("a", "127.0.0.1", 8042)]
    assert told[-1] == "ended"


@pytest.mark.parametrize(("host", "warned"), [("", False), ("127.0.0.1", False), ("0.0.0.0", True)])
def test_it_is_said_where_the_page_is(host: str, warned: bool) -> None:
    said: list[str] = []
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}) as node:
        end = serve_web(node, {"host": host, "port": 0}, said.append)
        try:
            url = said[0].split()[4].rstrip(";")
            with urlopen(url.replace("0.0.0.0", "127.0.0.1") + "healthz", timeout=30) as answer:
                assert json.load(answer)["status"] == "ok"
        finally:
            end()
    assert url.startswith(f"http://{host or '127.0.0.1'}:")
    assert ("guard the port" in said[0]) == warned


@pytest.mark.parametrize(
    ("module", "setting", "said"),
    [
        ("gossipmonger.web", "web", "this version of gossipmonger has no page to serve"),
        ("prometheus_client", "metrics", r"pip install 'gossipmonger\[prometheus\]'"),
    ],
)
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, setting: str, said: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    refused(tmp_path, USAGE, said, **{setting: {"host": "127.0.0.1", "port": 1}})
