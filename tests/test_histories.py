"""A thousand random histories; more with `make histories`."""

from __future__ import annotations

import random

import pytest

from . import histories


@pytest.mark.untraced
@pytest.mark.timeout(200)
def test_a_thousand_histories_keep_their_promises(rng: random.Random) -> None:
    first = rng.randrange(10**9)
    for seed in range(first, first + 1_000):
        histories.run(seed)  # a failure names its seed; `python -m tests.histories SEED SEED` replays it
