"""A small run of `tests.ttls`."""

from __future__ import annotations

import random

import pytest

from tests.ttls import Cluster


@pytest.mark.untraced
def test_keys_with_a_ttl_go_when_their_owners_are_killed(rng: random.Random) -> None:
    cluster = Cluster(rng.randrange(10**9), nodes=12, keys=600)
    cluster.run()
    assert cluster.wrong == []
    assert len(cluster.late) > 500
