from __future__ import annotations

from pathlib import Path

import pytest

from gossipmonger.cli import sources
from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.cli.sources import Given, from_environment, from_file

NAMES = ("id", "listen", "seeds", "gossip_interval")


def test_variables_have_the_names_of_settings() -> None:
    environ = {"GOSSIPMONGER_ID": "a", "GOSSIPMONGER_LISTEN": "", "HOME": "/", "GOSSIPMONGER_GOSSIP_INTERVAL": "1s"}
    assert from_environment(environ, NAMES) == {
        "id": Given("a", "GOSSIPMONGER_ID"), "gossip_interval": Given("1s", "GOSSIPMONGER_GOSSIP_INTERVAL"),
    }  # fmt: skip


def test_a_misspelt_variable_is_refused_with_the_right_one() -> None:
    with pytest.raises(CommandError, match="unknown variable 'GOSSIPMONGER_SEED'; did you mean GOSSIPMONGER_SEEDS") as error:
        from_environment({"GOSSIPMONGER_SEED": "a"}, NAMES)
    assert error.value.code == USAGE


@pytest.mark.parametrize(
    "name",
    ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GOSSIP", "PORT", "PORT_9742_TCP", "PORT_9742_TCP_ADDR", "ZZZ"],
)
def test_variables_that_kubernetes_and_others_set_are_not_ours(name: str) -> None:
    assert from_environment({f"GOSSIPMONGER_{name}": "tcp://10.0.0.1:9742"}, [*NAMES, "port_x"]) == {}


def test_a_file_is_toml(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('id = "a"\nseeds = ["b"]\n', encoding="utf-8-sig")  # as Windows does
    assert from_file(str(path), NAMES) == {"id": Given("a", f"id in {path}"), "seeds": Given(["b"], f"seeds in {path}")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id = ", "is not TOML"), ("ids = 1", "unknown key 'ids' in .*; did you mean 'id'"),
        ("zzz = 1", "unknown key 'zzz' in .*; the keys are id, listen, seeds, gossip_interval"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=said):
        from_file(str(path), NAMES)


@pytest.mark.parametrize(("content", "said"), [(None, "No such file or directory"), (b"\xff", "it must be text in UTF-8")])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CommandError, match=f"can't read the configuration .*: {said}"):
        from_file(str(path), NAMES)


def test_without_a_package_for_toml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    path = tmp_path / "a.toml"
    path.touch()
    monkeypatch.setattr(sources, "import_module", missing)
    with pytest.raises(CommandError, match=r"pip install 'gossipmonger\[cli\]'"):
        from_file(str(path), NAMES)
