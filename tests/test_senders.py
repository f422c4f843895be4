"""The sending half of TCP: what arrives, in which turn, what fails, and who is in whose way."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any
from unittest import mock

import pytest

from gossipmonger import RemotePeer, SendError
from gossipmonger.transport.connection import Connection
from gossipmonger.transport.senders import Senders

LONG = 10_000  # milliseconds that nothing here takes
ANSWERING, SILENT = "gossipmonger-sender", "gossipmonger-sender-retry"


class Place:
    """A port of loopback, and the peer there: refuses at first, accepts after `listen`, and is read by the test itself."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(10)
        self.socket.bind(("127.0.0.1", 0))  # nobody else gets the port meanwhile
        self.port: int = self.socket.getsockname()[1]
        self.peer = RemotePeer(f"at {self.port}", {"host": "127.0.0.1", "port": self.port})
        self._fill: list[socket.socket] = []

    def listen(self) -> Place:
        self.socket.listen(100)
        return self

    def get_stuck(self) -> Place:
        """Listen with a backlog that is full: whoever connects gets no answer to its SYN."""
        self.socket.listen(0)
        for _ in range(8):
            self._fill.append(socket.socket())
            self._fill[-1].setblocking(False)
            self._fill[-1].connect_ex(("127.0.0.1", self.port))
        return self

    def read(self) -> bytes:
        """Accept a connection and return all of it, up to the FIN."""
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(10)
            return b"".join(iter(partial(connection.recv, 65_536), b""))

    def nobody_came(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]

    def close(self) -> None:
        for each in (self.socket, *self._fill):
            each.close()


class Message:
    """What to send; it tells on which thread it is encoded, and waits there until `open` if it is a gate."""

    def __init__(self, *parts: bytes, gate: bool = False, error: Exception | None = None) -> None:
        self.parts, self.error, self.thread = parts, error, ""
        self.begun, self.open = threading.Event(), threading.Event()
        if not gate:
            self.open.set()

    def __call__(self) -> tuple[bytes, ...]:
        self.thread = threading.current_thread().name
        self.begun.set()
        assert self.open.wait(10)
        if self.error:
            raise self.error
        return self.parts


class Failures(list[Exception]):
    changed = threading.Condition()

    def __call__(self, error: Exception) -> None:
        with self.changed:
            self.append(error)
            self.changed.notify_all()

    def wait(self, count: int) -> Any:
        """Wait for so many; return the last."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self) == count, 10)
        return self[-1]


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
    senders.send(place.peer, "deltas", Message(b"lost"))
    error = failed.wait(len(failed) + 1)
    assert isinstance(error, SendError)
    return error


def senders_alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(ANSWERING)]


def settled(senders: Senders) -> None:
    assert senders._answering.join(LONG)
    assert senders._silent.join(LONG)


def test_a_message_is_one_connection_ended_by_fin(make: Make, place: MakePlace, failed: Failures) -> None:
    senders, there = make(), place().listen()
    messages = [b"first\r\n", b"", "€\r\n".encode() * 100_000]
    for message in messages:
        senders.send(there.peer, "deltas", Message(message))
    assert [there.read() for _ in messages] == messages
    senders.close()
    assert there.nobody_came()
    assert failed == []


def test_all_that_one_encoding_makes_is_sent_in_order(make: Make, place: MakePlace) -> None:
    there = place().listen()
    make().send(there.peer, "deltas", Message(b"1", b"2", b"3"))
    assert [there.read() for _ in range(3)] == [b"1", b"2", b"3"]


def test_encoding_is_done_by_a_sender_and_not_by_the_caller(make: Make, place: MakePlace) -> None:
    there, message = place().listen(), Message(b"m", gate=True)
    make().send(there.peer, "digest", message)  # returns though the message is not encoded yet
    message.open.set()
    assert there.read() == b"m"
    assert message.thread == ANSWERING


def test_a_port_may_be_digits(make: Make, place: MakePlace) -> None:
    there = place().listen()
    make().send(RemotePeer("b", {"host": "127.0.0.1", "port": str(there.port)}), "digest", Message(b"m"))
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
        senders.send(RemotePeer("b", {"host": "b.example", "port": 1234}), "deltas", Message(b"m"))
    assert there.read() == b"m"
    assert moved.read() == b"m"
    assert failed == []


def test_a_digest_replaces_one_that_waits_and_nothing_else(make: Make, place: MakePlace) -> None:
    senders, there, gate = make(), place().listen(), Message(b"gate", gate=True)
    senders.send(there.peer, "digest", gate)
    assert gate.begun.wait(10)
    for kind, text in [("digest", b"old digest"), ("deltas", b"1"), ("deltas", b"2"), ("digest", b"new digest")]:
        senders.send(there.peer, kind, Message(text))
    gate.open.set()
    assert [there.read() for _ in range(4)] == [b"gate", b"1", b"2", b"new digest"]
    senders.close()
    assert there.nobody_came()


def test_of_too_many_that_wait_for_one_destination_the_oldest_is_dropped_and_told(
    make: Make, place: MakePlace, failed: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossipmonger.transport.senders._MAX_WAITING", 2)
    senders, there, gate = make(), place().listen(), Message(b"gate", gate=True)
    senders.send(there.peer, "deltas", gate)
    assert gate.begun.wait(10)
    for text in (b"1", b"2", b"3"):
        senders.send(there.peer, "deltas", Message(text))
    error = failed.wait(1)
    assert (type(error), error.remote_peer) == (SendError, there.peer)
    assert f"{there.peer.id!r} at 127.0.0.1:{there.port} takes messages slower" in str(error)
    gate.open.set()
    assert [there.read() for _ in range(3)] == [b"gate", b"2", b"3"]


def test_destinations_take_turns(make: Make, place: MakePlace) -> None:
    senders, one, other, gate = make(threads=1), place().listen(), place().listen(), Message(b"gate", gate=True)
    order: list[str] = []

    def encode(text: str) -> list[bytes]:
        order.append(text)
        return [text.encode()]

    senders.send(one.peer, "deltas", gate)
    assert gate.begun.wait(10)
    for there, text in [(one, "one 1"), (one, "one 2"), (other, "other 1"), (other, "other 2")]:
        senders.send(there.peer, "deltas", partial(encode, text))
    gate.open.set()
    assert [there.read() for there in (one, one, one, other, other)] == [b"gate", b"one 1", b"one 2", b"other 1", b"other 2"]
    assert order == ["other 1", "one 1", "other 2", "one 2"]


def test_one_destination_is_served_by_one_thread_at_a_time_and_many_by_many(make: Make, place: MakePlace) -> None:
    senders, one, other = make(threads=2), place().listen(), place().listen()
    gate, next_one = Message(b"gate", gate=True), Message(b"next")
    senders.send(one.peer, "deltas", gate)
    assert gate.begun.wait(10)
    senders.send(one.peer, "deltas", next_one)
    senders.send(other.peer, "deltas", Message(b"other"))
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
        (UnicodeError("label too long"), "'b.example' is no name of a host: label too long"),
    ],
)
def test_a_name_that_leads_nowhere_is_an_error(make: Make, failed: Failures, error: Exception | None, words: str) -> None:
    with mock.patch.object(socket, "getaddrinfo", side_effect=error, return_value=[]):
        make().send(RemotePeer("b", {"host": "b.example", "port": 1}), "digest", Message(b"m"))
        assert words in str(failed.wait(1))
    assert type(failed[0]) is SendError


def test_a_peer_that_does_not_answer_costs_the_connect_timeout(make: Make, place: MakePlace, failed: Failures) -> None:
    error = refused(make(connect_timeout=20), place().get_stuck(), failed)
    assert isinstance(error.__cause__, TimeoutError)


def test_a_peer_that_does_not_read_costs_the_send_timeout(make: Make, place: MakePlace, failed: Failures) -> None:
    make(send_timeout=20).send(place().listen().peer, "deltas", Message(bytes(32_000_000)))
    assert isinstance(failed.wait(1).__cause__, TimeoutError)


def test_what_encoding_raises_is_told_as_it_is_and_is_not_the_peers_fault(
    make: Make, place: MakePlace, failed: Failures
) -> None:
    senders, there, wrong, after = make(), place().listen(), ValueError("wrong"), Message(b"after")
    senders.send(there.peer, "deltas", Message(error=wrong))
    senders.send(there.peer, "deltas", after)
    assert there.read() == b"after"
    assert failed == [wrong]
    assert after.thread == ANSWERING


def test_a_failing_destination_is_served_apart_until_a_message_arrives(make: Make, place: MakePlace, failed: Failures) -> None:
    senders, there = make(), place()
    threads = []
    for listens in (False, False, True, True):
        if listens:
            there.listen()
        message = Message(b"m")
        senders.send(there.peer, "deltas", message)
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
        senders.send(there.peer, "deltas", message)
    gate.open.set()
    failed.wait(2)
    settled(senders)
    there.listen()
    gate = messages[2] = Message(b"m", gate=True)
    for message in messages[2:]:
        senders.send(there.peer, "deltas", message)
    gate.open.set()
    settled(senders)
    assert [message.thread for message in messages] == [ANSWERING, SILENT, SILENT, ANSWERING]
    assert len(failed) == 2


def test_a_failing_destination_holds_up_no_other(make: Make, place: MakePlace, failed: Failures) -> None:
    senders, silent, there, gate = make(threads=1), place(), place().listen(), Message(b"gate", gate=True)
    refused(senders, silent, failed)
    settled(senders)
    senders.send(silent.peer, "deltas", gate)
    assert gate.begun.wait(10)
    senders.send(there.peer, "deltas", Message(b"m"))
    assert there.read() == b"m"
    gate.open.set()
    failed.wait(2)


def test_only_so_many_failing_destinations_are_remembered(
    make: Make, place: MakePlace, failed: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossipmonger.transport.senders._MAX_FAILING", 1)
    senders, first, second = make(), place(), place()
    messages = [Message(b"m") for _ in range(4)]
    for there, message in zip((first, second, second, first), messages, strict=True):
        senders.send(there.peer, "deltas", message)
        settled(senders)
    assert [message.thread for message in messages] == [ANSWERING, ANSWERING, SILENT, ANSWERING]
    assert len(failed) == 4


def test_close_gives_what_waits_for_answering_peers_its_time(make: Make, place: MakePlace) -> None:
    senders, there = make(), place().listen()
    for number in range(20):
        senders.send(there.peer, "deltas", Message(b"%d" % number))
    senders.close(LONG)
    senders.close(3_600_000)  # again, with nothing left to wait for
    assert [there.read() for _ in range(20)] == [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("stuck_in", ["connect", "send"])
def test_close_cuts_short_what_is_stuck(make: Make, place: MakePlace, failed: Failures, stuck_in: str) -> None:
    # Far beyond the time in which a thread may be left at the end of a test.
    senders = make(connect_timeout=3_600_000, send_timeout=3_600_000)
    there = place().get_stuck() if stuck_in == "connect" else place().listen()
    senders.send(there.peer, "deltas", Message(bytes(32_000_000)))
    senders.close(500)
    assert senders_alive() == []
    assert [type(error) for error in failed] == [SendError]


def test_close_does_not_miss_who_is_about_to_connect(make: Make, place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    senders, there = make(connect_timeout=3_600_000, send_timeout=3_600_000), place().get_stuck()
    begun, closed, real = threading.Event(), threading.Event(), socket.socket.connect

    def connect(connection: socket.socket, address: Any) -> None:
        begun.set()
        closed.wait(0.2)  # in vain, for close has to wait too
        real(connection, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    senders.send(there.peer, "deltas", Message(b"m"))
    assert begun.wait(10)
    senders.close(1)
    closed.set()
    for thread in senders_alive():
        thread.join(10)
    assert senders_alive() == []


def test_no_thread_to_send_with_is_the_callers_error_and_is_tried_again(make: Make, place: MakePlace) -> None:
    senders, there = make(), place().listen()
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        with pytest.raises(RuntimeError, match="no thread"):
            senders.send(there.peer, "deltas", Message(b"lost"))
    senders.send(there.peer, "deltas", Message(b"m"))
    assert there.read() == b"m"


def test_after_close_nothing_is_connected_sent_or_queued(make: Make, place: MakePlace, failed: Failures) -> None:
    senders, there, gate = make(), place().listen(), Message(b"gate", gate=True)
    waiting, late = Message(b"waiting"), Message(b"late")
    senders.send(there.peer, "deltas", gate)
    assert gate.begun.wait(10)
    senders.send(there.peer, "deltas", waiting)
    senders.close(1)
    senders.send(there.peer, "deltas", late)
    gate.open.set()
    senders.close()
    assert "closed" in str(failed.wait(1))
    assert not waiting.begun.is_set()
    assert not late.begun.is_set()
    assert there.nobody_came()


def test_close_from_a_sender_does_not_wait_for_itself(make: Make, place: MakePlace) -> None:
    closed = threading.Event()

    def failed(error: Exception) -> None:
        senders.close(3_600_000)
        closed.set()

    senders = make(failed=failed)
    senders.send(place().peer, "deltas", Message(b"m"))
    assert closed.wait(10)
    senders.send(place().peer, "deltas", Message(b"m"))
