"""The sending half of TCP: what arrives, in which turn, what fails, and who is in whose way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from unittest import mock

import pytest

from gossipmonger.errors import SendError
from gossipmonger.state.message import RemotePeer
from gossipmonger.transport.tcp.connection import Connection
from gossipmonger.transport.tcp.senders import Senders
from tests.transport.tcp.sending import Failures, Message, Place

LONG = 10  # seconds that nothing here takes
ANSWERING, SILENT = "gossipmonger-sender", "gossipmonger-sender-retry"


def hang_up(connection: Connection) -> None:
    connection.socket.close()


@pytest.fixture
def failed() -> Failures:
    return Failures()


@pytest.fixture
def make(failed: Failures) -> Iterator[Callable[..., Senders]]:
    made: list[Senders] = []

    def make(**options: Any) -> Senders:
        given = {"threads": 1, "connect_timeout": LONG, "send_timeout": LONG, "failed": failed, "hear": hang_up, **options}
        made.append(Senders(**given))
        return made[-1]

    yield make
    for senders in made:
        senders.close()


@pytest.fixture
def place() -> Iterator[Callable[[], Place]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Place()))


Make = Callable[..., Senders]
MakePlace = Callable[[], Place]


def refused(senders: Senders, place: Place, failed: Failures) -> SendError:
    """Let a message to a place fail; return how. Once it is told, the place's next message goes the failing ones' way."""
    senders.send(place.peer, Message(b"lost"))
    error = failed.wait(len(failed) + 1)
    assert isinstance(error, SendError)
    return error


def senders_alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(ANSWERING)]


def settled(senders: Senders) -> None:
    for pool in (senders._answering, senders._silent, senders._answering):  # a destination may go from either to the other
        assert pool.join(LONG)


def test_a_message_is_one_connection_ended_by_fin(make: Make, place: MakePlace, failed: Failures) -> None:
    senders, there = make(), place().listen()
    messages = [b"first\r\n", b"", "€\r\n".encode() * 2_000_000]
    for message in messages:
        senders.send(there.peer, Message(message))
    assert [there.read() for _ in messages] == messages
    senders.close()
    assert there.nobody_came()
    assert failed == []


def test_all_parts_of_a_message_are_sent_in_order(make: Make, place: MakePlace) -> None:
    there = place().listen()
    make().send(there.peer, Message(b"1", b"2", b"3"))
    assert [there.read() for _ in range(3)] == [b"1", b"2", b"3"]


def test_a_port_may_be_digits(make: Make, place: MakePlace) -> None:
    there = place().listen()
    make().send(RemotePeer("b", {"host": "127.0.0.1", "port": str(there.port)}), Message(b"m"))
    assert there.read() == b"m"


def test_a_name_is_resolved_for_each_message_and_its_addresses_tried_in_turn(
    make: Make, place: MakePlace, failed: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing, there, moved = place(), place().listen(), place().listen()
    answers = [[refusing, there], [moved]]

    def resolve(host: str, port: int, type: int) -> list[Any]:
        assert (host, port) == ("b.example", 1234)
        unspoken = (99_999, type, 0, "", ("::1", 1234, 0, 0))  # a family that this machine does not speak
        return [unspoken, *((socket.AF_INET, type, 0, "", ("127.0.0.1", one.port)) for one in answers.pop(0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    senders = make()
    for _ in range(2):
        senders.send(RemotePeer("b", {"host": "b.example", "port": 1234}), Message(b"m"))
    assert there.read() == b"m"
    assert moved.read() == b"m"
    assert failed == []


def test_a_replaceable_message_replaces_one_that_waits_and_nothing_else(make: Make, place: MakePlace) -> None:
    senders, there, gate = make(), place().listen(), Message(b"gate", gate=True)
    senders.send(there.peer, gate, replaceable=True)
    assert gate.begun.wait(10)
    for replaceable, text in [(True, b"old digest"), (False, b"1"), (False, b"2"), (True, b"new digest")]:
        senders.send(there.peer, Message(text), replaceable)
    gate.open.set()
    assert [there.read() for _ in range(4)] == [b"gate", b"1", b"2", b"new digest"]
    senders.close()
    assert there.nobody_came()


def test_of_too_many_that_wait_for_one_destination_the_oldest_is_dropped_and_told(
    make: Make, place: MakePlace, failed: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossipmonger.transport.tcp.senders._MAX_WAITING", 2)
    senders, there, gate = make(), place().listen(), Message(b"gate", gate=True)
    senders.send(there.peer, gate)
    assert gate.begun.wait(10)
    for text in (b"1", b"2", b"3"):
        senders.send(there.peer, Message(text))
    error = failed.wait(1)
    assert (type(error), error.remote_peer) == (SendError, there.peer)
    assert f"{there.peer.id!r} at 127.0.0.1:{there.port} takes messages slower" in str(error)
    gate.open.set()
    assert [there.read() for _ in range(3)] == [b"gate", b"2", b"3"]


def test_destinations_take_turns(make: Make, place: MakePlace) -> None:
    senders, one, other, gate = make(threads=1), place().listen(), place().listen(), Message(b"gate", gate=True)
    order: list[str] = []

    class Ordered(Message):
        def __iter__(self) -> Iterator[bytes]:
            order.append(self.parts[0].decode())
            return super().__iter__()

    senders.send(one.peer, gate)
    assert gate.begun.wait(10)
    for there, text in [(one, "one 1"), (one, "one 2"), (other, "other 1"), (other, "other 2")]:
        senders.send(there.peer, Ordered(text.encode()))
    gate.open.set()
    assert [there.read() for there in (one, one, one, other, other)] == [b"gate", b"one 1", b"one 2", b"other 1", b"other 2"]
    assert order == ["other 1", "one 1", "other 2", "one 2"]


def test_one_destination_is_served_by_one_thread_at_a_time_and_many_by_many(make: Make, place: MakePlace) -> None:
    senders, one, other = make(threads=2), place().listen(), place().listen()
    gate, next_one = Message(b"gate", gate=True), Message(b"next")
    senders.send(one.peer, gate)
    assert gate.begun.wait(10)
    senders.send(one.peer, next_one)
    senders.send(other.peer, Message(b"other"))
    assert other.read() == b"other"
    assert not next_one.begun.is_set()
    gate.open.set()
    assert [one.read(), one.read()] == [b"gate", b"next"]


def test_a_refused_message_is_an_error_that_names_the_peer(make: Make, place: MakePlace, failed: Failures) -> None:
    nowhere = place()
    error = refused(make(), nowhere, failed)
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert error.remote_peer == nowhere.peer
    assert f"can't send to peer {nowhere.peer.id!r} at 127.0.0.1:{nowhere.port}: " in str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "b.example has no address"),
        (socket.gaierror(socket.EAI_NONAME, "unknown name"), "unknown name"),
        (UnicodeError("label too long"), "'b.example' cannot be the name of a host: label too long"),
    ],
)
def test_a_name_that_leads_nowhere_is_an_error(make: Make, failed: Failures, error: Exception | None, words: str) -> None:
    with mock.patch.object(socket, "getaddrinfo", side_effect=error, return_value=[]):
        make().send(RemotePeer("b", {"host": "b.example", "port": 1}), Message(b"m"))
        assert words in str(failed.wait(1))
    assert type(failed[0]) is SendError


def test_a_peer_that_does_not_answer_costs_the_connect_timeout(make: Make, place: MakePlace, failed: Failures) -> None:
    error = refused(make(connect_timeout=0.02), place().get_stuck(), failed)
    assert isinstance(error.__cause__, TimeoutError)


def test_a_peer_that_does_not_read_costs_the_send_timeout(make: Make, place: MakePlace, failed: Failures) -> None:
    make(send_timeout=0.02).send(place().listen().peer, Message(bytes(32_000_000)))
    assert isinstance(failed.wait(1).__cause__, TimeoutError)


def test_a_failing_destination_is_served_apart_until_a_message_arrives(make: Make, place: MakePlace, failed: Failures) -> None:
    senders, there = make(), place()
    threads = []
    for listens in (False, False, True, True):
        if listens:
            there.listen()
        message = Message(b"m")
        senders.send(there.peer, message)
        settled(senders)
        threads.append(message.thread)
    assert threads == [ANSWERING, SILENT, SILENT, ANSWERING]
    assert len(failed) == 2


def test_what_waits_behind_a_message_that_fails_is_served_apart_and_behind_one_that_arrives_no_more(
    make: Make, place: MakePlace, failed: Failures
) -> None:
    senders, there, gate = make(), place(), Message(b"m", gate=True)
    messages = [gate, Message(b"m"), Message(b"m"), Message(b"m")]
    for message in messages[:2]:
        senders.send(there.peer, message)
    gate.open.set()
    failed.wait(2)
    settled(senders)
    there.listen()
    gate = messages[2] = Message(b"m", gate=True)
    for message in messages[2:]:
        senders.send(there.peer, message)
    gate.open.set()
    settled(senders)
    assert [message.thread for message in messages] == [ANSWERING, SILENT, SILENT, ANSWERING]
    assert len(failed) == 2


def test_a_failing_destination_holds_up_no_other(make: Make, place: MakePlace, failed: Failures) -> None:
    senders, silent, there, gate = make(threads=1), place(), place().listen(), Message(b"gate", gate=True)
    refused(senders, silent, failed)
    settled(senders)
    senders.send(silent.peer, gate)
    assert gate.begun.wait(10)
    senders.send(there.peer, Message(b"m"))
    assert there.read() == b"m"
    gate.open.set()
    failed.wait(2)


def test_only_so_many_failing_destinations_are_remembered(
    make: Make, place: MakePlace, failed: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossipmonger.transport.tcp.senders._MAX_FAILING", 1)
    senders, first, second = make(), place(), place()
    messages = [Message(b"m") for _ in range(4)]
    for there, message in zip((first, second, second, first), messages, strict=True):
        senders.send(there.peer, message)
        settled(senders)
    assert [message.thread for message in messages] == [ANSWERING, ANSWERING, SILENT, ANSWERING]
    assert len(failed) == 4


def test_close_gives_what_waits_for_answering_peers_its_time(make: Make, place: MakePlace) -> None:
    senders, there = make(), place().listen()
    for number in range(20):
        senders.send(there.peer, Message(b"%d" % number))
    senders.close(LONG)
    senders.close(3_600)  # again, with nothing left to wait for
    assert [there.read() for _ in range(20)] == [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("stuck_in", ["connect", "send"])
def test_close_cuts_short_what_is_stuck(make: Make, place: MakePlace, failed: Failures, stuck_in: str) -> None:
    # Far beyond the time in which a thread may be left at the end of a test.
    senders = make(connect_timeout=3_600, send_timeout=3_600)
    there = place().get_stuck() if stuck_in == "connect" else place().listen()
    senders.send(there.peer, Message(bytes(32_000_000)))
    senders.close(0.5)
    assert senders_alive() == []
    assert [type(error) for error in failed] == [SendError]


def test_close_does_not_miss_who_is_about_to_connect(make: Make, place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    senders, there = make(connect_timeout=3_600, send_timeout=3_600), place().get_stuck()
    begun, closed, real = threading.Event(), threading.Event(), socket.socket.connect

    def connect(connection: socket.socket, address: Any) -> None:
        begun.set()
        closed.wait(0.2)  # in vain, for close has to wait too
        real(connection, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    senders.send(there.peer, Message(b"m"))
    assert begun.wait(10)
    senders.close(0.001)
    closed.set()
    for thread in senders_alive():
        thread.join(10)
    assert senders_alive() == []


def test_no_thread_to_send_with_is_the_callers_error_and_is_tried_again(make: Make, place: MakePlace) -> None:
    senders, there = make(), place().listen()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        with pytest.raises(RuntimeError, match="no thread"):
            senders.send(there.peer, Message(b"lost"))
    senders.send(there.peer, Message(b"m"))
    assert there.read() == b"m"


def test_after_close_nothing_is_connected_sent_or_queued(make: Make, place: MakePlace, failed: Failures) -> None:
    senders, there, gate = make(), place().listen(), Message(b"gate", gate=True)
    waiting, late = Message(b"waiting"), Message(b"late")
    senders.send(there.peer, gate)
    assert gate.begun.wait(10)
    senders.send(there.peer, waiting)
    senders.close(0.001)
    senders.send(there.peer, late)
    gate.open.set()
    senders.close()
    assert "closed" in str(failed.wait(1))
    assert not waiting.begun.is_set()
    assert not late.begun.is_set()
    assert there.nobody_came()


def test_close_from_a_sender_does_not_wait_for_itself(make: Make, place: MakePlace) -> None:
    closed = threading.Event()

    def failed(error: Exception) -> None:
        senders.close(3_600)
        closed.set()

    senders = make(failed=failed)
    senders.send(place().peer, Message(b"m"))
    assert closed.wait(10)
    senders.send(place().peer, Message(b"m"))


def test_an_error_listener_that_exits_stops_nothing_that_waits(make: Make, place: MakePlace) -> None:
    there, gate, listening = place(), Message(b"refused", gate=True), threading.Event()

    def exit(error: Exception) -> None:
        there.listen()
        listening.set()
        raise SystemExit

    senders = make(failed=exit)
    senders.send(there.peer, gate)
    assert gate.begun.wait(10)
    senders.send(there.peer, Message(b"m"))
    with mock.patch.object(threading, "excepthook") as reported:
        gate.open.set()
        assert listening.wait(10)
        assert there.read() == b"m"
    assert reported.call_count == 1
