"""Ping, against nodes and against what is none."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gossipmonger.wire import hello
from tests.cli.commands import agent, in_thread, run


@contextlib.contextmanager
def server(answer: bytes | None, hang_up: bool = False) -> Iterator[str]:
    """Answer one connection with these bytes; with None, with nothing at all, and stay."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def serve() -> None:
            connection, _ = listener.accept()
            kept.append(connection)
            if not hang_up:
                connection.recv(1000)
            if answer is not None:
                connection.sendall(answer)
            if answer is not None or hang_up:
                connection.shutdown(socket.SHUT_RDWR)

        thread = in_thread(serve)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()
        for connection in kept:
            connection.close()


def test_a_node_is_told_step_by_step(tmp_path: Path) -> None:
    with agent(tmp_path, "a", cluster="prod") as a:
        done = run("ping", a.address, "--cluster", "prod")
        known = a.agent.node.peers()
    assert done.code == 0
    assert re.search(r"^dialled  127\.0\.0\.1:\d+ accepted within [\d.]+ ms$", done.out, re.MULTILINE)
    assert re.search(r"^wire     gossipmonger, frames of version 1$", done.out, re.MULTILINE)
    assert re.search(r"^cluster  is prod, as here$", done.out, re.MULTILINE)
    assert re.search(rf"^node     a, which tells others to reach it at {a.address}$", done.out, re.MULTILINE)
    assert re.search(r"^sees you come from 127\.0\.0\.1:\d+$", done.out, re.MULTILINE)
    assert done.err == ""
    assert [*known] == ["a"]  # nothing is left of who has asked


def test_as_json_it_is_one_object(tmp_path: Path) -> None:
    with agent(tmp_path, "a") as a:
        found = json.loads(run("ping", a.address, "--json").out)
    assert found.items() >= {"address": a.address, "node": "a", "wire": 1, "cluster": None, "ok": True}.items()


@pytest.mark.parametrize(
    ("theirs", "flags", "said"),
    [
        ("prod", [], "its own is prod, and you gave no --cluster; use --cluster prod"),
        ("prod", ["--cluster", "test"], "and you asked as one of 'test'; use --cluster prod"),
        (None, ["--cluster", "test"], "its own has no name, and you asked as one of 'test'; leave --cluster out"),
    ],
)
def test_another_cluster_is_said(tmp_path: Path, theirs: str | None, flags: list[str], said: str) -> None:
    with agent(tmp_path, "a", cluster=theirs) as a:
        done = run("ping", a.address, *flags)
    assert done.code == 1
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_port_where_nobody_listens_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    done = run("ping", address)
    assert done.code == 3
    assert done.out == f"dialled  {address}: refused\n"
    assert "the host is up, but nothing listens at this port; start the agent, or check its --listen" in done.err
    assert json.loads(run("ping", address, "--json").out).items() >= {"ok": False}.items()


def test_a_firewall_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: object, address: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "socket", type("Socket", (socket.socket,), {"connect": never}))
    done = run("ping", "127.0.0.1", "--timeout", "1s")
    assert done.code == 3
    assert "did not answer within 1 s: the host is down, or a firewall drops what comes to this port" in done.err


def test_a_name_without_an_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    done = run("ping", "a.example")
    assert (done.code, done.out) == (3, "")
    assert "no address of the name 'a.example': Name or service not known; check how it is spelled" in done.err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not a gossipmonger node but a web server: it answered"),
        (b"\x1b[2J\0", "is not a gossipmonger node but something else"),
        (b"", "accepted, but did not answer a HELLO: it is a Node.js node"),
        (b'{"hello":{"version":0}}\n', "hello must be an object with a version"),
    ],
)
def test_what_is_no_node_is_said(answer: bytes, said: str) -> None:
    with server(answer) as address:
        done = run("ping", address)
    assert done.code == 1
    assert said in done.err
    assert done.err.rstrip("\n").isprintable()


def test_silence_is_said() -> None:
    with server(None) as address:
        done = run("ping", address, "--timeout", "100ms")
    assert done.code == 1
    assert "did not answer a HELLO" in done.err


def test_a_hostile_node_is_printed_escaped() -> None:
    from gossipmonger import RemotePeer

    evil = RemotePeer("\x1b[2J\n", {"host": "\x1b[2J", "port": 1})
    with server(hello(evil, "x", "\x1b[2J")) as address:
        done = run("ping", address)
    assert done.code == 1
    assert [character for character in done.out + done.err if not (character.isprintable() or character == "\n")] == []


@pytest.mark.parametrize("address", ["", "0.0.0.0:9742", "a:b", "http://a"])
def test_an_impossible_address_is_wrong_usage(address: str) -> None:
    done = run("ping", address)
    assert done.code == 2
    assert "HOST:PORT must be a host that can be connected to" in done.err
