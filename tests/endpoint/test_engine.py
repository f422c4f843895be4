"""The engine: what fails in the middle of something ends nothing, and an update that has taken effect is not refused."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from unittest import mock

import pytest

from gossipmonger import Gossipmonger, MemoryStorage, Peer, SendError, TcpTransport, UdpTransport
from gossipmonger.endpoint.worker import Worker
from gossipmonger.simulation import Simulation
from gossipmonger.state.log import Log
from gossipmonger.transport.tcp import links
from gossipmonger.transport.tcp import transport as tcp
from gossipmonger.transport.udp import transport as udp

from ..forks import LOCAL, make, start

Refuse = Callable[[], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refuse]:
    """Have no thread started from now on, as in a container that is at its limit."""

    def no(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        yield lambda: patch.setattr(threading.Thread, "start", no)


def test_a_node_that_has_been_started_needs_no_more_threads(refuse: Refuse) -> None:
    told, heard = threading.Event(), threading.Event()
    with closing(start(make("b"))) as other, closing(make("a", other)) as node:
        start(node)
        node.on("new peer", lambda peer: told.set())
        assert told.wait(10)
        refuse()
        other.on("update", lambda id, key, value: heard.set())  # its first event
        node.gossip()
        assert node.update("k", 1) is True
        assert heard.wait(10)
        assert other.get("a", "k") == 1
        node.stop()


def test_timers_of_the_program_do_not_give_a_node_longer_to_close() -> None:
    node = Gossipmonger({"id": "a", "transport": LOCAL}, timer=lambda seconds, function: threading.Timer(seconds, function))
    with closing(node):
        node._engine.hand_on(None, 0.0)  # long past
        assert node._engine._carrier.linger == 0.0


def test_gossip_says_that_there_is_no_thread_and_begins_nothing(refuse: Refuse) -> None:
    node = Gossipmonger({"id": "a", "transport": LOCAL})
    refuse()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        node.gossip()
    assert node.update("k", 1) is True
    node.close()
    assert node.wait(0)


def test_a_timer_of_another_kind_goes_on_after_a_time_without_threads() -> None:
    sim = Simulation(seed=1)
    refused = False
    node = sim.add("a", gossip=False)
    node.on("error", lambda error: None)
    make_timer = node.options.timer

    def timer(seconds: float, function: Callable[[], None]) -> Any:
        if refused:
            raise RuntimeError("can't start new thread")
        return make_timer(seconds, function)

    node._engine._round_timer._make = timer
    node.gossip()
    refused = True
    sim.run(3_000)
    stopped = node.local_peer.heartbeat
    refused = False
    sim.add("b", seeds=["a"])  # whose message sets the rounds going again
    sim.run(10_000)
    assert node.local_peer.heartbeat > stopped + 3
    sim.close()


def test_an_update_that_has_taken_effect_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = Simulation(seed=2)
    node, other = sim.add("a"), sim.add("b", seeds=["a"])
    sim.run(2_000)
    errors: list[Exception] = []
    node.on("error", errors.append)
    failure = OSError("full")

    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(node._protocol, "spread", fail)
        assert node.update("k", 1) is True
        patch.setattr(node._engine._rumor_timer, "arm_by", fail)
        patch.undo()
        patch.setattr(node.transport, "send", fail)
        assert node.update("l", 1) is True
    assert set(errors) == {failure}
    sim.run(5_000)
    assert dict(other.peer("a").data) == {"k": 1, "l": 1}  # type: ignore[union-attr]
    sim.close()


@pytest.mark.parametrize("former", [{}, {"k": 1}])
def test_an_update_that_is_refused_has_not_taken_effect(former: dict[str, int]) -> None:
    class Full(MemoryStorage):
        full = False

        def put(self, id: str, peer: Peer) -> None:
            if self.full:
                raise OSError("full")
            super().put(id, peer)

    storage = Full()
    node = Simulation(seed=3).add("a", storage=storage, gossip=False)
    for key, value in former.items():
        node.update(key, value)
    storage.full = True
    calls: list[Callable[[], object]] = [lambda: node.update("k", 2), lambda: node.delete("k")]
    for call in calls if former else calls[:1]:
        with pytest.raises(OSError, match="full"):
            call()
    storage.full = False
    assert dict(node.peer("a").data) == former  # type: ignore[union-attr]
    node.local_peer._check()
    node.close()


@pytest.mark.parametrize(("kind", "module"), [(TcpTransport, links), (UdpTransport, udp)])
def test_a_lack_of_memory_while_a_message_is_read_is_an_error_like_any_other(
    monkeypatch: pytest.MonkeyPatch, kind: type[Any], module: Any
) -> None:
    failed, heard = threading.Event(), threading.Event()
    with (
        closing(start(make("b", udp=kind is UdpTransport))) as other,
        closing(make("a", other, udp=kind is UdpTransport)) as node,
    ):
        node.on("update", lambda *_: heard.set())
        node.on("error", lambda error: failed.set() if isinstance(error, MemoryError) else None)
        start(node)
        other.update("k", 0)
        assert heard.wait(10)
        with monkeypatch.context() as patch:
            patch.setattr(module, "decode", lambda *_, **__: exec("raise MemoryError"))
            patch.setattr(tcp, "decode", lambda *_, **__: exec("raise MemoryError"))
            assert failed.wait(10)
        heard.clear()
        other.update("k", 1)
        assert heard.wait(10)


def test_an_exception_in_the_midst_of_a_write_leaves_a_node_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = Simulation(seed=4)
    node, other = sim.add("a"), sim.add("b", seeds=["a"])
    node.update("k", 1)
    sim.run(2_000)
    write = Log.write

    def cut_short(self: Log, key: str, value: Any, version: int, default: Any = None) -> Any:
        self._versions.append(version)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Log, "write", cut_short)
        with pytest.raises(KeyboardInterrupt):
            node.update("k", 2)
    assert Log.write is write
    assert node.get("a", "k") == 1
    node.local_peer._check()
    assert node.update("k", 3) is True
    sim.run(5_000)
    assert other.get("a", "k") == 3
    sim.close()


def test_after_the_main_thread_has_ended_a_node_goes_on() -> None:
    program = """if True:
        import threading, time
        from tests.forks import make, start
        b = start(make("b"))
        heard = threading.Event()
        b.on("update", lambda *_: heard.set())
        a = start(make("a", b))
        def work():
            threading.main_thread().join()
            while not heard.is_set():
                a.update("k", time.time())
                heard.wait(0.1)
            print("well")
            a.close(); b.close()
        threading.Thread(target=work).start()
    """
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("well\n", "")


def test_a_peer_that_cannot_be_reached_ends_nothing() -> None:
    failed = threading.Event()
    nowhere = {"id": "b", "transport": {"host": "127.0.0.1", "port": 1}}
    node = Gossipmonger({"id": "a", "transport": LOCAL}, seeds=[nowhere], gossip_interval=20)
    node.on("error", lambda error: failed.set() if isinstance(error, SendError) else None)
    with closing(start(node)):
        assert failed.wait(10)
        failed.clear()
        assert failed.wait(10)


def test_a_port_is_told_though_there_was_no_thread_for_events_when_it_was_bound(refuse: Refuse) -> None:
    with closing(make("a")) as node:
        errors: list[Exception] = []
        node.on("error", errors.append)
        node.transport.begin()
        with mock.patch.object(Worker, "start", side_effect=RuntimeError("can't start new thread")):
            node.transport.listen()
        assert node.local_peer.transport["port"] == node.transport.port > 0
