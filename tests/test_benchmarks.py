"""How the results of benchmarks become pages. What they measure is measured, not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import Section, p95, spread, times, write

SECTION = Section(
    name="speed",
    title="How fast",
    text="\nOf two.\n",
    header=["", "s"],
    rows=[["ours", "1.0"], ["a|b", "2.0"]],
    raw={"ours": [1.0]},
)


def test_a_section_is_a_heading_a_text_and_a_table() -> None:
    assert SECTION.markdown().startswith(
        "## How fast\n\nOf two.\n\n|  | s |\n| --- | --- |\n| ours | 1.0 |\n| a\\|b | 2.0 |\n\n*",
    )


def test_a_row_with_a_cell_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows: .*1 cells for 2 columns"):
        Section("speed", "How fast", "", ["", "s"], [["ours"]], None)


def test_a_section_is_written_beside_those_of_others(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("kept")
    write(SECTION, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"other.md", "speed.md", "speed.json"}
    assert (tmp_path / "other.md").read_text() == "kept"
    assert (tmp_path / "speed.md").read_text() == SECTION.markdown()
    assert json.loads((tmp_path / "speed.json").read_text())["figures"] == {"ours": [1.0]}


def test_the_95th_percentile_is_a_sample_that_95_of_100_are_not_above() -> None:
    assert p95(range(1, 101)) == 95
    assert p95(range(1, 21)) == 19
    assert p95([7.0]) == 7


def test_spread_says_the_median_the_range_and_the_number() -> None:
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0-3.0, n=3)"
    assert spread([1234.0], 0) == "1,234 (one)"
    assert spread([]) == ""


def test_the_page_has_every_section_that_was_written() -> None:
    pages = Path(__file__).parent.parent / "docs"
    page = (pages / "benchmarks.md").read_text()
    sections = [f"{{include}} benchmarks/{path.name}" for path in (pages / "benchmarks").glob("*.md")]
    assert sections
    assert [section for section in sections if section not in page] == []


def test_times_compares_turn_by_turn() -> None:
    assert times([1.0, 6.0, 2.0], [2.0, 2.0, 2.0]) == "**1.00** (0.50-3.00)"
    with pytest.raises(ValueError, match="longer"):
        times([1.0], [1.0, 2.0])
