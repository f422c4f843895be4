"""Eight threads at work on nodes that gossip over real sockets, while handlers call back in."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pytest

from gossipmonger import Gossipmonger, SendError

SECONDS = 10
KEYS = 200


@pytest.mark.untraced
def test_threads_handlers_and_messages_at_once(rng: random.Random) -> None:
    options = {"gossip_interval": 20, "max_deltas_per_gossip": 200}
    nodes: list[Gossipmonger] = []
    errors: list[Any] = []
    seeds: list[dict[str, Any]] = []
    for id in "abc":
        node = Gossipmonger({"id": id, "transport": {"host": "127.0.0.1", "port": 0}}, options, seeds=seeds)
        node.on("error", errors.append)
        node.transport.listen()
        seeds = seeds or [{"id": id, "transport": dict(node.local_peer.transport)}]
        nodes.append(node)

    handled = {node.local_peer.id: 0 for node in nodes}

    def handle(node: Gossipmonger, peer_id: str, key: str, value: Any) -> None:
        handled[node.local_peer.id] += 1
        if not key.startswith("echo"):  # or the echoes would have echoes
            node.update(f"echo {peer_id}", [key, value])
        node.get(peer_id, key)
        node.peer(peer_id)

    for node in nodes:
        node.on("update", lambda *args, node=node: handle(node, *args))
        node.gossip()

    end = time.monotonic() + SECONDS
    failures: list[BaseException] = []

    def work(seed: float) -> None:
        chance = random.Random(seed)
        try:
            while time.monotonic() < end:
                node = chance.choice(nodes)
                what = chance.random()
                if what < 0.6:
                    node.update(f"key{chance.randrange(KEYS)}", chance.choice([chance.random(), "€", [1, {"x": None}]]))
                elif what < 0.95:
                    node.get(chance.choice("abc"), f"key{chance.randrange(KEYS)}")
                else:
                    node.peers()
                idle.wait(0.001)  # eight busy loops would leave the interpreter's one lock to nobody else
        except BaseException as error:
            failures.append(error)

    idle = threading.Event()
    threads = [threading.Thread(target=work, args=(rng.random(),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 30)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []

    deadline = time.monotonic() + 30
    while not equal(nodes) and time.monotonic() < deadline:
        idle.wait(0.05)
    assert equal(nodes)
    assert all(handled.values())
    for node in nodes:
        node.close()
    # On a slow machine a message is dropped now and then, which gossip repairs; and who closes last finds nobody to tell.
    assert [error for error in errors if not isinstance(error, SendError)] == []


def equal(nodes: list[Gossipmonger]) -> bool:
    """Whether every node's view of every owner is the owner's own data."""
    views = [{id: dict(peer.data) for id, peer in node.peers().items()} for node in nodes]
    return all(view == views[0] for view in views) and len(views[0]) == len(nodes)
