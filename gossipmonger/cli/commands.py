"""The commands that ask: each asks one question, prints what is answered, and says by its exit code how that went."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from gossipmonger.cli.durations import spelled
from gossipmonger.cli.inquiry import Ask
from gossipmonger.cli.journal import line
from gossipmonger.cli.nodes import versions
from gossipmonger.cli.outcome import ABSENT, SUCCESS, USAGE, CommandError
from gossipmonger.cli.output import Output, name, value_text
from gossipmonger.cli.settings import typed_value

__all__ = ["QUESTIONS", "Command"]

#: Takes the arguments, what answers, the output and stdin; returns the exit code.
Command = Callable[[argparse.Namespace, Ask, Output, "IO[str] | None"], int]

#: Seconds for an answer that takes no time by itself.
_PATIENCE = 10.0

#: The same for `leave`: an agent hands on what is new, and waits for handlers.
_LEAVE = 15.0

#: Seconds that `wait` waits by default, and how long the agent may be late.
_WAIT, _LATE = 60.0, 5.0


#: What each action of `keyring` needs.
_KEYS = {
    "list": "takes no KEY",
    "add": "needs a KEY: the key itself, or - to read it from stdin",
    **dict.fromkeys(("promote", "remove"), "needs the id of a KEY; `gossipmonger keyring` lists them"),
}


def _print_each(
    answers: Iterator[dict[str, Any]], output: Output, text: Callable[[Mapping[str, Any]], str], most: int | None = None
) -> int:
    """Print each answer as it comes; return whether there was one, as an exit code."""
    count = 0
    for answer in answers:
        if output.as_json:
            output.record(answer)
        else:
            output.line(text(answer))
        count += 1
        if count == most:
            break
    return SUCCESS if count else ABSENT


def _print_table(
    answers: Iterator[dict[str, Any]],
    output: Output,
    head: tuple[str, ...],
    cells: Callable[[Mapping[str, Any]], tuple[str, ...]],
    meaning: int | None = None,
) -> int:
    """Print the answers as a table; return whether there was one, as an exit code."""
    if output.as_json:
        return _print_each(answers, output, str)
    rows = [cells(answer) for answer in answers]
    if rows:
        output.table(head, rows, meaning)
    return SUCCESS if rows else ABSENT


def _members(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    where = {key: typed_value(value) for key, value in arguments.where or ()}
    question = {"ask": "members", "state": arguments.state or [], "where": where}

    def cells(member: Mapping[str, Any]) -> tuple[str, ...]:
        heard = "itself" if member["local"] else "never" if member["heard"] is None else f"{spelled(member['heard'])} ago"
        phi = "" if member["local"] else f"{member['phi']:.1f}"
        return name(member["id"]), member["state"], member["address"], heard, phi, str(member["keys"])

    return _print_table(ask(question, _PATIENCE), output, ("ID", "STATE", "ADDRESS", "HEARD", "PHI", "KEYS"), cells, 1)


def _get(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    (answer,) = ask({"ask": "get", "key": arguments.key, "peer": arguments.peer}, _PATIENCE)
    value = answer["value"]
    if output.as_json:
        output.record(answer)
    else:
        output.line(value if isinstance(value, str) and value.isprintable() else value_text(value, short=False))
    return SUCCESS


def _set(arguments: argparse.Namespace, ask: Ask, output: Output, stdin: IO[str] | None) -> int:
    text: str = arguments.value
    if text == "-":
        text = _read(stdin).rstrip("\n")
    question = {"ask": "set", "key": arguments.key, "value": typed_value(text, arguments.text)}
    if arguments.ttl is not None:
        question["ttl"] = arguments.ttl.total_seconds()
    return _quiet(ask(question, _PATIENCE), output)


def _read(stdin: IO[str] | None) -> str:
    try:
        return "" if stdin is None else stdin.read()
    except (OSError, ValueError):
        raise CommandError("can't read stdin: it must be text in UTF-8", USAGE) from None


def _delete(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    return _quiet(ask({"ask": "delete", "key": arguments.key}, _PATIENCE), output, "deleted", "there was no such key")


def _leave(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    return _quiet(ask({"ask": "leave"}, _LEAVE), output, "left", "it is still about to leave: a handler or command takes long")


def _forget(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    answers = ask({"ask": "forget", "peer": arguments.peer}, _PATIENCE)
    return _quiet(answers, output, "forgotten", "no such node is known; `gossipmonger members` lists those that are")


def _quiet(answers: Iterator[dict[str, Any]], output: Output, decides: str = "", otherwise: str = "") -> int:
    """Print an answer only as JSON. Succeed if the field `decides` is true, or fail with the reason `otherwise`."""
    (answer,) = answers
    if output.as_json:
        output.record(answer)
    if not decides or answer[decides]:
        return SUCCESS
    raise CommandError(otherwise)


def _keys(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    answers = ask({"ask": "keys", "prefix": arguments.prefix, "peer": arguments.peer}, _PATIENCE)
    if arguments.peer is not None:
        return _print_table(answers, output, ("KEY", "VALUE"), lambda each: (name(each["key"]), value_text(each["value"])))
    return _print_table(answers, output, ("KEY", "NODES"), lambda each: (name(each["key"]), " ".join(map(name, each["peers"]))))


def _values(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    answers = ask({"ask": "values", "key": arguments.key, "all": arguments.all}, _PATIENCE)
    return _print_table(answers, output, ("ID", "VALUE"), lambda each: (name(each["peer"]), value_text(each["value"])))


def _watch(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    question = {"ask": "watch", "prefix": arguments.prefix, "peer": arguments.peer, "replay": not arguments.no_replay}

    def text(change: Mapping[str, Any]) -> str:
        return line({**change, "event": change["kind"]}, output)

    _print_each(ask(question, None), output, text, arguments.count)
    return SUCCESS


def _events(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    answers = ask({"ask": "events", "events": arguments.event}, None)
    _print_each(answers, output, lambda record: line(record, output), arguments.count)
    return SUCCESS


def _wait(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    if (arguments.key is None) == (arguments.peers is None):
        raise CommandError("wait for what? Give a KEY, or a number of nodes: --peers N", USAGE)
    if arguments.peers is not None and (arguments.value is not None or arguments.peer is not None):
        raise CommandError("--value and --peer belong to a KEY, not to --peers", USAGE)
    limit = _WAIT if arguments.timeout is None else arguments.timeout.total_seconds()
    question: dict[str, Any] = {"ask": "wait", "timeout": limit}
    if arguments.peers is not None:
        question["peers"] = arguments.peers
    else:
        question |= {"key": arguments.key, "peer": arguments.peer}
        if arguments.value is not None:
            question["value"] = typed_value(arguments.value)
    (answer,) = ask(question, limit + _LATE)
    if output.as_json:
        output.record(answer)
    return SUCCESS


def _keyring(arguments: argparse.Namespace, ask: Ask, output: Output, stdin: IO[str] | None) -> int:
    action, key = arguments.action, arguments.key
    if (action == "list") != (key is None):
        raise CommandError(f"keyring {action} {_KEYS[action]}", USAGE)
    if key == "-":
        key = _read(stdin).strip()
    answers = ask({"ask": "keyring", "action": action, "key": key}, _PATIENCE)
    uses = {True: "seals and opens", False: "opens"}
    return _print_table(answers, output, ("KEY", "USE"), lambda each: (name(each["id"]), uses[bool(each["seals"])]))


def _info(arguments: argparse.Namespace, ask: Ask, output: Output, _: object) -> int:
    missing: CommandError | None = None
    try:
        (answer,) = ask({"ask": "info"}, _PATIENCE)
    except CommandError as error:  # what runs here is worth knowing all the same
        missing, answer = error, {**versions(), "agent": None}
    if output.as_json:
        output.record(answer)
    else:
        wide = max(map(len, answer))
        for field, value in answer.items():
            text = _info_text(field, value)
            output.line(f"{output.paint(field.ljust(wide), 'head')}  {text}".rstrip())
    if missing is not None:
        raise missing
    return SUCCESS


def _info_text(field: str, value: Any) -> str:
    if value is None:
        return "none"
    if field == "uptime":
        return spelled(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(name(str(each)) for each in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(each)}" for key, each in value.items()) or "none"
    return value if isinstance(value, str) and value.isprintable() else value_text(value)


#: The commands of this module, by name.
QUESTIONS: Mapping[str, Command] = {
    "members": _members, "get": _get, "set": _set, "delete": _delete, "keys": _keys, "values": _values, "watch": _watch,
    "wait": _wait, "events": _events, "info": _info, "leave": _leave, "forget": _forget,
    "keyring": _keyring,
}  # fmt: skip
