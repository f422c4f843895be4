"""All randomness of a run comes from one seed, which is the same every time; GOSSIPMONGER_SEED=n runs another one."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from collections.abc import Iterator

import coverage
import hypothesis
import pytest

from gossipmonger import errors

#: Stored here so that a change alone can make a run fail. `make histories` and its siblings are what looks for new seeds.
STORED_SEED = 2481632

SEED = int(os.environ.get("GOSSIPMONGER_SEED") or STORED_SEED)

hypothesis.settings.register_profile("gossipmonger", deadline=None, print_blob=True)
hypothesis.settings.load_profile("gossipmonger")

# Shells let what they run in the background ignore Ctrl-C, and the programs that tests end by it would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(SEED)


def pytest_report_header() -> str:
    return f"gossipmonger seed: {SEED}" + (" (the stored one)" if SEED == STORED_SEED else "")


@pytest.fixture
def rng() -> random.Random:
    return random.Random(SEED)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[logging.LogRecord]]:
    """What the package logs, of all levels."""
    records: list[logging.LogRecord] = []
    handler, logger = logging.Handler(), logging.getLogger("gossipmonger")
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(errors, "_reporter", errors.Reporter())
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


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
