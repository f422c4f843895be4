"""The programs that benchmarks run: each kind of node does what it is timed at. How long it takes is measured, not tested."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from benchmarks import intake
from benchmarks.programs import FAST, ORIGINAL, PLAIN, free_ports, kinds, start

KINDS = pytest.mark.parametrize("kind", kinds())


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


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != ORIGINAL])
def test_msgspec_is_there_where_it_should_be_and_nowhere_else(kind: str) -> None:
    (port,) = free_ports(1)
    with start(kind, "node", port=port) as node:
        assert node.ask(do="state")["fast"] is (kind == FAST)


def test_a_program_that_goes_wrong_says_so() -> None:
    (port,) = free_ports(1)
    with start(PLAIN, "node", port=port) as node, pytest.raises(RuntimeError, match="ended with 1"):
        node.ask(do="nothing")


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
