"""Three hosts, each in a network namespace of its own, run nothing but `gossipmonger agent` and a TOML file."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.network import Hosts, NetworkError
from tests.cli.commands import LIMIT, process_environment, read_until

CONFIGURATION = """
id = "{id}"
cluster = "prod"
listen = "0.0.0.0"
seeds = ["10.0.0.1", "10.0.0.2"]
keys_file = "{folder}/keys"
socket = "{folder}/agent.sock"

[values]
role = "{role}"
"""


class Host:
    """One host: its files, and what runs there."""

    def __init__(self, network: Hosts, number: int, folder: Path, role: str) -> None:
        self._prefix = network.prefix(number)
        self.address = network.address(number)[0]
        self.folder = folder
        folder.mkdir()
        self.toml = folder / "agent.toml"
        self.toml.write_text(CONFIGURATION.format(id=folder.name, folder=folder, role=role), encoding="utf-8")
        self.agent: subprocess.Popen[str] | None = None

    def keys(self, *keys: str) -> None:
        """Write the keys, and let the agent read them."""
        path = self.folder / "keys"
        path.touch(0o600)
        path.write_text("\n".join(keys), encoding="utf-8")
        if self.agent is not None:
            self.agent.send_signal(signal.SIGHUP)
            read_error(self.agent, "reloaded: ")

    def start(self, *argv: str) -> subprocess.Popen[str]:
        command = [*self._prefix, sys.executable, "-m", "gossipmonger", *argv]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": process_environment()}
        return subprocess.Popen(command, **pipes)

    def run(self, *argv: str) -> tuple[int, str, str]:
        process = self.start(*argv)
        out, err = process.communicate(timeout=LIMIT)
        return process.returncode, out, err

    def ask(self, *argv: str) -> tuple[int, str, str]:
        """Run a command that asks the agent of this host."""
        return self.run(*argv, "--socket", str(self.folder / "agent.sock"))


def read_error(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} did not come")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Hosts, list[Host]]]:
    try:
        network = Hosts(3)
    except NetworkError as error:
        pytest.skip(str(error))
    made = [
        Host(network, number, tmp_path / id, role)
        for number, (id, role) in enumerate(zip("abc", ("web", "db", "db"), strict=True))
    ]
    try:
        yield network, made
    finally:
        for host in made:
            if host.agent is not None:
                host.agent.kill()
                host.agent.communicate()
        network.close()


@pytest.mark.timeout(120)
def test_three_hosts_share_keys_and_change_the_one_that_seals(hosts: tuple[Hosts, list[Host]]) -> None:
    network, (a, b, c) = hosts
    first, second = (a.run("keygen")[1].strip() for _ in range(2))
    for host in (a, b, c):
        host.keys(first)
        host.agent = host.start("agent", "--config", str(host.toml))
        read_until(host.agent, f"listening       {host.folder.name} at {host.address}:9742")
    for host in (a, b, c):
        assert host.ask("wait", "--peers", "3") == (0, "", "")

    # Set on one host, watch on another.
    watch = b.start("watch", "load", "--count", "1", "--socket", str(b.folder / "agent.sock"))
    assert a.ask("set", "load", "0.5") == (0, "", "")
    out, _ = watch.communicate(timeout=LIMIT)
    assert out.rstrip().endswith("a load = 0.5")
    code, out, _ = c.ask("members", "--where", "role=db")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["ID", "b", "c"])

    # Rotate the key, and go on meanwhile.
    for keys in ((first, second), (second, first), (second,)):
        for host in (a, b, c):
            host.keys(*keys)
        assert a.ask("set", "keys", str(len(keys))) == (0, "", "")
        assert c.ask("wait", "keys", "--value", str(len(keys)), "--peer", "a") == (0, "", "")

    # What is wrong when the key, the cluster or the address is.
    old = a.folder / "old"
    old.write_text(first, encoding="utf-8")
    trust = ["--cluster", "prod", "--keys-file", str(a.folder / "keys")]
    assert a.run("ping", b.address, *trust)[0] == 0
    code, _, err = a.run("ping", b.address, "--cluster", "prod", "--keys-file", str(old))
    assert (code, "its keys are others" in err) == (1, True)
    code, _, err = a.run("ping", b.address, "--cluster", "test", "--keys-file", str(a.folder / "keys"))
    assert (code, "its cluster is another one" in err) == (1, True)
    code, _, err = a.run("ping", f"{b.address}:9743", *trust)
    assert (code, "nothing listens at this port" in err) == (3, True)

    # An observer, with the same file.
    code, out, _ = b.run("values", "role", "--seed", a.address, "--config", str(b.toml))
    assert (code, len(out.splitlines())) == (0, 4)

    # Kill the third.
    assert c.agent is not None
    c.agent.kill()
    assert a.agent is not None
    read_until(a.agent, "peer dead       c")
    network.lose(2)
    code, _, err = a.run("ping", c.address, *trust, "--timeout", "500ms")
    assert code == 3
    assert "did not answer within 0.5 s: the host is down, or a firewall drops what comes to this port" in err
    assert b.ask("forget", "c")[0] in (0, 1)
