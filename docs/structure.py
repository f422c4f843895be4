"""Writes the tree of the code, and the arrows between its rooms, into docs/architecture.md.

    python docs/structure.py            # fails if the page is not up to date
    python docs/structure.py --write    # brings it up to date

It reads the source with `ast` and imports nothing of the package. `tests/test_structure.py` uses the same functions.
"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ALLOWED", "PAGE", "ROOT", "Module", "arrows", "current", "modules", "up_to_date"]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = "gossipmonger"

#: What each room may import beside itself. The contracts in setup.cfg say the same, and cover indirect imports too.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "process": {"errors"},
    "state": {"errors"},
    "protocol": {"state", "errors"},
    "wire": {"state", "errors"},
    "transport": {"wire", "state", "process", "errors"},
    "storage": {"state", "process", "errors"},
    "endpoint": {"protocol", "wire", "transport", "storage", "state", "process", "errors"},
}

#: What stands above the rooms and may import any of them.
ABOVE = ("simulation", "testing", "metrics", "recipes", "web", "cli")

BEGIN, END = "<!-- {}: written by `make structure` -->", "<!-- end of {} -->"

#: Columns of a line in the tree; longer first lines of docstrings are cut.
WIDTH = 128


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        path: Relative to the package, with slashes.
        room: The folder or top-level module that it belongs to; "" for the package's own `__init__.py` and `_version.py`.
        summary: The first line of its docstring.
        lines: How many lines it has.
        imports: The rooms that it imports, its own not among them.
    """

    path: str
    room: str
    summary: str
    lines: int
    imports: frozenset[str]


def modules(root: Path = ROOT) -> list[Module]:
    """Return all modules of the package, in the order of the tree."""
    package = root / PACKAGE
    paths = [path for path in package.rglob("*.py") if "__pycache__" not in path.parts]
    return [_read(package, path) for path in sorted(paths, key=lambda path: _place(path.relative_to(package)))]


def _place(path: Path) -> tuple[object, ...]:
    order = [*ALLOWED, *ABOVE]
    top = path.parts[0].removesuffix(".py")
    own = len(path.parts) == 1 and top not in order
    return (not own, order.index(top) if top in order else len(order), path.name != "__init__.py", path.as_posix())


def _read(package: Path, path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    relative = path.relative_to(package)
    top = relative.parts[0].removesuffix(".py")
    room = "" if len(relative.parts) == 1 and top.startswith("_") else top
    summary = (ast.get_docstring(tree) or "").split("\n", 1)[0]
    imports = frozenset(name for name in _imports(tree, relative) if name != room)
    return Module(relative.as_posix(), room, summary, len(text.splitlines()), imports)


def _imports(tree: ast.AST, relative: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = [PACKAGE, *relative.parent.parts]
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base == PACKAGE else [base]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == PACKAGE and len(parts) > 1 and parts[1] != "_version":
                yield parts[1]  # of the package itself, the public name, which no room has


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """Return for each room what it imports, in the order of the tree; what stands above the rooms is left out."""
    found: dict[str, set[str]] = {}
    for module in modules(root):
        if module.room and module.room not in ABOVE:
            found.setdefault(module.room, set()).update(module.imports)
    return found


def tree(root: Path = ROOT) -> str:
    """Return the tree: each room, its files, the first line of each docstring, and how many lines each has."""
    everything = modules(root)
    rooms: dict[str, list[Module]] = {}
    for module in everything:
        rooms.setdefault(module.room, []).append(module)
    lines = [f"{PACKAGE}/{sum(module.lines for module in everything):{_WIDE - len(PACKAGE) - 1}}"]
    for room, files in rooms.items():
        indent = "    "
        if any("/" in module.path for module in files):
            lines.append(_row(f"    {room}/", sum(module.lines for module in files), ""))
            indent = "        "
        for module in files:
            name = module.path.split("/", 1)[-1]
            lines.append(_row(f"{indent}{name}", module.lines, module.summary))
    return "\n".join(lines)


#: Columns of names and numbers together.
_WIDE = 38


def _row(name: str, lines: int, summary: str) -> str:
    row = f"{name}{lines:{max(_WIDE - len(name), 5)}}  {summary}".rstrip()
    return row if len(row) <= WIDTH else row[: WIDTH - 4].rsplit(" ", 1)[0] + " ..."


def picture(root: Path = ROOT) -> str:
    """Return who imports whom, a line for each room."""
    found = arrows(root)
    order = [room for room in reversed([*ALLOWED]) if room in found] + [room for room in found if room not in ALLOWED]
    wide = max(map(len, order))
    return "\n".join(f"{room:{wide}}  --> {', '.join(sorted(found[room], key=_depth)) or '(nothing)'}" for room in order)


def _depth(room: str) -> tuple[int, str]:
    order = [*ALLOWED]
    return (-order.index(room) if room in order else 0, room)


def current(page: str, root: Path = ROOT) -> str:
    """Return the page as it should be: what stands between its markers is replaced.

    Raises:
        ValueError: It has no markers.
    """
    for name, text in (("tree", tree(root)), ("arrows", picture(root))):
        begin, end = BEGIN.format(name), END.format(name)
        before, found, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found and found_end):
            raise ValueError(f"{PAGE.name} has no markers for the {name}")
        page = f"{before}{begin}\n\n```text\n{text}\n```\n\n{end}{after}"
    return page


def up_to_date(root: Path = ROOT) -> bool:
    """Return whether the page says what the code is."""
    page = PAGE.read_text(encoding="utf-8")
    return current(page, root) == page


def main(arguments: list[str]) -> int:
    """Check the page, or write it with `--write`; return 1 if it is out of date."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = current(page)
    if arguments == ["--write"]:
        PAGE.write_text(wanted, encoding="utf-8")
    elif wanted != page:
        sys.stdout.writelines(difflib.unified_diff(page.splitlines(True), wanted.splitlines(True), "the page", "the code"))
        print("docs/architecture.md is out of date: run `make structure`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
