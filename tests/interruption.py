"""Interrupts a call between two of its steps, as a signal handler or a finalizer does, but at a step of the test's choice."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import gossipmonger

PACKAGE = str(Path(gossipmonger.__file__).parent)


def interrupted(call: Callable[[], object], step: int, action: Callable[[], object], *, opcodes: bool = False) -> bool:
    """Make a call, and `action` before its step of this number; return whether it had so many.

    Args:
        call: The call.
        step: 1 for the first step that it takes within the package.
        action: What interrupts it.
        opcodes: Whether each instruction is a step; otherwise each line is.
    """
    taken = 0

    def within(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal taken
        if event == ("opcode" if opcodes else "line"):
            taken += 1
            if taken == step:
                action()
        return within

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = opcodes
        frame.f_trace_lines = not opcodes
        return within

    former = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(former)
    return taken >= step


def in_time(function: Callable[[], object], seconds: float = 60) -> None:
    """Run a function on a daemon thread, and raise what it raises; fail if it does not return."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "a deadlock"
    if raised:
        raise raised[0]
