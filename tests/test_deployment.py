"""The deployment files: their own tools take them, and what they say makes a cluster of hosts with one name for all of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from benchmarks.network import Hosts, NetworkError
from gossipmonger import Keyring
from gossipmonger.cli.settings import SETTINGS, Settings, resolve
from gossipmonger.cli.sources import from_file
from tests.cli.commands import LIMIT, ROOT, process_environment, read_until, run

DEPLOYMENT = ROOT / "examples" / "deployment"
UNIT = (DEPLOYMENT / "gossipmonger.service").read_text(encoding="utf-8")
TOML = (DEPLOYMENT / "agent.toml").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOYMENT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOYMENT / "compose.yaml").read_text(encoding="utf-8"))
MANIFESTS: list[dict[str, Any]] = [*yaml.safe_load_all((DEPLOYMENT / "kubernetes.yaml").read_text(encoding="utf-8"))]
SERVICE, STATEFUL_SET, POLICY = MANIFESTS
POD: dict[str, Any] = STATEFUL_SET["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]

#: The last part of every name in Kubernetes, with the namespace.
DOMAIN = "default.svc.cluster.local"

pytestmark = [pytest.mark.untraced, pytest.mark.skipif(os.name != "posix", reason="these files are for POSIX systems alone")]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text(Keyring.generate() + "\n", encoding="utf-8")
    return path


def container_environment(name: str, address: str) -> dict[str, str]:
    """The environment of the containers that Docker Compose starts. Their ids are the names that it gives to hosts."""
    return dict(COMPOSE["services"]["node"]["environment"])


def pod_environment(name: str, address: str) -> dict[str, str]:
    """The environment of the container in a pod."""
    fields = {"metadata.name": name, "status.podIP": address}
    found: dict[str, str] = {}
    for each in CONTAINER["env"]:
        value = each["value"] if "value" in each else fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
        found[each["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], value)
    return found


# The tools of each


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "gossipmonger.service"
    unit.write_text(UNIT.replace("/opt/gossipmonger/bin/gossipmonger", sys.executable), encoding="utf-8")  # one that is there
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_agent_takes_the_file_of_the_unit(tmp_path: Path, keys: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(TOML.replace("/etc/gossipmonger/keys", str(keys)), encoding="utf-8")
    done = run("agent", "--config", str(path), "--id", "web-1", "--check-config")
    assert done == (0, "", "gossipmonger: the configuration is right: 'web-1'\n")
    # What the one names is where the other one has it.
    assert TOML.startswith(f"# {re.search('--config (.*)', UNIT)[1]},")  # type: ignore[index]
    runtime = re.search("^RuntimeDirectory=(.*)", UNIT, re.MULTILINE)[1]  # type: ignore[index]
    assert from_file(str(path), SETTINGS)["socket"].value.startswith(f"/run/{runtime}/")


def has_compose() -> bool:
    return bool(shutil.which("docker")) and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode


@pytest.mark.skipif(not has_compose(), reason="there is no `docker compose`")
def test_docker_takes_the_compose_file() -> None:
    command = ["docker", "compose", "--file", str(DEPLOYMENT / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_compose_file_builds_what_is_there_and_its_seed_is_the_service() -> None:
    ((name, service),) = COMPOSE["services"].items()
    context = (DEPLOYMENT / service["build"]["context"]).resolve()
    assert (context, context / service["build"]["dockerfile"]) == (ROOT, DEPLOYMENT / "Dockerfile")
    for *sources, _ in (line.split()[1:] for line in DOCKERFILE.splitlines() if line.startswith("COPY")):
        assert all((context / source).exists() for source in sources)
    assert service["image"] == CONTAINER["image"]
    settings = checked(container_environment("", ""))
    assert [seed["host"] for seed in settings.seeds] == [name]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: str(manifest["kind"]))
def test_kubernetes_takes_the_manifest(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_parts_of_the_manifest_name_each_other(keys: Path) -> None:
    labels = STATEFUL_SET["spec"]["template"]["metadata"]["labels"]
    assert labels == SERVICE["spec"]["selector"] == STATEFUL_SET["spec"]["selector"]["matchLabels"]
    assert labels == POLICY["spec"]["podSelector"]["matchLabels"]
    name = SERVICE["metadata"]["name"]
    assert (SERVICE["spec"]["clusterIP"], SERVICE["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert STATEFUL_SET["spec"]["serviceName"] == name
    settings = checked({**pod_environment("gossipmonger-0", "10.1.2.3"), "GOSSIPMONGER_KEYS_FILE": str(keys)})
    assert [seed["host"] for seed in settings.seeds] == [name]
    assert (settings.id, settings.advertise) == ("gossipmonger-0", {"host": "10.1.2.3"})
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert settings.listen is not None
    assert settings.web is not None
    assert ports == {"gossip": settings.listen["port"], "web": settings.web["port"]}
    assert [port["port"] for port in SERVICE["spec"]["ports"]] == [ports["gossip"]]
    assert [port["port"] for rule in POLICY["spec"]["ingress"] for port in rule["ports"]] == [ports["gossip"]]
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert {volume["name"] for volume in POD["volumes"]} == mounts.keys()
    assert pod_environment("", "")["GOSSIPMONGER_KEYS_FILE"].startswith(f"{mounts['keys']}/")
    assert f"--uid {POD['securityContext']['runAsUser']} " in DOCKERFILE


def test_the_page_shows_every_file_and_names_no_other() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    files = {path.name for path in DEPLOYMENT.iterdir()}
    assert set(re.findall(r"literalinclude\} \.\./examples/deployment/(\S+)", page)) == files
    assert set(re.findall(r"(?<!\.\./)examples/deployment/([\w.]+)", page)) == files


def checked(environment: Mapping[str, str]) -> Settings:
    """The settings that the agent takes from these variables and finds to be right."""
    done = run("agent", "--check-config", environ=environment)
    assert done.code == 0, done.err
    return resolve({}, environment, None)


# The clusters that they make, on hosts whose resolver knows one name for all of them


class Node:
    """What a container is: a host with a name and a resolver of its own, on which an agent runs."""

    def __init__(self, network: Hosts, number: int, name: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name, self.address = name, network.address(number)[0]
        self._prefix = network.prefix(number)
        self._socket = str(folder / f"{name}.sock")
        variables = process_environment(**environment, GOSSIPMONGER_SOCKET=self._socket)
        files = " && ".join(f"mount --bind {folder}/{file} /etc/{file}" for file in ("resolv.conf", "nsswitch.conf"))
        inside = ["unshare", "--mount", "--uts", "sh", "-c", f'hostname {name} && {files} && exec "$@"', "sh"]
        command = [*self._prefix, *inside, sys.executable, "-m", "gossipmonger", "agent"]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.agent: subprocess.Popen[str] = subprocess.Popen(command, env=variables, **pipes)

    def run(self, *argv: str) -> str:
        done = subprocess.run([*self._prefix, sys.executable, *argv], capture_output=True, text=True, env=process_environment())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, *argv: str) -> str:
        """Run a command that asks the agent."""
        return self.run("-m", "gossipmonger", *argv, "--socket", self._socket)

    def close(self) -> None:
        self.agent.kill()
        self.agent.communicate()


@pytest.fixture
def network() -> Iterator[Hosts]:
    try:
        hosts = Hosts(4)
    except NetworkError as error:
        pytest.skip(str(error))
    yield hosts
    hosts.close()


@pytest.fixture(params=["compose", "kubernetes"])
def nodes(request: pytest.FixtureRequest, network: Hosts, tmp_path: Path, keys: Path) -> Iterator[list[Node]]:
    addresses = [network.address(number)[0] for number in range(4)]
    *mine, resolver = addresses
    if request.param == "compose":
        name, options = "node", "options ndots:0"
        names, environment = ["c4c6c8b1f2ad", "9f1c02b7d3e5", "0b6d5a7e88c1"], container_environment
        more: dict[str, str] = {}
    else:
        name, options = f"{SERVICE['metadata']['name']}.{DOMAIN}", f"search {DOMAIN}\noptions ndots:5"
        names, environment = [f"{STATEFUL_SET['metadata']['name']}-{number}" for number in range(3)], pod_environment
        more = {"GOSSIPMONGER_KEYS_FILE": str(keys)}
    (tmp_path / "resolv.conf").write_text(f"nameserver {resolver}\n{options}\n", encoding="utf-8")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n", encoding="utf-8")
    command = [*network.prefix(3), sys.executable, "-m", "tests.name_server", resolver, name, *mine]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=process_environment())
    made: list[Node] = []
    try:
        read_until(server, "ready")
        for number, (id, address) in enumerate(zip(names, mine, strict=True)):
            made.append(Node(network, number, id, tmp_path, {**environment(id, address), **more}))
        yield made
    finally:
        for node in made:
            node.close()
        server.kill()
        server.communicate()


def test_replicas_find_each_other_by_the_one_name_of_all(nodes: list[Node]) -> None:
    first, second, third = nodes
    for node in nodes:
        read_until(node.agent, f"listening       {node.name}")
    first.ask("wait", "--peers", "3", "--timeout", f"{LIMIT:g}s")
    members = [line.split()[:3] for line in first.ask("members").splitlines()[1:]]
    assert sorted(members) == sorted([node.name, "live", f"{node.address}:9742"] for node in nodes)
    # Is it healthy? Docker asks inside the container, and Kubernetes from the machine that the pod is on.
    if second.name.startswith(STATEFUL_SET["metadata"]["name"]):
        probe, ports = (
            CONTAINER["readinessProbe"]["httpGet"],
            {port["name"]: port["containerPort"] for port in CONTAINER["ports"]},
        )
        url = f"http://{second.address}:{ports[probe['port']]}{probe['path']}"
        assert (
            first.run("-c", f"from urllib.request import urlopen; print(urlopen({url!r}, timeout={LIMIT}).status)") == "200\n"
        )
    else:
        kind, program, *arguments = COMPOSE["services"]["node"]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "gossipmonger")
        second.ask(*arguments)
    third.agent.send_signal(signal.SIGTERM)
    read_until(first.agent, f"peer left       {third.name}")
    assert third.agent.wait(LIMIT) == 0
