"""The command `agent`: flags to settings, settings to an agent."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from gossipmonger.cli.agent import Agent
from gossipmonger.cli.nodes import make_node
from gossipmonger.cli.outcome import SUCCESS
from gossipmonger.cli.output import Output
from gossipmonger.cli.settings import resolve, typed_value
from gossipmonger.cli.sources import Given

__all__ = ["flags_of", "run_agent"]

#: Flag -> setting, where they have the same value.
_FLAGS = {
    "id": "id", "cluster": "cluster", "listen": "listen", "advertise": "advertise", "seed": "seeds", "transport": "transport",
    "keys_file": "keys_file", "tls_certificate": "tls_certificate", "tls_key": "tls_key", "tls_ca": "tls_ca",
    "tls_check_id": "tls_check_id", "web": "web", "metrics": "metrics", "socket": "socket", "json": "json",
}  # fmt: skip


def flags_of(arguments: argparse.Namespace) -> dict[str, Given]:
    """Return the settings that the flags give."""
    found = {
        setting: Given(getattr(arguments, flag), f"--{flag.replace('_', '-')}")
        for flag, setting in _FLAGS.items()
        if getattr(arguments, flag) is not None
    }
    if arguments.option:
        found["options"] = Given(dict(arguments.option), "--option")
    if arguments.set:
        found["values"] = Given({key: typed_value(value) for key, value in arguments.set}, "--set")
    return found


def run_agent(arguments: argparse.Namespace, output: Output, stdin: Any, environ: Mapping[str, str]) -> int:
    """Run an agent until it is told to end, or check its configuration; return the exit code."""
    flags = flags_of(arguments)
    settings = resolve(flags, environ, arguments.config)
    if arguments.check_config:
        make_node(settings, output.note).close()
        output.note(f"the configuration is right: {settings.id!r}")
        return SUCCESS
    output.as_json = settings.json
    return Agent(settings, output, environ, lambda: resolve(flags, environ, arguments.config)).run()
