"""Nodes in processes of their own, maybe on hosts of their own, that are told what to do and say what happens.

`python -m tests.far CONFIG` runs one. It takes JSON objects on stdin, a line each, and says JSON lists.
"""

from __future__ import annotations

import json
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gossipmonger
from gossipmonger import Gossipmonger, UdpTransport

ROOT = Path(__file__).parent.parent

#: Key of the values that nodes tell each other to see who hears whom.
TAG = "tag"

#: Seconds that a node may take for an answer.
ANSWER = 30.0


class Far:
    """A node, and what it has said.

    Args:
        changed: Guards what all nodes have said, and is notified of each thing.
        config: `id`, `host`, `port`, `seeds` (addresses), `options`, and maybe `udp`, `tls` (paths of the authority's
            certificate, its own, and its key), `keys` (those of a keyring), `load` (milliseconds between its own writes).
        prefix: What to put before its command.

    Attributes:
        live: The peers that are live to it.
        deaths: Those that it has taken for dead, in order.
        tags: The value of `TAG` at each peer.
        rounds: Digests that it has sent, up to ten.
        errors: Its errors, by what they are.
    """

    def __init__(self, changed: threading.Condition, config: dict[str, Any], prefix: Iterable[str] = ()) -> None:
        self.id: str = config["id"]
        self.changed = changed
        self.live: set[str] = set()
        self.deaths: list[str] = []
        self.tags: dict[str, Any] = {}
        self.rounds = 0
        self.errors: Counter[str] = Counter()
        self.listening = self.ended = False
        self._answers: list[Any] = []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.far", json.dumps(config)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, encoding="utf-8",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # a process that is killed may leave half a line
                with self.changed:
                    self._hear(*json.loads(line))
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _hear(self, name: str, *said: Any) -> None:
        if name == "live":
            self.live.add(said[0])
        elif name == "dead":
            self.live.discard(said[0])
            self.deaths.append(said[0])
        elif name == "tag":
            self.tags[said[0]] = said[1]
        elif name == "error":
            self.errors[said[0]] += 1
        elif name == "round":
            self.rounds += 1
        elif name == "listening":
            self.listening = True
        elif name == "answer":
            self._answers.append(said[0])

    def tell(self, do: str, *what: Any) -> None:
        """Let it do something, and do not wait for that."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps([do, *what]) + "\n")
            self.process.stdin.flush()

    def ask(self, do: str, *what: Any) -> Any:
        """Let it do something, and return what it answers."""
        self._answers.clear()
        self.tell(do, *what)
        until(self.changed, lambda: self._answers or self.ended, ANSWER, lambda: f"{do} of {self.id}")
        return self._answers[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it without a word."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self._reader.join()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()

    def __str__(self) -> str:
        dead = f"took for dead {self.deaths[-9:]}"
        return f"{self.id} sees {sorted(self.live)}, {dead}, tags {self.tags}, errors {dict(self.errors)}"


def until(changed: threading.Condition, reached: Callable[[], Any], seconds: float, say: Callable[[], str]) -> float:
    """Wait until it is so, and return how long that was; it is asked again after everything that a node says."""
    began = time.monotonic()
    with changed:
        while not reached():
            left = began + seconds - time.monotonic()
            assert left > 0, f"not within {seconds} s: {say()}"
            changed.wait(left)
    return time.monotonic() - began


def a_node(config: dict[str, Any]) -> Gossipmonger:
    """Make the node of a configuration."""
    address = {"host": config["host"], "port": config["port"]}
    options = dict(config["options"], seeds=config["seeds"])
    if config.get("udp"):
        options["transport"] = UdpTransport(address)
    if "tls" in config:
        ca, *own = config["tls"]
        options["tls_client"] = ssl.create_default_context(cafile=ca)
        options["tls_server"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
        options["tls_server"].verify_mode = ssl.CERT_REQUIRED
        for context in (options["tls_client"], options["tls_server"]):
            context.load_cert_chain(*own)
    if "keys" in config:
        options["keyring"] = gossipmonger.Keyring(config["keys"])
    return Gossipmonger({"id": config["id"], "transport": address}, options)


class Load(threading.Thread):
    """Sets, deletes and lets expire keys of a node, one each so many milliseconds or so.

    Args:
        node: The node.
        pause: Milliseconds.
    """

    def __init__(self, node: Gossipmonger, pause: float) -> None:
        super().__init__(daemon=True)
        self._node, self._pause, self._over = node, pause / 1000, threading.Event()
        self.start()

    def run(self) -> None:
        drawn = random.SystemRandom()
        while not self._over.wait(drawn.uniform(0.5, 1.5) * self._pause):
            key, kind = f"k{drawn.randrange(50)}", drawn.random()
            if kind < 0.25:
                self._node.delete(key)
            else:
                ttl = drawn.uniform(0.5, 8) if kind < 0.5 else None
                self._node.update(key, [time.time(), "v" * drawn.randrange(200)], ttl=ttl)

    def end(self) -> None:
        self._over.set()
        self.join()


class Program:
    """The program of one node."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._lock = threading.Lock()  # guards stdout
        self._step = 0.0
        self._rounds = 0
        wall = time.time
        time.time = lambda: wall() + self._step  # the host's clock
        self._step = config.get("step", 0.0)
        self.node = node = a_node(config)
        for event, name in {"new peer": "live", "peer live": "live", "peer dead": "dead"}.items():
            node.on(event, lambda peer, name=name: self._say(name, peer.id))  # type: ignore[call-overload]
        node.on("error", lambda error: self._say("error", type(error).__name__))
        node.on("update", self._updated)
        node.on("digest send", self._sent)
        node.transport.listen()
        node.gossip()
        self._load = Load(node, config["load"]) if "load" in config else None
        self._say("listening")

    def _say(self, *event: Any) -> None:
        with self._lock:
            print(json.dumps(event), flush=True)

    def _updated(self, id: str, key: str, value: Any) -> None:
        if key == TAG:
            self._say("tag", id, value)

    def _sent(self, *_: Any) -> None:
        self._rounds += 1
        if self._rounds <= 10:
            self._say("round")

    def run(self) -> None:
        for line in sys.stdin:
            do, *what = json.loads(line)
            getattr(self, do)(*what)
        self.node.close()

    def update(self, key: str, value: Any) -> None:
        self.node.update(key, value)

    def step(self, seconds: float) -> None:
        """Set the host's clock to so many seconds ahead of the time."""
        self._step = seconds
        self._say("answer", time.time())

    def keyring(self, do: str, key: str) -> None:
        """Add, promote or remove a key."""
        getattr(self.node.options.keyring, do)(key)
        self._say("answer", None)

    def rest(self) -> None:
        """Write no more."""
        if self._load is not None:
            self._load.end()
        self._say("answer", None)

    def metrics(self) -> None:
        self._say("answer", self.node.metrics())

    def address(self, id: str) -> None:
        """Say where a peer is."""
        peer = self.node.peer(id)
        self._say("answer", None if peer is None else peer.transport["host"])

    def state(self) -> None:
        """Say what it holds of whom, and who is live."""
        held = {id: [peer.state, dict(peer.data)] for id, peer in self.node.peers().items()}
        self._say("answer", held)


if __name__ == "__main__":
    Program(json.loads(sys.argv[1])).run()
