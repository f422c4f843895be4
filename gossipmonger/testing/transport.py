"""The transport contract: what an endpoint relies on in a transport, one test for each promise, to run over your own.

It needs pytest to collect it, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gossipmonger.state import ExtendedPeer, RemotePeer
from gossipmonger.state.values import MAX_NESTING, copied, same
from gossipmonger.testing.messages import MessagePromises
from gossipmonger.testing.samples import TEXT, VALUES

__all__ = ["TransportContract"]

#: Microseconds of a clock, which is what versions start at.
_VERSION = 1_700_000_000_000_000

#: What peers may call their address, and is none of any transport that has been heard of.
_NO_ADDRESSES: tuple[Any, ...] = (None, False, -1, TEXT, [], {}, {"host": None, "port": None}, [{}])


class TransportContract(MessagePromises):
    """The promises of a `gossipmonger.Transport`, including `listen`, `address` and `close`.

    It tests the methods and events of the Node.js package's transports, and those of `Transport` if there is a `send`. So it
    also suits a transport that has only the former.

    Subclass it under a name that pytest collects, and return a new transport from `make_transport`: one that does not listen
    yet, and that `listen()` binds to an address of its own::

        from gossipmonger import TcpTransport
        from gossipmonger.testing.transport import TransportContract


        class TestTcpTransport(TransportContract):
            def make_transport(self):
                return TcpTransport(host="127.0.0.1", port=0)

    What else a test needs, such as a directory of certificates, an autouse fixture can put on `self` before `make_transport`
    is called. All transports of one test must reach each other. They are closed at its end, whatever its outcome.

    Attributes:
        patience: Seconds that a test waits for what has to happen. What does happen costs no waiting, so it can be long.
        big_message: Characters in the one big message; lower it for a transport that carries less.
        reports_unreachable: Whether a message to a listener that has gone ends in an `error` event. A transport that cannot
            know, as with plain datagrams, sets it to False; the other promises about such a message hold all the same.
    """

    # Listening

    def test_listen_emits_listening_and_calls_back(self) -> None:
        """Each once, and nothing else; the callback may be the second argument or, as in Node, the only one."""
        for arguments in (lambda call: (None, call), lambda call: (call,), lambda call: ()):
            node, called = self._node(listen=False), threading.Semaphore(0)
            listening = threading.Semaphore(0)
            node.transport.on("listening", listening.release)
            node.transport.listen(*arguments(called.release))
            assert listening.acquire(timeout=self.patience), "no event `listening`"
            assert not arguments(called.release) or called.acquire(timeout=self.patience), "the callback was not called"
            node.transport.close()
            assert not listening.acquire(blocking=False), "the event `listening` came twice"
            assert not called.acquire(blocking=False), "the callback was called twice"
            assert (node.heard, node.errors) == ([], [])

    def test_the_address_is_known_once_it_listens(self) -> None:
        """It is a JSON value, since peers are told it, it stays, and it is not that of another."""
        one, other = self._node("a"), self._node("b")
        address = one.peer.transport
        assert address is not None
        assert same(copied(address), address)
        assert same(one.peer.transport, address)
        assert not same(other.peer.transport, address)

    def test_listen_again_raises_and_it_goes_on(self) -> None:
        """The caller made a mistake and is told so; who knows the address still reaches it."""
        a, b = self._node("a"), self._node("b")
        address = b.peer.transport
        assert _raises(b.transport.listen), "listen did not raise, the second time"
        assert same(b.peer.transport, address)
        a.send_deltas(b, [["a", "k", 1, 1]])
        b.wait_for_deltas(1)

    def test_listen_after_close_raises(self) -> None:
        """What is closed stays closed, whether it has listened before or not."""
        for listened in (True, False):
            node = self._node(listen=listened)
            node.transport.close()
            assert _raises(node.transport.listen), "listen did not raise after close"

    # What arrives

    def test_a_digest_arrives_as_it_was_sent(self) -> None:
        """Every entry in its place, with all that an entry may tell."""
        a, b = self._node("a"), self._node("b")
        digest = [
            {"id": "a", "maxVersionSeen": 0, "transport": a.peer.transport},
            {"id": TEXT, "maxVersionSeen": _VERSION, "transport": b.peer.transport},
            {"id": "c", "maxVersionSeen": 7, "transport": b.peer.transport, "floor": 3, "heartbeat": 5, "left": True},
            {"id": "d", "maxVersionSeen": 7, "transport": b.peer.transport, "heard": 9, "heartbeat": 0},
        ]
        a.transport.digest(b.peer, a.peer, digest)
        b.wait_for(1)
        assert b.heard == [("digest", a.peer, digest)]
        assert (a.errors, b.errors) == ([], [])

    def test_deltas_arrive_as_they_were_sent(self) -> None:
        """Every kind of JSON value, any text as id and key, the deepest nesting, and a fifth and a sixth element."""
        a, b = self._node("a"), self._node("b")
        deep: Any = "deep"
        for _ in range(MAX_NESTING):
            deep = [deep]
        sent = [
            ["a", f"k{version}", value, version] for version, value in enumerate((*VALUES.values(), [TEXT, {TEXT: TEXT}], deep))
        ]
        sent += [[TEXT, TEXT, "v", _VERSION], ["b", "", "v", 7, 5], ["b", "k", "v", 8, 7, 3]]
        a.send_deltas(b, sent)
        b.wait_for_deltas(len(sent))
        for arrived, delta in zip(b.deltas, sent, strict=True):
            assert same(arrived, delta), f"{arrived!r} arrived, {delta!r} was sent"
        assert (a.errors, b.errors) == ([], [])

    def test_an_exchange_arrives_as_deltas_and_then_a_digest(self) -> None:
        """The optional third method: whoever does not listen for the event `exchange` hears both parts, in this order."""
        a, b = self._node("a"), self._node("b")
        if not hasattr(a.transport, "exchange"):
            return
        digest = [{"id": "a", "maxVersionSeen": 1, "transport": a.peer.transport, "reply": True, "heartbeat": 5}]
        a.transport.exchange(b.peer, a.peer, [["a", "k", 1, 1, 0]], digest)
        b.wait_for(2)
        assert b.heard == [("deltas", a.peer, [["a", "k", 1, 1, 0]]), ("digest", a.peer, digest)]
        assert (a.errors, b.errors) == ([], [])

    def test_the_sender_arrives_unaltered(self) -> None:
        """Its id and address are what the sender says they are, not what the connection looks like."""
        a, b, elsewhere = self._node("a"), self._node("b"), self._node("elsewhere")
        sender = RemotePeer(TEXT, elsewhere.peer.transport)
        a.transport.digest(b.peer, sender, [])
        b.wait_for(1)
        a.transport.deltas(b.peer, sender, [["a", "k", 1, 1]])
        b.wait_for(2)
        assert [(kind, remote) for kind, remote, _ in b.heard] == [("digest", sender), ("deltas", sender)]

    def test_a_big_message_arrives(self) -> None:
        """One value of `big_message` characters, each of several bytes. To a peer that can read that it may be compressed."""
        a, b = self._node("a"), self._node("b")
        value = ("x" + "é😀" * self.big_message)[: self.big_message]
        for count, kind in enumerate((RemotePeer, ExtendedPeer), 1):
            a.transport.deltas(kind(*b.peer), a.peer, [["a", "k", value, count]])
            b.wait_for_deltas(count)
            assert b.deltas[-1] == ["a", "k", value, count]
        assert (a.errors, b.errors) == ([], [])

    def test_deltas_arrive_in_their_order(self) -> None:
        """A replica takes deltas in ascending version: one that came before a lower one would hide it."""
        a, b = self._node("a"), self._node("b")
        sent = [["a", f"k{version % 7}", version, version] for version in range(1_000)]
        a.send_deltas(b, sent)
        b.wait_for_deltas(len(sent))
        for _, _, deltas in b.heard:  # a transport may split them over messages
            assert deltas == sorted(deltas, key=lambda delta: int(delta[3]))
        assert sorted(b.deltas, key=lambda delta: int(delta[3])) == sent

    def test_messages_go_both_ways(self) -> None:
        """Both nodes send and receive, at the same time."""
        a, b = self._node("a"), self._node("b")
        for one, other in ((a, b), (b, a)):
            one.send_deltas(other, [[one.peer.id, "k", 1, 1]])
        for one, other in ((a, b), (b, a)):
            one.wait_for(1)
            assert one.heard == [("deltas", other.peer, [[other.peer.id, "k", 1, 1]])]

    def test_a_handler_can_answer(self) -> None:
        """It sends to the remote peer that came with the message: on the thread it came on, more than once, and later."""
        a, b = self._node("a"), self._node("b")
        callers: list[RemotePeer] = []

        def answer(remote: RemotePeer, _: Any) -> None:
            callers.append(remote)
            for version in (1, 2):
                b.transport.deltas(remote, b.peer, [["b", "k", "answer", version]])

        b.transport.on("digest", answer)
        a.transport.digest(b.peer, a.peer, [])
        a.wait_for(2)
        b.transport.deltas(callers[0], b.peer, [["b", "k", "late", 3]])
        a.wait_for(3)
        assert sorted(delta[2:] for delta in a.deltas) == [["answer", 1], ["answer", 2], ["late", 3]]
        assert ([remote for _, remote, _ in a.heard], a.errors, b.errors) == ([b.peer] * 3, [], [])

    def test_messages_of_eight_threads_all_arrive(self) -> None:
        """Any thread may send, several at once; messages are neither lost nor mixed."""
        a, b = self._node("a"), self._node("b")
        start = threading.Barrier(8)

        def send(thread: int) -> None:
            start.wait(self.patience)
            for version in range(5):
                a.send_deltas(b, [[f"thread {thread}", "k", "x" * 1_000, version]])

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(send, range(8)))
        b.wait_for_deltas(40)
        expected = [[f"thread {thread}", "k", "x" * 1_000, version] for thread in range(8) for version in range(5)]
        assert sorted(b.deltas, key=lambda delta: (delta[0], delta[3])) == expected
        assert (a.errors, b.errors) == ([], [])

    # What does not arrive

    def test_sending_to_nobody_is_an_error_event_and_no_exception(self) -> None:
        """A round of gossip goes on; other peers still hear from it."""
        a, b = self._node("a"), self._node("b")
        gone = self._gone()
        a.transport.digest(gone, a.peer, [])
        a.transport.deltas(gone, a.peer, [["a", "k", 1, 1]])
        a.send_deltas(b, [["a", "k", 1, 1]])
        b.wait_for_deltas(1)
        if self.reports_unreachable:
            a.wait_for_errors(1)
        assert all(isinstance(error, Exception) for error in a.errors)

    def test_sending_to_what_is_no_address_is_an_error_event_and_no_exception(self) -> None:
        """Addresses come in from other nodes, so anything that JSON can carry may be one."""
        a, b = self._node("a"), self._node("b")
        for address in _NO_ADDRESSES:
            known = len(a.errors)
            a.transport.digest(RemotePeer("lost", address), a.peer, [])
            a.transport.deltas(RemotePeer("lost", address), a.peer, [["a", "k", 1, 1]])
            if self.reports_unreachable or type(address) is not str:  # text may be an address, of nobody
                a.wait_for_errors(known + 2)
        a.send_deltas(b, [["a", "k", 1, 1]])
        b.wait_for_deltas(1)
        assert all(isinstance(error, Exception) for error in a.errors)

    def test_sending_waits_for_no_receiver(self) -> None:
        """It returns though the other side's handler has not; the message waits, or is on its way."""
        a, b = self._node("a"), self._node("b")
        sent, in_time = threading.Event(), threading.Semaphore(0)

        def wait(*_: Any) -> None:
            if sent.wait(self.patience):
                in_time.release()

        b.transport.on("deltas", wait)
        for version in range(10):
            a.send_deltas(b, [["a", "k", "x" * 10_000, version]])
        sent.set()
        b.wait_for_deltas(10)
        for _ in range(10):
            assert in_time.acquire(timeout=self.patience), "a handler was still waited for while its sender sent"

    # Closing

    def test_close_calls_back_and_may_be_called_again(self) -> None:
        """Each callback is called once, the later ones' too; without one, and without having listened, it closes as well."""
        for listened in (True, False):
            node = self._node(listen=listened)
            first, second = threading.Semaphore(0), threading.Semaphore(0)
            node.transport.close(first.release)
            assert first.acquire(timeout=self.patience), "the callback was not called"
            node.transport.close()
            node.transport.close(second.release)
            assert second.acquire(timeout=self.patience), "the callback of a later close was not called"
            assert not first.acquire(blocking=False), "the callback was called twice"
            assert (node.heard, node.errors) == ([], [])

    def test_close_can_be_called_from_a_handler(self) -> None:
        """More than once; it raises nothing there, calls back, and ends all threads, the handler's own last."""
        before = set(threading.enumerate())
        a, b = self._node("a"), self._node("b")
        called = threading.Semaphore(0)

        def close(*_: Any) -> None:
            b.transport.close()
            b.transport.close(called.release)

        b.transport.on("deltas", close)
        a.send_deltas(b, [["a", "k", 1, 1]])
        assert called.acquire(timeout=self.patience), "close did not return, or did not call back"
        b.transport.close()
        a.transport.close()
        assert b.errors == []
        assert self._left_since(before) == []

    def test_nothing_is_emitted_after_close(self) -> None:
        """Neither what others send, nor the failure of what it is asked to send; nor does any of the latter arrive."""
        a, b = self._node("a"), self._node("b")
        gone, to = self._gone(), b.peer
        for version in range(40):
            a.transport.deltas(to, a.peer, [["a", "k", version, version]])
        b.wait_for(1)
        b.transport.close()
        heard, errors = len(b.heard), len(b.errors)
        for version in range(40, 50):
            a.transport.deltas(to, a.peer, [["a", "k", version, version]])
        b.transport.digest(a.peer, RemotePeer("b", to.transport), [])
        for lost in (gone, RemotePeer("lost", None)):
            b.transport.deltas(lost, RemotePeer("b", to.transport), [["b", "k", 1, 1]])
        a.transport.close()  # what it still has to send it has tried by then
        assert (len(b.heard), len(b.errors)) == (heard, errors)
        assert a.heard == []

    def test_close_leaves_no_thread(self) -> None:
        """Whatever ran for it has ended, after messages in both directions and to nobody."""
        before = set(threading.enumerate())
        a, b = self._node("a"), self._node("b")
        a.send_deltas(b, [["a", "k", 1, 1]])
        b.send_deltas(a, [["b", "k", 1, 1]])
        a.transport.digest(self._gone(), a.peer, [])
        a.wait_for_deltas(1)
        b.wait_for_deltas(1)
        a.transport.close()
        b.transport.close()
        assert self._left_since(before) == []

    def _left_since(self, before: set[threading.Thread]) -> list[str]:
        """The names of threads that were not there before and do not end. One at its end has a moment for it."""
        new = [thread for thread in threading.enumerate() if thread not in before]
        for thread in new:
            thread.join(self.patience)
        return [thread.name for thread in new if thread.is_alive()]


def _raises(call: Callable[[], None]) -> bool:
    try:
        call()
    except Exception:
        return True
    return False
