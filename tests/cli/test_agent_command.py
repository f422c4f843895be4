from __future__ import annotations

from pathlib import Path

import pytest

from gossipmonger.cli.parser import make_parser
from gossipmonger.cli.settings import SETTINGS, flags_of, resolve
from gossipmonger.cli.sources import Given
from tests.cli.commands import run


def parsed(*argv: str) -> dict[str, Given]:
    return flags_of(make_parser().parse_args(["agent", *argv]))


def test_flags_are_settings() -> None:
    flags = parsed(
        "--id", "a", "--seed", "b", "--seed", "c:1", "--set", "x=5", "--set", "y=a=b", "-o", "gossip_interval=1s", "--json"
    )
    assert flags == {
        "id": Given("a", "--id"), "seeds": Given(["b", "c:1"], "--seed"), "json": Given(True, "--json"),
        "values": Given({"x": 5, "y": "a=b"}, "--set"), "options": Given({"gossip_interval": "1s"}, "--option"),
    }  # fmt: skip
    assert parsed() == {}


def test_each_flag_is_taken() -> None:
    line = (
        "--cluster p --listen 127.0.0.1:0 --advertise h:1 --transport udp --keys-file k --socket= --web 127.0.0.1:1 "
        "--metrics 127.0.0.1:2 --tls-certificate c --tls-key d --tls-ca e --tls-check-id"
    )
    flags = parsed(*line.split())
    assert {*flags} == {*SETTINGS} - {"id", "seeds", "json", "values", "options", "keys", "on_event"}
    settings = resolve(flags, {}, None)
    assert (settings.cluster, settings.transport, settings.socket, settings.tls_check_id) == ("p", "udp", "", True)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--advertise", "0.0.0.0:9742"], "--advertise must be a host that can be connected to"),
        (["--seed", "0.0.0.0"], "--seed must be a host that can be connected to"),
        (["--listen", "nonsense:port"], "--listen must be an address to bind"),
        (["-o", "gosip_interval=1s"], "unknown option 'gosip_interval'; did you mean 'gossip_interval'?"),
        (["--config", "/no/such/file"], "can't read the configuration '/no/such/file': No such file or directory"),
        (["--keys-file", "/no/such/file"], "can't read the keys in '/no/such/file': No such file or directory"),
        (["--id", ""], "--id must be a string that is not empty"),
        (["--id", "\udcff"], "--id must be valid UTF-8, got '\\udcff'"),
        (["--config", ""], "can't read the configuration ''"),
        (["--id", "__proto__"], "peer_info.id must not be '__proto__'"),
    ],
)
def test_every_wrong_turn_is_one_line(argv: list[str], said: str) -> None:
    for more in ([], ["--check-config"]):
        done = run("agent", *argv, *more)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1


def test_a_configuration_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('id = "a"\nseeds = ["b.example"]\n[options]\ngossip_interval = "1s"\n', encoding="utf-8")
    assert run("agent", "--config", str(path), "--check-config") == (0, "", "gossipmonger: the configuration is right: 'a'\n")
    path.write_text("gossip_interval = 5\n", encoding="utf-8")
    done = run("agent", "--config", str(path), "--check-config")
    assert (done.code, done.out) == (2, "")
    assert "unknown key 'gossip_interval'" in done.err
