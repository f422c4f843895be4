"""The adapters between `send` and `message` and the Node.js package's methods and events, in both directions."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from pyee.base import EventEmitter

from gossipmonger.errors import MessageError, Reporter
from gossipmonger.state import Delta, Digest, Entry, ExtendedPeer, Header, Kind, Message, RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import SeedTransport, Transport
from gossipmonger.wire import as_dicts, as_lists
from tests.transport.seed_only import SeedOnly, WithExchange

A = RemotePeer("a", {"host": "a.example", "port": 1})
B = RemotePeer("b", {"host": "b.example", "port": 2})
DELTAS = [["a", "k", [1, {"two": None}], 5, 4, 3], ["a", "l", "v", 9]]
DIGEST = [
    {"id": "c", "maxVersionSeen": 7, "transport": "anything", "floor": 3},
    {"id": "a", "maxVersionSeen": 9, "transport": A.transport, "reply": True, "flow": [1.0, 2.0], "heartbeat": 8},
]
MESSAGE = Message(
    A,
    [Delta("a", "k", [1, {"two": None}], 5, 4, 3), Delta("a", "l", "v", 9)],
    Digest(
        Kind.REPLY,
        Header([1.0, 2.0]),
        [Entry("c", 7, "anything", floor=3), Entry("a", 9, A.transport, heartbeat=8)],
    ),
)

#: What somebody's transport may hand over, as deltas and digest.
MALFORMED: list[tuple[Any, Any]] = [
    (None, None),
    ("no list", None),
    ([["a", "k", "v", -1]], None),
    ([["a", "k", object(), 1]], None),
    (None, [{"id": "c"}]),
    (None, [None]),
    (DELTAS, [{"id": "__proto__", "maxVersionSeen": 1, "transport": None}]),
]


class TestSeedOnly(TransportContract):
    def make_transport(self) -> SeedOnly:
        return SeedOnly()


class TestWrapped(TransportContract):
    def make_transport(self) -> SeedTransport:
        return SeedTransport(SeedOnly())


def test_the_contract_says_what_is_to_be_made_and_how_long_is_a_number() -> None:
    contract = TestSeedOnly()
    contract.patience = "10"  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"^patience must be a number at least 0 seconds, got '10'"):
        contract.test_listen_emits_listening_and_calls_back()
    contract = TestSeedOnly()
    contract.make_transport = lambda: None  # type: ignore[assignment,method-assign,return-value]
    with pytest.raises(TypeError, match=r"^make_transport\(\) must return an object with a method listen\(\), got None"):
        contract.test_listen_emits_listening_and_calls_back()


class Recording(Transport):
    """Records what it is to send."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[RemotePeer, Message]] = []

    def send(self, to: RemotePeer, message: Message) -> None:
        self.sent.append((to, message))


def recorded(emitter: EventEmitter, *events: str) -> list[Any]:
    """Listen for these events; return what they come with."""
    came: list[Any] = []
    for event in events:
        emitter.on(event, lambda *args, event=event: came.append((event, *args)))
    return came


def plain(message: Message) -> Any:
    """Return a message as it stands on the wire."""
    sender, deltas, digest = message
    return sender, None if deltas is None else as_lists(deltas), None if digest is None else as_dicts(digest)


# A transport's methods and events for who knows those of the Node.js package


def test_the_three_methods_send_messages() -> None:
    transport = Recording()
    transport.digest(B, A, DIGEST)
    transport.deltas(B, A, DELTAS)
    transport.exchange(B, A, DELTAS, DIGEST)
    assert [to for to, _ in transport.sent] == [B, B, B]
    assert [plain(message) for _, message in transport.sent] == [(A, None, DIGEST), (A, DELTAS, None), (A, DELTAS, DIGEST)]
    sent = transport.sent[2][1].digest
    assert sent is not None
    assert (sent.kind, sent.header) == (Kind.REPLY, Header([1.0, 2.0]))


@pytest.mark.parametrize(("deltas", "digest"), MALFORMED)
def test_what_is_malformed_is_an_error_event_and_not_sent(deltas: Any, digest: Any) -> None:
    transport = Recording()
    errors = recorded(transport, "error")
    transport.exchange(B, A, deltas, digest)
    assert transport.sent == []
    assert [type(error) for _, error in errors] == [MessageError]


def test_a_message_is_emitted_as_one_and_to_those_who_listen_as_in_the_node_js_package() -> None:
    transport = Recording()
    came = recorded(transport, "message", "deltas", "digest")
    transport._hand_out(MESSAGE)
    assert [name for name, *_ in came] == ["message", "deltas", "digest"]
    assert came[0][1] is MESSAGE


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (("deltas", "digest"), [("deltas", A, DELTAS), ("digest", A, DIGEST)]),
        (("exchange", "deltas", "digest"), [("exchange", A, DELTAS, DIGEST)]),
    ],
)
def test_without_such_a_listener_it_is_emitted_as_in_the_node_js_package(events: Any, expected: Any) -> None:
    transport = Recording()
    came = recorded(transport, *events)
    transport._hand_out(MESSAGE)
    assert came == expected
    transport._hand_out(MESSAGE._replace(deltas=None))
    transport._hand_out(MESSAGE._replace(digest=None))
    assert came[len(expected) :] == [("digest", A, DIGEST), ("deltas", A, DELTAS)]


def test_an_error_without_a_listener_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(Reporter, "report", lambda _, error: reported.append(error))
    Recording().deltas(B, A, "no list")  # type: ignore[arg-type]
    assert [type(error) for error in reported] == [MessageError]


# Somebody's transport for who knows `send` and `message`


class Foreign(EventEmitter):
    """Somebody's transport, which records what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def digest(self, *args: Any) -> None:
        self.calls.append(("digest", *args))

    def deltas(self, *args: Any) -> None:
        self.calls.append(("deltas", *args))


def test_who_cannot_dial_has_no_refusals() -> None:
    foreign = Foreign()
    wrapped = SeedTransport(foreign)
    links = recorded(wrapped, "link")
    wrapped.dial(B)
    assert (foreign.calls, links) == ([], [])


def test_a_message_is_sent_by_the_methods_there_are() -> None:
    foreign = Foreign()
    wrapped = SeedTransport(foreign)
    wrapped.send(B, MESSAGE)
    wrapped.send(B, MESSAGE._replace(deltas=None))
    wrapped.send(B, MESSAGE._replace(digest=None))
    deltas, digest = ("deltas", B, A, DELTAS), ("digest", B, A, DIGEST)
    assert foreign.calls == [deltas, digest, digest, deltas]
    with_exchange = SeedTransport(WithExchange())
    errors = recorded(with_exchange, "error")
    with_exchange.send(RemotePeer("lost", None), MESSAGE)
    with_exchange.send(RemotePeer("lost", None), MESSAGE._replace(deltas=None))
    assert with_exchange.wrapped.calls == ["exchange", "digest"]
    assert len(errors) == 2
    with_exchange.close()


def test_what_its_methods_raise_is_the_callers() -> None:
    foreign = Foreign()
    foreign.deltas = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(ZeroDivisionError):
        SeedTransport(foreign).send(B, MESSAGE)


def test_its_events_become_messages_and_its_other_events_are_passed_on() -> None:
    foreign = Foreign()
    came = recorded(SeedTransport(foreign), "message", "error", "listening")
    error = OSError()
    foreign.emit("digest", {"id": "a", "transport": A.transport}, DIGEST)
    foreign.emit("deltas", A, DELTAS)
    foreign.emit("exchange", A, DELTAS, DIGEST)
    foreign.emit("listening")
    foreign.emit("error", error)
    assert [plain(message) for _, message in came[:3]] == [(A, None, DIGEST), (A, DELTAS, None), (A, DELTAS, DIGEST)]
    assert came[3:] == [("listening",), ("error", error)]


def test_a_sender_that_carries_the_way_back_is_handed_on_as_it_is() -> None:
    class Caller(ExtendedPeer):
        pass

    foreign, caller = Foreign(), Caller(*A)
    came = recorded(SeedTransport(foreign), "message")
    foreign.emit("deltas", caller, DELTAS)
    assert came[0][1].sender is caller


@pytest.mark.parametrize(("deltas", "digest"), MALFORMED)
@pytest.mark.parametrize("sender", [A, RemotePeer("", None), None, {}, "a"])
def test_what_it_emits_malformed_is_one_error_and_no_message(sender: Any, deltas: Any, digest: Any) -> None:
    foreign = Foreign()
    came = recorded(SeedTransport(foreign), "message", "error")
    foreign.emit("exchange", sender, deltas, digest)
    assert [(event, type(error)) for event, error in came] == [("error", MessageError)]


def test_what_it_does_not_have_is_not_asked_of_it() -> None:
    foreign, closed = Foreign(), threading.Event()
    wrapped = SeedTransport(foreign)
    assert (wrapped.address, wrapped.max_message_size) == (None, None)
    wrapped.close()
    wrapped.close(closed.set)
    assert closed.is_set()


def test_what_it_has_is_used() -> None:
    wrapped, listening, closed = SeedTransport(WithExchange()), threading.Event(), threading.Event()
    assert wrapped.max_message_size == 1_000
    wrapped.listen(None, listening.set)
    assert listening.is_set()
    assert wrapped.address == wrapped.wrapped.address
    wrapped.close(closed.set)
    assert closed.is_set()


@pytest.mark.parametrize("listened", [True, False])
def test_an_error_holds_no_message_once_it_is_emitted(listened: bool, logged: list[Any]) -> None:
    class Held:
        """No part of a message."""

    transport = Recording()
    errors = recorded(transport, "error") if listened else []
    transport.deltas(B, A, [Held()])  # type: ignore[list-item]
    gc.collect()
    assert [each for each in gc.get_objects() if type(each) is Held] == []
    assert len(errors if listened else logged) == 1
