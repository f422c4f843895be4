"""A collector for `prometheus_client`: what `Gossipmonger.metrics` tells, as Prometheus reads it.

    from prometheus_client import REGISTRY, start_http_server
    from gossipmonger.metrics import Collector

    REGISTRY.register(Collector(node))
    start_http_server(9464)

It takes the extra `prometheus`. The page on monitoring has a dashboard, alerts, and what to do where a server has several
processes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gossipmonger.endpoint import Gossipmonger, Metrics
from gossipmonger.errors import ForkedError, shown

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.registry import Collector as _Collector
except ImportError as _error:
    raise ImportError("gossipmonger.metrics needs prometheus_client: pip install 'gossipmonger[prometheus]'") from _error

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Collector"]

#: Each family: its kind, its name behind `gossipmonger_`, its labels, its help, and its unit, with which the name has to end.
_FAMILIES: tuple[tuple[Any, str, tuple[str, ...], str, str], ...] = (
    (GaugeMetricFamily, "peers", ("state",), "Other nodes that are known, by what this one thinks of them.", ""),
    (CounterMetricFamily, "peer_transitions", ("to",), "How often another node became so.", ""),
    (CounterMetricFamily, "messages", ("direction", "transport", "kind"), "Messages of gossip.", ""),
    (CounterMetricFamily, "message_bytes", ("direction", "transport"), "Bytes of messages, as handed to the system.", "bytes"),
    (CounterMetricFamily, "messages_refused", ("reason",), "Messages that came and were refused as a whole.", ""),
    (CounterMetricFamily, "send_errors", ("reason",), "Messages that could not be sent. Gossip repairs what they told.", ""),
    (CounterMetricFamily, "deltas", ("direction",), "Writes of keys in messages, whether they were news or not.", ""),
    (GaugeMetricFamily, "links", ("side",), "Connections to other nodes that are kept open, by which side dialled.", ""),
    (CounterMetricFamily, "rounds", (), "Rounds of gossip.", ""),
    (HistogramMetricFamily, "round_duration_seconds", (), "Time that a round took.", "seconds"),
    (HistogramMetricFamily, "round_lateness_seconds", (), "Time from when a round was due to when it began.", "seconds"),
    (GaugeMetricFamily, "events_queued", (), "Events that wait for a handler.", ""),
    (HistogramMetricFamily, "handler_seconds", (), "Time that a call of a handler took.", "seconds"),
    (GaugeMetricFamily, "keys", ("owner",), "Keys of this node itself, and of all other live ones.", ""),
    (GaugeMetricFamily, "peer_phi", ("peer",), "How suspicious the silence of another node is; dead above dead_peer_phi.", ""),
)  # fmt: skip

#: Labels that a caller cannot give, since families have them.
_TAKEN = frozenset({"le", *(label for _, _, labels, _, _ in _FAMILIES for label in labels)})


class Collector(_Collector):
    """Collects what one or several nodes count. The names and their meanings are those of `Metrics`.

    A scrape looks at each peer once. A closed node, and a forked child's copy of one, tell nothing, so their series end.

    Args:
        node: The node.
        labels: Added to each series, name -> value. Prometheus itself adds which process was asked, as `instance`, so one node
            in a process needs none.
        phi: Whether to collect each peer's phi. That is a series for each peer at each node, so N x N in a cluster.

    Raises:
        TypeError, ValueError: A label's name is not one, or is taken.
    """

    def __init__(self, node: Gossipmonger, labels: Mapping[str, str] | None = None, *, phi: bool = False) -> None:
        self._phi = phi
        self._names = tuple(labels or ())
        for name in self._names:
            if not isinstance(name, str):
                raise TypeError(f"a label's name must be a string, got {shown(name)}")
            if not re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", name) or name in _TAKEN:
                raise ValueError(f"a label's name must be letters, digits and underscores, and not taken, got {shown(name)}")
        self._nodes: dict[tuple[str, ...], Gossipmonger] = {}
        self.add(node, labels)

    def add(self, node: Gossipmonger, labels: Mapping[str, str] | None = None) -> None:
        """Collect another node of this process too.

        Args:
            node: The node.
            labels: As for the first node: the same names, and other values. A closed node's may be given again.

        Raises:
            ValueError: The names are others, or another node has these values.
        """
        given = dict(labels or {})
        if given.keys() != set(self._names):
            raise ValueError(f"labels must have the names {shown(self._names)}, as the first node's, got {shown([*given])}")
        values = tuple(str(given[name]) for name in self._names)
        former = self._nodes.get(values)
        if former is not None and former is not node and not former.closed:
            raise ValueError(f"labels must tell nodes apart, got {shown(given)} for two")
        self._nodes = {**self._nodes, values: node}  # as a whole: a scrape may look at it

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples: a registry wants to know the names."""
        for _, family in self._families():
            yield family

    def collect(self) -> Iterator[Metric]:
        """Yield the families, as far as there is something to tell.

        Raises:
            Exception: What the storage raised. The scrape fails then.
        """
        families = dict(self._families())
        for values, node in self._nodes.items():
            if node.closed:
                self._nodes = {key: each for key, each in self._nodes.items() if each is not node}
                continue
            try:
                metrics = node.metrics(phi=self._phi)
            except ForkedError:
                continue
            for name, labels, value in _samples(metrics):
                family = families[name]
                texts = [text.encode("utf-8", "backslashreplace").decode() for text in (*values, *labels)]
                if isinstance(family, HistogramMetricFamily):
                    family.add_metric(texts, [*value["buckets"].items()], value["sum"])
                else:
                    family.add_metric(texts, float(value))
        for family in families.values():
            if family.samples:
                yield family

    def _families(self) -> Iterator[tuple[str, Any]]:
        for make, name, labels, text, unit in _FAMILIES:
            if name != "peer_phi" or self._phi:
                yield name, make(f"gossipmonger_{name}", text, labels=(*self._names, *labels), unit=unit)


def _samples(metrics: Metrics) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield the family's name, the labels' values, and the value of each sample."""
    for name, value in metrics.items():
        yield from _flat("peer_phi" if name == "phi" else name, (), value)


def _flat(name: str, labels: tuple[str, ...], value: Any) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    if not isinstance(value, dict) or "buckets" in value:
        yield name, labels, value
        return
    for key, inner in value.items():
        yield from _flat(name, (*labels, key), inner)
