"""The promises of what a `Transport` adds to the Node.js package's. A transport without it passes: see `TransportContract`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from gossipmonger.state import Compact, Delta, Digest, Entry, Header, Kind, Message, RemotePeer
from gossipmonger.testing.node import Node, Nodes
from gossipmonger.testing.samples import TEXT
from gossipmonger.wire import as_dicts, as_lists

__all__ = ["MessagePromises"]


class MessagePromises(Nodes):
    """What an endpoint relies on in a transport that sends and emits messages."""

    def _messengers(self, *ids: str) -> Sequence[Node]:
        """Nodes that listen for messages; none if their transports have no `send`."""
        nodes = [self._node(id, messages=True) for id in ids]
        return nodes if all(hasattr(node.transport, "send") for node in nodes) else ()

    def test_a_message_arrives_as_it_was_sent(self) -> None:
        """Its sender, deltas and digest, with a header and without, and of every kind; and nothing is emitted beside it."""
        if nodes := self._messengers("a", "b"):
            a, b = nodes
            for message in _messages(a.peer):
                known = len(b.messages)
                a.transport.send(b.peer, message)
                _assert_equal(_received(b, known, message), message)
            assert (a.messages, a.errors, b.errors, b.heard) == ([], [], [], [])

    def test_one_message_may_go_to_many(self) -> None:
        """A round sends the very same object to several peers."""
        if nodes := self._messengers("a", "b", "c", "d"):
            a, *others = nodes
            for message in _messages(a.peer):
                known = {other: len(other.messages) for other in others}
                for other in others:
                    a.transport.send(other.peer, message)
                for other in others:
                    _assert_equal(_received(other, known[other], message), message)

    def test_a_message_can_be_answered_to_its_sender(self) -> None:
        """The sender that came with it leads back, on the thread it came on, and later."""
        if nodes := self._messengers("a", "b"):
            a, b = nodes
            own = Entry("a", 1, a.peer.transport, heartbeat=5)
            answer = Message(b.peer, [Delta("b", "k", "answer", 1, 0)])
            b.transport.on("message", lambda message: b.transport.send(message.sender, answer))
            a.transport.send(b.peer, Message(a.peer, None, Digest(Kind.ROUND, Header(), [own])))
            a.wait_for_messages(1)
            b.transport.send(b.messages[0].sender, answer)
            a.wait_for_messages(2)
            for received in a.messages:
                _assert_equal(received, answer)
            assert (a.errors, b.errors) == ([], [])

    def test_a_message_to_nobody_is_an_error_event_and_no_exception(self) -> None:
        """Neither a listener that has gone nor an address that is none keeps others from hearing of it."""
        if nodes := self._messengers("a", "b"):
            a, b = nodes
            message = Message(a.peer, [Delta("a", "k", 1, 1)])
            for to in (self._gone(), RemotePeer("lost", None), b.peer):
                a.transport.send(to, message)
            b.wait_for_messages(1)
            _assert_equal(b.messages[0], message)
            a.wait_for_errors(2 if self.reports_unreachable else 1)

    def test_a_dial_tells_what_the_system_says_and_the_other_side_nothing(self) -> None:
        """It may be called for any address and at any time; whoever is dialled hears no message, and still gets those sent."""
        if nodes := self._messengers("a", "b"):
            a, b = nodes
            told: list[tuple[Any, ...]] = []
            a.transport.on("link", lambda *args: told.append(args))
            dial = getattr(a.transport, "dial", lambda to: None)
            message = Message(a.peer, [Delta("a", "k", 1, 1)])
            for count in (1, 2):
                for to in (b.peer, self._gone(), RemotePeer("lost", None)):
                    dial(to)
                a.transport.send(b.peer, message)
                b.wait_for_messages(count)
            a.transport.close()
            dial(b.peer)
            for received in b.messages:
                _assert_equal(received, message)
            for peer, what in told:
                assert isinstance(peer, RemotePeer), f"a link is of a RemotePeer, got {peer!r}"
                assert what in ("accepted", "refused", "ended"), f"{what!r} is none of the three words for a link"
            assert (a.errors, b.errors, len(b.messages)) == ([], [], 2)

    def test_a_timer_calls_once_after_its_time_unless_it_is_cancelled(self) -> None:
        """It takes no argument, needs a `start`, and may be cancelled before that, afterwards, and more than once."""
        if nodes := self._messengers("a"):
            make = getattr(nodes[0].transport, "timer", threading.Timer)
            called, never = threading.Semaphore(0), threading.Event()
            late, soon, cancelled = make(3_600.0, never.set), make(0.001, called.release), make(0.001, never.set)
            cancelled.cancel()
            for timer in (late, cancelled, soon):
                timer.start()
            assert called.acquire(timeout=self.patience), "the function was not called"
            for timer in (late, soon, soon):
                timer.cancel()
            again = make(0.001, called.release)
            again.start()
            assert called.acquire(timeout=self.patience), "the function of a second timer was not called"
            assert not called.acquire(blocking=False), "a function was called twice"
            assert not never.is_set(), "what was cancelled, or is not due, was called"


def _messages(sender: RemotePeer) -> list[Message]:
    """Return messages with all that there may be in one, each so short that no transport has to split a list in it."""
    at = sender.transport
    own = Entry(sender.id, 20, at, heartbeat=9, floor=3, interval=30_000)
    others = [
        Entry(TEXT, 7, at),
        Entry("c", 7, at, heartbeat=0, floor=7, heard=9),
        Entry("d", 0, at, heartbeat=5, left=True, age=1),
    ]
    deltas = [Delta(sender.id, "k", {"a": [1, None, 0.5]}, 10), Delta(TEXT, "é", "v", 30, 20), Delta("c", "", None, 40, 30, 5)]
    compact = Compact("finger+/", b"\x00\x01\xfe\xff")
    header = Header([1.5, 0.25, -3.0], compact, [["c", 5]], True, TEXT, [["d", 7]])
    return [
        Message(sender, deltas),
        Message(sender, None, Digest(Kind.ROUND, None, [])),
        Message(sender, None, Digest(Kind.ROUND, None, [*others, own._replace(heartbeat=-1)])),
        *(Message(sender, None, Digest(kind, Header(), [*others, own])) for kind in Kind if kind is not Kind.FAREWELL),
        Message(sender, None, Digest(Kind.FAREWELL, Header(), [own._replace(left=True)])),
        Message(sender, deltas, Digest(Kind.REPLY, header, [*others, own])),
    ]


def _received(node: Node, known: int, sent: Message) -> Message:
    """Wait for what comes after so many messages; return it as one. The digest may have come after the deltas."""
    node.wait_for_messages(known + 1)
    first = node.messages[known]
    if sent.deltas is None or sent.digest is None or first.digest is not None:
        return first
    node.wait_for_messages(known + 2)
    return first._replace(digest=node.messages[known + 1].digest)


def _facts(message: Message) -> dict[str, Any]:
    header = message.digest and message.digest.header
    return {
        "sender": RemotePeer(message.sender.id, message.sender.transport),
        "deltas": None if message.deltas is None else as_lists(message.deltas),
        "kind": message.digest and message.digest.kind,
        "entries": None if message.digest is None else as_dicts(message.digest),
        "has a header": header is not None,
        "flow": header and header.flow and [*header.flow],
        "compact digest": header and header.compact,
        "hints": header and header.hints and [[*hint] for hint in header.hints],
        "ask": header and header.ask,
        "cluster": header and header.cluster,
        "forget": header and header.forget and [[*order] for order in header.forget],
    }


def _assert_equal(received: Message, sent: Message) -> None:
    for (name, got), wanted in zip(_facts(received).items(), _facts(sent).values(), strict=True):
        assert got == wanted, f"{name}: {wanted!r} was sent, {got!r} came"
