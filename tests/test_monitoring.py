"""What comes with the collector: the dashboard and the alerts ask for what there is, and a server's workers are all scraped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from gossipmonger import Gossipmonger
from gossipmonger.metrics import Collector
from gossipmonger.simulation import Simulation

from .cluster import Apart, Cluster

ROOT = Path(__file__).parent.parent
MONITORING = ROOT / "examples" / "monitoring"

DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
(GROUP,) = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"]
RULES: list[dict[str, Any]] = GROUP["rules"]
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")


def queries() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    return [*panels, *variables, *(rule["expr"] for rule in RULES)]


@pytest.fixture(scope="module")
def exported() -> dict[str, dict[str, set[str]]]:
    """The samples of a node: name -> label -> values."""
    sim = Simulation(seed=1)
    nodes = [sim.add(id, seeds=["a"]) for id in "ab"]
    sim.run(5_000)
    found: dict[str, dict[str, set[str]]] = {}
    for family in Collector(nodes[0], phi=True).collect():
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    found["gossipmonger_links"]["side"].add("accepted")  # of real links
    return found


def test_every_metric_that_is_asked_for_is_told_and_the_other_way_round(exported: dict[str, Any]) -> None:
    asked = set(re.findall(r"gossipmonger_\w+", " ".join(queries())))
    assert asked <= exported.keys()
    untold = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported.keys() - asked}
    assert untold - {re.sub(r"_bucket$", "", name) for name in asked} == {"gossipmonger_peer_phi"}


def test_every_label_that_is_asked_for_has_such_a_value(exported: dict[str, dict[str, set[str]]]) -> None:
    for query in queries():
        for name, selector in re.findall(r"(gossipmonger_\w+)\{(.*?)\}", query):
            for label, _, value in re.findall(r'(\w+)(=~|!=|=)"(.*?)"', selector):
                assert label in ("job", "instance") or value in exported[name][label], query
        for labels in re.findall(r"by \((.*?)\)", query):
            known = {label for name in re.findall(r"gossipmonger_\w+", query) for label in exported[name]}
            assert set(labels.split(", ")) <= known | {"job", "instance"}, query


def test_every_metric_is_on_the_page(exported: dict[str, Any]) -> None:
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported}
    assert {name for name in families if f"`{name}" not in PAGE} == set()
    assert set(re.findall(r"`(gossipmonger_\w+)", PAGE)) <= families
    assert [rule["alert"] for rule in RULES] == re.findall(r"^\| `(Gossipmonger\w+)` \|", PAGE, re.MULTILINE)


def test_the_dashboard_can_be_imported() -> None:
    assert {"uid", "title", "schemaVersion", "templating", "panels", "time"} <= DASHBOARD.keys()
    assert "id" not in DASHBOARD  # Grafana gives it one
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert ids == [*range(1, len(ids) + 1)]
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["type"] in ("timeseries", "stat")
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not own & cells  # no panel lies on another
        cells |= own
    assert {each["name"] for each in DASHBOARD["templating"]["list"]} == {"datasource", "job", "instance"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Gossipmonger[A-Z]\w+", rule["alert"])
    assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "action"}
    assert len(rule["annotations"]["summary"]) < 90
    assert all(rule["annotations"][part].endswith(".") for part in ("description", "action"))
    assert rule["expr"].count("(") == rule["expr"].count(")")


def test_prometheus_takes_the_files_if_it_is_here() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    assert [(MONITORING / name).exists() for name in config["rule_files"]] == [True]
    promtool = shutil.which("promtool")
    commands = [[promtool, "check", "config", "prometheus.yml"], [promtool, "test", "rules", "alerts_test.yml"]]
    for command in commands if promtool is not None else ():
        done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, timeout=60)  # type: ignore[arg-type]
        assert done.returncode == 0, done.stdout + done.stderr


# Real nodes

Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Scraped:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name.removeprefix("gossipmonger_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(scraped: Scraped, name: str, **labels: str) -> float:
    return scraped[name, frozenset(labels.items())]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(gossip_interval=100)
    yield cluster
    cluster.close()


@pytest.mark.untraced
def test_a_scrape_shows_what_a_kill_does_to_a_cluster_of_two(cluster: Cluster) -> None:
    a = cluster.here("a")
    b = cluster.apart("b")
    cluster.until(cluster.all_know_all)
    b.update("k", 1)
    cluster.until(lambda: a.data.get("b") == {"k": 1})
    for way in ("sent", "received"):
        a.node.wait_for(lambda way=way: a.node.metrics()["messages"][way]["tcp"]["round"] > 1, 30)  # type: ignore[misc]
    registry = CollectorRegistry()
    registry.register(Collector(a.node))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        before = scrape(server.server_port)
        assert value(before, "peers", state="live") == 1
        assert value(before, "peer_transitions_total", to="dead") == 0
        assert value(before, "keys", owner="others") == 1
        assert value(before, "deltas_total", direction="received") >= 1
        assert value(before, "handler_seconds_count") >= 2  # of "new peer" and "update"
        for way in ("sent", "received"):
            rounds = value(before, "messages_total", direction=way, kind="round", transport="tcp")
            bytes = value(before, "message_bytes_total", direction=way, transport="tcp")
            assert rounds >= 1
            assert bytes >= 50 * rounds
        _kill(b)
        del cluster.nodes["b"]
        cluster.until(lambda: a.peers.get("b") == "dead")
        after = scrape(server.server_port)
        assert value(after, "peers", state="live") == 0
        assert value(after, "peers", state="dead") == 1
        assert value(after, "peer_transitions_total", to="dead") == 1
        assert value(after, "send_errors_total", reason="refused") >= 1
        assert value(after, "rounds_total") > value(before, "rounds_total")
        assert all(after[name] >= number for name, number in before.items() if name[0].endswith(("_total", "_count")))
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _kill(node: Apart) -> None:
    node.process.kill()
    node.close()


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    idle, deadline = threading.Event(), time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline or process.poll() is not None:
            process.kill()
            pytest.fail(process.communicate()[0])
        idle.wait(0.05)


@pytest.mark.untraced
@pytest.mark.skipif(os.name != "posix", reason="gunicorn runs on POSIX alone")
def test_each_worker_of_a_server_is_a_target_of_its_own(tmp_path: Path) -> None:
    with Gossipmonger({"id": "seed", "transport": {"host": "127.0.0.1", "port": 0}}, gossip_interval=200) as seed:
        seed.on("error", lambda error: None)
        environment = {
            **os.environ,
            "SEEDS": f"127.0.0.1:{seed.transport.port}",
            "PYTHONPATH": f"{MONITORING}{os.pathsep}{ROOT}",
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),  # which the metrics of nodes have to stand
        }
        command = [str(Path(sys.executable).parent / "gunicorn"), "--bind", "127.0.0.1:0", "--log-level", "info"]
        process = subprocess.Popen(
            command, cwd=MONITORING, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            assert process.stdout is not None
            port = 0
            while not port:
                line = process.stdout.readline()
                assert line, "gunicorn has ended"
                found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line)
                port = int(found[1]) if found else 0
            until(lambda: len(seed.values("metrics")) == 2, process)

            def targets() -> list[str]:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/targets", timeout=10) as answer:
                    assert answer.headers["Content-Type"] == "application/json"
                    (group,) = json.loads(answer.read())
                    return [str(each) for each in group["targets"]]

            until(lambda: targets() == sorted(seed.values("metrics").values()), process)
            for target in targets():
                scraped: Scraped = {}

                def complete(target: str = target, scraped: Scraped = scraped) -> bool:
                    scraped.update(scrape(int(target.rpartition(":")[2])))
                    return value(scraped, "peers", state="live") == 2

                until(complete, process)
                assert value(scraped, "keys", owner="self") == 1
                assert value(scraped, "rounds_total") >= 1
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=30)[0]
            assert process.returncode == 0, said
            assert "Traceback" not in said
        finally:
            process.kill()
            process.communicate()
