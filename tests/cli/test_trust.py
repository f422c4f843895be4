"""Keys and certificates: agents that have the same ones, and what is said of wrong ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gossipmonger import Keyring
from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.cli.settings import Settings
from gossipmonger.cli.trust import keyring_of, trust_of
from tests.cli.commands import agent, run, until

FIRST, SECOND = Keyring.generate(), Keyring.generate()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"{FIRST}\n", encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keys_file": "/no/such/file"}, "can't read the keys in '/no/such/file': No such file"),
        ({"keys": ["secret"]}, "keys: a key must be base64"),
        ({"tls_key": "x"}, "TLS needs tls_certificate, tls_key, tls_ca; there is no tls_certificate, tls_ca"),
        (
            {"tls_check_id": True},
            "there is no tls_certificate, tls_key, tls_ca",
        ),
        ({"tls_key": "/x", "tls_ca": "/y", "tls_certificate": "/z"}, "can't read the certificates in /z, /x, /y: No such file"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret_shown(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(CommandError, match=said) as error:
        trust_of(Settings(id="a", **settings))
    assert error.value.code == USAGE
    assert "secret" not in str(error.value)


def test_a_file_without_keys_is_named(keys: Path) -> None:
    for data, said in ((b"", "keys must have at least one key"), (b"x\n", "line 1: a key must"), (b"\xff", "they must be")):
        keys.write_bytes(data)
        with pytest.raises(CommandError, match=f"^the keys in '{keys}': {said}"):
            keyring_of(Settings(id="a", keys_file=str(keys)))


def test_without_any_there_are_none() -> None:
    assert trust_of(Settings(id="a")) == {}
    assert keyring_of(Settings(id="a")) is None


def test_secrets_that_others_can_read_are_noted(keys: Path) -> None:
    notes: list[str] = []
    trust_of(Settings(id="a", keys_file=str(keys)), notes.append)
    assert notes == []
    keys.chmod(0o644)
    trust_of(Settings(id="a", keys_file=str(keys)), notes.append)
    assert notes == [f"other users can read the secrets in '{keys}': chmod 600"]


def test_keygen_makes_keys() -> None:
    made = run("keygen")
    assert (made.code, made.err) == (0, "")
    assert Keyring([made.out.strip()]).ids != Keyring([run("keygen").out.strip()]).ids
    assert run("keygen", "--json").out.startswith('{"key": "')


def test_agents_with_one_key_know_each_other_and_change_it(tmp_path: Path, keys: Path) -> None:
    first, second = Keyring([FIRST]).ids[0], Keyring([SECOND]).ids[0]
    with agent(tmp_path, "a", keys_file=str(keys)) as a, agent(tmp_path, "b", seeds=(a,), keys=[FIRST]) as b:
        assert b.run("wait", "--peers", "2").code == 0
        assert a.run("keyring").out.splitlines() == ["KEY       USE", f"{first}  seals and opens"]
        for each in (a, b):
            assert each.run("keyring", "add", "-", stdin=f"{SECOND}\n").code == 0
        for each in (a, b):
            assert each.run("keyring", "promote", second).code == 0
        for each in (a, b):
            assert each.run("keyring", "remove", first).out.splitlines() == ["KEY       USE", f"{second}  seals and opens"]
        assert a.run("set", "x", "1").code == 0
        assert b.run("wait", "x", "--peer", "a").code == 0
        assert run("members", "--seed", a.address, "--keys-file", str(keys)).code == 3
        keys.write_text(f"{SECOND}\n", encoding="utf-8")
        assert run("members", "--seed", a.address, "--keys-file", str(keys)).code == 0


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["add"], 2, "keyring add needs a KEY: the key itself, or - to read it from stdin"),
        (["promote"], 2, "keyring promote needs the id of a KEY; `gossipmonger keyring` lists them"),
        (["list", "x"], 2, "keyring list takes no KEY"),
        (["add", "secret"], 2, "a key must be base64"),
        (["promote", "00000000"], 2, "there is no key 00000000 in this keyring: it has "),
        (["remove", Keyring([FIRST]).ids[0]], 2, "promote another one first"),
    ],
)
def test_a_wrong_change_is_refused(tmp_path: Path, keys: Path, argv: list[str], code: int, said: str) -> None:
    with agent(tmp_path, keys_file=str(keys)) as a:
        done = a.run("keyring", *argv)
        assert (done.code, done.out) == (code, "")
        assert said in done.err
        assert "secret" not in done.err
        assert len(a.run("keyring").out.splitlines()) == 2


def test_an_agent_without_keys_says_so(tmp_path: Path) -> None:
    with agent(tmp_path) as a:
        done = a.run("keyring")
    assert (done.code, done.out) == (1, "")
    assert "this agent has no keys: start it with --keys-file" in done.err


def test_keys_are_read_again(tmp_path: Path, keys: Path) -> None:
    with agent(tmp_path, "a", keys_file=str(keys)) as a:
        keys.write_text(f"{SECOND}\n{FIRST}\n", encoding="utf-8")
        a.agent._reload()
        assert [line.split()[0] for line in a.run("keyring").out.splitlines()[1:]] == list(Keyring([SECOND, FIRST]).ids)
        assert f"reloaded: 2 keys, {Keyring([SECOND]).ids[0]} seals" in a.err.getvalue()
        keys.write_text("nonsense\n", encoding="utf-8")
        a.agent._reload()
        assert "not reloaded: the keys in " in a.err.getvalue()
        assert len(a.run("keyring").out.splitlines()) == 3
        os.unlink(keys)
        a.agent._reload()
        assert "not reloaded: can't read the keys" in a.err.getvalue()


def test_without_secrets_there_is_nothing_to_read_again(tmp_path: Path) -> None:
    with agent(tmp_path, "a") as a:
        a.agent._reload()
        assert "there are no keys or certificates to reload" in a.err.getvalue()


def test_ping_says_what_is_wrong_with_the_key(tmp_path: Path, keys: Path) -> None:
    other = tmp_path / "other"
    other.write_text(f"{SECOND}\n", encoding="utf-8")
    with agent(tmp_path, "a", keys_file=str(keys)) as a, agent(tmp_path, "plain") as plain:
        done = run("ping", a.address, "--keys-file", str(keys))
        assert (done.code, done.err) == (0, "")
        assert f"key      {Keyring([FIRST]).ids[0]}, which it has too\n" in done.out
        done = run("ping", a.address, "--keys-file", str(other))
        assert done.code == 1
        assert f"did not answer a HELLO sealed with {Keyring([SECOND]).ids[0]}: its keys are others" in done.err
        done = run("ping", a.address)
        assert done.code == 1
        assert "it is a Node.js node, wants keys or TLS that were not given here" in done.err
        done = run("ping", plain.address, "--keys-file", str(keys))
        assert done.code == 1
        assert "its keys are others, it has none" in done.err


def test_an_agent_with_another_key_says_what_is_wrong(tmp_path: Path, keys: Path) -> None:
    with agent(tmp_path, "a", keys_file=str(keys)) as a:
        with agent(tmp_path, "b", seeds=(a,), keys=[SECOND], options={"gossip_interval": 50}) as b:
            until(lambda: "did not answer a HELLO sealed with" in b.err.getvalue())
