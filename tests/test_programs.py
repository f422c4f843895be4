"""The programs that benchmarks run: each kind of node does what it is timed at. How long it takes is measured, not tested."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from benchmarks import digests, intake
from benchmarks.programs import FAST, ORIGINAL, PLAIN, free_ports, kinds, start

KINDS = pytest.mark.parametrize("kind", kinds())


def told(kind: str, own: bool) -> dict[str, Any]:
    return {"do": "build", "peers": 8, "keys": 10} | ({} if kind == ORIGINAL else {"own": own})


@KINDS
def test_a_node_counts_what_it_has_handled(kind: str) -> None:
    (port,) = free_ports(1)
    with start(kind, "node", port=port) as node:
        for message in (intake.digest(10), intake.deltas(10), intake.digest(10)):
            intake.send(port, intake.encoded(message))
        for _ in range(1000):
            state = node.ask(do="state")
            if state["messages"] >= 3:
                break
        assert state["messages"] == 3
        assert state["cpu"] > 0
        assert state["rss"] > 1e6


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != ORIGINAL])
def test_msgspec_is_there_where_it_should_be_and_nowhere_else(kind: str) -> None:
    with start(kind, "simulation") as program:
        assert program.ask(do="fast") is (kind == FAST)


@KINDS
@pytest.mark.parametrize("own", [False, True])
def test_who_lacks_something_is_answered(kind: str, own: bool) -> None:
    with start(kind, "digests") as program:
        program.ask(**told(kind, own))
        assert program.ask(do="make", count=2)["sent"] > 8 * 50
        sent = {case: program.ask(do="handle", name=case, count=3)["sent"] for case in digests.CASES}
        replies = kind != ORIGINAL and own
        assert (sent["in sync"] > 0) is replies
        assert sent["in sync"] < sent["one key"] < sent["every peer"]
        assert sent["joiner"] > sent["one key"]


@KINDS
def test_many_keys_are_all_known(kind: str) -> None:
    with start(kind, "keys") as program:
        filled = program.ask(do="fill", peers=3, keys=700)
        assert filled["known"] == 2100
        assert filled["after"] >= filled["before"] > 1e6


@KINDS
def test_a_cluster_spreads_keys(kind: str) -> None:
    options = {"GOSSIP_INTERVAL": 50, "MAX_DELTAS_PER_GOSSIP": 5}
    with start(kind, "cluster", ports=free_ports(3), options=options) as cluster:
        assert cluster.ask(do="known") >= 0
        assert cluster.ask(do="spread", keys=12) > 0
        assert cluster.ask(do="state")["rounds"] >= 3


def test_a_simulation_converges_and_says_what_it_took() -> None:
    with start(PLAIN, "simulation") as program:
        result = program.ask(do="run", nodes=5, keys=3, seconds=10, limit=60, options={"gossip_fanout": 1})
    assert 0 < result["rounds"] < 10
    assert result["virtual"] == 10
    assert len(result["updates"]) == 3
    assert result["bytes"] > 5 * 50
    assert result["messages"] >= 1


def test_steps_add_up_to_something() -> None:
    with start(PLAIN, "steps") as program:
        for request in (
            {"do": "digest", "peers": 5, "keys": 3, "name": "joiner"},
            {"do": "deltas", "deltas": 3},
            {"do": "round", "peers": 5, "rest": True},
            {"do": "compact", "peers": 5},
            {"do": "tcp", "entries": 5},
        ):
            assert sum(program.ask(**request, count=3, turns=1).values()) > 0


def test_a_program_that_goes_wrong_says_so() -> None:
    with start(PLAIN, "digests") as program, pytest.raises(RuntimeError, match="ended with 1"):
        program.ask(do="make", count=1)


def test_a_program_is_gone_when_it_is_done_with() -> None:
    (port,) = free_ports(1)
    with start(PLAIN, "node", port=port) as node:
        pass
    assert node.process.poll() is not None
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", port))


def test_the_client_sends_messages_that_are_all_handled(tmp_path: Path) -> None:
    client, message = intake.compiled(tmp_path), tmp_path / "message"
    message.write_bytes(intake.encoded(intake.digest(10)))
    (port,) = free_ports(1)
    with start(PLAIN, "node", port=port) as node:
        rate, cpu = intake.one_run(client, port, node, connections=2, milliseconds=100, message=message)
        assert node.ask(do="state")["messages"] > 0
    assert rate > 0
    assert cpu > 0
