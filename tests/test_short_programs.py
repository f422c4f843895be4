"""A small run of `tests.short_programs`."""

from __future__ import annotations

import os

import pytest

from tests.short_programs import run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_what_short_programs_publish_arrives_and_none_of_them_stays() -> None:
    assert run(20, seed=1) == []
