"""Arguments: the checks of what callers pass, which name the argument, its value and what is wanted."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

__all__ = ["check_number", "seconds", "unknown_option"]


def unknown_option(name: object, known: Iterable[str]) -> TypeError:
    """Return the error for an option that does not exist, with the nearest one that does."""
    close = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return TypeError(f"unknown option {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))


def check_number(name: str, value: Any, kind: type, least: float, most: float = math.inf, unit: str = "") -> None:
    """Raise unless `value` is a number of the kind `int` or `float`, from `least` to `most`.

    Raises:
        TypeError: It is not a number, or not an integer where `kind` is `int`.
        ValueError: It is out of range.
    """
    unit = unit and f" {unit}"
    wanted = f"from {least:g} to {most:g}{unit}" if most < math.inf else f"at least {least:g}{unit}"
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise TypeError(f"{name} must be {'an integer' if kind is int else 'a number'} {wanted}, got {value!r}")
    if not least <= value <= most:  # so a NaN is refused too
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def seconds(name: str, value: Any, least: float = 0, most: float = math.inf) -> float:
    """Return a duration that a caller gave, a number of seconds or a `timedelta`, in seconds.

    Raises:
        TypeError: It is neither.
        ValueError: It is out of range.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    check_number(name, number, float, least, most, "seconds")
    return float(number)
