"""What a node tells of its work: the numbers are those that others, or the network, count too."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any, get_type_hints

import pytest

from gossipmonger import Gossipmonger, MessageError, Metrics, RemotePeer, SendError, TcpTransport, UdpTransport
from gossipmonger.endpoint.metrics import failure_of
from gossipmonger.errors import FAILURES, REFUSALS
from gossipmonger.simulation import Simulation
from gossipmonger.transport import KINDS

from ..transport.seed_only import SeedOnly

HOST = "127.0.0.1"


def simulated(*ids: str, **options: Any) -> tuple[Simulation, list[Gossipmonger]]:
    sim = Simulation(seed=1)
    nodes = [sim.add(id, seeds=[ids[0]], **options) for id in ids]
    sim.run_until(lambda: all(len(node.live()) == len(ids) for node in nodes), limit=60_000)
    return sim, nodes


def real(id: str, *seeds: Gossipmonger, transport: Any = None, **options: Any) -> Gossipmonger:
    node = Gossipmonger(
        {"id": id},
        transport=transport or TcpTransport(host=HOST, port=0),
        seeds=[{"id": seed.local_peer.id, "transport": seed.local_peer.transport} for seed in seeds],
        gossip_interval=50,
        **options,
    )
    node.on("error", lambda error: None)
    node.transport.listen()
    node.gossip()
    return node


def total(numbers: dict[str, dict[str, int]]) -> int:
    return sum(sum(kinds.values()) for kinds in numbers.values())


# In a simulation


def test_they_have_the_documented_names_and_json_can_carry_them() -> None:
    sim, (a, b) = simulated("a", "b")
    metrics = a.metrics(phi=True)
    assert list(metrics) == list(get_type_hints(Metrics))
    assert all(f"{name}:" in (Metrics.__doc__ or "") for name in metrics)
    assert json.loads(json.dumps(metrics)) == metrics
    a.update("metrics", metrics)
    sim.run(2_000)
    assert b.get("a", "metrics") == metrics


def test_messages_and_bytes_are_those_of_the_network() -> None:
    sim, nodes = simulated("a", "b", "c")
    nodes[0].update("k", list(range(500)))
    nodes[1].delete("nothing")
    sim.run(10_000)
    for node in nodes:
        node.stop()
    sim.run(1_000)
    told = [node.metrics() for node in nodes]
    for way in ("sent", "received"):
        assert sum(total(each["messages"][way]) for each in told) == sim.messages
        assert sum(each["message_bytes"][way]["simulated"] for each in told) == sim.bytes
    assert sum(each["deltas"]["sent"] for each in told) == sum(each["deltas"]["received"] for each in told) > 0
    assert list(told[0]["messages"]["sent"]["simulated"]) == list(KINDS)
    assert all(told[0]["messages"]["sent"]["simulated"][kind] > 0 for kind in ("round", "rumor"))


def test_peers_and_what_became_of_them() -> None:
    sim, (a, *_) = simulated("a", "b", "c", "d")
    sim.crash("b")
    sim.node("c").leave()
    sim.run(60_000)
    metrics = a.metrics()
    assert metrics["peers"] == {"live": 1, "dead": 1, "left": 1}
    assert metrics["peer_transitions"] == {"new": 3, "live": 0, "dead": 1, "left": 1, "forgotten": 0}
    sim.restart("b")
    sim.node("c").close()
    a.forget("c")
    sim.run(60_000)
    metrics = a.metrics()
    assert metrics["peers"] == {"live": 2, "dead": 0, "left": 0}
    assert metrics["peer_transitions"] == {"new": 3, "live": 1, "dead": 1, "left": 1, "forgotten": 1}


def test_keys_are_those_of_live_nodes_without_deleted_ones() -> None:
    sim, (a, b, c) = simulated("a", "b", "c")
    for node, count in ((a, 1), (b, 2), (c, 3)):
        for number in range(count + 1):
            node.update(f"k{number}", number)
        node.delete("k0")
    sim.run(5_000)
    assert a.metrics()["keys"] == {"self": 1, "others": 5}
    sim.crash("c")
    sim.run(30_000)
    assert a.metrics()["keys"] == {"self": 1, "others": 2}


def test_phi_is_told_to_those_who_ask() -> None:
    _, (a, *_) = simulated("a", "b", "c")
    assert a.metrics()["phi"] == {}
    view = a.peer("b")
    assert view is not None
    phi = a.metrics(phi=True)["phi"]
    assert list(phi) == ["b", "c"] or list(phi) == ["c", "b"]
    assert phi["b"] == view.phi


def test_a_round_is_as_late_as_it_begins_after_its_time() -> None:
    sim, (a, _) = simulated("a", "b")
    before = a.metrics()["round_lateness_seconds"]
    assert before["sum"] == 0
    assert before["count"] == a.metrics()["rounds"] - 1  # nobody has waited for the first
    sim.pause("a", 4_000)
    sim.run(4_500)
    after = a.metrics()["round_lateness_seconds"]
    assert after["count"] == before["count"] + 1
    assert 3 < after["sum"] <= 4
    assert after["buckets"]["5.0"] - after["buckets"]["2.5"] == 1
    assert after["buckets"]["+Inf"] == after["count"]
    assert after["count"] + 1 == a.metrics()["round_duration_seconds"]["count"] == a.metrics()["rounds"]


def test_a_round_that_a_caller_does_is_not_late() -> None:
    sim, (a, _) = simulated("a", "b")
    a.stop()
    sim.run(60_000)
    before = a.metrics()
    a.gossip()
    a.gossip()
    after = a.metrics()
    assert after["rounds"] == before["rounds"] + 2
    assert after["round_lateness_seconds"] == before["round_lateness_seconds"]


def test_links_are_those_that_a_host_has_dialled() -> None:
    sim, (a, *_) = simulated("a", "b", "c")
    sim.run(20_000)
    assert a.metrics()["links"] == {"dialled": 2}
    sim.crash("b")
    assert a.metrics()["links"] == {"dialled": 1}


def test_messages_of_another_cluster_are_refused_and_each_counts() -> None:
    sim, (a, b) = simulated("a", "b", cluster="red")
    c = sim.add("c", seeds=["a"], cluster="blue")
    sim.run(20_000)
    rounds = c.metrics()["rounds"]
    assert a.metrics()["messages_refused"] == {**dict.fromkeys(REFUSALS, 0), "cluster": rounds}
    assert b.metrics()["messages_refused"] == dict.fromkeys(REFUSALS, 0)


# On sockets


@pytest.fixture(params=["tcp", "udp"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[str, Gossipmonger, Gossipmonger]]:
    make = TcpTransport if request.param == "tcp" else UdpTransport
    with closing(real("a", transport=make(host=HOST, port=0))) as a:
        with closing(real("b", a, transport=make(host=HOST, port=0))) as b:
            a.wait_for_peers(2, 10)
            b.wait_for_peers(2, 10)
            yield request.param, a, b


def test_what_one_node_sends_another_receives(pair: tuple[str, Gossipmonger, Gossipmonger]) -> None:
    name, a, b = pair
    a.update("k", "x" * 700)
    b.update("l", 1)
    a.wait_for_key("l", "b", timeout=10)
    b.wait_for_key("k", "a", timeout=10)
    a.wait_for(lambda: a.metrics()["messages"]["sent"][name]["round"] > 1, 10)
    a.stop()
    b.stop()

    def agree() -> bool:
        one, other = a.metrics(), b.metrics()
        return all(
            this[what]["sent"] == that[what]["received"]
            for what in ("messages", "message_bytes", "deltas")
            for this, that in ((one, other), (other, one))
        )

    a.wait_for(agree, 10)
    sent = a.metrics()["messages"]["sent"]
    assert list(sent) == (["tcp"] if name == "tcp" else ["tcp", "udp"])
    assert sent[name]["round"] > 0
    assert a.metrics()["deltas"]["sent"] > 0
    if name == "tcp":
        assert sent["tcp"]["hello"] >= 1
        assert a.metrics()["links"] == {"dialled": 1, "accepted": 1}
    assert a.metrics()["round_duration_seconds"]["sum"] > 0


def test_what_a_closed_link_has_sent_stays_counted_and_a_closed_node_can_be_asked() -> None:
    with closing(real("a")) as a, closing(real("b", a)) as b:
        b.wait_for_peers(2, 10)
        before = a.metrics()
        b.close()
        a.wait_for(lambda: a.metrics()["peers"]["left"] == 1 and not any(a.metrics()["links"].values()), 10)
        after = a.metrics()
        assert total(after["messages"]["sent"]) >= total(before["messages"]["sent"]) > 0
        assert after["message_bytes"]["sent"]["tcp"] >= before["message_bytes"]["sent"]["tcp"] > 0
        gone = b.metrics()
        assert gone["peers"]["live"] == 1
        assert gone["messages"]["sent"]["tcp"]["farewell"] == after["messages"]["received"]["tcp"]["farewell"] == 1


def test_a_transport_that_somebody_else_wrote_counts_messages_and_no_bytes() -> None:
    with closing(real("a", transport=SeedOnly())) as a, closing(real("b", a)) as b:
        a.update("k", 1)
        b.wait_for_key("k", "a", timeout=10)
        for way in ("received", "sent"):
            a.wait_for(lambda way=way: a.metrics()["messages"][way]["custom"]["round"] > 0, 10)  # type: ignore[misc]
        metrics = a.metrics()
        assert list(metrics["messages"]["sent"]) == ["custom"]
        assert metrics["message_bytes"] == {"sent": {}, "received": {}}
        assert metrics["links"] == {}
        assert metrics["deltas"]["sent"] >= 1


def throw(port: int, data: bytes, reset: bool = False) -> None:
    with socket.create_connection((HOST, port)) as connection:
        connection.sendall(data)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


LINK = b'{"hello":{"version":1},"sender":{"id":"z","transport":{"host":"127.0.0.1","port":1}}}\r\n'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "malformed"),
        (b'{"digest": [' + b" " * 2_000, "oversized"),
        (b"\x78\x01damaged", "malformed"),
        (LINK + b"{" + b" " * 2_000, "oversized"),
        (LINK + b'{"digest"', "truncated"),
        (LINK + b"?", "malformed"),
        (LINK.replace(b"1}", b'1,"cluster":"blue"}', 1), "cluster"),
    ],
)
def test_a_message_that_is_refused_counts_by_its_reason(data: bytes, reason: str) -> None:
    with closing(real("a", transport=TcpTransport(host=HOST, port=0, max_message_size=1_000))) as a:
        throw(a.transport.port, data)
        a.wait_for(lambda: any(a.metrics()["messages_refused"].values()), 10)
        assert a.metrics()["messages_refused"] == {**dict.fromkeys(REFUSALS, 0), reason: 1}
        assert a.metrics()["message_bytes"]["received"]["tcp"] >= (0 if reason == "oversized" else 1)


def test_a_message_that_takes_too_long_is_late() -> None:
    with closing(real("a", transport=TcpTransport(host=HOST, port=0, receive_timeout=0.05))) as a:
        with socket.create_connection((HOST, a.transport.port)):
            a.wait_for(lambda: a.metrics()["messages_refused"]["late"] == 1, 10)


def test_a_peer_where_nobody_listens_is_refused() -> None:
    with closing(real("a")) as a, closing(real("b", a)) as b:
        b.wait_for_peers(2, 10)
        a.transport.close()  # without a farewell
        b.wait_for(lambda: b.metrics()["send_errors"]["refused"] > 0, 10)
        assert sum(b.metrics()["send_errors"].values()) == b.metrics()["send_errors"]["refused"]


def caused(error: BaseException) -> SendError:
    failure = SendError("can't", RemotePeer("b", None))
    failure.__cause__ = error
    return failure


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (caused(OSError(errno.ECONNREFUSED, "no")), "refused"),
        (caused(OSError(errno.ECONNRESET, "no")), "broken"),
        (caused(OSError(errno.EHOSTUNREACH, "no")), "unreachable"),
        (caused(TimeoutError("no")), "timeout"),
        (caused(socket.gaierror(socket.EAI_NONAME, "no")), "unresolved"),
        (caused(MessageError("no")), "other"),
        (SendError("no", None, "slow"), "slow"),
        (SendError("no"), "other"),
        (OSError(errno.ENETUNREACH, "no"), "unreachable"),
        (OSError(errno.EPIPE, "no"), "broken"),
    ],
)
def test_why_a_message_cannot_be_sent_is_one_of_a_few_words(error: BaseException, reason: str) -> None:
    assert failure_of(error) == reason
    assert reason in FAILURES


def test_errors_that_are_none_of_the_known_count_as_other() -> None:
    _, (a, *_) = simulated("a", "b")
    a.transport.emit("error", SendError("no", None, "gremlins"))
    a.transport.emit("error", MessageError("no", None, "gremlins"))
    a.transport.emit("error", ValueError("no"))
    assert a.metrics()["send_errors"] == {**dict.fromkeys(FAILURES, 0), "other": 1}
    assert a.metrics()["messages_refused"] == {**dict.fromkeys(REFUSALS, 0), "other": 1}


class Broken(SeedOnly):
    """Cannot send."""

    def digest(self, remote_peer: Any, local_peer: Any, digest_to_send: Any) -> None:
        raise TimeoutError("not today")


def test_what_a_transport_raises_is_a_send_error() -> None:
    with closing(real("b")) as b, closing(real("a", b, transport=Broken())) as a:
        a.wait_for(lambda: a.metrics()["send_errors"]["timeout"] > 0, 10)


# Handlers


def test_each_call_of_a_handler_is_timed() -> None:
    sim, (a, b) = simulated("a", "b")
    calls: list[object] = []

    def handler(*args: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise ValueError("no")

    a.on("update", handler)
    a.watch("k", handler, peer="b")
    a.on("error", lambda error: None)
    before = a.metrics()["handler_seconds"]["count"]
    b.update("k", 1)
    sim.run(1_000)
    assert len(calls) == 2
    assert a.metrics()["handler_seconds"]["count"] == before + 3  # that of the error too
    assert a.metrics()["handler_seconds"]["sum"] > 0


def test_events_that_wait_are_counted() -> None:
    release, blocked = threading.Event(), threading.Event()
    with closing(real("a")) as a, closing(real("b", a)) as b:
        b.wait_for_peers(2, 10)

        @b.on("update")
        def block(peer_id: str, key: str, value: Any) -> None:
            blocked.set()
            release.wait(10)

        try:
            a.update("k0", 0)
            assert blocked.wait(10)
            for number in range(1, 6):
                a.update(f"k{number}", number)
            b.wait_for_key("k5", "a", timeout=10)
            assert b.metrics()["events_queued"] == 5
        finally:
            release.set()
        b.wait_for(lambda: b.metrics()["events_queued"] == 0, 10)
