"""The command `agent`: flags to settings, settings to an agent."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from gossipmonger.cli.agent import Agent
from gossipmonger.cli.nodes import make_node
from gossipmonger.cli.outcome import SUCCESS
from gossipmonger.cli.output import Output
from gossipmonger.cli.settings import flags_of, resolve

__all__ = ["run_agent"]


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
