"""The simulated network: the transport contract over it, and what it does to messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from gossipmonger.errors import MessageError, SendError
from gossipmonger.state import Delta, ExtendedPeer, Message, RemotePeer
from gossipmonger.testing.transport import TransportContract
from gossipmonger.transport import Network, SimulatedTransport
from gossipmonger.wire import encode
from gossipmonger.wire.compression import deflate
from tests.recorder import Recorder

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
    assert [(2 <= milliseconds <= 9, host) for milliseconds, host, _ in queue] == [(True, "b")]
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
