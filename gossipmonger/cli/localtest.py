"""The command `localtest`: a few nodes on this machine, and every message and event as it happens.

It is the visual test of the Node.js package. Every two seconds, a random node sets a random one of ten keys.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from time import monotonic
from typing import Any

from gossipmonger import Gossipmonger, RemotePeer
from gossipmonger.cli.journal import Journal, line, stamp
from gossipmonger.cli.outcome import ABSENT, SUCCESS, USAGE, CommandError
from gossipmonger.cli.output import Output, PipeClosedError
from gossipmonger.cli.services import serve_web
from gossipmonger.cli.settings import serving
from gossipmonger.cli.sources import Given
from gossipmonger.errors import words

__all__ = ["localtest"]

#: Seconds from one update to the next.
_PAUSE = 2.0

#: Nodes that are Node.js originals with `--node`, at most.
_ORIGINALS = 2

#: Seeds of each node.
_SEEDS = 3

#: Seconds for a Node.js node to listen.
_START = 10.0

Tell = Callable[[str, Mapping[str, Any]], None]


def localtest(arguments: argparse.Namespace, output: Output, _: Any, environ: Mapping[str, str]) -> int:
    """Run the nodes until the time is over, or Ctrl-C; return the exit code."""
    web = None if arguments.web is None else serving(Given(arguments.web, "--web"))
    ends: queue.SimpleQueue[None] = queue.SimpleQueue()  # a signal handler may put into it at any moment
    broken: list[Exception] = []

    def tell(id: str, record: Mapping[str, Any]) -> None:
        try:
            if output.as_json:
                output.record({"time": record["time"], "node": id, **record})
            else:
                output.line(line(record, output, f"{id:<5} "))
        except (CommandError, PipeClosedError) as error:  # nobody reads any more
            broken.append(error)
            ends.put(None)

    with ExitStack() as stack:
        stack.enter_context(_interrupted(ends))
        nodes: list[_Python | _Original] = []
        originals = min(_ORIGINALS, arguments.nodes - 1) if arguments.node else 0
        modules = _node_modules(arguments.node_modules) if originals else ""
        for number in range(arguments.nodes):
            id, seeds = f"id{number + 1}", [node.remote for node in nodes[:_SEEDS]]
            made: _Python | _Original
            if number < arguments.nodes - originals:
                try:
                    made = _Python(id, seeds, arguments, tell)
                except ValueError as error:
                    raise CommandError(f"--interval: {words(error)}", USAGE) from None
            else:
                made = _Original(id, seeds, arguments, tell, modules, environ)
            nodes.append(made)
            stack.callback(made.close)
            made.start()
        if web is not None:
            assert isinstance(nodes[0], _Python)
            stack.callback(serve_web(nodes[0].node, web, output.note))
        deadline = None if arguments.lasts is None else monotonic() + arguments.lasts.total_seconds()
        draw = random.Random()
        while _goes_on(ends, deadline):
            draw.choice(nodes).update(f"key{draw.randrange(10)}", round(draw.random(), 6))
    if broken:
        raise broken[0]
    return SUCCESS


@contextmanager
def _interrupted(ends: queue.SimpleQueue[None]) -> Iterator[None]:
    """Let Ctrl-C end the nodes between two steps, and a second one the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        ends.put(None)

    former = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _goes_on(ends: queue.SimpleQueue[None], deadline: float | None) -> bool:
    """Return, after a pause, whether there is time left and nobody has ended it."""
    pause = _PAUSE if deadline is None else max(0.0, min(_PAUSE, deadline - monotonic()))
    try:
        ends.get(timeout=pause)
    except queue.Empty:
        return deadline is None or monotonic() < deadline
    return False


class _Python:
    """A node in this process."""

    def __init__(self, id: str, seeds: list[dict[str, Any]], arguments: argparse.Namespace, tell: Tell) -> None:
        self.node = Gossipmonger(
            {"id": id, "transport": {"host": "127.0.0.1", "port": 0}}, seeds=seeds, gossip_interval=arguments.interval
        )
        Journal(self.node).follow(lambda record: tell(id, record))
        if not arguments.quiet:
            self.node.on("digest send", _message(tell, id, "digest send", _ids))
            self.node.on("digest receive", _message(tell, id, "digest receive", _ids))
            self.node.on("deltas send", _message(tell, id, "deltas send", _keys))
            self.node.on("deltas receive", _message(tell, id, "deltas receive", _keys))

    @property
    def remote(self) -> dict[str, Any]:
        return {"id": self.node.local_peer.id, "transport": self.node.local_peer.transport}

    def start(self) -> None:
        self.node.transport.listen()
        self.node.gossip()

    def update(self, key: str, value: Any) -> None:
        self.node.update(key, value)

    def close(self) -> None:
        self.node.close()


def _ids(digest: list[dict[str, Any]]) -> list[str]:
    return [str(entry["id"]) for entry in digest]


def _keys(deltas: list[list[Any]]) -> list[str]:
    return [f"{delta[0]}/{delta[1]}" for delta in deltas]


def _message(tell: Tell, id: str, event: str, about: Callable[[Any], list[str]]) -> Callable[[RemotePeer, Any], None]:
    def handler(peer: RemotePeer, payload: Any) -> None:
        tell(id, {"time": stamp(), "event": event, "peer": peer.id, "about": about(payload)})

    return handler


class _Original:
    """A node of the Node.js package, in a process of its own."""

    def __init__(
        self,
        id: str,
        seeds: list[dict[str, Any]],
        arguments: argparse.Namespace,
        tell: Tell,
        modules: str,
        environ: Mapping[str, str],
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port: int = probe.getsockname()[1]
        self._id = id
        self._tell = tell
        self._quiet = arguments.quiet
        self._listens = threading.Event()
        options = {"GOSSIP_INTERVAL": max(1, round(arguments.interval.total_seconds() * 1000))}
        config = {"id": id, "port": self._port, "seeds": seeds, "options": options}
        script = files("gossipmonger.cli").joinpath("localtest.js").read_text(encoding="utf-8")
        self._process = subprocess.Popen(
            ["node", "-e", script, "localtest", json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**environ, "NODE_PATH": modules},
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        )
        self._reader = threading.Thread(target=self._read, name="gossipmonger-original", daemon=True)

    @property
    def remote(self) -> dict[str, Any]:
        return {"id": self._id, "transport": {"host": "127.0.0.1", "port": self._port}}

    def start(self) -> None:
        self._reader.start()
        if not self._listens.wait(_START):
            raise CommandError(f"the Node.js node did not listen within {_START:g} s: does `node --version` work?", ABSENT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            with suppress(ValueError):
                record = json.loads(text)
                if record["event"] == "listening":
                    self._listens.set()
                if not (self._quiet and "about" in record):
                    self._tell(self._id, {"time": stamp(), **record})

    def update(self, key: str, value: Any) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has died, which the others will tell
            self._process.stdin.write(json.dumps([key, value]) + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader.is_alive():
            self._reader.join(2)
        self._process.stdout.close()


def _node_modules(given: str | None) -> str:
    """Return the directory in which Node.js finds the original.

    Raises:
        CommandError: There is no Node.js, or no original.
    """
    if shutil.which("node") is None:
        raise CommandError("--node needs Node.js, and there is no `node` on the PATH")
    for directory in _candidates(given):
        if (Path(directory) / "gossipmonger" / "index.js").is_file():
            return os.path.abspath(directory)
    raise CommandError("--node needs the npm package: `npm install gossipmonger@0.1.10`, or its place by --node-modules DIR")


def _candidates(given: str | None) -> Iterator[str]:
    if given is not None:
        yield given
        return
    yield "node_modules"
    npm = shutil.which("npm")
    if npm is not None:
        with suppress(OSError, subprocess.SubprocessError):
            yield subprocess.run([npm, "root", "--global"], capture_output=True, text=True, timeout=10).stdout.strip()
