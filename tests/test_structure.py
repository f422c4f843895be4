"""The structure: rooms import only what they may, nothing outgrows its limit, and the page on architecture says so."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gossipmonger

ROOT = Path(__file__).parent.parent


def load() -> ModuleType:
    """The program that writes the page; the folder it is in is no package."""
    spec = importlib.util.spec_from_file_location("structure", ROOT / "docs" / "structure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["structure"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


structure: Any = load()

#: Lines that a file may have, the protocol room, and the package without what is built on top of it. The last two are what was
#: measured: whoever makes the code shorter lowers them, and whoever has to raise them says in the commit what for.
FILE, PROTOCOL, PACKAGE = 400, 3_516, 17_800


def test_the_page_on_architecture_is_up_to_date() -> None:
    assert structure.up_to_date(), "run `make structure`"


def test_no_file_is_too_long_to_read_at_a_sitting() -> None:
    assert {module.path: module.lines for module in structure.modules() if module.lines > FILE} == {}


def test_the_protocol_can_be_held_in_the_head() -> None:
    assert 0 < sum(module.lines for module in structure.modules() if module.room == "protocol") <= PROTOCOL


def test_the_package_stays_small() -> None:
    assert sum(module.lines for module in structure.modules() if module.room not in structure.ABOVE) <= PACKAGE


def test_a_field_of_a_delta_stands_where_the_page_says() -> None:
    package = Path(gossipmonger.__file__).parent
    files = {path for path in package.rglob("*.py") if "testing" not in path.parts and _names("more", path)}
    rooms = {"protocol/protocol.py", "state/message.py", "state/peer.py", "wire/encoder.py", "wire/schema.py"}
    assert {path.relative_to(package).as_posix() for path in files} == rooms


def _names(field: str, path: Path) -> bool:
    """Whether a module has this name, as a variable, an attribute, an argument or a text."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return any(field in (getattr(node, part, None) for part in ("id", "attr", "arg", "value")) for node in nodes)


def test_there_are_these_rooms_and_no_others() -> None:
    assert structure.arrows().keys() == structure.ALLOWED.keys()


def test_rooms_import_only_what_they_may() -> None:
    wrong = {
        module.path: sorted(module.imports - structure.ALLOWED[module.room])
        for module in structure.modules()
        if module.room in structure.ALLOWED and not module.imports <= structure.ALLOWED[module.room]
    }
    assert wrong == {}


def test_import_linter_knows_the_same_rooms() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = setup["importlinter:contract:rooms"]["layers"].replace("|", " ").replace(":", " ").split()
    assert set(layers) == {*structure.ALLOWED, *structure.ABOVE}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small package with two rooms."""
    package = tmp_path / "gossipmonger"
    for room in ("state", "protocol"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text(f'"""The room {room}."""\n', encoding="utf-8")
    (package / "__init__.py").write_text('"""All."""\n\nfrom gossipmonger.state import x\n', encoding="utf-8")
    (package / "state" / "peer.py").write_text(
        '"""One peer.\n\nMore.\n"""\n\nfrom gossipmonger import errors\n', encoding="utf-8"
    )
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "import gossipmonger.wire.schema",
        "from gossipmonger import wire",
        "from gossipmonger.wire.schema import SCHEMA",
        "from ..wire import schema",
        "from .. import wire",
        "def later():\n    from gossipmonger.wire import schema",
    ],
)
def test_an_import_is_seen_however_it_is_written(house: Path, line: str) -> None:
    (house / "gossipmonger" / "protocol" / "step.py").write_text(line + "\n", encoding="utf-8")
    assert structure.arrows(house) == {"state": {"errors"}, "protocol": {"wire"}}


def test_an_import_of_the_package_itself_is_seen(house: Path) -> None:
    path = house / "gossipmonger" / "protocol" / "step.py"
    path.write_text("from gossipmonger import Gossipmonger\n", encoding="utf-8")
    assert structure.arrows(house)["protocol"] == {"Gossipmonger"}


def test_the_tree_has_every_file_with_its_summary_and_length(house: Path) -> None:
    lines = structure.tree(house).splitlines()
    assert [line.split() for line in lines] == [
        ["gossipmonger/", "11"],
        ["__init__.py", "3", "All."],
        ["state/", "7"],
        ["__init__.py", "1", "The", "room", "state."],
        ["peer.py", "6", "One", "peer."],
        ["protocol/", "1"],
        ["__init__.py", "1", "The", "room", "protocol."],
    ]


def test_the_picture_has_an_arrow_for_each_room(house: Path) -> None:
    assert structure.picture(house).splitlines() == ["protocol  --> (nothing)", "state     --> errors"]


def test_only_what_stands_between_the_markers_is_replaced(house: Path) -> None:
    marks = [text.format(name) for name in ("tree", "arrows") for text in (structure.BEGIN, structure.END)]
    page = f"a\n{marks[0]}\nold\n{marks[1]}\nb\n{marks[2]}{marks[3]}\nc\n"
    written = structure.current(page, house)
    assert "old" not in written
    assert written.startswith(f"a\n{marks[0]}\n\n```text\ngossipmonger/")
    assert written.endswith(f"{marks[3]}\nc\n")
    assert structure.current(written, house) == written


def test_a_page_without_markers_is_an_error(house: Path) -> None:
    with pytest.raises(ValueError, match="no markers for the tree"):
        structure.current("a page", house)
