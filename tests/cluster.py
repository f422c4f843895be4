"""Real nodes on loopback, ours and the original's, in this process or each in its own, all watched in the same way.

`python -m tests.cluster CONFIG` runs one of ours and speaks the JSON lines that `node/node.js` describes.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gossipmonger import Gossipmonger, TcpTransport, UdpTransport

ROOT = Path(__file__).parent.parent
NODE = ROOT / "tests" / "node"

HOST = "127.0.0.1"
EVENTS = ("new peer", "peer dead", "peer live")


def free_port() -> int:
    """A free port below those that systems give to outgoing connections, so that it is still free after a restart."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def free_ports(count: int) -> list[int]:
    """As many of them, no two the same."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return [*ports]


class Watched:
    """A node, and what it has said: the peers it met, each one's state and messages, the values it was told of, its errors."""

    def __init__(self, cluster: Cluster, config: dict[str, Any]) -> None:
        self.id: str = config["id"]
        self.original = False
        self.port: int = config["port"]
        self.cluster = cluster
        self.peers: dict[str, str] = {}
        self.contacts: Counter[str] = Counter()
        self.data: dict[str, dict[str, Any]] = {}
        self.deleted: defaultdict[str, set[str]] = defaultdict(set)
        self.errors: list[Any] = []
        self.listening = False
        self.ended = False
        self.answer: Any = None

    def heard(self, name: str, *args: Any) -> None:
        with self.cluster.changed:
            if name == "update":
                self.data.setdefault(args[0], {})[args[1]] = args[2]
            elif name == "delete":
                self.data[args[0]].pop(args[1])
                self.deleted[args[0]].add(args[1])
            elif name in EVENTS:
                self.peers[args[0]] = "dead" if name == "peer dead" else "live"
            elif name == "contact":
                self.contacts[args[0]] += 1
            elif name == "error":
                self.errors.append(args[0])
            elif name == "listening":
                self.listening = True
            elif name == "state":
                self.answer = args[0]
            self.cluster.changed.notify_all()

    def __str__(self) -> str:
        keys = {id: len(data) for id, data in self.data.items()}
        return f"{self.id} sees {self.peers}, hears {dict(self.contacts)}, has keys {keys} and errors {self.errors[-2:]}"

    def update(self, key: str, value: Any) -> None:
        raise NotImplementedError

    def state(self) -> dict[str, dict[str, Any]]:
        """Every peer's data as the node itself holds it."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Here(Watched):
    """One of ours in this process."""

    def __init__(self, cluster: Cluster, config: dict[str, Any]) -> None:
        super().__init__(cluster, config)
        self.node = a_node(config, self.heard)
        self.listening = True

    def update(self, key: str, value: Any) -> None:
        self.node.update(key, value)

    def state(self) -> dict[str, dict[str, Any]]:
        return {id: dict(peer.data) for id, peer in self.node.peers().items()}

    def close(self) -> None:
        self.node.close()


class Apart(Watched):
    """A node in a process of its own: one of ours, or with `original` one of the Node package's."""

    def __init__(self, cluster: Cluster, config: dict[str, Any], original: bool) -> None:
        super().__init__(cluster, config)
        self.original = original
        program = ["node", str(NODE / "node.js")] if original else [sys.executable, "-m", "tests.cluster"]
        self.process = subprocess.Popen(
            [*program, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # a process that is killed may leave half a line
                self.heard(*json.loads(line))
        with self.cluster.changed:
            self.ended = True
            self.cluster.changed.notify_all()

    def _tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def update(self, key: str, value: Any) -> None:
        self._tell(do="update", key=key, value=value)

    def state(self) -> dict[str, dict[str, Any]]:
        self.answer = None
        self._tell(do="state")
        self.cluster.until(lambda: self.answer is not None)
        return dict(self.answer)

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it is gone already
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self.process.stdout.close()


class Cluster:
    """Nodes that find each other through the first one; `close` ends all."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.nodes: dict[str, Watched] = {}
        self.changed = threading.Condition()  # guards what every node has said

    def here(self, id: str, refuse: tuple[str, ...] = (), port: int = 0, udp: bool = False) -> Here:
        node = Here(self, self._config(id, refuse, port, udp))
        self.nodes[id] = node
        return node

    def apart(self, id: str, refuse: tuple[str, ...] = (), port: int = 0, original: bool = False, udp: bool = False) -> Apart:
        node = Apart(self, self._config(id, refuse, port, udp), original)
        self.nodes[id] = node
        self.until(lambda: node.listening)
        return node

    def _config(self, id: str, refuse: tuple[str, ...], port: int, udp: bool) -> dict[str, Any]:
        seeds = [
            {"id": node.id, "transport": {"host": HOST, "port": node.port}} for node in self.nodes.values() if node.id != id
        ]
        options = {"refuse": refuse, "seeds": seeds[:1], "udp": udp, "options": self.options}
        return {"id": id, "port": port or free_port(), **options}

    def until(self, reached: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until it is so; it is asked again after everything that a node says."""
        end = time.monotonic() + seconds
        with self.changed:
            while not reached():
                assert not any(node.ended for node in self.nodes.values()), f"a process has ended: {self}"
                assert self.changed.wait(end - time.monotonic()), f"not within {seconds} s: {self}"

    def all_know_all(self) -> bool:
        return all(self.nodes.keys() - {node.id} <= node.peers.keys() for node in self.nodes.values())

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()

    def __str__(self) -> str:
        return "; ".join(map(str, self.nodes.values()))


class _Refusing(TcpTransport):
    """A transport that does not dial some peers."""

    def __init__(self, options: dict[str, Any], refused: list[str]) -> None:
        super().__init__(options)
        self.refused = refused

    def digest(self, remote_peer: Any, local_peer: Any, digest_to_send: Any) -> None:
        if remote_peer.id not in self.refused:
            super().digest(remote_peer, local_peer, digest_to_send)

    def deltas(self, remote_peer: Any, local_peer: Any, deltas_to_send: Any) -> None:
        if remote_peer.id not in self.refused:
            super().deltas(remote_peer, local_peer, deltas_to_send)


def a_node(config: dict[str, Any], heard: Callable[..., None]) -> Gossipmonger:
    """Return one of ours that listens and gossips, and tells `heard` what happens, in the words of `node.js`."""
    address = {"host": HOST, "port": config["port"]}
    node = Gossipmonger(
        {"id": config["id"], "transport": address},
        config["options"],
        seeds=config["seeds"],
        transport=UdpTransport(address) if config["udp"] else _Refusing(address, list(config["refuse"])),
    )
    for name in EVENTS:
        node.on(name, lambda peer, name=name: heard(name, peer.id))  # type: ignore[call-overload]
    for name in ("digest receive", "deltas receive"):
        node.on(name, lambda peer, _: heard("contact", peer.id))  # type: ignore[call-overload]
    node.on("update", lambda id, key, value: heard("update", id, key, value))
    node.on("delete", lambda id, key: heard("delete", id, key))
    node.on("error", lambda error: heard("error", f"{type(error).__name__}: {error}"))
    try:
        node.transport.listen()
        node.gossip()
    except BaseException:
        node.close()
        raise
    return node


def main() -> None:
    lock = threading.Lock()  # guards stdout

    def say(*event: Any) -> None:
        with lock:
            print(json.dumps(event), flush=True)

    node = a_node(json.loads(sys.argv[1]), say)
    try:
        say("listening")
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "update":
                node.update(command["key"], command["value"])
            elif command["do"] == "state":
                say("state", {id: dict(peer.data) for id, peer in node.peers().items()})
            else:
                break
    finally:
        node.close()


if __name__ == "__main__":
    main()
