"""The endpoint: its API, its events, its errors, on a virtual clock where time matters and on threads where these do."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from pyee.base import EventEmitter

from gossipmonger import ClosedError, Gossipmonger, MemoryStorage, Peer, RemotePeer, TcpTransport
from gossipmonger.errors import Reporter
from gossipmonger.simulation import Simulation
from gossipmonger.state.message import Delta, Message

from ..inline_executor import InlineExecutor

Unheard = list[BaseException]


class Deaf(EventEmitter):
    """A transport that only has the seed's names, and reaches nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, Any, Any, Any]] = []

    def digest(self, remote_peer: Any, local_peer: Any, digest_to_send: Any) -> None:
        self.sent.append(("digest", remote_peer, local_peer, digest_to_send))

    def deltas(self, remote_peer: Any, local_peer: Any, deltas_to_send: Any) -> None:
        self.sent.append(("deltas", remote_peer, local_peer, deltas_to_send))


class Broken(MemoryStorage):
    """A storage whose disk is full, once it is told so."""

    error: Exception | None = None

    def put(self, id: str, peer: Peer) -> None:
        if self.error:
            raise self.error
        super().put(id, peer)

    def live_peers(self) -> list[Peer]:
        if self.error:
            raise self.error
        return super().live_peers()


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> Unheard:
    """What was reported."""
    seen: Unheard = []
    monkeypatch.setattr(Reporter, "report", lambda _, error: seen.append(error))
    return seen


@pytest.fixture
def make() -> Iterator[Callable[..., Gossipmonger]]:
    """Make endpoints that run handlers inline, and close them."""
    made: list[Gossipmonger] = []

    def make(id: str = "a", info: dict[str, Any] | None = None, **options: Any) -> Gossipmonger:
        options = {"transport": Deaf(), "executor": InlineExecutor(), **options}
        made.append(Gossipmonger({"id": id, "transport": "here", **(info or {})}, options))
        return made[-1]

    yield make
    for node in made:
        node.close()


def heard(node: Gossipmonger, *names: str) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []
    for name in names:
        node.on(name, lambda *args, name=name: seen.append((name, *args)))  # type: ignore[call-overload]
    return seen


ENTRY_B = {"id": "b", "maxVersionSeen": 0, "transport": "there"}
B = RemotePeer("b", "there")


# Clusters on the virtual clock


def test_what_one_node_sets_all_nodes_know() -> None:
    sim = Simulation(seed=1)
    nodes = [sim.add(f"n{index}", seeds=["n0"]) for index in range(5)]
    updates = heard(nodes[4], "update")
    for node in nodes:
        node.update("hello", {"from": node.local_peer.id})
    sim.run(10_000)
    for node in nodes:
        peers = node.peers()
        assert sorted(peers) == [f"n{index}" for index in range(5)]
        assert all(peer.data == {"hello": {"from": id}} for id, peer in peers.items())
        assert all(peer.state == "live" for peer in peers.values())
        assert node.get("n3", "hello") == {"from": "n3"}
    assert sorted(id for _, id, _, _ in updates) == ["n0", "n1", "n2", "n3"]  # its own updates are none of its events


def test_a_node_that_ends_is_seen_dead_and_seen_live_when_it_is_back() -> None:
    sim = Simulation(seed=2)
    a = sim.add("a")
    sim.add("b", seeds=["a"])
    seen = heard(a, "new peer", "peer dead", "peer live")
    sim.run(20_000)
    sim.crash("b")
    sim.run(60_000)
    assert a.peers()["b"].state == "dead"
    sim.restart("b").update("life", 2)
    sim.run(30_000)
    assert [name for name, *_ in seen] == ["new peer", "peer dead", "peer live"]
    assert seen[-1] == ("peer live", RemotePeer("b", {"host": "b", "port": 9742}))
    assert a.get("b", "life") == 2


def test_an_update_of_a_restarted_node_is_heard_and_what_it_does_not_say_again_is_gone() -> None:
    sim = Simulation(seed=3)
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    for key in range(50):
        b.update(f"key{key}", key)
    sim.run(20_000)
    assert a.get("b", "key49") == 49
    sim.restart("b").update("key0", "after")
    sim.run(3_000)
    assert a.peers()["b"].data == {"key0": "after"}


def test_a_deleted_key_is_deleted_everywhere_and_its_deletion_an_event() -> None:
    sim = Simulation(seed=4)
    a, b, c = sim.add("a"), sim.add("b", seeds=["a"]), sim.add("c", seeds=["a"])
    seen = [heard(node, "delete") for node in (a, b, c)]
    assert a.delete("k") is False
    a.update("k", 1)
    a.update("l", 2)
    sim.run(5_000)
    assert c.get("a", "k") == 1
    assert a.delete("k") is True
    assert a.delete("k") is False
    assert a.get("a", "k") is None
    sim.run(5_000)
    for node in (a, b, c):
        assert node.peers()["a"].data == {"l": 2}
    assert seen == [[], [("delete", "a", "k")], [("delete", "a", "k")]]
    a.update("k", "again")
    sim.run(5_000)
    assert c.get("a", "k") == "again"


@pytest.mark.parametrize("call", ["leave", "close"])
def test_who_leaves_is_seen_to_have_left_and_not_to_be_dead(call: str) -> None:
    sim = Simulation(seed=5)
    nodes = [sim.add(f"n{index}", seeds=["n0"]) for index in range(6)]
    sim.run(10_000)
    seen = [heard(node, "peer left", "peer dead", "peer live") for node in nodes[1:]]
    getattr(nodes[0], call)()
    sim.run(5_000)
    gone = ("peer left", RemotePeer("n0", {"host": "n0", "port": 9742}))
    assert seen == [[gone]] * 5
    assert {node.peers()["n0"].state for node in nodes[1:]} == {"left"}
    assert nodes[0].peers()["n0"].state == "left"
    sim.run(60_000)
    assert seen == [[gone]] * 5


def test_who_has_left_is_back_once_it_gossips_again() -> None:
    sim = Simulation(seed=6)
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    sim.run(5_000)
    seen = heard(a, "peer left", "peer live")
    b.leave()
    sim.run(5_000)
    b.gossip()
    sim.run(5_000)
    assert [name for name, _ in seen] == ["peer left", "peer live"]
    assert b.peers()["b"].state == "live"


def test_rounds_follow_each_other_at_the_interval_until_stop() -> None:
    sim = Simulation()
    node = sim.add("a", seeds=["b"], gossip=False, GOSSIP_INTERVAL=200)  # nobody is there to answer
    node.on("error", lambda error: None)
    node.gossip()
    assert sim.messages == 1
    sim.run(1_000)
    assert sim.messages == 6
    node.gossip()  # once more now, and no second series of rounds
    sim.run(1_000)
    assert sim.messages == 12
    node.stop()
    sim.run(1_000)
    assert sim.messages == 12
    node.gossip()
    sim.run(200)
    assert sim.messages == 14


def test_reading_peers_requires_the_lock(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    for call in (lambda: node._engine.known.find("a"), lambda: node._engine.known.snapshot(node.local_peer, 0)):
        with pytest.raises(AssertionError):
            call()


class CountingLock:
    """A lock that counts how often it is taken."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken = 0

    def __enter__(self) -> None:
        self.lock.acquire()
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def locked(self) -> bool:
        return self.lock.locked()


def test_an_update_takes_the_lock_once_and_sends_and_handles_without_it() -> None:
    sim = Simulation(seed=7)
    nodes = [sim.add(f"n{index}", seeds=["n0"]) for index in range(4)]
    node = nodes[0]
    sim.run(10_000)
    node._engine.lock = lock = CountingLock()  # type: ignore[assignment]
    held: list[tuple[str, bool]] = []
    send = node.transport.send

    def watch(to: RemotePeer, message: Any) -> None:
        held.append(("send", lock.locked()))
        send(to, message)

    node.transport.send = watch
    node.on("deltas send", lambda *_: held.append(("handler", lock.locked())))
    assert node.update("k", 1) is True
    assert lock.taken == 1
    assert held == [("send", False)] * 3 + [("handler", False)] * 3
    assert node.update("k", 1) is False
    assert lock.taken == 2
    assert len(held) == 6


def test_an_update_costs_few_calls_beside_the_protocol_and_the_transport() -> None:
    node = Simulation(seed=8).add("a", gossip=False)
    node.gossip()
    calls: list[str] = []

    def count(frame: Any, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and "gossipmonger/endpoint/" in path:
            calls.append(frame.f_code.co_name)

    sys.setprofile(count)
    node.update("k", "v")
    sys.setprofile(None)
    assert len(calls) <= 8, calls


# Own state


def test_update_tells_whether_anything_changed(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    assert [node.update("k", value) for value in (1, 1, 1.0, True, True, None)] == [True, False, False, True, False, True]


def test_values_are_copied_in_and_out(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    value = {"list": [1]}
    node.update("k", value)
    value["list"].append(2)
    node.get("a", "k")["list"].append(3)
    view = node.peer("a")
    assert view is not None
    view.data["k"]["list"].append(4)
    assert node.get("a", "k") == {"list": [1]}
    assert node.update("k", value) is True


def test_a_handler_can_not_change_what_is_known(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    node.on("update", lambda id, key, value: value.append("mine"))
    node.on("deltas receive", lambda remote, deltas: deltas[0][2].append("mine"))
    node.transport.emit("deltas", B, [["b", "k", ["theirs"], 1]])
    assert node.get("b", "k") == ["theirs"]


@pytest.mark.parametrize(
    ("key", "value", "error", "words"),
    [
        (1, "x", TypeError, "^key.* 1"),
        ("__proto__", "x", ValueError, "^key.*'__proto__'"),
        ("k", float("nan"), ValueError, "^value.* nan"),
        ("k", {1: 2}, TypeError, "^value.* key 1"),
        ("k", {1, 2}, TypeError, "^value.* {1, 2}"),
        ("k", {"gossipmonger:deleted": True}, ValueError, "use delete"),
    ],
)
def test_a_bad_update_raises_at_once(
    make: Callable[..., Gossipmonger], key: Any, value: Any, error: type[Exception], words: str
) -> None:
    node = make()
    version = node.local_peer.max_version_seen
    with pytest.raises(error, match=words.replace("{", "[{]")):
        node.update(key, value)
    assert node.local_peer.max_version_seen == version


def test_a_value_that_fits_no_message_is_refused(make: Callable[..., Gossipmonger]) -> None:
    node = make(transport=TcpTransport(max_message_size=10_000))
    assert node.update("k", "x" * 5_000)
    for value in ("x" * 10_000, ["x" * 100] * 100):
        with pytest.raises(ValueError, match=r"^value must fit in a message of 10000 bytes$"):
            node.update("k", value)


@pytest.mark.parametrize("above", [0, None, 5])
def test_the_threshold_of_compression_is_its_transports(above: int | None) -> None:
    node = Gossipmonger({"id": "a"}, COMPRESS_ABOVE=above)  # type: ignore[call-arg]
    assert node.transport.compress_above == above
    node.close()


# Versions never repeat


def test_versions_start_at_the_microseconds_of_the_clock(make: Callable[..., Gossipmonger]) -> None:
    node = make(clock=lambda: 1_700_000_000_123.4)
    assert node.local_peer.max_version_seen == 1_700_000_000_123_400
    node.update("k", 1)
    assert node.local_peer.data == {"k": (1, 1_700_000_000_123_401)}


def test_an_explicit_version_is_taken_as_it_is(make: Callable[..., Gossipmonger]) -> None:
    node = make(info={"maxVersionSeen": 7, "data": {"k": ["v", 3], "l": [1, 5]}})
    assert node.local_peer.max_version_seen == 7
    assert node.local_peer.data == {"k": ("v", 3), "l": (1, 5)}
    node.update("m", 1)
    assert node.local_peer.data["m"] == (1, 8)
    assert make("b", {"max_version_seen": 0}).local_peer.max_version_seen == 0


def test_data_without_a_version_is_as_new_as_this_life(make: Callable[..., Gossipmonger]) -> None:
    node = make(info={"data": {"late": [1, 9], "early": ["v", 3]}}, clock=lambda: 1_000.0)
    assert node.local_peer.data == {"early": ("v", 1_000_001), "late": (1, 1_000_002)}


def test_a_stored_life_goes_on(make: Callable[..., Gossipmonger]) -> None:
    storage = MemoryStorage()
    first = make(storage=storage)
    first.update("k", "kept")
    version = first.local_peer.max_version_seen
    first.close()
    second = make(info={"transport": "moved"}, storage=storage)
    assert second.get("a", "k") == "kept"
    assert second.local_peer.max_version_seen == version
    assert second.peers()["a"].transport == "moved"


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (None, "^peer_info must be a mapping such as .*, got None$"),
        ({"id": "a", "transport": 5}, "^peer_info.transport must be a mapping with host and port, got 5$"),
        ({"id": "a", "transport": {"port": 70000}}, "^peer_info.transport.port must be .* 65535, got 70000$"),
    ],
)
def test_a_bad_peer_info_is_named(info: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Gossipmonger(info)


# Others' state


def test_views_are_snapshots_with_the_local_peer_first(make: Callable[..., Gossipmonger]) -> None:
    now = 1_700_000_000_000.0
    node = make(clock=lambda: now)
    node.transport.emit("deltas", B, [["b", "k", 1, 5]])
    now += 750
    before = node.peers()
    assert list(before) == ["a", "b"]
    assert before["a"] == ("a", "here", "live", 0.0, {}, 0.0, {}, now)
    assert before["b"][:3] == ("b", "there", "live")
    assert before["b"].phi == pytest.approx(0.4343, abs=1e-4)
    assert before["b"][5:] == (0.75, {"k": 5}, now - 750)
    assert node.peer("b") == before["b"]
    assert node.peer("c") is None
    node.transport.emit("deltas", B, [["b", "k", 2, 6]])
    assert before["b"].data == {"k": 1}
    with pytest.raises(TypeError):
        before["b"].data["k"] = 3  # type: ignore[index]


def test_get_falls_back_to_the_default(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    node.update("k", None)
    default: list[int] = []
    assert node.get("a", "k", default) is None
    assert node.get("a", "no such key", default) is default
    assert node.get("no such peer", "k", default) is default


def test_live_and_values_leave_out_the_dead_and_those_that_left() -> None:
    sim = Simulation(seed=5)
    nodes = {id: sim.add(id, seeds=["a"]) for id in "abcd"}
    for id, node in nodes.items():
        node.update("k", [id])
    nodes["b"].update("other", 1)
    sim.run(20_000)
    a = nodes["a"]
    assert a.live()[0] == "a"
    assert sorted(a.live()) == ["a", "b", "c", "d"]
    assert a.values("k") == {id: [id] for id in "abcd"}
    assert a.values("other") == {"b": 1}
    nodes["b"].delete("other")
    sim.crash("c")
    nodes["d"].leave()
    sim.run(60_000)
    assert a.live() == ["a", "b"]
    assert a.values("k") == {"a": ["a"], "b": ["b"]}
    assert a.values("k", live=False) == {id: [id] for id in "abcd"}
    assert a.values("other") == a.values("other", live=False) == {}


def test_values_are_copies_and_the_local_one_is_the_newest(make: Callable[..., Gossipmonger]) -> None:
    node = make(flow_control=True, max_deltas_per_gossip=1, max_exchanges_per_gossip=1, clock=lambda: 1e12)
    value = [1]
    for key in ("k", "l", "m"):
        node.update(key, value)
    assert node.local_peer.get("m") is None  # flow control holds it back
    node.values("m")["a"].append(2)
    assert node.values("m") == {"a": [1]}
    node.delete("m")
    assert node.values("m") == {}


def test_digest_has_the_given_peers_and_the_local_one(make: Callable[..., Gossipmonger]) -> None:
    node = make(info={"maxVersionSeen": 4})
    own = {"id": "a", "maxVersionSeen": 4, "transport": "here", "heartbeat": node.local_peer.heartbeat}
    assert node.digest() == [own]
    assert node.digest([Peer("b", transport="there")]) == [ENTRY_B, own]


# Events


def test_events_have_the_seeds_arguments(make: Callable[..., Gossipmonger]) -> None:
    node = make(info={"maxVersionSeen": 0})
    node.update("own", 1)
    names = ("new peer", "update", "unknown peer", "digest send", "digest receive", "deltas send", "deltas receive")
    seen = heard(node, *names)
    digest = [{"id": "a", "maxVersionSeen": 0, "transport": "here"}, ENTRY_B]
    deltas = [["b", "k", "v", 1], ["c", "k", "v", 1]]
    node.transport.emit("digest", B, digest)
    node.transport.emit("deltas", B, deltas)
    node.gossip()
    answer = [["a", "own", 1, 1, 0]]
    beat = node.local_peer.heartbeat
    ours = [
        {"id": "b", "maxVersionSeen": 1, "transport": "there", "heartbeat": 1},  # counted by us, since it does not count
        {"id": "a", "maxVersionSeen": 1, "transport": "here", "heartbeat": beat},
    ]
    assert seen == [
        ("digest receive", B, digest),
        ("new peer", B),
        ("deltas send", B, answer),
        ("deltas receive", B, deltas),
        ("update", "b", "k", "v"),
        ("unknown peer", "c"),
        ("digest send", B, ours),
    ]
    assert [(kind, remote, payload) for kind, remote, _, payload in node.transport.sent] == [
        ("deltas", B, answer),
        ("digest", B, ours),
    ]
    assert node.transport.sent[0][2].id == "a"


def test_handlers_run_on_the_events_thread_with_no_lock_held(make: Callable[..., Gossipmonger]) -> None:
    node = make(executor=None)
    threads: list[str] = []
    done = threading.Event()

    @node.on("update")
    def update(id: str, key: str, value: Any) -> None:
        threads.append(threading.current_thread().name)

        # Another thread can use the node meanwhile, so no lock is held.
        def use() -> None:
            node.update("x", 1)
            node.peers()
            done.set()

        other = threading.Thread(target=use)
        other.start()
        other.join()

    node.transport.emit("deltas", B, [["b", "k", 1, 5]])
    assert done.wait(10)
    assert threads == ["gossipmonger-events"]


def test_a_handler_that_raises_becomes_an_error_and_the_others_still_run(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    errors, updates = heard(node, "error"), []
    node.on("update", lambda *args: 1 / 0)
    node.on("update", lambda *args: updates.append(args))
    node.transport.emit("deltas", B, [["b", "k", 1, 5], ["b", "l", 2, 6]])
    assert updates == [("b", "k", 1), ("b", "l", 2)]
    assert [type(error) for _, error in errors] == [ZeroDivisionError, ZeroDivisionError]


def test_a_failing_error_handler_is_reported_and_not_told_again(make: Callable[..., Gossipmonger], unheard: Unheard) -> None:
    node = make()
    node.on("error", lambda error: 1 / 0)
    node.transport.emit("error", OSError("gone"))
    assert [type(error) for error in unheard] == [ZeroDivisionError]


def test_sys_exit_in_a_handler_ends_no_thread(make: Callable[..., Gossipmonger], unheard: Unheard) -> None:
    node = make(executor=None)
    done = threading.Event()
    updates: list[Any] = []

    @node.on("update")
    def update(*args: Any) -> None:
        updates.append(args)
        if len(updates) == 1:
            raise SystemExit(1)
        done.set()

    node.transport.emit("deltas", B, [["b", "k", 1, 5], ["b", "l", 2, 6]])
    assert done.wait(10)
    assert [type(error) for error in unheard] == [SystemExit]


def test_what_a_users_own_emit_raises_is_the_users(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    node.on("unknown peer", lambda id: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        node.emit("unknown peer", "b")


# Errors


def test_errors_of_storage_and_transport_are_the_nodes(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    errors = heard(node, "error")
    lost, full = OSError("lost"), OSError("full")
    node.transport.emit("error", lost)
    node.storage.emit("error", full)
    assert errors == [("error", lost), ("error", full)]


def test_an_error_that_nobody_listens_for_is_reported(make: Callable[..., Gossipmonger], unheard: Unheard) -> None:
    node = make()
    lost = OSError("lost")
    node.transport.emit("error", lost)
    assert unheard == [lost]


def test_what_breaks_in_the_first_round_is_raised_to_its_caller_if_nobody_listens(unheard: Unheard) -> None:
    sim = Simulation()
    storage = Broken()
    node = sim.add("a", storage=storage, gossip=False)
    storage.error = OSError("full")
    with pytest.raises(OSError, match="full"):
        node.gossip()
    sim.run(2_500)  # armed all the same
    assert unheard == [storage.error] * 2
    errors = heard(node, "error")
    node.gossip()
    assert errors == [("error", storage.error)]
    storage.error = None
    sim.run(5_000)
    assert len(errors) == 1


def test_a_transport_that_raises_spoils_neither_the_round_nor_the_next() -> None:
    sim = Simulation()
    node = sim.add("a", seeds=["b"], gossip=False)
    errors = heard(node, "error")
    node.transport.send = lambda *args: 1 / 0
    node.gossip()
    sim.run(3_000)
    assert [type(error) for _, error in errors] == [ZeroDivisionError] * 4


def test_what_a_transport_tells_of_its_links_is_acted_upon_until_the_node_is_closed() -> None:
    sim = Simulation()
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    sim.run(5_000)
    dialled: list[Any] = []
    a.transport.dial = dialled.append
    a.transport.emit("link", b.local_peer.remote, "ended")
    sim.run(100)
    assert dialled == [a.storage.get("b").remote]
    a.close()
    sim.run(2_000)
    a.transport.emit("link", b.local_peer.remote, "ended")
    sim.run(2_000)
    assert len(dialled) == 1


def test_a_dial_that_fails_is_an_error() -> None:
    sim = Simulation()
    a, b = sim.add("a"), sim.add("b", seeds=["a"])
    sim.run(5_000)
    errors = heard(a, "error")
    a.transport.dial = lambda to: 1 / 0
    a.transport.emit("link", b.local_peer.remote, "ended")
    sim.run(100)
    assert [type(error) for _, error in errors] == [ZeroDivisionError]


def test_one_send_that_fails_does_not_keep_back_the_others(unheard: Unheard) -> None:
    sim = Simulation()
    node = sim.add("a", seeds=["b"], gossip=False, gossip_fanout=3)
    tried: list[Any] = []

    def send(to: RemotePeer, message: Any) -> None:
        tried.append(to.id)
        raise OSError("no route")

    node.transport.send = send
    for id in "bcd":
        node.storage.put(id, Peer(id, transport={"host": id, "port": 9742}))
    with pytest.raises(OSError, match="no route"):
        node.gossip()
    assert sorted(tried) == ["b", "c", "d"]
    assert unheard == []


def test_an_update_that_the_storage_refuses_is_raised(make: Callable[..., Gossipmonger]) -> None:
    storage = Broken()
    node = make(storage=storage)
    storage.error = OSError("full")
    with pytest.raises(OSError, match="full"):
        node.update("k", 1)
    storage.error = None


@pytest.mark.parametrize(
    ("name", "sender", "payload", "words"),
    [
        ("digest", None, [], "sender must be"),
        ("digest", B, [None], "digest\\[0\\]"),
        ("digest", B, 5, "digest must be a list, got 5"),
        ("digest", B, [{**ENTRY_B, "maxVersionSeen": 1.5}], "maxVersionSeen"),
        ("deltas", B, 5, "deltas must be a list, got 5"),
        ("deltas", B, [["b", "good", 1, 5], ["__proto__", "k", 1, 5]], "deltas\\[1\\]\\[0\\]"),
        ("deltas", B, [["b", "k", object(), 5]], "deltas\\[0\\]\\[2\\]"),
    ],
)
def test_malformed_input_of_any_transport_is_one_error_and_changes_nothing(
    make: Callable[..., Gossipmonger], name: str, sender: Any, payload: Any, words: str
) -> None:
    node = make()
    errors = heard(node, "error")
    node.transport.emit(name, sender, payload)
    assert len(errors) == 1
    with pytest.raises(Exception, match=words):
        raise errors[0][1]
    assert list(node.peers()) == ["a"]


# Life


def test_the_with_statement_listens_gossips_and_closes() -> None:
    peer_info = {"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}
    with Gossipmonger(peer_info, gossip_interval=50) as a:
        transport = a.peers()["a"].transport
        assert transport == {"host": "127.0.0.1", "port": a.transport.bound[1]}  # peers are told the bound port
        known = threading.Event()
        with Gossipmonger({"id": "b", "transport": {"port": 0}}, seeds=[{"id": "a", "transport": transport}]) as b:
            b.update("k", "v")
            a.on("update", lambda *args: known.set())
            assert known.wait(10)
            assert a.peers()["b"].transport == {"host": "127.0.0.1", "port": b.transport.port}  # as the seed is
        assert not a.wait(0)
    assert a.wait(0)
    with pytest.raises(ClosedError):
        a.gossip()
    with pytest.raises(ClosedError):
        a.update("k", 1)


def test_a_node_that_runs_is_not_started_by_with_and_goes_on() -> None:
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}) as node:
        changes: list[Callable[[], object]] = [node.live, node.stop, node.gossip, node.leave]
        for change in changes:
            change()
            with pytest.raises(RuntimeError, match=r"^with: Gossipmonger\('a' at .*\) runs already, and would be closed"), node:
                pass
            assert node.update("k", repr(change))
    assert node.closed


def test_a_with_statement_that_can_not_listen_closes() -> None:
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}) as a:
        taken = Gossipmonger({"id": "b", "transport": dict(a.local_peer.transport)})
        with pytest.raises(OSError, match="can't listen"), taken:
            pass
        assert taken.wait(0)


def test_a_transport_that_listens_already_completes_the_address() -> None:
    transport = TcpTransport(host="127.0.0.1", port=0)
    transport.listen()
    node = Gossipmonger({"id": "a", "transport": {"host": "a.example", "port": 0}}, transport=transport)
    assert node.local_peer.transport == {"host": "a.example", "port": transport.port}
    node.close()


def test_what_the_transport_says_of_itself_completes_what_peer_info_left_open_and_no_more() -> None:
    class Spoken(Deaf):
        address: ClassVar[dict[str, Any]] = {"host": "a.example", "port": 1, "speaks": "more"}

    for given, told in (
        ({"host": "b.example", "port": 2}, {"host": "b.example", "port": 2, "speaks": "more"}),
        ({"host": "b.example", "port": 2, "speaks": False}, {"host": "b.example", "port": 2, "speaks": False}),
        ("somewhere", "somewhere"),
    ):
        node = Gossipmonger({"id": "a", "transport": given}, transport=Spoken())
        assert node.local_peer.transport == told
        assert node.storage.get("a").transport == told
        node.close()


def test_defaults_of_the_address_are_told_to_peers() -> None:
    node = Gossipmonger({"id": "a"})
    assert node.local_peer.transport == {"host": "localhost", "port": 9742}
    node.close()


def test_close_from_a_handler_ends_everything(make: Callable[..., Gossipmonger]) -> None:
    a = make(info={"transport": {"host": "127.0.0.1", "port": 0}}, transport=None, executor=None, gossip_interval=20)
    updates: list[Any] = []

    @a.on("update")
    def update(*args: Any) -> None:
        updates.append(args)
        a.close()
        a.close()

    a.transport.listen()
    a.gossip()
    a.transport.emit("message", Message(B, [Delta("b", "k", 1, 5), Delta("b", "l", 1, 6)], None))
    assert a.wait(10)
    assert updates == [("b", "k", 1)]  # the handler that closes is the last to run


def test_close_waits_for_the_handler_that_runs(make: Callable[..., Gossipmonger]) -> None:
    node = make(executor=None)
    begun, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    @node.on("update")
    def update(*args: Any) -> None:
        begun.set()
        ended.append(go_on.wait(10))

    node.transport.emit("deltas", B, [["b", "k", 1, 5]])
    assert begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    node.close()
    assert ended == [True]


def test_close_ends_though_a_handler_never_returns(make: Callable[..., Gossipmonger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossipmonger.endpoint.gossipmonger._CLOSE_TIMEOUT", 0.05)
    node = make(executor=None)
    begun, go_on = threading.Event(), threading.Event()

    @node.on("update")
    def stuck(*_: Any) -> None:
        begun.set()
        go_on.wait(10)

    node.transport.emit("deltas", B, [["b", "k", 1, 5]])
    assert begun.wait(10)
    with pytest.raises(Exception, match="did not return"):
        node.close()
    assert node.wait(0)
    go_on.set()


def test_close_closes_storage_and_transport_whatever_one_of_them_raises(make: Callable[..., Gossipmonger]) -> None:
    closed: list[str] = []

    class Stubborn(Deaf):
        def close(self) -> None:
            raise OSError("stuck")

    class Careful(MemoryStorage):
        def close(self) -> None:
            closed.append("storage")

    node = make(transport=Stubborn(), storage=Careful())
    with pytest.raises(OSError, match="stuck"):
        node.close()
    assert closed == ["storage"]
    node.close()
    assert closed == ["storage"]


def test_a_closed_node_takes_nothing_more(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    node.close()
    node.transport.emit("deltas", B, [["b", "k", 1, 5]])
    assert list(node.peers()) == ["a"]
    assert node.get("a", "k", "default") == "default"  # reading goes on


def test_wait_takes_seconds_or_a_timedelta(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    start = time.monotonic()
    assert node.wait(0.05) is False
    assert 0.05 <= time.monotonic() - start < 5
    assert node.wait(timedelta(milliseconds=1)) is False
    for timeout in (-1, timedelta(seconds=-1)):
        with pytest.raises(ValueError, match=r"^timeout must be "):
            node.wait(timeout)
    with pytest.raises(TypeError, match=r"^timeout must be "):
        node.wait("1")  # type: ignore[arg-type]
    closer = threading.Timer(0.02, node.close)
    closer.start()
    assert node.wait() is True
    closer.join()


def test_the_timer_is_a_daemon_thread_with_a_name(make: Callable[..., Gossipmonger]) -> None:
    node = make()
    node.gossip()
    timers = [thread for thread in threading.enumerate() if thread.name == "gossipmonger-timer"]
    assert len(timers) == 1
    assert timers[0].daemon
    node.stop()
    assert not timers[0].is_alive()


def test_a_node_that_is_dropped_after_close_is_collected(make: Callable[..., Gossipmonger]) -> None:
    gc.collect()
    node = Gossipmonger({"id": "a"}, transport=Deaf())
    node.gossip()
    node.close()
    assert repr(node) == "Gossipmonger('a' at None, closed, 0 live peers)"


def test_a_node_shows_what_it_does_and_waits_for_no_lock() -> None:
    with Simulation() as sim:
        node = sim.add("a", gossip=False)
        assert repr(node) == "Gossipmonger('a' at a:9742, not started, 0 live peers)"
        node.gossip()
        sim.add("b", seeds=["a"])
        sim.run(5_000)
        assert repr(node) == "Gossipmonger('a' at a:9742, gossiping, 1 live peer)"
        with node._engine.lock:
            assert repr(node) == "Gossipmonger('a' at a:9742, gossiping)"
        node.stop()
        assert repr(node) == "Gossipmonger('a' at a:9742, stopped, 1 live peer)"
        node.leave()
        assert repr(node) == "Gossipmonger('a' at a:9742, left, 1 live peer)"
        assert repr(node.transport) == "SimulatedTransport('a')"
        assert repr(node.storage) == "MemoryStorage(2 live, 0 others)"
    assert repr(node).startswith("Gossipmonger('a' at a:9742, closed")


def test_a_node_is_shown_though_its_storage_is_broken() -> None:
    with Simulation() as sim:
        storage = Broken()
        node = sim.add("a", storage=storage, gossip=False)
        storage.error = OSError("closed")
        assert repr(node) == "Gossipmonger('a' at a:9742, not started)"
        storage.error = None
