"""The command `keygen`: makes a key that seals messages."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from gossipmonger import Keyring
from gossipmonger.cli.outcome import SUCCESS
from gossipmonger.cli.output import Output

__all__ = ["keygen"]


def keygen(arguments: argparse.Namespace, output: Output, _: Any, environ: Mapping[str, str]) -> int:
    """Print a new random key."""
    key = Keyring.generate()
    if output.as_json:
        output.record({"key": key})
    else:
        output.line(key)
    return SUCCESS
