"""How what benchmarks measured becomes figures, and figures a page. What they measure is measured, not tested."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import DOCS, SECTIONS, main
from benchmarks.crowd import KEYS, Crowd
from benchmarks.network import Loopback
from benchmarks.overload import Sample, faults
from benchmarks.page import keep, page
from benchmarks.programs import free_ports
from benchmarks.report import Section, figure, percentile, spread, times
from benchmarks.router import destination
from benchmarks.rows import ROWS, VARIANTS, lags, merged
from gossipmonger import Gossipmonger, RemotePeer


def rows_of(text: str) -> dict[str, list[str]]:
    """Return the cells of a page's first table, by their label."""
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| ")]
    return {cells[1]: cells[2:-1] for cells in lines}


def result(**samples: list[float]) -> dict[str, Any]:
    return {"samples": samples, "false": 1, "network": ""}


def test_a_section_is_a_heading_a_text_and_a_table() -> None:
    section = Section("How fast", "\nOf two.\n", ["", "s"], [["ours", "1.0"], ["a|b", "2.0"]])
    assert section.markdown() == "## How fast\n\nOf two.\n\n|  | s |\n| --- | --- |\n| ours | 1.0 |\n| a\\|b | 2.0 |\n"


def test_a_row_with_a_cell_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows: .*1 cells for 2 columns"):
        Section("How fast", "", ["", "s"], [["ours"]]).markdown()


def test_a_percentile_is_a_sample_that_so_many_are_not_above() -> None:
    assert percentile(range(1, 101), 95) == 95
    assert percentile(range(1, 21), 95) == 19
    assert percentile([7.0], 99) == 7


def test_spread_says_the_median_and_the_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2 (1-3)"
    assert spread([1234.0]) == "1,234"
    assert [figure(value) for value in (0.01234, 1.234, 12.34, 123.4)] == ["0.0123", "1.23", "12.3", "123"]


def test_times_compares_turn_by_turn() -> None:
    assert times([1.0, 6.0, 2.0], [2.0, 2.0, 2.0]) == "**1.00** (0.50-3.00)"
    with pytest.raises(ValueError, match="longer"):
        times([1.0], [1.0, 2.0])


def test_a_later_value_makes_an_earlier_one_needless() -> None:
    sets = [10.0, 11.0, 12.0]
    seen = [{"a": 10.5, "b": 10.25}, {"b": 11.5}, {"a": 12.5, "b": 12.25}]
    assert lags(sets, seen, ["a", "b"], since=0) == [0.5, 1.5, 0.5, 0.25, 0.5, 0.25]
    assert lags(sets, seen, ["a"], since=2) == [0.5]


def test_who_never_has_a_value_lags_for_ever() -> None:
    assert lags([10.0, 11.0], [{"a": 10.5}, {}], ["a", "b"], since=0) == [math.inf, 0.5, math.inf, math.inf]


def test_results_of_several_clusters_are_one() -> None:
    both = merged(merged(None, result(ms=[1.0])), result(ms=[2.0]))
    assert both == {"samples": {"ms": [1.0, 2.0]}, "false": 2, "network": ""}
    assert merged(both, {"missing": "too late", "false": 0}) == {"missing": "too late", "false": 2}


def test_the_page_has_figures_reasons_and_gaps(tmp_path: Path) -> None:
    keep(tmp_path, "quiet", {"ours": result(ms=[3.0, 1.0, 2.0]), "serf": {"absent": "serf is not installed"}})
    keep(tmp_path, "two", {"ours": result(seconds=[0.25]), "kinship": {"missing": "no keys"}})
    text = page(tmp_path, SECTIONS)
    rows = rows_of(text)
    column = [variant.name for variant in VARIANTS].index
    assert rows["a quiet update at all of 25, ms"][1:][column("ours")] == "2 (1-3)"
    assert rows["95 of 100 quiet updates at all of 25 within, ms"][1:][column("ours")] == "3"
    assert rows["a quiet update at all of 100, ms"][1:][column("ours")] == ""
    assert rows["10,000 keys between two nodes, s"][1:][column("ours")] == "0.25"
    assert rows["10,000 keys between two nodes, s"][1:][column("kinship")] == "no keys"
    assert rows["false deaths in all of it"][1:][column("ours")] == "2"
    assert "Without *serf*: serf is not installed." in text
    assert len(rows) > sum(len(row.lines) for row in ROWS.values())


def test_what_was_not_counted_or_never_came_says_so(tmp_path: Path) -> None:
    load = {"samples": {"cpu": [2.0], "bytes": [], "within 99": []}, "false": 0, "network": ""}
    keep(tmp_path, "load", {"ours": {**load, "network": "no network of its own"}, "kinship": load})
    cells = rows_of(page(tmp_path, SECTIONS))
    column = [variant.name for variant in VARIANTS].index
    bytes = cells["25 nodes, 1 update a second and node: bytes per node and second"][1:]
    assert bytes[column("ours")] == "no network of its own"
    assert cells["99 of 100 receivers have it within, ms"][1:][column("kinship")] == "never"


def test_figures_are_kept_beside_those_of_others(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("kept")
    keep(tmp_path, "two", {"ours": result(seconds=[0.25])})
    assert (tmp_path / "other.json").read_text() == "kept"
    assert json.loads((tmp_path / "two.json").read_text())["figures"]["ours"]["samples"] == {"seconds": [0.25]}


def test_the_page_is_what_the_figures_make_it() -> None:
    assert (DOCS / "benchmarks.md").read_text() == page(DOCS / "benchmarks", SECTIONS)


def test_a_name_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "there is no benchmark 'speed'" in capsys.readouterr().err


def test_nodes_have_ports_of_their_own_with_a_free_one_above() -> None:
    network = Loopback()
    try:
        ports = [network.address(number)[1] for number in (0, 3, 1)]
    finally:
        network.close()
    assert len({port // 2 for port in ports}) == 3
    assert network.address(3)[1] == ports[1]


def test_what_an_overload_leaves_behind_is_named() -> None:
    before = Sample("before", 120.0, 40.0, 330.0, 29, 25, 5, 24.7, 0, 0)
    assert faults(before, before._replace(descriptors=31, cpu=50.0, each=410.0, false_deaths=7)) == []
    assert faults(before, before._replace(dead=1)) == ["live nodes are taken for dead"]
    worse = before._replace(descriptors=190, threads=9, each=700.0, messages=240.0)
    assert faults(before, worse) == [
        "descriptors are left", "threads are left", "a message costs more", "there are more messages",
    ]  # fmt: skip


def test_a_router_finds_the_host_that_a_packet_is_for() -> None:
    packet = bytearray(20)
    packet[0], packet[16:20] = 0x45, bytes((10, 0, 1, 4))
    assert destination(bytes(packet)) == 259
    packet[0] = 0x60
    assert destination(bytes(packet)) == -1


def test_a_real_node_takes_those_that_are_played_for_a_cluster() -> None:
    (port,) = free_ports(1)
    where = {"host": "127.0.0.1", "port": port}
    crowd = Crowd(5, RemotePeer("node", where))
    seed = crowd.peers[0]
    errors: list[Exception] = []
    node = Gossipmonger({"id": "node", "transport": where}, seeds=[{"id": seed.id, "transport": seed.transport}])
    node.on("error", errors.append)
    try:
        node.transport.listen()
        crowd.begin()
        node.gossip()
        for _ in range(200):
            crowd.turn(0.05)
            known = {id: len(peer.data) for id, peer in node.peers().items() if id != "node"}
            if known == dict.fromkeys([peer.id for peer in crowd.peers], KEYS):
                break
        assert known == dict.fromkeys([peer.id for peer in crowd.peers], KEYS)
        assert errors == []
        assert crowd.read > 0
    finally:
        crowd.close()
        node.close()
