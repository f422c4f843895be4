"""The collector: Prometheus reads it, its names and labels are known beforehand, and it tells what `metrics` does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from gossipmonger import ForkedError, Gossipmonger, MemoryStorage
from gossipmonger.errors import FAILURES, REFUSALS
from gossipmonger.metrics import Collector
from gossipmonger.simulation import Simulation
from gossipmonger.transport import KINDS

Labels = dict[str, str]

#: What there is, and which labels it has.
FAMILIES: dict[str, tuple[str, set[str]]] = {
    "gossipmonger_peers": ("gauge", {"state"}),
    "gossipmonger_peer_transitions": ("counter", {"to"}),
    "gossipmonger_messages": ("counter", {"direction", "kind", "transport"}),
    "gossipmonger_message_bytes": ("counter", {"direction", "transport"}),
    "gossipmonger_messages_refused": ("counter", {"reason"}),
    "gossipmonger_send_errors": ("counter", {"reason"}),
    "gossipmonger_deltas": ("counter", {"direction"}),
    "gossipmonger_links": ("gauge", {"side"}),
    "gossipmonger_rounds": ("counter", set()),
    "gossipmonger_round_duration_seconds": ("histogram", set()),
    "gossipmonger_round_lateness_seconds": ("histogram", set()),
    "gossipmonger_events_queued": ("gauge", set()),
    "gossipmonger_handler_seconds": ("histogram", set()),
    "gossipmonger_keys": ("gauge", {"owner"}),
}


@pytest.fixture
def nodes() -> list[Gossipmonger]:
    sim = Simulation(seed=1)
    nodes = [sim.add(id, seeds=["a"]) for id in ("a", "b", "c")]
    nodes[0].update("k", 1)
    sim.run(20_000)
    sim.crash("c")
    sim.run(20_000)
    return nodes


def registered(collector: Collector) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)
    return registry


def samples(registry: CollectorRegistry) -> Iterator[tuple[str, Labels, float]]:
    for family in registry.collect():
        yield from ((sample.name, sample.labels, sample.value) for sample in family.samples)


def test_the_families_are_these(nodes: list[Gossipmonger]) -> None:
    families = {family.name: family for family in Collector(nodes[0]).collect()}
    assert {
        name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for name, family in families.items()
    } == FAMILIES
    for name, family in families.items():
        assert family.documentation.endswith(".")
        assert family.unit == ("bytes" if name.endswith("_bytes") else "seconds" if name.endswith("_seconds") else "")


def test_what_it_describes_is_what_it_collects(nodes: list[Gossipmonger]) -> None:
    collector = Collector(nodes[0], phi=True)
    described = [(family.name, family.type) for family in collector.describe()]
    assert described == [(family.name, family.type) for family in collector.collect()]
    assert not any(family.samples for family in collector.describe())


def test_both_formats_are_read_as_they_were_meant(nodes: list[Gossipmonger]) -> None:
    registry = registered(Collector(nodes[0], phi=True))
    told = {(name, *sorted(labels.items())): value for name, labels, value in samples(registry)}
    classic = text_string_to_metric_families(generate_latest(registry).decode())
    assert {(each.name, *sorted(each.labels.items())): each.value for family in classic for each in family.samples} == told
    text = exposition.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    strict = parser.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    assert {(each.name, *sorted(each.labels.items())): each.value for family in strict for each in family.samples} == told


def test_it_tells_what_metrics_does(nodes: list[Gossipmonger]) -> None:
    metrics, registry = nodes[0].metrics(), registered(Collector(nodes[0]))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"gossipmonger_{name}", labels)

    assert value("peers", state="live") == metrics["peers"]["live"] == 1
    assert value("peers", state="dead") == metrics["peers"]["dead"] == 1
    assert value("peer_transitions_total", to="dead") == metrics["peer_transitions"]["dead"] == 1
    rounds = metrics["messages"]["sent"]["simulated"]["round"]
    assert value("messages_total", direction="sent", kind="round", transport="simulated") == rounds > 0
    read = metrics["message_bytes"]["received"]["simulated"]
    assert value("message_bytes_total", direction="received", transport="simulated") == read > 0
    assert value("rounds_total") == metrics["rounds"] > 0
    assert value("round_duration_seconds_count") == metrics["rounds"]
    assert value("round_duration_seconds_bucket", le="+Inf") == metrics["rounds"]
    assert value("round_duration_seconds_sum") == metrics["round_duration_seconds"]["sum"] > 0
    assert value("keys", owner="self") == 1
    assert value("peer_phi", peer="b") is None


def test_labels_have_a_few_values_whatever_comes_from_the_network(nodes: list[Gossipmonger]) -> None:
    for text in ("\x00<script>", "x" * 1000, '{"digest": 5}'):
        nodes[0].transport.receive(text.encode(), "there")
    values: dict[str, set[str]] = {}
    for _, labels, _ in samples(registered(Collector(nodes[0]))):
        for label, value in labels.items():
            values.setdefault(label, set()).add(value)
    assert len(values.pop("le")) == 14
    assert values == {
        "state": {"live", "dead", "left"},
        "to": {"new", "live", "dead", "left", "forgotten"},
        "direction": {"sent", "received"},
        "kind": set(KINDS),
        "transport": {"simulated"},
        "reason": {*REFUSALS, *FAILURES},
        "side": {"dialled"},
        "owner": {"self", "others"},
    }


def test_phi_is_a_series_for_each_peer_and_only_if_asked_for(nodes: list[Gossipmonger]) -> None:
    phi = {
        labels["peer"]: value
        for name, labels, value in samples(registered(Collector(nodes[0], phi=True)))
        if name == "gossipmonger_peer_phi"
    }
    assert phi == nodes[0].metrics(phi=True)["phi"]
    assert phi["c"] > 8 > phi["b"]


@pytest.mark.parametrize("id", ['b"\\\n', "b\ud800", "ü"])
def test_any_id_can_be_told(id: str) -> None:
    class Odd(MemoryStorage):
        def dead_peers(self) -> list[Any]:
            return [peer for peer in [*self._peers.values()] if peer.id == id]

    sim, storage = Simulation(seed=1), Odd()
    node = sim.add("a", storage=storage)
    peer = type(node.local_peer)(id, live=False)
    storage.put(id, peer)
    registry = registered(Collector(node, phi=True))
    (family,) = [
        family
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        if family.name == "gossipmonger_peer_phi"
    ]
    assert [sample.labels["peer"] for sample in family.samples] == [id.replace("\ud800", "\\ud800")]


# Several nodes


def test_several_nodes_are_told_apart_by_labels_of_the_caller(nodes: list[Gossipmonger]) -> None:
    collector = Collector(nodes[0], {"node": "a", "shard": "1"})
    registry = registered(collector)
    collector.add(nodes[1], {"shard": "1", "node": "b"})
    rounds = {labels["node"]: value for name, labels, value in samples(registry) if name == "gossipmonger_rounds_total"}
    assert rounds == {"a": nodes[0].metrics()["rounds"], "b": nodes[1].metrics()["rounds"]}
    text = generate_latest(registry).decode()
    assert text.count("# TYPE gossipmonger_rounds_total counter") == 1
    with pytest.raises(ValueError, match="labels must tell nodes apart"):
        collector.add(nodes[2], {"node": "b", "shard": "1"})
    with pytest.raises(ValueError, match="labels must have the names"):
        collector.add(nodes[2], {"node": "c"})


def test_two_collectors_in_one_registry_are_refused_when_they_are_registered(nodes: list[Gossipmonger]) -> None:
    registry = registered(Collector(nodes[0], {"node": "a"}))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(Collector(nodes[1], {"node": "b"}))


@pytest.mark.parametrize("name", ["", "1a", "a-b", "__a", "le", "state", "peer", "reason"])
def test_a_label_that_cannot_be_is_refused(nodes: list[Gossipmonger], name: str) -> None:
    with pytest.raises(ValueError, match="a label's name must be letters"):
        Collector(nodes[0], {name: "x"})
    with pytest.raises(TypeError, match="a label's name must be a string"):
        Collector(nodes[0], {5: "x"})  # type: ignore[dict-item]


# The end


def test_a_closed_node_tells_nothing_and_makes_room_for_the_next(nodes: list[Gossipmonger]) -> None:
    collector = Collector(nodes[0])
    registry = registered(collector)
    nodes[0].close()
    assert [*registry.collect()] == []
    collector.add(nodes[1])
    assert registry.get_sample_value("gossipmonger_rounds_total") == nodes[1].metrics()["rounds"]
    nodes[1].close()
    collector.add(nodes[2])
    assert registry.get_sample_value("gossipmonger_rounds_total") == nodes[2].metrics()["rounds"]


def test_a_forked_copy_tells_nothing(nodes: list[Gossipmonger], monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registered(Collector(nodes[0]))
    monkeypatch.setattr(nodes[0]._engine, "forked", True)
    with pytest.raises(ForkedError):
        nodes[0].metrics()
    assert [*registry.collect()] == []


def test_what_a_storage_raises_fails_the_scrape(nodes: list[Gossipmonger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes[0].storage, "live_peers", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate_latest(registered(Collector(nodes[0])))


def test_without_the_package_an_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["prometheus_client"] = sys.modules["prometheus_client.core"] = None
import gossipmonger
print("metrics" in dir(gossipmonger.Gossipmonger))
import gossipmonger.metrics
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "True\n")
    assert done.stderr.endswith(
        "ImportError: gossipmonger.metrics needs prometheus_client: pip install 'gossipmonger[prometheus]'\n"
    )
