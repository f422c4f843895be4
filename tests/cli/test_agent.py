from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from gossipmonger.cli.agent import Agent
from gossipmonger.cli.hooks import Hook
from gossipmonger.cli.outcome import ABSENT, CommandError
from gossipmonger.cli.output import Output
from gossipmonger.cli.settings import Settings
from gossipmonger.transport.address import read_address
from tests.cli.commands import LIMIT, agent, process_environment, read_until, run, start, until


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_three_agents_know_each_other_and_their_keys(tmp_path: Path, transport: str) -> None:
    with agent(tmp_path, "a", transport=transport, values={"role": "web"}) as a:
        with agent(tmp_path, "b", seeds=(a,), transport=transport) as b, agent(tmp_path, "c", seeds=(a,)) as c:
            for each in (a, b, c):
                assert each.run("wait", "--peers", "3").code == 0
            assert c.run("set", "load", "0.5").code == 0
            assert b.run("wait", "load", "--value", "0.5", "--peer", "c").code == 0
            assert b.run("get", "role", "--peer", "a").out == "web\n"
        until(lambda: "peer left       c" in a.out.getvalue())
    assert "listening       a at 127.0.0.1:" in a.out.getvalue()


def test_events_may_be_json(tmp_path: Path) -> None:
    with agent(tmp_path, "a", as_json=True) as a, agent(tmp_path, "b", seeds=(a,), values={"role": "db"}):
        until(lambda: '"update"' in a.out.getvalue())
    records = [json.loads(line) for line in a.out.getvalue().splitlines()]
    assert records[0].items() >= {"event": "listening", "peer": "a"}.items()
    assert {"update", "new peer"} <= {record["event"] for record in records}


def test_a_node_that_nobody_can_find_is_told_how(tmp_path: Path) -> None:
    with agent(tmp_path) as a:
        assert (
            "no seeds, so nobody beyond this host can reach this agent: give the address of another node as --seed"
            in a.err.getvalue()
        )


def test_a_wrong_seed_ends_in_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    seeds = [{"host": "127.0.0.1", "port": port}]
    out = StringIO()
    lonely = Agent(
        Settings(id="a", listen={"host": "127.0.0.1", "port": 0}, seeds=seeds, socket="", options={"gossip_interval": 50}),
        Output(out, None, {}),
        {},
    )
    try:
        lonely.start()
        until(lambda: "LonelyError" in out.getvalue())
    finally:
        lonely.close()
    (line,) = [line for line in out.getvalue().splitlines() if "LonelyError" in line]
    assert f"127.0.0.1:{port} (refused, so nobody listens there)" in line
    assert f"`gossipmonger ping 127.0.0.1:{port}` says more" in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "has the id 'a' too: give each agent an --id of its own"),
        ({"cluster": "prod"}, "the node is of another cluster: its own has no name, and you asked as one of 'prod'"),
    ],
)
def test_why_nobody_is_found_is_one_line_too(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    options = {"gossip_interval": 50}
    with agent(tmp_path, "a") as a, agent(tmp_path / "2", "a", seeds=(a,), options=options, **settings) as other:
        until(lambda: said in other.err.getvalue())
        assert len(other.err.getvalue().splitlines()) == 1


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = {"host": "127.0.0.1", "port": taken.getsockname()[1]}
        with pytest.raises(CommandError, match=r"can't listen at .*another --listen") as error:
            with agent(tmp_path, listen=listen):
                pass
    assert error.value.code == ABSENT
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "ports below 1024 are for privileged users"),
        (errno.EADDRNOTAVAIL, "--listen takes an address of this machine, or 0.0.0.0 for all of them; --advertise"),
        (socket.EAI_NONAME, "--listen takes an address of this machine, or 0.0.0.0 for all of them"),
    ],
)
def test_what_else_keeps_it_from_listening_is_one_line(monkeypatch: pytest.MonkeyPatch, number: int, said: str) -> None:
    def refuse() -> None:
        raise OSError(number, "can't listen at h:1: no")

    running = Agent(Settings(id="a", socket=""), Output(None, None, {}), {})
    monkeypatch.setattr(running.node.transport, "listen", refuse)
    with pytest.raises(CommandError, match=f"^can't listen at h:1: no; {said}") as error:
        running.run()
    assert "another agent" not in str(error.value)


def test_a_socket_in_use_is_one_line(tmp_path: Path) -> None:
    with agent(tmp_path, "a"):
        with pytest.raises(CommandError, match=r"can't make the socket '.*a.sock': an agent answers there already"):
            with agent(tmp_path, "b", socket=str(tmp_path / "a.sock")):
                pass


def test_without_a_directory_for_the_socket_the_agent_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    err = StringIO()
    running = Agent(
        Settings(id="a", listen={"host": "127.0.0.1", "port": 0}),
        Output(None, err, {}),
        {"XDG_RUNTIME_DIR": str(tmp_path / "file")},
    )
    try:
        running.start()
        assert "commands can't reach this agent: can't make the directory" in err.getvalue()
    finally:
        running.close()


def test_hooks_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())", str(tmp_path / "said")]
    with agent(tmp_path, "a", on_event=[Hook(command, ["new peer"])]) as a, agent(tmp_path, "b", seeds=(a,)):
        until(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text(encoding="utf-8").endswith("\n"))
    assert json.loads((tmp_path / "said").read_text(encoding="utf-8"))["peer"] == "b"


# As a process


def flags(folder: Path, *more: str) -> list[str]:
    return ["agent", "--id", "a", "--listen", "127.0.0.1:0", "--socket", str(folder / "a.sock"), *more]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: int) -> None:
    with agent(tmp_path, "b") as b:
        process = start(*flags(tmp_path, "--seed", b.address))
        try:
            read_until(process, "new peer        b")
            process.send_signal(number)
            _, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
        assert (process.returncode, err) == (0, "")
        until(lambda: "peer left       a" in b.out.getvalue())
    assert not (tmp_path / "a.sock").exists()


def test_leave_ends_it_and_returns_when_it_has_left(tmp_path: Path) -> None:
    process = start(*flags(tmp_path))
    try:
        read_until(process, "listening")
        assert run("leave", "--socket", str(tmp_path / "a.sock")) == (0, "", "")
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.communicate()


def test_systemd_is_told_of_ready_reload_and_stop(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT)
        process = start(*flags(tmp_path), env=process_environment(NOTIFY_SOCKET=str(tmp_path / "notify")))
        try:
            assert manager.recv(1000).startswith(b"READY=1\nSTATUS=a at 127.0.0.1:")
            process.send_signal(signal.SIGHUP)
            assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(1000).startswith(b"READY=1")
            process.send_signal(signal.SIGTERM)
            assert manager.recv(1000) == b"STOPPING=1"
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
            process.communicate()


def test_a_hangup_while_it_starts_is_heard_when_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    os.mkfifo(path)
    process = start(*flags(tmp_path, "--config", str(path)))
    try:
        with open(path, "w", encoding="utf-8") as file:  # which waits for it to read
            process.send_signal(signal.SIGHUP)
            file.write('cluster = "c"\n')
        read_until(process, "listening")
        path.write_text('cluster = "c"\n', encoding="utf-8")  # for the reload
        assert process.stderr is not None
        assert any("no keys or certificates to reload" in line for line in process.stderr)
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0


def test_it_goes_on_when_nobody_reads_its_events(tmp_path: Path) -> None:
    read, write = os.pipe()
    process = start(*flags(tmp_path), stdout=write)
    os.close(write)
    os.close(read)
    try:
        assert process.stderr is not None
        assert "no seeds" in process.stderr.readline()  # so it listens; commands are answered even before
        assert run("set", "x", "1", "--socket", str(tmp_path / "a.sock")).code == 0
        info = json.loads(run("info", "--socket", str(tmp_path / "a.sock"), "--json").out)
        with agent(tmp_path, "b", seeds=(read_address("seed", info["address"]),)) as b:
            assert b.run("wait", "x", "--value", "1").code == 0
        assert process.poll() is None
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0
