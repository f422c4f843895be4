"""Nodes of this library and of what a user would pick instead, each a program that is driven in the same way.

A program is started with one argument, a JSON object: `id`, `host` (an address), `port` (the one above it is free too), `seeds`
(a list of `{"id", "host", "port"}`), `options` (the peer's own). It reads commands, one JSON object a line, and ends with
stdin:

* `{"do": "set", "key", "value"}`: one of its keys; where a peer carries one blob per node, all of that
* `{"do": "fill", "name", "count"}`: so many keys at once, called `name/count/number`
* `{"do": "state"}`: say how many keys it has of whom
* `{"do": "quit"}`

and writes what happens, one JSON object a line, each with `at` in seconds since the epoch:

* `ready` (`pid` of what is to be measured and killed): it listens; `at` is just before it began to
* `peer` (`id`): it sees another node alive, that it did not know or thought dead
* `set` (`key`), `filled` (`name`): it did as told; `at` is just before
* `update` (`id` of the owner, `key`, `value`): it has another's
* `has` (`id` of the owner, `name`): it has all keys of a fill
* `dead` (`id`): it thinks so
* `state` (`keys`: id -> number; of ours also `age`, the heartbeats since its life began, and `messages`)

To add a peer: a program here, and a function below that builds it and returns how to start it.
"""

from __future__ import annotations

import functools
import importlib.util
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "KEY",
    "Program",
    "UnavailableError",
    "Variant",
    "available",
    "chitchat",
    "kinship",
    "memberlist",
    "original",
    "ours",
    "ours_many",
    "ours_sealed",
    "ours_tls",
    "serf",
]

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = HERE.parent / "build"

#: What the nodes of a benchmark seal with.
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class UnavailableError(Exception):
    """A peer can't be had here; the message says why."""


@dataclass(frozen=True)
class Program:
    """How to start a node: the command before its one argument, and the variables it needs."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A peer, set up in one way.

    Args:
        name: What tables call it.
        build: Makes its program, at most once.
        options: What the peer's own program has to be told; its defaults otherwise.
        keys: Whether it has keys, rather than one blob per node.
        more: What else the program is told.
    """

    name: str
    build: Callable[[], Program]
    options: Any = field(default_factory=dict)
    keys: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


def available(variants: list[Variant]) -> tuple[list[Variant], dict[str, str]]:
    """Build what they need; return those that can be had, and of the others why they can't."""
    there, reasons = [], {}
    for variant in variants:
        try:
            variant.build()
        except UnavailableError as error:
            reasons[variant.name] = str(error)
            print(f"without {variant.name}: {error}", flush=True)
        else:
            there.append(variant)
    return there, reasons


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"{name} is not installed")
    return found


def _run(*command: str, cwd: Path = HERE) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{Path(command[0]).name} {command[1]} took too long") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise UnavailableError(f"{Path(command[0]).name} {command[1]} failed: {last}")


def _once(folder: Path, recipe: Path, make: Callable[[], None]) -> None:
    """Make what `recipe` says, unless what is in `folder` was made of the same recipe."""
    stamp = folder / ".stamp"
    if stamp.exists() and stamp.read_bytes() == recipe.read_bytes():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make()
    stamp.write_bytes(recipe.read_bytes())


def _pip(name: str) -> Path:
    folder, recipe = BUILD / name, HERE / f"{name}.txt"
    _once(
        folder, recipe, lambda: _run(sys.executable, "-m", "pip", "install", "-q", "-r", str(recipe), "--target", str(folder))
    )
    return folder


@functools.cache
def _python(script: str, path: Path) -> Program:
    return Program((sys.executable, str(HERE / script)), {"PYTHONPATH": str(path)})


def ours() -> Program:
    """Return this library's, out of this folder, with the optional packages that are there."""
    return _python("ours.py", ROOT)


def ours_many() -> Program:
    """Return this library's with many nodes in one process."""
    return _python("ours_many.py", ROOT)


def ours_sealed() -> Program:
    """Return this library's with shared keys."""
    if importlib.util.find_spec("cryptography") is None:
        raise UnavailableError("the package cryptography is not installed")
    return ours()


@functools.cache
def ours_tls() -> Program:
    """Return this library's with TLS, and one certificate for all nodes. They are told where it is."""
    if importlib.util.find_spec("cryptography") is None:
        raise UnavailableError("the package cryptography is not installed")
    authority = runpy.run_path(str(ROOT / "examples" / "tls" / "certificates.py"))["Authority"](BUILD / "tls")
    authority.issue("node", ["127.0.0.1", *(f"10.0.0.{number}" for number in range(1, 41))])  # see benchmarks.network
    return ours()


@functools.cache
def original() -> Program:
    """Return the Node package's."""
    node, npm = _tool("node"), _tool("npm")
    folder, recipe = BUILD / "original", ROOT / "tests" / "node"

    def make() -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(recipe / name, folder)
        _run(npm, "ci", "--no-audit", "--no-fund", cwd=folder)

    _once(folder, recipe / "package-lock.json", make)
    return Program((node, str(HERE / "original.js")), {"NODE_PATH": str(folder / "node_modules")})


@functools.cache
def chitchat() -> Program:
    """Return the Rust crate's."""
    target = BUILD / "chitchat"
    _run(_tool("cargo"), "build", "--release", "--locked", "--quiet", "--target-dir", str(target), cwd=HERE / "chitchat")
    return Program((str(target / "release" / "node"),))


@functools.cache
def memberlist() -> Program:
    """Return the Go module's."""
    binary = BUILD / "memberlist" / "node"
    _run(_tool("go"), "build", "-o", str(binary), ".", cwd=HERE / "memberlist")
    return Program((str(binary),))


def kinship() -> Program:
    """Return the Python package's."""
    return _python("kinship_node.py", _pip("kinship"))


def serf() -> Program:
    """Return the agent's, which the system has to have."""
    _tool("serf")
    return _python("serf_node.py", _pip("serf"))
