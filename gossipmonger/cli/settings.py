"""Settings: what an agent can be told, with the checks that say where a wrong one stands and what would be right."""

from __future__ import annotations

import argparse
import json
import os
import re
import socket as sockets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from gossipmonger import Options
from gossipmonger.cli.durations import duration
from gossipmonger.cli.hooks import Hook, read_hooks
from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.cli.sources import Given, from_environment, from_file
from gossipmonger.errors import shown, words
from gossipmonger.state.arguments import nearest
from gossipmonger.transport.address import read_address

__all__ = ["OPTIONS", "SETTINGS", "Settings", "flags_of", "option_value", "resolve", "serving", "typed_value"]

#: Options of a `Gossipmonger` that are objects, or settings of their own here.
_NOT_HERE = frozenset({
    "seeds", "storage", "listen", "transport", "clock", "random", "timer", "executor", "cluster", "observer", "keyring",
    "tls_server", "tls_client", "tls_check_id",
})  # fmt: skip

#: The options that a configuration may name.
OPTIONS = tuple(option.name for option in fields(Options) if option.name not in _NOT_HERE)

#: The settings, apart from options as variables.
SETTINGS = (
    "id", "cluster", "listen", "advertise", "seeds", "transport", "socket", "json", "options", "values", "keys", "keys_file",
    "tls_certificate", "tls_key", "tls_ca", "tls_check_id", "web", "metrics", "on_event",
)  # fmt: skip

#: Those that only a file can have: lists of tables, and secrets, which any user could read in the list of processes.
_ONLY_IN_FILES = frozenset({"keys", "on_event"})

#: Settings that are mappings. Each key is taken from the first source that has it.
_MERGED = ("options", "values")


@dataclass(frozen=True)
class Settings:
    """What an agent is told. What is None was left open.

    Attributes:
        id: The node's id; by default the name of the host.
        cluster: The cluster's name.
        listen: Where to bind, a mapping.
        advertise: What peers are told, a mapping.
        seeds: Where to find others, mappings.
        transport: "tcp" or "udp".
        socket: The path of the control socket; "" for none.
        json: Whether events are printed as JSON.
        options: Options of the node.
        values: Keys that the node has from the start.
        keys: The keys that seal messages, as text, the first one sealing; empty to seal nothing.
        keys_file: Where they stand, one a line; read again on SIGHUP.
        tls_certificate: The path of the node's certificate and what signed it, as PEM; read again on SIGHUP, as the next two.
        tls_key: That of its key.
        tls_ca: That of the certificate of whoever signs those of other nodes.
        tls_check_id: Whether the id of a node has to be among the names in its certificate.
        web: Where the page is served.
        metrics: Where metrics are served.
        on_event: The commands to run.
        path: The file that these came from, in part.
    """

    id: str
    cluster: str | None = None
    listen: Mapping[str, Any] | None = None
    advertise: Mapping[str, Any] | None = None
    seeds: Sequence[Mapping[str, Any]] = ()
    transport: str = "tcp"
    socket: str | None = None
    json: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    keys: Sequence[str] = field(default=(), repr=False)
    keys_file: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    tls_check_id: bool = False
    web: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    on_event: Sequence[Hook] = ()
    path: str | None = None


def resolve(flags: Mapping[str, Given], environ: Mapping[str, str], path: str | None) -> Settings:
    """Return the settings from flags, from the environment and from a file, in this order of precedence.

    Args:
        flags: Setting -> what was given.
        environ: The environment.
        path: The file; None for `GOSSIPMONGER_CONFIG`, if that is set.

    Raises:
        CommandError: Something is unknown, of the wrong type or out of range. The error says what and where.
    """
    path = environ.get("GOSSIPMONGER_CONFIG") or None if path is None else path
    in_variables = [name for name in SETTINGS if name not in (*_ONLY_IN_FILES, *_MERGED)]
    variables = from_environment(environ, [*in_variables, *OPTIONS])
    options = {name: variables.pop(name).value for name in OPTIONS if name in variables}
    variables["options"] = Given(options, "the environment")
    file = {} if path is None else from_file(path, SETTINGS)
    read: dict[str, Any] = {}
    for name in SETTINGS:
        found = [_READERS[name](source[name]) for source in (flags, variables, file) if name in source]
        if name in _MERGED:
            read[name] = {key: value for table in reversed(found) for key, value in table.items()}
        elif found:
            read[name] = found[0]
    _check_options(read["options"])
    if read.get("keys") and read.get("keys_file"):
        raise CommandError("give either `keys` or `keys_file`, not both", USAGE)
    read.setdefault("id", sockets.gethostname() or "node")
    return Settings(**read, path=path)


def flags_of(arguments: argparse.Namespace) -> dict[str, Given]:
    """Return the settings that the flags of a command give."""
    names = {"seed" if name == "seeds" else name: name for name in SETTINGS if name not in (*_ONLY_IN_FILES, *_MERGED)}
    given = {flag: getattr(arguments, flag, None) for flag in names}
    found = {names[flag]: Given(value, f"--{flag.replace('_', '-')}") for flag, value in given.items() if value is not None}
    if getattr(arguments, "option", None):
        found["options"] = Given(dict(arguments.option), "--option")
    if getattr(arguments, "set", None):
        found["values"] = Given({key: typed_value(value) for key, value in arguments.set}, "--set")
    return found


def _wrong(given: Given, wanted: str) -> CommandError:
    return CommandError(f"{given.where} must be {wanted}, got {shown(given.value)}", USAGE)


def _text(given: Given) -> str:
    if not isinstance(given.value, str) or not given.value:
        raise _wrong(given, "a string that is not empty")
    return given.value


def _name(given: Given) -> str:
    try:
        _text(given).encode()
    except UnicodeError:
        raise _wrong(given, "valid UTF-8") from None
    return str(given.value)


def _path(given: Given) -> str:
    _text(given)
    return _socket_path(given)


def _socket_path(given: Given) -> str:
    if not isinstance(given.value, str) or "\0" in given.value:
        raise _wrong(given, "a string without NUL")
    return os.path.expanduser(given.value)


def _address(given: Given, binding: bool = False) -> dict[str, Any]:
    try:
        return read_address(given.where, _text(given), binding=binding, port=None)
    except (TypeError, ValueError) as error:
        raise CommandError(words(error), USAGE) from None


def _binding(given: Given) -> dict[str, Any]:
    return _address(given, binding=True)


def serving(given: Given) -> dict[str, Any]:
    """Return the address at which to serve something.

    Raises:
        CommandError: The value is not an address, or it has no port.
    """
    address = _address(given, binding=True)
    if "port" not in address:
        raise _wrong(given, "an address with a port, such as '127.0.0.1:8042'")
    return address


def _seeds(given: Given) -> list[dict[str, Any]]:
    value = [given.value] if isinstance(given.value, str) else given.value
    if not isinstance(value, list):
        raise _wrong(given, "a list of addresses such as ['a.example:9742']")
    parts = [part for each in value for part in (re.split(" *, *", each.strip(", ")) if isinstance(each, str) else [each])]
    try:
        return [read_address(given.where, part) for part in parts]
    except (TypeError, ValueError) as error:
        raise CommandError(words(error), USAGE) from None


def _transport(given: Given) -> str:
    if given.value not in ("tcp", "udp"):
        raise _wrong(given, "'tcp' or 'udp'")
    return str(given.value)


def _boolean(given: Given) -> bool:
    value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
        str(given.value).lower() if isinstance(given.value, (str, bool)) else ""
    )
    if value is None:
        raise _wrong(given, "true or false")
    return value


def _table(given: Given) -> Mapping[str, Any]:
    if not isinstance(given.value, Mapping):
        raise _wrong(given, "a table")
    return given.value


def _options(given: Given) -> dict[str, Any]:
    return {name: option_value(name, value, f"{name} in {given.where}") for name, value in _table(given).items()}


def option_value(name: str, value: Any, where: str) -> Any:
    """Return the value of an option that may stand as text: "250ms", "5", "true", "none".

    Raises:
        CommandError: There is no option of this name, or it cannot be given here.
    """
    if name not in OPTIONS:
        if name in SETTINGS:
            raise CommandError(f"{where}: {name!r} is a setting of its own and does not belong to the options", USAGE)
        close = nearest(name, OPTIONS)
        hint = f"; did you mean {close!r}?" if close else f"; the options are {', '.join(OPTIONS)}"
        raise CommandError(f"{where}: unknown option {shown(name)}{hint}", USAGE)
    if not isinstance(value, str):
        return value
    if value.lower() in ("none", "never"):
        return None
    try:
        return duration(value)
    except ValueError:
        pass  # it is another kind of value
    try:
        return json.loads(value)
    except ValueError:
        return value  # such as "depth"; whether it is right is for the check of the option to say


def _check_options(options: Mapping[str, Any]) -> None:
    try:
        Options.parse(None, options)
    except (TypeError, ValueError) as error:
        raise CommandError(f"option {words(error)}", USAGE) from None


def _values(given: Given) -> dict[str, Any]:
    values = dict(_table(given))
    for key, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise CommandError(f"{key} in {given.where}: JSON has no such value as {shown(value)}", USAGE) from None
    return values


def typed_value(text: str, as_text: bool = False) -> Any:
    """Return the value that a text on the command line stands for: what it is as JSON, or else itself."""
    if as_text:
        return text
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)  # NaN and Infinity are no JSON, so they are texts


def _keys(given: Given) -> list[str]:
    if not isinstance(given.value, list) or not all(isinstance(key, str) and key for key in given.value):
        raise CommandError(f"{given.where} must be a list of keys, each a string that `gossipmonger keygen` made", USAGE)
    return given.value


_READERS: Mapping[str, Callable[[Given], Any]] = {
    "id": _name, "cluster": _name, "listen": _binding, "advertise": _address, "seeds": _seeds, "transport": _transport,
    "socket": _socket_path, "json": _boolean, "options": _options, "values": _values, "keys": _keys, "keys_file": _path,
    "tls_certificate": _path, "tls_key": _path, "tls_ca": _path, "tls_check_id": _boolean,
    "web": serving, "metrics": serving, "on_event": lambda given: read_hooks(given.value, given.where),
}  # fmt: skip
