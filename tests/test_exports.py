"""What the package shows of itself: names, docstrings, the size of its modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gossipmonger

MODULES = ["gossipmonger", *(module.name for module in pkgutil.walk_packages(gossipmonger.__path__, "gossipmonger."))]


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def defined_in(module: ModuleType) -> dict[str, Any]:
    """The public classes and functions that the module itself defines."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__ and hasattr(thing, "__qualname__")
    }


def test_all_names_what_is_there_once_and_in_order(module: ModuleType) -> None:
    names = module.__all__
    assert sorted(set(names), key=lambda name: (not name.isupper(), name)) == list(names)  # constants first
    assert [name for name in names if not hasattr(module, name)] == []


def test_every_public_thing_is_in_all(module: ModuleType) -> None:
    assert defined_in(module).keys() - set(module.__all__) == set()


def test_every_public_thing_has_a_docstring(module: ModuleType) -> None:
    assert module.__doc__
    for name, thing in defined_in(module).items():
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                    assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


def test_no_module_outgrows_what_can_be_read_at_a_sitting(module: ModuleType) -> None:
    assert module.__file__ is not None
    assert len(Path(module.__file__).read_text(encoding="utf-8").splitlines()) <= 445, module.__name__


def test_what_the_package_exports_is_documented_in_the_api_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in gossipmonger.__all__ if name not in page and name != "__version__"] == []


def test_sphinx_takes_no_word_before_a_colon_for_a_type(module: ModuleType) -> None:
    """Napoleon reads "what: how" as type and text, at the start of a `Returns` and in what is said of an attribute."""
    assert module.__file__ is not None
    source = Path(module.__file__).read_text(encoding="utf-8")
    said = re.findall(r"(?<!#: )(?<=\n)    #: (.*)", re.sub(r"(    #: .*\n)(    #: .*\n)+", r"\1", source))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            if any(isinstance(name, ast.Name) and name.id == "property" for name in node.decorator_list):
                said.append(text.partition("\n")[0])
            said += re.findall(r"^(?:Returns|Yields):\n +(.*)", text, re.MULTILINE)
    assert [line for line in said if ": " in re.sub(r"`[^`]*`", "", line)] == []
