"""What it takes to read a node's state, in microseconds of a core: `python -m benchmarks.reads`.

The node knows 100 peers of 50 keys each. Each figure is the least of several runs, since what disturbs a run makes it longer.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from timeit import repeat

from gossipmonger import Gossipmonger, Peer
from gossipmonger.simulation import Simulation

__all__ = ["PEERS", "microseconds", "reader", "reads"]

PEERS = 100
KEYS = 50


def reader() -> Gossipmonger:
    """Return a node that knows so many live peers with so many keys."""
    node = Simulation(seed=1).add("n0")
    for key in range(KEYS):
        node.update(f"key{key}", f"value {key}")
    for n in range(1, PEERS):
        data = {f"key{key}": (f"value {key}", key + 1) for key in range(KEYS)}
        node.storage.put(f"n{n}", Peer(f"n{n}", data=data, transport={"host": f"n{n}", "port": 9742}))
    return node


def reads(node: Gossipmonger) -> dict[str, Callable[[], object]]:
    """Return the calls that are measured, by how they are written."""
    return {
        'get("n7", "key7")': lambda: node.get("n7", "key7"),
        "live()": node.live,
        'values("key7")': lambda: node.values("key7"),
        'peer("n7")': lambda: node.peer("n7"),
        "peers()": node.peers,
    }


def microseconds(call: Callable[[], object], runs: int = 9, seconds: float = 0.02) -> float:
    """Return what a call takes of a core, at least, if each of so many runs is to last so many seconds."""
    once = min(repeat(call, number=1, repeat=3, timer=thread_time))
    number = max(1, int(seconds / once))
    return min(repeat(call, number=number, repeat=runs, timer=thread_time)) / number * 1e6


def main() -> None:
    """Print all."""
    for name, call in reads(reader()).items():
        print(f"{name:20} {microseconds(call):8.1f} µs")


if __name__ == "__main__":
    main()
