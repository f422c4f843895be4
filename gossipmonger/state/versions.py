"""Versions: the numbers that order the writes of one peer."""

from __future__ import annotations

__all__ = ["MAX_VERSION"]

#: The greatest version. Beyond it a Node.js node, which reads numbers as doubles, could not tell two of them apart.
MAX_VERSION = 2**53 - 1
