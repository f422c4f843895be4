"""Errors: their tree, what they carry and hold, their words, and how one is logged that nobody listens for."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import gossipmonger
from gossipmonger import (
    ClosedError,
    ClusterError,
    DuplicateError,
    GossipmongerError,
    MessageError,
    OverflowedError,
    RemotePeer,
    SendError,
    errors,
)
from gossipmonger.errors import at, shown, words


def test_every_error_is_a_gossipmonger_error_and_no_bad_argument() -> None:
    tree = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    assert {ClosedError, MessageError, OverflowedError, SendError} <= set(tree)
    for error in tree:
        assert issubclass(error, GossipmongerError)
        assert not issubclass(error, (TypeError, ValueError, OSError, ArithmeticError))
        assert getattr(gossipmonger, error.__name__) is error


def test_the_tree_in_the_docstring_has_every_error() -> None:
    for name in errors.__all__:
        if name.endswith("Error"):
            assert name in str(errors.__doc__)


def test_the_errors_of_a_kind_are_not_of_another() -> None:
    kinds = [ClosedError, MessageError, OverflowedError, SendError]
    for kind in kinds:
        assert [other for other in kinds if issubclass(kind, other)] == [kind]


def test_a_message_error_says_what_and_from_where() -> None:
    error = MessageError("no JSON", "10.0.0.1:5")
    assert str(error) == "message from 10.0.0.1:5 refused: no JSON"
    assert error.source == "10.0.0.1:5"


def test_a_message_error_from_nowhere_says_what() -> None:
    error = MessageError("no JSON")
    assert str(error) == "no JSON"
    assert error.source is None


def test_a_send_error_says_what_and_to_whom() -> None:
    remote = RemotePeer("b", {"host": "b.example", "port": 1})
    error = SendError("b is gone", remote)
    assert (str(error), error.remote_peer) == ("b is gone", remote)
    assert SendError("gone").remote_peer is None


def test_an_overflowed_error_says_how_many() -> None:
    error = OverflowedError(7)
    assert error.dropped == 7
    assert str(error).startswith("events dropped: 7; ")


@pytest.mark.parametrize("transport", [None, {"host": "10.0.0.7", "port": 9742}])
def test_a_duplicate_error_says_where_the_other_process_is_if_that_is_known(transport: Any) -> None:
    error = DuplicateError("a", transport)
    assert (error.id, error.transport) == ("a", transport)
    assert ("at 10.0.0.7:9742" in str(error)) is (transport is not None)


# Words

NASTY = ["a\nb", "a\r\x1b[2Jb", "\ud800", "\u202ea", "\x00", "x" * 1_000_000, "\n" * 1_000_000]


class Rude:
    def __repr__(self) -> str:
        return "Rude\n\x1b[2J"


class Broken:
    def __repr__(self) -> str:
        raise ValueError("no")


VALUES = [*NASTY, *([each] for each in NASTY), *({each: each} for each in NASTY), Rude(), Broken(), 10**5_000]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_whatever_is_shown_is_one_short_line_that_any_terminal_can_take(value: Any) -> None:
    for text in (shown(value), at(value), at({"host": value, "port": value}), repr(RemotePeer(value, value))):
        assert text.isprintable()
        assert text.isascii()
        assert len(text) <= 700


def test_what_is_short_is_shown_as_it_is() -> None:
    for value in ("a", "it's", 5, None, {"host": "h", "port": 1}, ["a", 1.5], True, "\xfc"):
        assert shown(value) == repr(value)


@pytest.mark.parametrize(
    ("transport", "text"),
    [
        ({"host": "b.example", "port": 9742}, "b.example:9742"),
        ({"host": "127.0.0.1", "port": "9742", "udp": True}, "127.0.0.1:9742"),
        ({"host": "fe80::1%eth0", "port": 1}, "[fe80::1%eth0]:1"),
        ({"host": "a b", "port": 1}, "'a b':1"),
        ({"host": "", "port": 1}, "'':1"),
        ("there", "'there'"),
        ({"port": 1}, "{'port': 1}"),
        (None, "None"),
    ],
)
def test_an_address_is_host_and_port(transport: Any, text: str) -> None:
    assert at(transport) == text


def test_words_are_one_short_line() -> None:
    assert words(ValueError("a\nb\x1b[2J")) == "a b\\x1b[2J"
    assert len(words(ValueError("x" * 10**6))) < 1_000
    assert words(Unspeakable()) == "it can't say what is wrong"


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


# What an error holds on to


class Held:
    """What a message stands for here: something that can be counted."""


def alive() -> int:
    gc.collect()
    return sum(type(each) is Held for each in gc.get_objects())


def fail(error: BaseException, cause: BaseException | None) -> None:
    held = Held()
    try:
        raise ValueError
    except ValueError:
        assert held
        if cause is not None:
            raise error from cause
        raise error  # noqa: B904  # that it has a context is the point


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        fail(error, cause)
    except BaseException as raised:
        return errors.release(raised)
    raise AssertionError


@pytest.mark.parametrize("kind", [MessageError, SendError, OSError])
@pytest.mark.parametrize("cause", [None, OSError("why")])
def test_an_error_whose_words_say_all_holds_nothing_once_it_is_released(kind: Any, cause: OSError | None) -> None:
    error = caught(kind("no"), cause)
    assert alive() == 0
    assert error.__traceback__ is None
    assert error.__cause__ is (None if kind is MessageError else cause)


def test_the_lines_that_any_other_error_has_passed_through_stay() -> None:
    error = caught(KeyError("k"), OSError("why"))
    assert alive() == 0
    text = "".join(traceback.format_exception(error))
    assert "in fail" in text
    assert "OSError: why" in text


def test_errors_that_refer_to_each_other_are_released() -> None:
    one, other = OSError("one"), OSError("other")
    one.__cause__, other.__cause__ = other, one
    assert errors.release(one) is one


# Logging


def test_an_error_that_nobody_listens_for_is_one_line(logged: list[logging.LogRecord]) -> None:
    errors.report(SendError("b is gone"))
    (record,) = logged
    assert (record.name, record.levelno, record.getMessage()) == ("gossipmonger", logging.WARNING, "SendError: b is gone")
    assert record.exc_info is None


def test_what_is_wrong_with_a_program_is_an_error_with_its_traceback(logged: list[logging.LogRecord]) -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        errors.report(error)
    errors.report(DuplicateError("a"))
    errors.report(OSError("full"))
    assert [record.levelno for record in logged] == [logging.ERROR] * 3
    assert [record.exc_info is not None for record in logged] == [True, False, False]


def test_a_flood_of_errors_is_a_few_lines_and_their_number(
    logged: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(errors, "monotonic", lambda: now)
    for _ in range(1_000):
        errors.report(MessageError("no JSON"))
        errors.report(OSError("full"))
    assert len(logged) == 20  # each class has its own few
    now += 60
    errors.report(MessageError("no JSON"))
    assert logged[-1].getMessage() == "MessageError: no JSON (and 990 more of this kind)"
    for _ in range(1_000):
        errors.report(MessageError("no JSON"))
    assert len(logged) == 30


@pytest.mark.parametrize("error", [ValueError("the handler's"), SystemExit(1), KeyboardInterrupt()])
def test_a_log_handler_that_raises_ends_nothing(error: BaseException) -> None:
    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error

    with handled(Raising()):
        errors.tell(logging.ERROR, "gone")


def test_what_a_log_handler_causes_is_not_logged() -> None:
    seen: list[str] = []

    class Talkative(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            errors.report(OSError("again"))

    with handled(Talkative()):
        errors.tell(logging.ERROR, "first")
        errors.tell(logging.ERROR, "second")
    assert seen == ["first", "second"]


@contextmanager
def handled(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("gossipmonger")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_the_level_is_told_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("gossipmonger")
    monkeypatch.setattr(logger, "level", logging.INFO)
    assert [errors.logs(level) for level in (logging.DEBUG, logging.INFO, logging.ERROR)] == [False, True, True]
    monkeypatch.setattr(logging.root.manager, "disable", logging.INFO)
    assert [errors.logs(level) for level in (logging.INFO, logging.WARNING)] == [False, True]
    monkeypatch.setattr(logger, "disabled", True)
    assert not errors.logs(logging.CRITICAL)


PROGRAM = """
import logging, os, sys
from gossipmonger import SendError, errors
stderr = sys.argv[1]
if stderr == "closed":
    sys.stderr.close()
elif stderr == "none":
    sys.stderr = None
elif stderr == "no descriptor":
    os.close(2)
elif stderr == "no reader":
    read, write = os.pipe()
    os.close(read)
    sys.stderr = os.fdopen(write, "w", buffering=1)
errors.report(SendError("b is gone"))
errors.report(ZeroDivisionError("by zero"))
print("went on", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("stderr", ["as it is", "closed", "none", "no descriptor", "no reader"])
def test_in_a_program_without_logging_warnings_reach_stderr_if_there_is_one(stderr: str) -> None:
    command = [sys.executable, "-c", PROGRAM, stderr]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "went on\n"
    wanted = "SendError: b is gone\nZeroDivisionError: by zero\nZeroDivisionError: by zero\n"
    assert ended.stderr == (wanted if stderr == "as it is" else "")


def test_the_package_installs_no_log_handler() -> None:
    assert logging.getLogger("gossipmonger").handlers == []


# Clusters


@pytest.mark.parametrize(
    ("ours", "theirs", "id", "text"),
    [
        ("prod", "test", "b", "'b' at there refused: it is of the cluster 'test', and this node is of 'prod'"),
        (None, "test", "b", "'b' at there refused: it is of the cluster 'test', and this node has none"),
        ("prod", None, "", "there refused: it names no cluster, and this node is of 'prod'"),
        ("p", "a\nb", "c\n", r"'c\n' at there refused: it is of the cluster 'a\nb', and this node is of 'p'"),
    ],
)
def test_a_cluster_error_names_both_clusters_and_the_address(ours: Any, theirs: Any, id: str, text: str) -> None:
    error = ClusterError(ours, theirs, id, "there")
    assert str(error) == f"message from {text}; the option `cluster` has to be the same in all nodes"
    assert error.cluster == theirs


def test_a_cluster_error_is_short_whatever_the_other_node_says() -> None:
    assert len(str(ClusterError("prod", "x" * 10**6, "x" * 10**6, "there"))) < 500


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_passes_between_processes(again: Callable[[Exception], Exception]) -> None:
    """A pool waits for ever for an error that it can't make again."""
    peer = RemotePeer("b", {"host": "there", "port": 5})
    for error in (
        ClosedError("closed"), ClusterError("ours", None, "b", "there:5"), DuplicateError("b", peer.transport),
        errors.ForkedError("update", "a node"), errors.LonelyError(2.0, {"there:5": "refused"}), MessageError("bad", "there"),
        errors.ObserverError("update"), OverflowedError(3), errors.ReentrantError("get"), errors.SealError("bad", "there"),
        SendError("it is gone", peer, "refused"), errors.TlsError("bad", "there"),
    ):  # fmt: skip
        copied = again(error)
        assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))
