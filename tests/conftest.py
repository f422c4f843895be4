"""One seed for the whole run, printed in its head; GOSSIPMONGER_SEED=n repeats a run's."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator

import coverage
import hypothesis
import pytest

SEED = int(os.environ.get("GOSSIPMONGER_SEED") or random.SystemRandom().randrange(2**32))

hypothesis.settings.register_profile("gossipmonger", deadline=None, print_blob=True)
hypothesis.settings.load_profile("gossipmonger")


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(SEED)


def pytest_report_header() -> str:
    return f"gossipmonger seed: {SEED} (GOSSIPMONGER_SEED={SEED} repeats it)"


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:  # a thread that is at its end may take a moment
        thread.join(2)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture(autouse=True)
def _untraced(request: pytest.FixtureRequest) -> Iterator[None]:
    """Count no lines in tests that are marked so: the tests of the modules have counted them."""
    counting = coverage.Coverage.current() if request.node.get_closest_marker("untraced") else None
    if counting is None:
        yield
        return
    counting.stop()
    try:
        yield
    finally:
        counting.start()
