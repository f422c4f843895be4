"""The simulated network: the transport contract over it, and what it does to messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from gossipmonger import Keyring
from gossipmonger.errors import MessageError, SendError
from gossipmonger.state import Delta, ExtendedPeer, Message, RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import Network, SimulatedTransport
from gossipmonger.wire import encode
from gossipmonger.wire.compression import deflate
from tests.recorder import Recorder
from tests.wire.test_sealing import ONE

MESSAGE = Message(RemotePeer("a", {"host": "a", "port": 9742}), [Delta("a", "k", "v" * 1_000, 1)])


class TestContract(TransportContract):
    reports_unreachable = False  # a host that has gone says nothing

    network: Network
    hosts: int

    @pytest.fixture(autouse=True)
    def a_network(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(int).result()  # the network's thread is none of a transport's
            self.network = Network(lambda milliseconds, host, call: void(thread.submit(call)), Random(7))
            self.hosts = 0
            yield

    def make_transport(self) -> SimulatedTransport:
        self.hosts += 1
        return SimulatedTransport(self.network, f"host {self.hosts}")


class TestSealedContract(TestContract):
    def make_transport(self) -> SimulatedTransport:
        transport = super().make_transport()
        transport.keyring, transport.cluster = Keyring([ONE]), "prod"
        return transport


def void(_: object) -> None:
    pass


class Queue(list[tuple[float, str, Callable[[], None]]]):
    """What is to be called later, and when; `run` calls it all."""

    def __call__(self, milliseconds: float, host: str, call: Callable[[], None]) -> None:
        self.append((milliseconds, host, call))

    def run(self) -> None:
        while self:
            self.pop(0)[2]()


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def network(queue: Queue) -> Network:
    return Network(queue, Random(7), latency=(2, 9))


def listening(network: Network, host: str, **options: Any) -> SimulatedTransport:
    transport = SimulatedTransport(network, host, **options)
    transport.listen()
    return transport


def to(transport: SimulatedTransport, kind: type[RemotePeer] = RemotePeer) -> RemotePeer:
    return kind(transport.host, transport.address)


def test_a_message_takes_its_latency_and_is_counted(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    heard = Recorder(b)
    a.send(to(b), MESSAGE)
    assert heard.heard == []
    assert [(2 <= milliseconds <= 9, host) for milliseconds, host, _ in queue] == [(True, "a"), (True, "b")]  # dial, message
    queue.run()
    assert heard.values == ["v" * 1_000]
    assert (network.messages, network.bytes) == (1, len(encode(MESSAGE)))


@pytest.mark.parametrize(
    ("kind", "above", "deflated"), [(ExtendedPeer, 100, True), (ExtendedPeer, None, False), (RemotePeer, 100, False)]
)
def test_only_who_can_read_that_is_sent_deflated_messages(
    network: Network, queue: Queue, kind: Any, above: Any, deflated: bool
) -> None:
    a, b = listening(network, "a", compress_above=above), listening(network, "b")
    heard = Recorder(b)
    a.send(to(b, kind), MESSAGE)
    queue.run()
    assert network.bytes == len(deflate(encode(MESSAGE)) if deflated else encode(MESSAGE))
    assert heard.values == ["v" * 1_000]


def test_what_is_lost_or_doubled_or_cut_off(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    heard = Recorder(b)

    def arrived() -> int:
        before = len(heard.heard)
        a.send(to(b), MESSAGE)
        queue.run()
        return len(heard.heard) - before

    network.duplication = 1
    assert arrived() == 2
    network.duplication, network.loss = 0, 1
    assert arrived() == 0
    network.loss = 0
    network.partition(["a"])
    assert arrived() == 0
    network.heal()
    assert arrived() == 1
    a.send(to(b), MESSAGE)
    network.partition(["b"])  # while it is on its way
    queue.run()
    assert len(heard.heard) == 3


def test_a_host_is_there_once(network: Network) -> None:
    listening(network, "a")
    with pytest.raises(OSError, match="can't listen at a: there is such a host"):
        listening(network, "a")


def test_what_cannot_be_sent_or_read_is_one_error(network: Network) -> None:
    transport = listening(network, "a")
    heard = Recorder(transport)
    transport.send(RemotePeer("lost", None), MESSAGE)
    transport.send(to(transport), Message(MESSAGE.sender, [Delta("a", "k", object(), 1)]))
    transport.receive(b"rubbish", "z")
    assert [type(error) for error in heard.errors] == [SendError, TypeError, MessageError]
    assert str(heard.errors[0]) == "can't send to peer 'lost': its transport must be a mapping with a host and a port, got None"
    assert "message from z refused" in str(heard.errors[2])


# What the kernel tells


def links(transport: SimulatedTransport) -> list[tuple[str, str]]:
    """What a transport tells from now on, of whom."""
    told: list[tuple[str, str]] = []
    transport.on("link", lambda peer, what: told.append((peer.id, what)))
    return told


def test_the_first_message_dials_and_the_others_use_the_link(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    told, heard = links(a), Recorder(b)
    for _ in range(2):
        a.send(to(b), MESSAGE)
        queue.run()
    assert told == [("b", "accepted")]
    assert len(heard.heard) == 2


def test_an_answer_goes_back_on_the_link_even_to_who_refuses_dials(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    network.refuses = lambda source, host: host == "a"  # type: ignore[method-assign]
    told, heard = links(b), Recorder(a)
    b.on("message", lambda message: b.send(message.sender, MESSAGE))
    a.send(to(b), MESSAGE)
    queue.run()
    assert len(heard.heard) == 1
    assert told == []
    b.send(to(a), MESSAGE)
    queue.run()
    assert told == [("a", "refused")]
    assert len(heard.heard) == 1


def test_a_dial_is_not_kept(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    told = links(a)
    for _ in range(2):
        a.dial(to(b))
        queue.run()
    network.end_links("b")
    queue.run()
    assert told == [("b", "accepted")] * 2


def test_who_closes_refuses_from_then_on_and_nobody_is_told_of_links(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    told = links(a)
    a.send(to(b), MESSAGE)
    queue.run()
    b.close()
    queue.run()
    assert told == [("b", "accepted")]
    a.send(to(b), MESSAGE)
    a.dial(to(b))
    queue.run()
    assert told[1:] == [("b", "refused")] * 2
    listening(network, "b")
    a.dial(to(b))
    queue.run()
    assert told[-1] == ("b", "accepted")


def test_links_end_once(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    told = links(a)
    a.send(to(b), MESSAGE)
    queue.run()
    for _ in range(2):
        network.end_links("b")
        queue.run()
    assert told == [("b", "accepted"), ("b", "ended")]


def test_who_is_silent_was_never_there_or_is_cut_off_tells_nothing(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    told = links(a)
    a.send(to(b), MESSAGE)
    queue.run()
    network.partition(["b"])
    network.end_links("b")
    a.dial(to(b))
    queue.run()
    network.heal()
    network.loss = 1
    a.dial(to(b))
    network.loss = 0
    network.detach("b", b, silent=True)
    a.dial(to(b))
    a.send(to(b), MESSAGE)
    a.dial(RemotePeer("z", {"host": "z", "port": 1}))
    a.dial(RemotePeer("lost", None))
    queue.run()
    assert told == [("b", "accepted")]


def test_who_has_closed_is_told_nothing_and_dials_nobody(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    told = links(a)
    a.dial(to(b))
    a.close()
    a.dial(to(b))
    queue.run()
    assert told == []


def test_who_comes_back_has_no_links_of_its_former_life(network: Network, queue: Queue) -> None:
    a, b = listening(network, "a"), listening(network, "b")
    a.send(to(b), MESSAGE)
    queue.run()
    a.close()
    told = links(listening(network, "a"))
    network.end_links("b")
    queue.run()
    assert told == []
