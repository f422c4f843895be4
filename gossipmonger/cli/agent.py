"""The agent: a node as a process of its own, from a configuration to its last word.

The main thread waits for signals. SIGTERM and SIGINT end the agent cleanly, and a second one at once; SIGHUP reads the keys
again. Events are printed on the thread that runs the node's handlers.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from gossipmonger import Gossipmonger, LonelyError
from gossipmonger.cli.answers import Answers
from gossipmonger.cli.control import Control, default_path
from gossipmonger.cli.hooks import Runner
from gossipmonger.cli.journal import Journal, line, stamp
from gossipmonger.cli.nodes import make_node, versions
from gossipmonger.cli.notify import Notifier
from gossipmonger.cli.outcome import ABSENT, SUCCESS, USAGE, CommandError
from gossipmonger.cli.output import Output, PipeClosedError
from gossipmonger.cli.ping import diagnose
from gossipmonger.cli.services import serve_metrics, serve_web
from gossipmonger.cli.settings import Settings
from gossipmonger.cli.trust import renew
from gossipmonger.errors import at, words
from gossipmonger.transport.address import is_loopback, read_address

__all__ = ["Agent"]

#: Addresses that are looked at more closely when nobody is found.
_MOST_PINGS = 5

#: Seconds that the main thread waits at a time.
_SLICE = 0.5


class Agent:
    """Runs a node from a configuration.

    Args:
        settings: The configuration.
        output: Where events are printed.
        environ: The environment.
        reread: Returns the configuration as it is now, for a reload.
    """

    def __init__(
        self, settings: Settings, output: Output, environ: Mapping[str, str], reread: Callable[[], Settings] | None = None
    ) -> None:
        self._settings = settings
        self._reread = reread
        self._output = output
        self._environ = environ
        self._notifier = Notifier(environ)
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()  # signal handlers may put into it at any moment
        self._control: Control | None = None
        self._to_close: list[Callable[[], object]] = []
        self._began = monotonic()
        self._prints = True
        self.node: Gossipmonger = make_node(settings, output.note)

    # Life

    def run(self) -> int:
        """Start, wait until the agent is told to end, and end; return the exit code.

        Raises:
            CommandError: It cannot start. Whatever has started is closed.
        """
        restore = self._take_signals()
        try:
            self.start()
            while (order := self._next()) != "end":
                if order == "reload":
                    self._reload()
        finally:
            self.close()
            restore()
        return SUCCESS

    def _next(self) -> str:
        """Return the next order. It waits in slices, as a signal that comes just before a wait begins would wait with it."""
        while True:
            with suppress(queue.Empty):
                return self._orders.get(timeout=_SLICE)

    def start(self) -> None:
        """Start.

        Raises:
            CommandError: It cannot. Whatever has started is to be closed by `close`.
        """
        logger, handler = logging.getLogger("gossipmonger"), _Handler(self._output)
        logger.addHandler(handler)
        self._to_close.append(lambda: logger.removeHandler(handler))
        journal = Journal(self.node)
        for hook in self._settings.on_event:
            runner = Runner(hook, self._output.note)
            self._to_close.append(runner.close)
            journal.follow(runner.take)
        journal.follow(self._print)
        self.node.on("error", self._diagnose)
        answers = Answers(self.node, journal, self._info, self.end)
        answers.add("keyring", self._change_keys)
        self._listen_for_commands(answers)
        try:
            self.node.transport.listen()
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, "--listen takes an address of this machine, or 0.0.0.0 for all of them")
            raise CommandError(f"{error.strerror or words(error)}; {advice}", ABSENT) from None
        if self._settings.metrics is not None:
            self._to_close.append(serve_metrics(self.node, self._settings.metrics))
        if self._settings.web is not None:
            self._to_close.append(serve_web(self.node, self._settings.web, self._output.note))
        self.node.gossip()
        address = at(self.node.local_peer.transport)
        self._print({"time": stamp(), "event": "listening", "peer": self.node.local_peer.id, "address": address})
        if not self._settings.seeds and is_loopback(str(self.node.local_peer.transport.get("host", ""))):
            self._output.note(
                "no seeds, so nobody beyond this host can reach this agent: give the address of another node as --seed, "
                "or let others come with --listen 0.0.0.0:9742"
            )
        self._notifier.ready(f"{self.node.local_peer.id} at {address}".encode("ascii", "replace").decode())

    def _listen_for_commands(self, answers: Answers) -> None:
        chosen = self._settings.socket
        if chosen == "":
            return
        path = default_path(self._environ) if chosen is None else chosen
        try:
            self._control = Control(path, answers.answer, private=chosen is None)
        except OSError as error:
            if chosen is not None or "already" in str(error):
                raise CommandError(words(error), ABSENT) from None
            self._output.note(f"commands can't reach this agent: {words(error)}")

    def end(self) -> None:
        """Let `run` end. May be called from anywhere."""
        self._orders.put("end")

    def reload(self) -> None:
        """Let `run` read the keys again. May be called from anywhere."""
        self._orders.put("reload")

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            changed = renew(self.node, self._settings if self._reread is None else self._reread())
            self._output.note(f"reloaded: {changed}" if changed else "there are no keys or certificates to reload")
        except CommandError as error:
            self._output.note(f"not reloaded: {error}")
        self._notifier.ready("reloaded")

    def close(self) -> None:
        """Leave the cluster, and end everything that `start` has begun."""
        self._notifier.stopping()
        try:
            self.node.close()
        except Exception as error:  # a handler that hangs, say; everything is closed all the same
            self._output.note(words(error))
        if self._control is not None:
            self._control.close()
        for close in reversed(self._to_close):
            with suppress(Exception):
                close()
        self._to_close.clear()

    def _take_signals(self) -> Callable[[], None]:
        """Let signals become orders; return what lets them be again as they were."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        former: dict[int, Any] = {}

        def stop(number: int, _: object) -> None:
            signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
            self.end()

        for number in (signal.SIGTERM, signal.SIGINT):
            former[number] = signal.signal(number, stop)
        if hasattr(signal, "SIGHUP"):
            former[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: self.reload())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])  # one that arrived earlier, in `main`, is handled now

        def restore() -> None:
            for number, handler in former.items():
                if signal.getsignal(number) != signal.SIG_DFL:
                    signal.signal(number, handler)

        return restore

    # What it says

    def _print(self, record: dict[str, Any]) -> None:
        if not self._prints:
            return
        try:
            if self._output.as_json:
                self._output.record(record)
            else:
                self._output.line(line(record, self._output))
        except (CommandError, PipeClosedError):  # nobody reads any more; the node goes on
            self._prints = False

    def _change_keys(self, question: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Answer what is asked of `keyring`: change the keys if that is wanted, and tell what they are then."""
        keyring = self.node.options.keyring
        if keyring is None:
            raise CommandError("this agent has no keys: start it with --keys-file, or keys in its configuration")
        action, key = question.get("action"), question.get("key")
        if action != "list":
            change = {"add": keyring.add, "promote": keyring.promote, "remove": keyring.remove}.get(str(action))
            if change is None or not isinstance(key, str):
                raise CommandError("keyring: give an action (add, promote or remove) and a key", USAGE)
            change(key)
        for index, id in enumerate(keyring.ids):
            yield {"id": id, "seals": index == 0}

    def _diagnose(self, error: Exception) -> None:
        """Find out why nobody was found, on a thread of its own, since that takes seconds."""
        if isinstance(error, LonelyError):
            # A daemon: an agent that ends need not know any more.
            threading.Thread(target=self._say_why, args=(error,), name="gossipmonger-ping", daemon=True).start()

    def _say_why(self, error: LonelyError) -> None:
        for address in [*error.tried][:_MOST_PINGS]:
            try:
                problem = diagnose(read_address("seed", address), self._settings)
            except Exception:  # it is not an address
                continue
            if problem and not self.node.closed:
                self._output.note(problem)

    def _info(self) -> dict[str, Any]:
        return {
            "uptime": round(monotonic() - self._began, 1),
            "pid": os.getpid(),
            "socket": None if self._control is None else self._control.path,
            "config": self._settings.path,
            "transport": self._settings.transport,
            "seeds": [at(seed) for seed in self._settings.seeds],
            "options": {name: _plain(value) for name, value in self._settings.options.items()},
            **versions(),
        }


#: Advice for each error with which the system can refuse to listen.
_ADVICE = {
    errno.EADDRINUSE: "is another agent running? Give this one another --listen (port 0 is any free one), and an --id and a "
    "--socket of its own",
    errno.EACCES: "ports below 1024 are for privileged users: give --listen another one, such as 9742",
    errno.EADDRNOTAVAIL: "--listen takes an address of this machine, or 0.0.0.0 for all of them; --advertise takes any other",
}


def _plain(value: Any) -> Any:
    return f"{value.total_seconds():g}s" if hasattr(value, "total_seconds") else value


class _Handler(logging.Handler):
    """Prints what the package logs, from warnings up."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._output.note(record.getMessage())
        except Exception:
            self.handleError(record)
