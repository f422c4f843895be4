"""Thousands of peers that are slow, idle, silent or never read, and what becomes of the news between two nodes meanwhile.

`python -m tests.hostile [COUNT [KIND ...]]` prints a line for each kind: the median time that news takes without these peers
and with them, and how many of their connections are open when their deadline has passed.
"""

from __future__ import annotations

import random
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import NamedTuple

from gossipmonger import Gossipmonger, TcpTransport, UdpTransport
from gossipmonger.wire import hello

__all__ = ["KINDS", "Figures", "measure"]

HOST = "127.0.0.1"

GREETING = hello(None)
ASKING = (
    b'{"digest":[{"id":"a","maxVersionSeen":0,"transport":{"host":"127.0.0.1","port":9}},{"id":"deaf","maxVersionSeen":0,'
    b'"heartbeat":1,"transport":{"host":"127.0.0.1","port":9}}],"sender":{"id":"deaf","transport":{"host":"127.0.0.1","port":9}}}\r\n'
)

#: What each peer says at once, what it says again and again, and whether it does so after a HELLO.
KINDS: dict[str, tuple[bytes, bytes]] = {
    "idle": (b"", b""),
    "slow": (b"{", b" "),
    "half a message": (b'{"digest":[', b""),
    "a slow hello": (b'{"hel', b""),
    "half-open": (GREETING, b""),
    "half a frame": (GREETING + b'{"deltas":[', b""),
    "a frame that lies": (GREETING + b"\1\0\xff\xff\xffx", b""),
    "a frame that is slow": (GREETING + b"\1\0\0\xff\xff", b"x"),
    "never reading": (GREETING + ASKING, b""),
}


class Figures(NamedTuple):
    """What was measured: milliseconds that news takes without these peers and with them, and connections that are left."""

    before: float
    during: float
    slowest: float
    left: int


def attack(kind: str, port: int, count: int) -> None:
    """Be so many peers of a kind, and begin anew whenever one is turned away. Ends with stdin."""
    first, again = KINDS[kind]
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    connections: list[socket.socket] = []

    def connect() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        made.settimeout(5)
        made.connect((HOST, port))
        made.setblocking(False)
        with suppress(OSError):
            made.send(first)
        return made

    while len(connections) < count:
        with suppress(OSError):
            connections.append(connect())
    print("ready", flush=True)
    while not over.wait(0.5):
        for connection in connections if again else ():
            with suppress(OSError):
                connection.send(again)


def _timed(writer: Gossipmonger, reader: Gossipmonger, value: float) -> float:
    start = time.perf_counter()
    writer.update("news", value)
    reader.wait_for_key("news", writer.local_peer.id, value=value, timeout=10)
    return (time.perf_counter() - start) * 1000


def measure(kind: str, count: int, udp: bool = False, deadline: float = 2.0, updates: int = 40) -> Figures:
    """Measure what so many peers of a kind do to two nodes, one of which they go to.

    Args:
        kind: What they do.
        count: How many they are.
        udp: Whether the nodes take datagrams.
        deadline: Seconds that a connection is given, in place of ten.
        updates: Updates whose way is timed.
    """
    make: type[TcpTransport] = UdpTransport if udp else TcpTransport
    with ExitStack() as stack:
        transports = [make(host=HOST, port=0, receive_timeout=deadline, send_timeout=deadline) for _ in "ab"]
        a = Gossipmonger({"id": "a"}, transport=transports[0], gossip_interval=200)
        a.on("error", lambda error: None)
        if kind == "never reading":
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
        before = times()
        program = [sys.executable, "-m", "tests.hostile", "attack", kind, str(transports[0].port), str(count)]
        attacker = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.enter_context(attacker)
        assert attacker.stdin is not None
        assert attacker.stdout is not None
        stack.callback(attacker.stdin.close)
        assert attacker.stdout.readline() == b"ready\n"
        during = times()
        time.sleep(deadline + 1.2)
        transport = transports[0]
        left = len(transport._acceptor._incoming) + len(transport._links.open_links)
        return Figures(statistics.median(before), statistics.median(during), max(during), left)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if sys.argv[1:2] == ["attack"]:
        attack(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    count, kinds = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000, sys.argv[2:] or [*KINDS]
    for udp in (False, True):
        for kind in kinds:
            before, during, slowest, left = measure(kind, count, udp)
            print(
                f"{'udp' if udp else 'tcp'}, {count} peers, {kind}: news after {before:.1f} ms, with them {during:.1f} ms "
                f"(slowest {slowest:.0f}), {left} connections left after their deadline",
                flush=True,
            )


if __name__ == "__main__":
    main()
