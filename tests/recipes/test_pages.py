"""The pages on recipes: each fits a screen, with a picture and a program that does what the page says."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cluster import free_ports
from tests.programs import ROOT, Program, python_in

FOLDER = ROOT / "docs" / "recipes"
PAGES = ["elect", "events", "owner", "questions", "registry", "shared-map"]

pytestmark = pytest.mark.untraced


class Terminals:
    """Runs the program of a page, in the file that the page names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip("ab", free_ports(2), strict=True))
        self.open = ExitStack()

    def run(self, page: str, id: str, seed: str | None = None) -> Program:
        (program,) = python_in(FOLDER / f"{page}.md")
        text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
        name = re.search(r"Save this as `(\w+\.py)`", text)
        assert name is not None
        assert {f"{name[1]} a 9742", f"{name[1]} b 9743 127.0.0.1:9742"} <= set(
            re.findall(r"`python (.*?)`", " ".join(text.split()))
        )
        path = self.folder / name[1]
        path.write_text(program, encoding="utf-8")
        seeds = [] if seed is None else [f"127.0.0.1:{self.ports[seed]}"]
        return self.open.enter_context(Program.python(path, id, self.ports[id], *seeds))


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Terminals]:
    terminals = Terminals(tmp_path)
    with terminals.open:
        yield terminals


def test_there_is_a_page_for_each_recipe_and_the_index_has_it() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == sorted([*PAGES, "index"])
    listed = re.findall(r"\[\]\(([\w-]+)\.md\)", (FOLDER / "index.md").read_text(encoding="utf-8"))
    assert sorted(listed) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_one_screen_and_has_one_picture_and_one_program(page: str) -> None:
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    assert [path for _, path in re.findall(r"!\[(.+?)\]\((.+?)\)", text)] == [f"{page}.svg"]
    assert len(python_in(FOLDER / f"{page}.md")) == 1


@pytest.mark.parametrize("page", PAGES)
def test_a_picture_is_small_and_says_what_it_shows(page: str) -> None:
    source = (FOLDER / f"{page}.svg").read_text(encoding="utf-8")
    picture = ElementTree.fromstring(source)
    (said,) = re.findall(r"!\[(.+?)\]", (FOLDER / f"{page}.md").read_text(encoding="utf-8"))
    assert picture.get("aria-label") == said
    assert len(source) < 6_000
    assert not [each for each in picture.iter() if each.get("fill") == "white"]  # it has no ground, so any page is one


def test_owner(terminals: Terminals) -> None:
    a = terminals.run("owner", "a")
    a.expect("mine: ants bees cats dogs eels foxes")
    b = terminals.run("owner", "b", "a")
    less = a.expect(lambda line: line != "mine: ants bees cats dogs eels foxes").split()[1:]
    b.expect(" ".join(["mine:", *(job for job in ["ants", "bees", "cats", "dogs", "eels", "foxes"] if job not in less)]))
    b.end()
    a.expect("mine: ants bees cats dogs eels foxes")


def test_shared_map(terminals: Terminals) -> None:
    a = terminals.run("shared-map", "a")
    b = terminals.run("shared-map", "b", "a")
    b.type("dark true")
    for each in (a, b):
        each.expect("dark is True says b")
    b.end(signal.SIGKILL)
    again = terminals.run("shared-map", "b", "a")
    again.expect("dark is True says b")
    a.type('dark {"from": 22}')
    again.expect("dark is {'from': 22} says a")


def test_registry(terminals: Terminals) -> None:
    a = terminals.run("registry", "a")
    b = terminals.run("registry", "b", "a")
    for each in (a, b):
        each.expect("healthy: a.example:80 b.example:80")
    (terminals.folder / "a.sick").touch()
    for each in (a, b):
        each.expect("healthy: b.example:80")
    (terminals.folder / "a.sick").unlink()
    b.expect("healthy: a.example:80 b.example:80")
    a.end()
    b.expect("healthy: b.example:80")


def test_elect(terminals: Terminals) -> None:
    a = terminals.run("elect", "a")
    a.expect("a leads")
    b = terminals.run("elect", "b", "a")
    b.expect("a leads")
    a.end()
    b.expect("b leads")
    terminals.run("elect", "a", "b").expect("b leads")
    assert "a leads" not in b.lines[b.lines.index("b leads") + 1 :]


def test_events(terminals: Terminals) -> None:
    a = terminals.run("events", "a")
    b = terminals.run("events", "b", "a")
    b.type("hello")
    b.type("there")
    for each in (a, b):
        each.expect("b: hello")
        each.expect("b: there")
    b.end(signal.SIGKILL)
    again = terminals.run("events", "b", "a")
    a.type("again")
    for each in (a, again):
        each.expect("a: again")


def test_questions(terminals: Terminals) -> None:
    a = terminals.run("questions", "a")
    b = terminals.run("questions", "b", "a")
    answers = f"{{'a': {os.cpu_count()}, 'b': {os.cpu_count()}}} missing: []"
    while True:  # until a has heard of b
        a.type("")
        if a.expect(lambda line: line.endswith("missing: []")) == answers:
            break
    b.type("")
    b.expect(answers)
