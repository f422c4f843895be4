"""Commands that ask a node directly, as an observer that nobody knows."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossipmonger.cli import observer
from tests.cli.commands import Running, agent, run, until


@pytest.fixture(scope="module")
def a(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An agent with a neighbour."""
    folder = tmp_path_factory.mktemp("agents")
    with agent(folder, "a", values={"role": "web"}) as first:
        with agent(folder, "b", seeds=(first,), values={"role": "db", **{f"k{n}": n for n in range(500)}}):
            first.agent.node.wait_for_key("role", "b", timeout=30)
            yield first


def test_an_observer_knows_what_its_seed_knows(a: Running) -> None:
    done = run("members", "--seed", a.address)
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^a +live +127\.0\.0\.1:\d+ +[\d.]+m?s ago +[\d.]+ +1$", done.out, re.MULTILINE)
    assert re.search(r"^b +live +127\.0\.0\.1:\d+ +[\d.]+m?s ago +[\d.]+ +501$", done.out, re.MULTILINE)
    assert len(done.out.splitlines()) == 3


def test_an_observer_is_asked_as_an_agent_is(a: Running) -> None:
    assert run("get", "role", "--peer", "b", "--seed", a.address) == (0, "db\n", "")
    assert run("get", "k499", "--peer", "b", "--seed", a.address) == (0, "499\n", "")
    assert run("values", "role", "--seed", a.address, "--json").out.splitlines() == [
        '{"peer": "a", "value": "web"}', '{"peer": "b", "value": "db"}',
    ]  # fmt: skip
    assert run("wait", "--peers", "2", "--seed", a.address).code == 0
    done = run("wait", "--peers", "3", "--seed", a.address, "--timeout", "10ms")
    assert done.code == 3
    assert "3 peers wanted; 2 live" in done.err
    assert run("watch", "role", "--count", "2", "--seed", a.address).code == 0
    info = json.loads(run("info", "--seed", a.address, "--json").out)
    assert info.items() >= {"peers": {"live": 2, "dead": 0, "left": 0}, "observes": [a.address]}.items()


def test_nothing_of_it_remains(a: Running) -> None:
    run("members", "--seed", a.address)
    assert [*a.agent.node.peers()] == ["a", "b"]
    assert "observer" not in a.out.getvalue()


def test_an_observer_owns_no_keys(a: Running) -> None:
    done = run("get", "role", "--seed", a.address)
    assert (done.code, done.out) == (2, "")
    assert "say whose: --peer ID; or see all with `gossipmonger values 'role'`" in done.err


def test_a_wrong_address_is_one_line_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "_SOON", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    done = run("members", "--seed", address)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"gossipmonger: {address} refused: the host is up, but nothing listens at this port")
    assert len(done.err.splitlines()) == 1


def test_another_cluster_is_one_line(a: Running) -> None:
    done = run("members", "--seed", a.address, "--cluster", "prod")
    assert (done.code, done.out) == (3, "")
    assert "the node is of another cluster: its own has no name, and you asked as one of 'prod'" in done.err
    assert len(done.err.splitlines()) == 1
    until(lambda: "ClusterError" in a.out.getvalue())


def test_the_agents_file_says_whose_cluster(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('cluster = "prod"\nlisten = "0.0.0.0:9742"\n', encoding="utf-8")
    with agent(tmp_path, "a", cluster="prod") as a:
        assert run("members", "--seed", a.address, "--config", str(path)).code == 0


def test_an_impossible_seed_is_wrong_usage() -> None:
    done = run("members", "--seed", "0.0.0.0:9742")
    assert done.code == 2
    assert "--seed must be a host that can be connected to" in done.err
