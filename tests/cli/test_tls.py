"""Certificates, from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from gossipmonger.cli.outcome import CommandError
from gossipmonger.cli.settings import Settings
from gossipmonger.cli.trust import renew
from tests.certificates import Certificates
from tests.cli.commands import agent, run, until


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def settings(certificates: Certificates, id: str, **more: Any) -> dict[str, Any]:
    certificate, key = certificates.issue(id, **more)
    return {"tls_certificate": str(certificate), "tls_key": str(key), "tls_ca": str(certificates.ca), "tls_check_id": True}


def flags(given: dict[str, Any]) -> list[str]:
    names = ("tls_certificate", "tls_key", "tls_ca")
    return [part for name in names for part in (f"--{name.replace('_', '-')}", given[name])]


def test_agents_encrypt_and_ping_says_so(tmp_path: Path, certificates: Certificates) -> None:
    mine = settings(certificates, "a")
    with agent(tmp_path, "a", **mine) as a, agent(tmp_path, "b", seeds=(a,), **settings(certificates, "b")) as b:
        assert b.run("wait", "--peers", "2").code == 0
        done = run("ping", a.address, *flags(mine))
        assert (done.code, done.err) == (0, "")
        assert "tls      TLSv1.3, and its certificate does\n" in done.out


def test_ping_says_what_is_wrong_with_tls(tmp_path: Path, certificates: Certificates) -> None:
    mine, others = settings(certificates, "a"), Certificates(tmp_path / "others")
    with agent(tmp_path, "a", **mine) as a, agent(tmp_path, "plain") as plain:
        done = run("ping", a.address)
        assert done.code == 1
        assert "wants TLS" in done.err or "wants keys or TLS" in done.err
        done = run("ping", plain.address, *flags(mine), "--timeout", "1s")
        assert done.code == 1
        assert "TLS" in done.err
        done = run("ping", a.address, *flags(settings(others, "a")))
        assert done.code == 1
        assert "does not do: " in done.err
        assert "; was it signed by --tls-ca, and does it name '127.0.0.1'?" in done.err


def test_an_observer_needs_no_id_of_its_own(tmp_path: Path, certificates: Certificates) -> None:
    with agent(tmp_path, "a", values={"x": 1}, **settings(certificates, "a")) as a:
        asks = ["values", "x", "--seed", a.address, "--tls-check-id"]
        assert run(*asks, *flags(settings(certificates, "me"))) == (0, "ID  VALUE\na   1\n", "")
        assert "TlsError" not in a.out.getvalue()
        done = run(*asks, *flags(settings(Certificates(tmp_path / "others"), "me")))
    assert (done.code, done.out, len(done.err.splitlines())) == (3, "", 1)
    assert "was it signed by --tls-ca" in done.err


def test_what_cannot_work_is_refused_at_once(certificates: Certificates) -> None:
    argv = ["agent", "--tls-check-id", *flags(settings(certificates, "a")), "--check-config"]
    assert run(*argv, "--id", "a").code == 0
    done = run(*argv, "--id", "b")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "names 'a', 'localhost', and not 'b': give the --id that it names" in done.err
    assert run(*argv, "--id", "a", "--transport", "udp") == (
        2, "", "gossipmonger: TLS needs the transport tcp: it does not encrypt datagrams, which a keys_file seals\n",
    )  # fmt: skip
    done = run(*argv, "--tls-key", str(certificates.issue("a")[1]), "--id", "a")
    assert (done.code, done.out) == (2, "")
    assert "; each must be PEM, and tls_key the key of tls_certificate" in done.err
    expired = flags(settings(certificates, "a", life=-9))  # which the others will tell
    assert run("agent", "--tls-check-id", *expired, "--check-config", "--id", "b").code == 0


def test_certificates_are_read_again(tmp_path: Path, certificates: Certificates) -> None:
    mine = settings(certificates, "a")
    with agent(tmp_path, "a", **mine) as a, agent(tmp_path, "b", seeds=(a,), **settings(certificates, "b")) as b:
        renewed = settings(certificates, "a")
        shutil.copy(renewed["tls_certificate"], mine["tls_certificate"])
        shutil.copy(renewed["tls_key"], mine["tls_key"])
        a.agent._reload()
        until(lambda: "reloaded: certificates" in a.err.getvalue())
        assert a.run("set", "x", "1").code == 0
        assert b.run("wait", "x", "--peer", "a").code == 0


def test_an_agent_without_tls_gets_none_while_it_runs(tmp_path: Path, certificates: Certificates) -> None:
    with agent(tmp_path, "a") as a, pytest.raises(CommandError, match="only by a restart"):
        renew(a.agent.node, Settings(id="a", **settings(certificates, "a")))
