"""Arguments: the checks of what callers pass, which name the argument, its value and what is wanted."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from gossipmonger.errors import shown

__all__ = ["check_number", "nearest", "seconds", "unknown_option"]


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the name that a caller may have meant; None if none is near."""
    by_form = {_form(each): each for each in known}
    close = difflib.get_close_matches(_form(str(name)), list(by_form), n=1)
    return by_form[close[0]] if close else None


def _form(name: str) -> str:
    """Return a name without what only spelling adds: gossipInterval, GOSSIP_INTERVAL and gossip-interval are one."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


def unknown_option(name: object, known: Iterable[str]) -> TypeError:
    """Return the error for an option that does not exist, with the nearest one that does."""
    close = nearest(name, known)
    return TypeError(f"unknown option {shown(name)}" + (f"; did you mean {close!r}?" if close else ""))


def check_number(name: str, value: Any, kind: type, least: float, most: float = math.inf, unit: str = "") -> None:
    """Raise unless `value` is a number of the kind `int` or `float`, from `least` to `most`.

    Raises:
        TypeError: It is not a number, or not an integer where `kind` is `int`.
        ValueError: It is out of range.
    """
    unit = unit and f" {unit}"
    wanted = f"from {least:g} to {most:.15g}{unit}" if most < math.inf else f"at least {least:g}{unit}"
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise TypeError(f"{name} must be {'an integer' if kind is int else 'a number'} {wanted}, got {shown(value)}")
    if not least <= value <= most:  # so a NaN is refused too
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")


def seconds(name: str, value: Any, least: float = 0, most: float = math.inf) -> float:
    """Return a duration that a caller gave, a number of seconds or a `timedelta`, in seconds.

    Raises:
        TypeError: It is neither.
        ValueError: It is out of range.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    check_number(name, number, float, least, most, "seconds")
    return float(number)
