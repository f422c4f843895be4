"""An emitter that posts now and delivers later, here with what runs handlers at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gossipmonger.emitter import Emitter
from gossipmonger.entry import Entry
from gossipmonger.output import Event

from .inline import Inline


def an_emitter() -> tuple[Emitter, list[Any]]:
    emitter, heard = Emitter(Inline()), []
    emitter.on("update", lambda *args: heard.append(args))
    return emitter, heard


def deliver(emitter: Emitter, *events: Event) -> None:
    emitter._post([*events])
    emitter._delivery.kick()


def test_nothing_runs_before_the_kick_and_then_all_in_order() -> None:
    emitter, heard = an_emitter()
    emitter._post([Event("update", ("b", "k", 1)), Event("update", ("b", "l", 2)), Event("peer dead", ("nobody listens",))])
    assert heard == []
    emitter._delivery.kick()
    assert heard == [("b", "k", 1), ("b", "l", 2)]


def test_each_delivery_has_a_copy_of_its_own() -> None:
    emitter, heard = an_emitter()
    value, digest = [1], [Entry("b", 3, ["there"])]
    emitter.on("digest receive", lambda *args: heard.append(args))
    deliver(emitter, Event("update", ("b", "k", value)), Event("digest receive", ("who", digest)))
    heard[0][2].append(2)
    heard[1][1][0]["transport"].append("moved")
    assert (value, digest[0].transport) == ([1], ["there"])


def test_what_a_handler_raises_is_an_error_and_keeps_no_other_from_its_event() -> None:
    emitter, heard = an_emitter()
    failures: list[Exception] = []

    def fail(*_: Any) -> None:
        raise ValueError("no")

    emitter.remove_all_listeners()
    emitter.on("update", fail)
    emitter.on("update", lambda *args: heard.append(args))
    emitter.on("error", failures.append)
    deliver(emitter, Event("update", ("b", "k", 1)))
    assert heard == [("b", "k", 1)]
    assert [str(error) for error in failures] == ["no"]


def test_an_error_that_nobody_listens_for_is_reported_or_raised_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
    emitter, _ = an_emitter()
    error = ValueError("unheard")
    deliver(emitter, Event("error", (error,)))
    assert reported == [error]
    with pytest.raises(ValueError, match="unheard"):
        emitter._raise(error)
    emitter.on("error", reported.append)
    emitter._raise(error)
    assert reported == [error, error]
