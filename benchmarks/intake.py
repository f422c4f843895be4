"""Messages a second into one node, each on a connection of its own: ours beside the original, by the same client.

Each node has a process to itself, bound to one core; the client, a program in C, is bound to the other. The message is a
digest, as the original makes them, that is in sync with what the node knows, so nothing is sent back. A run counts as over
when the node has handled every message. The nodes take turns, so that what else the machine does falls on all.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.programs import FAST, NAMES, ORIGINAL, PLAIN, Program, bind, cores, free_ports, kinds, start
from benchmarks.report import Section, times

__all__ = ["Intake", "measure", "run", "section"]

ENTRIES = (10, 100, 1000)
CONNECTIONS = (1, 8)

#: Half seconds that a node has to handle as many messages as let its code be compiled.
WARM_UPS = 10

_SOURCE = Path(__file__).parent / "programs" / "client.c"


class Intake(NamedTuple):
    """What one kind of node did.

    Attributes:
        entries: Of the digest.
        connections: Open at once.
        kind: Of the node.
        rates: Messages a second, of each run.
        cpu: Microseconds of the node's CPU time a message, of each run.
    """

    entries: int
    connections: int
    kind: str
    rates: list[float]
    cpu: list[float]


def digest(entries: int) -> dict[str, Any]:
    """Return a message with so many entries: the sender's, the node's own, and others'."""
    peers = [entry(f"peer-{n}", 1) for n in range(entries - 1)]
    return {"digest": [*peers, entry("node", 0)], "sender": sender()}


def deltas(entries: int) -> dict[str, Any]:
    """Return what brings a node in sync with `digest`."""
    return {"deltas": [[f"peer-{n}", "key", "value", 1] for n in range(entries - 1)], "sender": sender()}


def entry(id: str, version: int) -> dict[str, Any]:
    return {"id": id, "maxVersionSeen": version, "transport": {"host": "127.0.0.1", "port": 9}}


def sender() -> dict[str, Any]:
    return {"id": "peer-0", "transport": {"host": "127.0.0.1", "port": 9}}


def encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\r\n"


def send(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def compiled(folder: Path) -> Path:
    """Compile the client; return where it is."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("no C compiler for the client")
    client = folder / "client"
    subprocess.run([compiler, "-O2", "-pthread", "-o", client, _SOURCE], check=True)
    return client


def one_run(client: Path, port: int, node: Program, connections: int, milliseconds: int, message: Path) -> tuple[float, float]:
    """Return messages a second and microseconds of CPU a message."""
    before = node.ask(do="state")
    command = [str(client), "127.0.0.1", str(port), str(connections), str(milliseconds), str(message)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    bind(process.pid, cores()[1])
    sent, nanoseconds = map(int, process.communicate()[0].split())
    begun, late = time.perf_counter(), 0.0
    while (after := node.ask(do="state"))["messages"] - before["messages"] < sent:
        late = time.perf_counter() - begun
        if late > 30:
            raise RuntimeError(f"{after['messages'] - before['messages']} of {sent} messages were handled")
    return sent / (nanoseconds / 1e9 + late), (after["cpu"] - before["cpu"]) * 1000 / sent


def measure(quick: bool) -> list[Intake]:
    """Run all; three minutes, quick half a minute."""
    runs, milliseconds, warm_up = (3, 200, 1_000) if quick else (7, 800, 10_000)
    results: list[Intake] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        client, message = compiled(folder), folder / "message"
        for entries in ENTRIES:
            message.write_bytes(encoded(digest(entries)))
            with ExitStack() as stack:
                nodes: dict[str, tuple[int, Program]] = {}
                for kind in kinds():
                    (port,) = free_ports(1)
                    node = stack.enter_context(start(kind, "node", cores()[0], port=port))
                    nodes[kind] = port, node
                    for prelude in (digest(entries), deltas(entries)):
                        send(port, encoded(prelude))
                    for _ in range(WARM_UPS):
                        if node.ask(do="state")["messages"] < warm_up:
                            one_run(client, port, node, max(CONNECTIONS), 500, message)
                for connections in CONNECTIONS:
                    found = {kind: Intake(entries, connections, kind, [], []) for kind in nodes}
                    for _ in range(runs):
                        for kind, (port, node) in nodes.items():
                            rate, cpu = one_run(client, port, node, connections, milliseconds, message)
                            found[kind].rates.append(rate)
                            found[kind].cpu.append(cpu)
                    results += found.values()
                    print(f"{entries} entries, {connections} at once: done", flush=True)
    return results


def run(quick: bool) -> list[dict[str, Any]]:
    """Measure; return the figures of each."""
    return [result._asdict() for result in measure(quick)]


def section(figures: list[dict[str, Any]]) -> Section:
    """Make a table of figures."""
    results = {result[:3]: result for result in (Intake(**each) for each in figures)}
    rows = []
    for entries in ENTRIES:
        for connections in CONNECTIONS:
            row = [f"{entries:,}", str(connections)]
            base = results.get((entries, connections, ORIGINAL))
            for kind in NAMES:
                found = results.get((entries, connections, kind))
                row.append("" if found is None else f"{median(found.rates):,.0f}, {median(found.cpu):,.0f} µs")
                if kind != ORIGINAL:
                    row.append("" if found is None or base is None else times(found.rates, base.rates))
                    row.append("" if found is None or base is None else times(base.cpu, found.cpu))
            rows.append(row)
    return Section(
        title="Messages a second from Node.js nodes into one node",
        text="""
Target: with msgspec, at least as many as the original takes. A client in C, on a core of its own, sends a digest as the
original makes it over and over, each on a new connection, and waits for the node's FIN: one after the other, and 8 at once. The
node is in sync with the digest and answers nothing. It has a process to itself on the other core; the kinds of node take turns.
Messages a second, and the node's CPU time for each; then how many times as many they are as the original's, and how many times
as many they would be by CPU time alone.
""",
        header=[
            "entries",
            "at once",
            NAMES[ORIGINAL],
            *(cell for kind in (PLAIN, FAST) for cell in (NAMES[kind], "times", "by CPU")),
        ],
        rows=rows,
    )
