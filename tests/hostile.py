"""Thousands of peers that are slow, idle, silent or never read, and what becomes of the news between two nodes meanwhile.

`python -m tests.hostile [COUNT [WAY [KIND ...]]]` prints a line for each way to a node: the median time that news takes without
these peers, which are of all kinds in turn, and with them; and how many of their connections are open when their deadline has
passed.
"""

from __future__ import annotations

import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from gossipmonger import Gossipmonger
from tests.attackers import HOST, WAYS, Connection, rss
from tests.certificates import Certificates

__all__ = ["KINDS", "Figures", "measure"]

ASKING = (
    b'{"digest":[{"id":"a","maxVersionSeen":0,"transport":{"host":"127.0.0.1","port":9}},{"id":"deaf","maxVersionSeen":0,'
    b'"heartbeat":1,"transport":{"host":"127.0.0.1","port":9}}],"sender":{"id":"deaf","transport":{"host":"127.0.0.1","port":9}}}\r\n'
)


class Kind(NamedTuple):
    """What a peer says.

    Attributes:
        greeting: Bytes of what it says first: of a member its `HELLO`, see `Connection.hello`; None for all.
        first: What it says then.
        again: What it says again and again.
    """

    greeting: int | None
    first: bytes = b""
    again: bytes = b""


KINDS: dict[str, Kind] = {
    "idle": Kind(0),
    "slow": Kind(1, again=b" "),
    "half a message": Kind(0, b'{"digest":['),
    "a slow hello": Kind(6),
    "half-open": Kind(None),
    "half a frame": Kind(None, b'{"deltas":['),
    "a frame that lies": Kind(None, b"\1\0\xff\xff\xffx"),
    "a frame that is slow": Kind(None, b"\1\0\0\xff\xff", again=b"x"),
    "never reading": Kind(None, ASKING),
}


class Figures(NamedTuple):
    """What was measured.

    Attributes:
        before, during: Milliseconds that news takes without these peers, and with them.
        slowest: Of the latter.
        left: Connections of theirs that are left.
        grown: MB by which the process has grown.
    """

    before: float
    during: float
    slowest: float
    left: int
    grown: float


def begun(way: str, kind: Kind, port: int, certificates: Certificates) -> Connection:
    """Return a connection of a peer that has said what it says first."""
    made = Connection(WAYS[way], port, certificates, 4_096)
    try:
        if kind.greeting is None:
            made.greet()
        else:
            made.send(made.hello()[: kind.greeting])
        made.socket.setblocking(False)
        if kind.first:
            made.socket.send(made.frames(kind.first))
    except OSError:
        made.socket.close()
        raise
    return made


def attack(way: str, directory: str, port: int, count: int, kinds: Sequence[str]) -> None:
    """Be so many peers, of these kinds in turn. Ends with stdin."""
    certificates, over = Certificates(Path(directory)), threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    connections: list[tuple[Connection, bytes]] = []
    for number in range(count):
        kind = KINDS[kinds[number % len(kinds)]]
        with suppress(OSError):  # it was turned away
            connections.append((begun(way, kind, port, certificates), kind.again))
    print("ready", flush=True)
    while not over.wait(0.5):
        for connection, again in connections:
            with suppress(OSError):
                connection.socket.send(connection.frames(again) if again else b"")


def _timed(writer: Gossipmonger, reader: Gossipmonger, value: float) -> float:
    start = time.perf_counter()
    writer.update("news", value)
    reader.wait_for_key("news", writer.local_peer.id, value=value, timeout=10)
    return (time.perf_counter() - start) * 1000


def measure(way: str, kinds: Sequence[str], count: int, deadline: float = 2.0, updates: int = 40) -> Figures:
    """Measure what so many peers do to two nodes, one of which they go to.

    Args:
        way: How they get there, one of `WAYS`.
        kinds: What they do, some of `KINDS`.
        count: How many they are.
        deadline: Seconds that a connection is given, in place of ten.
        updates: Updates whose way is timed.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        certificates = Certificates(Path(directory))
        options = {"receive_timeout": deadline, "send_timeout": deadline}
        transports = [WAYS[way].transport(id, certificates, **options) for id in "ab"]
        a = Gossipmonger({"id": "a"}, transport=transports[0], gossip_interval=200)
        a.on("error", lambda error: None)
        if "never reading" in kinds:
            a.update("large", random.Random(1).randbytes(50_000).hex())  # more than their sockets hold
        stack.enter_context(a)
        b = Gossipmonger({"id": "b"}, transport=transports[1], gossip_interval=200, seeds=[f"{HOST}:{transports[0].port}"])
        b.on("error", lambda error: None)
        stack.enter_context(b)
        assert a.wait_for_peers(1, timeout=10)
        assert b.wait_for_peers(1, timeout=10)
        pairs = [(a, b), (b, a)]

        def times() -> list[float]:
            found = []
            for number in range(updates):
                found.append(_timed(*pairs[number % 2], time.perf_counter()))
                time.sleep(0.03)
            return found

        times()
        before, memory = times(), rss()
        program = [sys.executable, "-m", "tests.hostile", "attack", way, directory, str(transports[0].port), str(count), *kinds]
        attacker = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.enter_context(attacker)
        assert attacker.stdin is not None
        assert attacker.stdout is not None
        stack.callback(attacker.stdin.close)
        assert attacker.stdout.readline() == b"ready\n"
        during, over = times(), time.monotonic() + deadline + 1.2
        transport, left = transports[0], count
        while left and time.monotonic() < over:
            time.sleep(0.05)
            left = len(transport._acceptor._incoming) + len(transport._links.open_links) - 2  # of the nodes themselves
        grown = (rss() - memory) / 1e6
        return Figures(statistics.median(before), statistics.median(during), max(during), max(0, left), grown)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if sys.argv[1:2] == ["attack"]:
        way, directory, port, count, *kinds = sys.argv[2:]
        attack(way, directory, int(port), int(count), kinds)
        return
    number, ways, chosen = int((sys.argv[1:2] or ["2000"])[0]), sys.argv[2:3] or [*WAYS], sys.argv[3:] or [*KINDS]
    for way in ways:
        before, during, slowest, left, grown = measure(way, chosen, number)
        print(
            f"{way}, {number} peers: news after {before:.1f} ms, with them {during:.1f} ms (slowest {slowest:.0f}), "
            f"{left} connections left after their deadline, {grown:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
