"""Where settings come from: flags before `GOSSIPMONGER_*` variables, these before a TOML file, and that before the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.errors import shown, words
from gossipmonger.state.arguments import nearest

__all__ = ["PREFIX", "Given", "from_environment", "from_file", "refuse_unknown"]

#: How the names of our environment variables begin.
PREFIX = "GOSSIPMONGER_"

#: What Kubernetes puts into the environment for a service that is called "gossipmonger". It is not meant for us.
_KUBERNETES = re.compile(r"(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")

#: Variables that other parts of the package take.
_OTHERS = frozenset({"CONFIG", "EVENT", "PEER", "KEY"})


class Given(NamedTuple):
    """What a setting was given as, and where, in words for errors."""

    value: Any
    where: str


def from_environment(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, Given]:
    """Return the settings that environment variables name; empty ones count as not set.

    A variable that looks like a misspelt setting is refused. Others are not ours to judge: a cluster manager sets some too.

    Raises:
        CommandError: A variable is misspelt.
    """
    known = {name.upper(): name for name in names}
    found: dict[str, Given] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or not value:
            continue
        rest = variable.removeprefix(PREFIX)
        if rest in known:
            found[known[rest]] = Given(value, variable)
        elif rest not in _OTHERS and not _KUBERNETES.fullmatch(rest):
            close = nearest(rest, known)
            if close is not None:
                raise CommandError(f"unknown variable {shown(variable)}; did you mean {PREFIX}{close}?", USAGE)
    return found


def from_file(path: str, names: Iterable[str]) -> dict[str, Given]:
    """Return the settings in a TOML file.

    Raises:
        CommandError: It cannot be read, is not TOML, or has a key that is not a setting.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it must be text in UTF-8"
        raise CommandError(f"can't read the configuration {shown(path)}: {reason}", USAGE) from None
    toml = _toml()
    try:
        table: dict[str, Any] = toml.loads(text)
    except ValueError as error:
        raise CommandError(f"{shown(path)} is not TOML: {words(error)}", USAGE) from None
    refuse_unknown(path, table, names)
    return {name: Given(value, f"{name} in {path}") for name, value in table.items()}


def _toml() -> Any:
    """Return what reads TOML: the standard library from Python 3.11 on, else `tomli`.

    Raises:
        CommandError: Neither is there.
    """
    for name in ("tomllib", "tomli"):
        try:
            return import_module(name)
        except ImportError:
            pass
    raise CommandError("TOML on Python 3.10 needs one more package: pip install 'gossipmonger[cli]'", USAGE)


def refuse_unknown(where: str, table: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise an error if a table has a key that is not among these names, with the nearest one that is.

    Raises:
        CommandError: It has.
    """
    known = [*names]
    for key in table:
        if key not in known:
            close = nearest(key, known)
            hint = f"did you mean {close!r}?" if close else f"the keys are {', '.join(known)}"
            raise CommandError(f"unknown key {shown(key)} in {where}; {hint}", USAGE)
