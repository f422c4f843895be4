"""What comes on links, what is written to them, and how they end. The test plays the other end of each."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import pytest

from gossipmonger.errors import MessageError, SendError
from gossipmonger.state.message import Delta, Digest, Entry, Kind, Message, RemotePeer
from gossipmonger.transport.loop import Loop
from gossipmonger.transport.tcp import link as link_module
from gossipmonger.transport.tcp import links as links_module
from gossipmonger.transport.tcp.caller import Caller
from gossipmonger.transport.tcp.handshake import Notices
from gossipmonger.transport.tcp.link import Link
from gossipmonger.transport.tcp.links import Links
from gossipmonger.wire import CLOSING, EMPTY, Framer, Limits
from gossipmonger.wire.compression import deflate
from tests.transport.tcp.net import SENDER, Connection, message, round_of, tells, text, until

OURS = RemotePeer("ours", {"host": "ours.example", "port": 1})

#: More than sockets take at once: a little, and more than may wait.
LONG, HUGE = "x" * 1_000_000, "x" * 10_000_000


class Linked:
    """Links on a loop, and what they tell."""

    def __init__(self, **options: Any) -> None:
        self.loop = Loop("the loop")
        self.received: queue.Queue[Message] = queue.Queue()
        self.failures: queue.Queue[Exception] = queue.Queue()
        self.ended: queue.Queue[Link] = queue.Queue()
        self.drained: queue.Queue[None] = queue.Queue()
        self.handle: Callable[[Message], object] = lambda message: None
        timeouts = {"receive_timeout": 10, "send_timeout": 10, **options}
        self.links = Links(
            self.loop, Framer(1 << 24, None), self._receive, self.failures.put, self.ended.put,
            partial(self.drained.put, None), Limits, Notices(self.failures.put), **timeouts,
        )  # fmt: skip
        self.others: list[Connection] = []

    def _receive(self, message: Message) -> None:
        self.received.put(message)
        self.handle(message)

    def on_loop(self, function: Callable[[], Any]) -> Any:
        answers: queue.Queue[Any] = queue.Queue()
        self.loop.call(lambda: answers.put(function()))
        return answers.get(timeout=10)

    def open(
        self, *, dialled: bool = True, peer: RemotePeer | None = SENDER, data: bytes = b"", limit: int = 100_000
    ) -> tuple[Link, Connection]:
        one, other = socket.socketpair()
        one.setblocking(False)
        link = Link(one, "there", dialled=dialled, named=OURS, peer=peer, limit=limit)
        self.others.append(Connection(other))
        self.on_loop(lambda: self.links.open(link))
        if data:
            self.on_loop(lambda: self.links.take(link, data))
        return link, self.others[-1]

    def message(self) -> Message:
        return self.received.get(timeout=10)

    def failure(self) -> Exception:
        return self.failures.get(timeout=10)

    def quiet(self) -> bool:
        return self.received.empty() and self.failures.empty() and self.ended.empty()

    def close(self) -> None:
        self.loop.stop()
        self.links.close()
        for other in self.others:
            other.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Linked]]:
    made: list[Linked] = []

    def make(**options: Any) -> Linked:
        made.append(Linked(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def linked(make: Callable[..., Linked]) -> Linked:
    return make()


# What comes


def test_messages_come_in_their_order_from_the_link_and_lead_back_on_it(linked: Linked) -> None:
    link, other = linked.open(data=message(0, None))
    other.send(b"".join(message(number, None) for number in range(1, 100)))
    for number in range(100):
        received = linked.message()
        assert received == tells(number)
        assert received.sender is link.peer
    assert linked.links.send(link, tells("answer", OURS))
    assert other.line() == message("answer", None)
    assert linked.quiet()


def test_a_message_of_somebody_else_names_its_sender_and_leads_back_too(linked: Linked) -> None:
    link, other = linked.open()
    elsewhere = RemotePeer("elsewhere", {"host": "e.example", "port": 1})
    other.send(message(1, elsewhere) + message(2, SENDER))
    first, second = linked.message(), linked.message()
    assert first.sender == elsewhere
    assert isinstance(first.sender, Caller)
    assert first.sender.link is link
    assert second.sender is link.peer


def test_on_a_link_to_somebody_without_a_name_messages_have_to_name_their_senders(linked: Linked) -> None:
    link, other = linked.open(peer=None)
    other.send(message(1, None) + message(2))
    received = linked.message()
    assert received == tells(2)
    assert isinstance(received.sender, Caller)
    assert received.sender.link is link
    assert str(linked.failure()) == "message from there refused: sender must be an object, got None"


def test_deflated_messages_are_inflated(linked: Linked) -> None:
    _, other = linked.open()
    data = deflate(message("v" * 10_000, None))
    other.send(b"\1" + len(data).to_bytes(4, "big") + data)
    assert linked.message() == tells("v" * 10_000)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{}\r\n", "must have deltas or a digest"),
        (b"{rubbish\n", "must be JSON in UTF-8"),
        (b'{"deltas": [["z"]]}\n', "deltas[0]"),
        (b"\1\0\0\0\3abc", "must be JSON in UTF-8"),
        (text(None, digest=[{"id": "y", "maxVersionSeen": 1, "transport": {"host": "y", "port": 0}}]), "digest[0].transport"),
    ],
)
def test_rubbish_in_a_frame_is_one_error_and_the_link_stays(linked: Linked, data: bytes, words: str) -> None:
    _, other = linked.open()
    other.send(data + message(1, None))
    assert linked.message() == tells(1)
    error = linked.failure()
    assert isinstance(error, MessageError)
    assert error.source == "there"
    assert words in str(error)
    assert linked.quiet()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"x", "a frame begins with b'x'"),
        (b"{" + b"x" * 2_000, "more than 1000 bytes"),
        (b"\1\0\1\0\0", "more than 1000 bytes"),
        (b"\1\0\0\0\5\x78abcd", "not deflated right"),
    ],
)
def test_what_is_no_frame_or_too_long_ends_the_link(linked: Linked, data: bytes, words: str) -> None:
    link, other = linked.open(limit=1_000)
    other.send(message(1, None) + data)
    assert linked.message() == tells(1)
    assert words in str(linked.failure())
    assert linked.ended.get(timeout=10) is link
    assert not link.retired
    assert other.closed()
    assert linked.quiet()


@pytest.mark.parametrize("trickle", [False, True])
def test_a_frame_has_a_deadline(make: Callable[..., Linked], trickle: bool) -> None:
    linked = make(receive_timeout=0.05)
    link, other = linked.open(data=b'{"del')
    while trickle and not link.closed:  # bytes that keep coming win it no time
        try:
            other.send(b" ")
        except OSError:
            break
        other.socket.settimeout(0.01)
    assert str(linked.failure()) == "message from there refused: incomplete after 0.05 s"
    assert linked.ended.get(timeout=10) is link
    assert linked.quiet()


def test_a_frame_that_comes_in_time_ends_its_deadline(linked: Linked) -> None:
    link, other = linked.open()
    for value in (1, 2):
        data = message(value, None)
        other.send(data[:10])
        until(lambda: link.late is not None)
        late = link.late
        other.send(data[10:20])
        other.send(data[20:])
        assert linked.message() == tells(value)
        until(lambda: link.late is None)
        assert late.cancelled
    assert linked.quiet()


def test_a_peer_that_sends_without_pause_holds_up_no_other(linked: Linked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "CHUNK", 100)
    monkeypatch.setattr(links_module, "READS_PER_TURN", 2)
    first, flood = linked.open()
    second, other = linked.open()
    begun, go_on = threading.Event(), threading.Event()
    linked.loop.call(lambda: begun.set() or (go_on.wait(10) and None))
    assert begun.wait(10)
    flood.send(message("flood", None) * 200)
    other.send(message("other", None))
    go_on.set()
    values = [(linked.message().deltas or [])[0].value for _ in range(201)]
    assert values.index("other") < 200
    assert not first.closed
    assert not second.closed


def test_a_handler_may_close_the_link_and_is_not_called_again(linked: Linked) -> None:
    link, other = linked.open()
    linked.handle = lambda message: linked.links.end(link)
    other.send(message(1, None) + message(2, None))
    assert linked.message() == tells(1)
    assert linked.ended.get(timeout=10) is link
    assert linked.quiet()


# Rounds


def test_each_round_on_a_link_is_answered_if_only_by_an_empty_frame(linked: Linked) -> None:
    link, other = linked.open(dialled=False)
    own = {"id": "z", "maxVersionSeen": 0, "transport": SENDER.transport, "heartbeat": 1}
    other.send(text(None, digest=[own]))
    assert other.read(1) == EMPTY
    linked.handle = lambda message: linked.links.send(link, tells("answer", OURS)) and None
    other.send(text(None, digest=[own]))
    assert other.line() == message("answer", None)
    linked.handle = lambda message: None
    other.send(text(None, digest=[{**own, "reply": True}]) + message(1, None) + text(None, digest=[{**own, "rumor": True}]))
    other.send(text(None, digest=[]))
    assert other.read(1) == EMPTY  # the only one, for the last
    assert [linked.message().digest is None for _ in range(6)] == [False, False, False, True, False, False]


def test_a_round_on_a_link_that_was_dialled_from_here_needs_no_sign_of_life(linked: Linked) -> None:
    link, other = linked.open()
    other.send(text(None, digest=[]))
    linked.message()
    linked.links.send(link, tells(1, OURS))
    assert other.line() == message(1, None)


def test_an_answer_that_a_rounds_handler_sends_elsewhere_is_no_sign_of_life_here(linked: Linked) -> None:
    link, other = linked.open(dialled=False)
    elsewhere, there = linked.open()
    linked.handle = lambda message: linked.links.send(elsewhere, tells(1, OURS)) and None
    other.send(text(None, digest=[]))
    assert other.read(1) == EMPTY
    assert there.line() == message(1, None)
    assert not link.closed


def test_three_rounds_without_any_frame_close_a_link_and_the_kernel_has_told_nothing(linked: Linked) -> None:
    link, other = linked.open()
    for _ in range(3):
        assert linked.links.send(link, round_of(OURS))
    assert linked.links.send(link, tells(1, OURS))  # which is no round
    assert linked.links.send(link, Message(OURS, None, Digest(Kind.REPLY, None, [])))
    assert not link.closed
    assert not linked.links.send(link, round_of(OURS))
    assert linked.ended.get(timeout=10) is link
    assert link.retired
    assert other.rest().count(b"\n") == 5
    assert linked.quiet()


def test_any_frame_shows_that_the_other_end_is_there(linked: Linked) -> None:
    link, other = linked.open()
    for data in (EMPTY, message(1, None), b"{"):
        for _ in range(3):
            assert linked.links.send(link, round_of(OURS))
        other.send(data)
        until(lambda: link.unanswered == 0)
    assert linked.links.send(link, round_of(OURS))


def test_who_accepted_a_link_does_not_count_rounds(linked: Linked) -> None:
    link, _ = linked.open(dialled=False)
    for _ in range(10):
        assert linked.links.send(link, round_of(OURS))
    assert link.unanswered == 0


# What is written


def test_frames_leave_out_the_name_of_this_end_and_no_other(linked: Linked) -> None:
    link, other = linked.open()
    for sender in (OURS, SENDER):
        assert linked.links.send(link, tells(1, sender))
    assert other.line() == message(1, None)
    assert other.line() == message(1, SENDER)


def test_what_the_peer_is_slow_to_read_is_written_by_the_loop(linked: Linked) -> None:
    link, other = linked.open()
    for value in (LONG, "next"):
        assert linked.links.send(link, tells(value, OURS))
    assert link.waiting > 0
    until(lambda: link.stuck is not None)
    stuck = link.stuck
    other.send(message(1, None))  # meanwhile
    assert linked.message() == tells(1)
    assert other.line() == message(LONG, None)
    assert other.line() == message("next", None)
    linked.drained.get(timeout=10)
    assert (link.waiting, link.stuck, stuck.cancelled) == (0, None, True)
    other.send(message(2, None))
    assert linked.message() == tells(2)
    assert linked.quiet()


def test_a_peer_that_reads_nothing_costs_so_much_memory_and_then_its_messages(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "_MAX_WAITING", 1_000)
    link, _ = linked.open()
    assert linked.links.send(link, tells(HUGE, OURS))
    waiting = link.waiting
    assert linked.links.send(link, tells("dropped", OURS))
    assert link.waiting == waiting
    error = linked.failure()
    assert isinstance(error, SendError)
    assert str(error) == "peer 'z' at there takes messages slower than they come: one dropped"
    assert error.remote_peer == SENDER
    assert linked.quiet()


@pytest.mark.parametrize(("peer", "name"), [(SENDER, "'z'"), (None, "unknown")])
def test_what_is_not_read_in_time_closes_the_link_with_one_error(
    make: Callable[..., Linked], peer: RemotePeer | None, name: str
) -> None:
    linked = make(send_timeout=0.01)
    link, _ = linked.open(peer=peer)
    assert linked.links.send(link, tells(HUGE, OURS))
    error = linked.failure()
    assert isinstance(error, SendError)
    assert str(error) == f"can't send to peer {name} at there: not read within 0.01 s"
    assert linked.ended.get(timeout=10) is link
    assert link.retired  # it was not the kernel that said so
    assert linked.quiet()


def test_a_link_that_cannot_carry_a_message_says_so(linked: Linked) -> None:
    link, other = linked.open()
    other.close()
    assert linked.ended.get(timeout=10) is link
    assert not linked.links.send(link, tells(1, OURS))
    retired, _ = linked.open()
    linked.on_loop(lambda: linked.links.retire(retired))
    assert not linked.links.send(retired, tells(1, OURS))
    broken, other = linked.open()
    with mock.patch.object(Link, "write", side_effect=BrokenPipeError):
        assert not linked.links.send(broken, tells(1, OURS))
    assert linked.failures.empty()
    linked.on_loop(lambda: linked.links._watch_writing(link))  # which came too late


def test_what_json_has_no_form_for_is_the_callers_error(linked: Linked) -> None:
    link, _ = linked.open()
    with pytest.raises(TypeError):
        linked.links.send(link, Message(RemotePeer("a", {"host": {1}}), [Delta("a", "k", 1, 1)]))
    entry = Entry("a", 1, {"host": {1}})
    with pytest.raises(TypeError):
        linked.links.send(link, Message(OURS, None, Digest(Kind.REPLY, None, [entry])))
    assert linked.links.send(link, tells(1, OURS))


# How links end


@pytest.mark.parametrize("how", [Connection.close, Connection.end, Connection.reset])
def test_an_end_that_nobody_announced_is_told_once(linked: Linked, how: Callable[[Connection], None]) -> None:
    link, other = linked.open()
    how(other)
    assert linked.ended.get(timeout=10) is link
    assert (link.closed, link.retired) == (True, False)
    linked.on_loop(lambda: linked.links.end(link))
    assert linked.links.open_links == set()
    assert linked.quiet()


def test_an_end_in_the_middle_of_a_frame_is_an_error_too(linked: Linked) -> None:
    link, other = linked.open()
    other.send(b'{"del')
    other.close()
    assert str(linked.failure()) == "message from there refused: cut off"
    assert linked.ended.get(timeout=10) is link


def test_a_reset_while_something_waits_to_be_written_ends_it(linked: Linked) -> None:
    link, other = linked.open()
    linked.links.send(link, tells(HUGE, OURS))
    until(lambda: link.stuck is not None)
    other.reset()
    assert linked.ended.get(timeout=10) is link
    assert linked.quiet()


@pytest.mark.parametrize("dialled", [True, False])
def test_who_is_told_that_a_link_is_closed_finishes_says_the_same_and_closes(linked: Linked, dialled: bool) -> None:
    link, other = linked.open(dialled=dialled)
    other.send(message(1, None) + CLOSING)
    assert linked.message() == tells(1)
    assert other.read(1) == CLOSING
    assert not linked.links.send(link, tells(2, OURS))
    if dialled:
        assert other.rest() == b""  # its FIN, while the other end may still read what is left
    other.close()
    assert linked.ended.get(timeout=10) is link
    assert link.retired
    assert linked.quiet()


@pytest.mark.parametrize("dialled", [True, False])
def test_a_link_that_is_closed_on_purpose_waits_for_the_other_end(linked: Linked, dialled: bool) -> None:
    link, other = linked.open(dialled=dialled)
    linked.on_loop(lambda: linked.links.retire(link))
    assert other.read(1) == CLOSING
    other.send(message(1, None))  # what was on its way
    assert linked.message() == tells(1)
    assert not link.closed
    other.send(CLOSING)
    assert linked.ended.get(timeout=10) is link
    assert other.rest() == b""
    linked.on_loop(lambda: linked.links.retire(link))  # which is over
    assert linked.quiet()


def test_what_waits_leaves_before_the_end(linked: Linked) -> None:
    link, other = linked.open()
    linked.links.send(link, tells(HUGE, OURS))
    linked.on_loop(lambda: linked.links.retire(link))
    assert not link.closed
    assert other.line() == message(HUGE, None)
    assert other.rest() == CLOSING
    other.send(CLOSING)
    assert linked.ended.get(timeout=10) is link
    assert linked.quiet()


def test_an_end_that_never_answers_is_waited_for_so_long(linked: Linked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "_FAREWELL", 0.01)
    link, other = linked.open(dialled=False)
    linked.on_loop(lambda: linked.links.retire(link))
    assert linked.ended.get(timeout=10) is link
    assert other.rest() == CLOSING
    assert linked.quiet()


def test_an_end_that_is_gone_before_it_is_told_is_no_error(linked: Linked) -> None:
    link, other = linked.open()

    def retire() -> None:
        other.close()
        linked.links.retire(link)

    linked.on_loop(retire)
    assert linked.ended.get(timeout=10) is link
    assert link.retired
    assert linked.quiet()


def test_close_says_so_on_each_link(linked: Linked) -> None:
    ends = [linked.open(dialled=dialled) for dialled in (True, False, True)]
    ends[2][0].socket.shutdown(socket.SHUT_WR)  # who cannot be told is closed all the same
    linked.loop.stop()
    linked.links.close()
    linked.links.close()
    assert [other.rest() for _, other in ends] == [CLOSING, CLOSING, b""]
    assert all(link.closed for link, _ in ends)
    assert linked.quiet()
