from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.cli.settings import OPTIONS, Settings, resolve, typed_value
from gossipmonger.cli.sources import Given

FILE = """
id = "file"
cluster = "prod"
listen = "0.0.0.0:9742"
advertise = "10.0.0.7"
seeds = ["a.example", "b.example:9743"]
transport = "udp"
socket = "/run/gossipmonger/agent.sock"
json = true
web = "127.0.0.1:8042"
metrics = "127.0.0.1:9100"

[options]
gossip_interval = "250ms"
gossip_fanout = 4

[values]
role = "web"
shards = [1, 2]

[[on_event]]
events = ["peer dead"]
command = ["/usr/bin/logger", "gossip"]
timeout = "5s"
"""


def flags(**given: Any) -> dict[str, Given]:
    return {name: Given(value, f"--{name}") for name, value in given.items()}


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "agent.toml"
    file.write_text(FILE, encoding="utf-8")
    return str(file)


def test_a_file_has_every_setting(path: str) -> None:
    settings = resolve({}, {}, path)
    assert settings.id == "file"
    assert settings.cluster == "prod"
    assert settings.listen == {"host": "0.0.0.0", "port": 9742}
    assert settings.advertise == {"host": "10.0.0.7"}
    assert settings.seeds == [{"host": "a.example", "port": 9742}, {"host": "b.example", "port": 9743}]
    assert (settings.transport, settings.socket, settings.json) == ("udp", "/run/gossipmonger/agent.sock", True)
    assert settings.web == {"host": "127.0.0.1", "port": 8042}
    assert settings.options == {"gossip_interval": timedelta(milliseconds=250), "gossip_fanout": 4}
    assert settings.values == {"role": "web", "shards": [1, 2]}
    (hook,) = settings.on_event
    assert (hook.command, hook.events, hook.timeout) == (("/usr/bin/logger", "gossip"), ("peer dead",), timedelta(seconds=5))
    assert settings.path == path


def test_flags_win_over_variables_over_the_file_over_defaults(path: str) -> None:
    environ = {"GOSSIPMONGER_ID": "variable", "GOSSIPMONGER_CLUSTER": "variable", "GOSSIPMONGER_GOSSIP_FANOUT": "5"}
    settings = resolve(flags(id="flag", options={"gossip_interval": "1s"}, values={"role": "db"}), environ, path)
    assert (settings.id, settings.cluster, settings.transport) == ("flag", "variable", "udp")
    assert settings.options == {"gossip_interval": timedelta(seconds=1), "gossip_fanout": 5}
    assert settings.values == {"role": "db", "shards": [1, 2]}
    assert resolve({}, environ, path).id == "variable"


def test_a_variable_may_name_the_file(path: str) -> None:
    assert resolve({}, {"GOSSIPMONGER_CONFIG": path}, None).id == "file"


def test_without_anything_the_host_names_the_node() -> None:
    assert resolve({}, {}, None) == Settings(id=socket.gethostname())


@pytest.mark.parametrize("given", [({}, {"GOSSIPMONGER_SEEDS": "a, b:1,"}), (flags(seeds=["a,b:1"]), {})])
def test_seeds_may_be_separated_by_commas(given: tuple[Any, dict[str, str]]) -> None:
    assert resolve(*given, None).seeds == [{"host": "a", "port": 9742}, {"host": "b", "port": 1}]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"id": ""}, "--id must be a string that is not empty, got ''"),
        ({"id": 5}, "--id must be a string"),
        ({"socket": "a\0b"}, "--socket must be a string without NUL"),
        ({"listen": "http://a"}, "--listen must be an address to bind.*leave out 'http://'"),
        ({"listen": "a:99999"}, "--listen must be an address to bind.*the port must be a number from 0 to 65535"),
        ({"advertise": "0.0.0.0:9742"}, "--advertise must be a host that can be connected to.*every address of a machine"),
        ({"seeds": ["0.0.0.0"]}, "--seeds must be a host that can be connected to.*every address of a machine"),
        ({"seeds": 5}, "--seeds must be a list of addresses"),
        ({"seeds": [""]}, "--seeds must be a host that can be connected to.*the host is empty"),
        ({"transport": "quic"}, "--transport must be 'tcp' or 'udp', got 'quic'"),
        ({"json": "maybe"}, "--json must be true or false"),
        ({"web": "127.0.0.1"}, "--web must be an address with a port"),
        ({"options": 5}, "--options must be a table"),
        ({"options": {"gosip_interval": 5}}, "unknown option 'gosip_interval'; did you mean 'gossip_interval'"),
        ({"options": {"zzz": 5}}, "unknown option 'zzz'; the options are dead_peer_phi"),
        ({"options": {"seeds": []}}, "'seeds' is a setting of its own"),
        ({"options": {"gossip_interval": "0ms"}}, "option gossip_interval must be from 1 to"),
        ({"options": {"gossip_fanout": "1s"}}, "option gossip_fanout must be an integer"),
        ({"options": {"delta_order": "width"}}, "option delta_order must be 'depth' or 'breadth'"),
        ({"values": {"a": float("nan")}}, "a in --values: JSON has no such value as nan"),
        ({"keys": "abc"}, "--keys must be a list of keys"),
        ({"on_event": {}}, "--on_event must be a list of tables"),
    ],
)
def test_what_is_wrong_is_said_with_where_it_stands(given: dict[str, Any], said: str) -> None:
    with pytest.raises(CommandError, match=said) as error:
        resolve(flags(**given), {}, None)
    assert error.value.code == USAGE
    assert "\n" not in str(error.value)


def test_keys_are_given_once() -> None:
    with pytest.raises(CommandError, match="either `keys` or `keys_file`"):
        resolve(flags(keys=["a"], keys_file="b"), {}, None)


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(Settings(id="a", keys=["secret"]))


@pytest.mark.parametrize(
    ("text", "value"),
    [("none", None), ("5", 5), ("true", True), ("breadth", "breadth"), ("2m", timedelta(minutes=2)), (7, 7)],
)
def test_an_option_may_be_text(text: Any, value: Any) -> None:
    name = {bool: "flow_control", str: "delta_order", timedelta: "forget_dead_peers_after"}.get(type(value), "compress_above")
    assert resolve(flags(options={name: text}), {}, None).options == {name: value}


def test_every_number_among_the_options_can_be_configured() -> None:
    assert {"gossip_interval", "rumor_rate", "flow_control", "compress_above"} <= set(OPTIONS)
    assert not {"storage", "clock", "seeds", "cluster"} & set(OPTIONS)


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("five", "five"), ("[1, 2]", [1, 2]), ("true", True), ("null", None), ("NaN", "NaN"), ("", ""), ("1.10", 1.1)],
)
def test_a_value_is_json_or_text(text: str, value: Any) -> None:
    assert typed_value(text) == value
    assert typed_value(text, as_text=True) == text
    assert typed_value("[" * 100_000) == "[" * 100_000
