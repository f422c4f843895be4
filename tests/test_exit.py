"""The end of a program that never closes its nodes: nothing is printed, whatever its threads are doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import threading
import time

from gossipmonger import Gossipmonger, TcpTransport, UdpTransport


def make(id, seeds):
    kind = UdpTransport if "udp" in sys.argv else TcpTransport
    node = Gossipmonger({"id": id}, transport=kind(host="127.0.0.1", port=0), seeds=seeds, gossip_interval=1)
    if "handled" in sys.argv:
        node.on("error", lambda error: None)
    node.on("update", lambda *_: time.sleep(0.005))
    node.on("digest receive", lambda *_: None)
    node.transport.listen()
    node.gossip()
    return node


a = make("a", [])
b = make("b", [{"id": "a", "transport": a.local_peer.transport}])
for n in range(300):
    a.update(f"k{n}", n)
    b.update(f"k{n}", n)
heard = threading.Event()
b.once("deltas receive", lambda *_: heard.set())
assert heard.wait(20)
if "thread" in sys.argv:
    threading.Thread(target=time.sleep, args=(0.3,)).start()
"""


@pytest.mark.parametrize("how", ["tcp", "udp", "handled", "thread"])
def test_nothing_is_printed_when_a_busy_program_ends(how: str) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


DOOMED = """
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from gossipmonger import Gossipmonger

LOCAL = {"host": "127.0.0.1", "port": 0}
other = Gossipmonger({"id": "b", "transport": LOCAL}, gossip_interval=50)
other.transport.listen()
other.gossip()
node = Gossipmonger({"id": "a", "transport": LOCAL}, seeds=[other.local_peer.transport], executor=ThreadPoolExecutor(1))
node.transport.listen()
node.on("update", lambda *_: None)
node.on("new peer", lambda *_: None)
node.gossip()
node.wait_for_peers(1, timeout=10)


begun = threading.Semaphore(0)


def use():
    while True:
        CALL


for _ in range(2):
    threading.Thread(target=use, daemon=True).start()
for _ in range(COUNT):
    assert begun.acquire(timeout=20)
"""


@pytest.mark.parametrize(
    ("call", "count"),
    [
        ("begun.release(), node.update('k', time.time())", 100),
        ("node.wait_for(begun.release)", 2),
        ("begun.release(), node.flush(0.01)", 4),
    ],
)
def test_nothing_is_printed_of_calls_of_daemons_and_of_a_pool_when_a_program_ends(call: str, count: int) -> None:
    program = [sys.executable, "-c", DOOMED.replace("CALL", call).replace("COUNT", str(count))]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
