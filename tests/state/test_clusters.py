"""Clusters: how often the same source is reported."""

from __future__ import annotations

from gossipmonger.errors import ClusterError
from gossipmonger.state import Clusters


def error(id: str = "b", theirs: str | None = "test") -> ClusterError:
    return ClusterError("prod", theirs, id, "h:1")


def test_a_source_and_its_cluster_are_reported_once_a_minute() -> None:
    clusters = Clusters(lambda: "prod")
    assert len(clusters.report(0, error())) == 1
    assert clusters.report(59_999, error()) == []
    assert len(clusters.report(59_999, error("c"))) == 1
    assert len(clusters.report(59_999, error(theirs=None))) == 1
    assert len(clusters.report(60_000, error())) == 1
    assert clusters.report(60_001, error()) == []
