"""Hooks: commands that an agent runs when something happens, one at a time each, with the event as JSON on stdin.

No shell is involved unless the command is one. What other nodes say reaches a command on stdin and in three variables:
`GOSSIPMONGER_EVENT`, `GOSSIPMONGER_PEER` and `GOSSIPMONGER_KEY`, the last two as they are printed, without control characters.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gossipmonger.cli.durations import duration
from gossipmonger.cli.journal import EVENTS
from gossipmonger.cli.outcome import USAGE, CommandError
from gossipmonger.cli.output import json_text, name
from gossipmonger.cli.sources import refuse_unknown
from gossipmonger.errors import shown, words

__all__ = ["Hook", "Runner", "read_hooks"]

_KEYS = ("events", "command", "prefix", "timeout")

#: Seconds that a command may take by default: what it does for one event is short, and the next one waits for it.
_TIMEOUT = timedelta(seconds=10)

#: Events that may wait for a command. More are dropped: a command that is so slow cannot tell anything that is still so.
_MAX_WAITING = 1000

#: Seconds that `close` waits for the command that runs.
_CLOSE_TIMEOUT = 2.0


@dataclass(frozen=True)
class Hook:
    """One `[[on_event]]`.

    Attributes:
        command: The program and its arguments.
        events: The names of the events that it is for.
        prefix: What the key of an `update` or `delete` begins with.
        timeout: After which it is killed.
    """

    command: Sequence[str]
    events: Sequence[str] = EVENTS
    prefix: str = ""
    timeout: timedelta = _TIMEOUT

    def wants(self, record: Mapping[str, Any]) -> bool:
        """Whether the command is for this event."""
        return record["event"] in self.events and str(record.get("key", self.prefix)).startswith(self.prefix)


def read_hooks(value: Any, where: str) -> list[Hook]:
    """Return the hooks that a file has as `[[on_event]]`.

    Raises:
        CommandError: One of them is wrong; the error says what is wanted.
    """
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise CommandError(f"{where} must be a list of tables, each begun by [[on_event]]", USAGE)
    return [_read(each, f"{where}, number {index + 1}") for index, each in enumerate(value)]


def _read(table: Mapping[str, Any], where: str) -> Hook:
    refuse_unknown(where, table, _KEYS)
    command = table.get("command")
    texts = isinstance(command, list) and all(isinstance(part, str) and "\0" not in part for part in command)
    if not texts or not command or not command[0]:
        wanted = 'a list of texts without NUL, such as ["/usr/bin/logger", "gossip"]'
        raise CommandError(f"{where}: command must be {wanted}, got {shown(command)}", USAGE)
    events = table.get("events", list(EVENTS))
    if not isinstance(events, list) or not all(event in EVENTS for event in events):
        raise CommandError(f"{where}: events must be a list of some of {', '.join(EVENTS)}, got {shown(events)}", USAGE)
    prefix = table.get("prefix", "")
    if not isinstance(prefix, str):
        raise CommandError(f"{where}: prefix must be a string, got {shown(prefix)}", USAGE)
    timeout = table.get("timeout", "10s")
    try:
        return Hook(tuple(command), tuple(events), prefix, duration(str(timeout)))
    except ValueError as error:
        raise CommandError(f"{where}: timeout {words(error)}", USAGE) from None


class Runner:
    """Runs the command of one hook, on a thread of its own.

    Args:
        hook: What to run, and when.
        failed: Called on that thread with a line on what went wrong.
    """

    def __init__(self, hook: Hook, failed: Callable[[str], object]) -> None:
        self._hook = hook
        self._failed = failed
        self._waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_MAX_WAITING)
        self._dropped = 0
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        # A daemon: a command that hangs must not keep the agent from ending.
        self._thread = threading.Thread(target=self._serve, name="gossipmonger-hook", daemon=True)
        self._thread.start()

    def take(self, record: Mapping[str, Any]) -> None:
        """Let the command run for an event, if it is for that one. Returns at once."""
        if self._hook.wants(record):
            try:
                self._waiting.put_nowait(record)
            except queue.Full:
                self._dropped += 1

    def _serve(self) -> None:
        while (record := self._waiting.get()) is not None and not self._closing:
            try:
                self._run(record)
            except Exception as error:  # nothing ends the thread
                self._failed(f"on_event {shown(self._hook.command[0])}: {words(error)}")
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._failed(f"on_event {shown(self._hook.command[0])} is too slow: {dropped} events were dropped")

    def _run(self, record: Mapping[str, Any]) -> None:
        about = {"GOSSIPMONGER_EVENT": str(record["event"])}
        about |= {f"GOSSIPMONGER_{part.upper()}": name(str(record[part])) for part in ("peer", "key") if part in record}
        program = shown(self._hook.command[0])
        try:
            process = subprocess.Popen(
                self._hook.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **about},
                start_new_session=True,  # so that what it started is killed with it, and Ctrl-C is for the agent alone
            )
        except OSError as error:
            self._failed(f"on_event {program} can't be run: {error.strerror or words(error)}")
            return
        self._process = process
        if self._closing:
            self._kill()
        try:
            process.communicate(json_text(record).encode() + b"\n", self._hook.timeout.total_seconds())
            if process.returncode and not self._closing:
                self._failed(f"on_event {program} ended with {process.returncode} for {record['event']!r}")
        except subprocess.TimeoutExpired:
            self._kill()
            process.communicate()
            self._failed(f"on_event {program} took more than {self._hook.timeout.total_seconds():g} s and was killed")
        finally:
            self._process = None

    def _kill(self) -> None:
        process = self._process
        if process is None:
            return
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, 9)
            else:
                process.kill()

    def close(self) -> None:
        """Take no more events, give the command that runs two seconds, and kill it then."""
        self._hook = Hook(self._hook.command, events=())
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()  # what waits is not run any more
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(_CLOSE_TIMEOUT)
        self._closing = True
        self._kill()
        self._thread.join(_CLOSE_TIMEOUT)
