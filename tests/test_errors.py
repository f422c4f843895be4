"""Errors: their tree, what they carry, and where one goes that nobody listens for."""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import suppress
from typing import Any

import pytest

import gossipmonger
from gossipmonger import ClosedError, GossipmongerError, MessageError, OverflowedError, RemotePeer, SendError, errors


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
    assert str(error).startswith("7 events were dropped")


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    return seen


def test_report_hands_an_error_to_the_excepthook_with_its_traceback_and_thread(unheard: list[Any]) -> None:
    def fail() -> None:
        try:
            raise MessageError("no JSON")
        except MessageError as error:
            errors.report(error)

    thread = threading.Thread(target=fail, name="the one that failed")
    thread.start()
    thread.join()
    (args,) = unheard
    assert args.exc_type is MessageError
    assert str(args.exc_value) == "no JSON"
    assert args.exc_traceback.tb_frame.f_code is fail.__code__
    assert args.thread is thread


def test_report_takes_an_error_that_was_never_raised(unheard: list[Any]) -> None:
    error = SendError("gone")
    errors.report(error)
    (args,) = unheard
    assert (args.exc_value, args.exc_traceback, args.thread) == (error, None, threading.current_thread())


def test_report_prints_where_nobody_set_a_hook(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    errors.report(SendError("b is gone"))
    assert "gossipmonger.errors.SendError: b is gone" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("the hook's"), SystemExit(1), KeyboardInterrupt()])
def test_report_raises_nothing_whatever_the_hook_does(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    asked: list[Any] = []

    def hook(args: Any) -> None:
        asked.append(args.exc_value)
        raise error

    monkeypatch.setattr(threading, "excepthook", hook)
    gone = SendError("gone")
    errors.report(gone)
    assert asked == [gone]


@pytest.mark.parametrize("stderr", [None, "closed", "a pipe without a reader"])
def test_report_raises_nothing_wherever_stderr_leads(monkeypatch: pytest.MonkeyPatch, stderr: str | None) -> None:
    stream: Any = None
    if stderr == "closed":
        stream = io.StringIO()
        stream.close()
    elif stderr is not None:
        read, write = os.pipe()
        os.close(read)
        stream = os.fdopen(write, "w", buffering=1)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        errors.report(SendError("gone"))
    with suppress(OSError, AttributeError):
        stream.close()
