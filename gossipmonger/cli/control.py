"""The control socket: a Unix socket at which an agent answers its own user's commands.

The protocol, version 1. Whoever connects sends one question, a JSON object in one line:

    {"gossipmonger": 1, "ask": "get", "key": "role", "peer": "b"}

The agent answers with JSON objects, one a line, and closes the connection:

    {"answer": {"peer": "b", "key": "role", "value": "web"}}     any number of times
    {"end": true}                                                 at the end
    {"error": "'b' has no key 'role'", "code": 1}                 or this instead

`ask` names one of the questions that `answers` lists. Fields that are not known are ignored. `code` is the exit code of the
command. An answer that never ends is ended by closing the connection; a connection that ends without one of the last two lines
says that the agent has ended. Other numbers than 1 are refused with an error, so an old agent and a new command notice.

The socket has the mode 0600. By default it lies in a directory of the mode 0700, under `XDG_RUNTIME_DIR`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from gossipmonger.cli.outcome import UNREACHABLE, USAGE, CommandError
from gossipmonger.errors import report, shown, words

__all__ = ["VERSION", "Control", "connect", "default_path", "read_line"]

#: The version of the protocol.
VERSION = 1

#: Bytes that a line may have. A value has at most 16 MiB as the wire writes it, and six times as many in ASCII at worst.
_MAX_LINE = 1 << 27

#: Seconds for a question to arrive, and for an answer to be read.
_PATIENCE = 10.0

#: Connections that may be open at once. Each has a thread.
_MAX_CONNECTIONS = 64

#: Seconds that `close` waits for answers that are being written.
_CLOSE_TIMEOUT = 1.0

Answer = Callable[[Mapping[str, Any], Callable[[], bool]], Iterable[Mapping[str, Any]]]


def default_path(environ: Mapping[str, str]) -> str:
    """Return where the socket of a user's agent is, if nobody says otherwise."""
    given = environ.get("GOSSIPMONGER_SOCKET")
    if given:
        return given
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "gossipmonger", "agent.sock")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return os.path.join(tempfile.gettempdir(), f"gossipmonger-{user}", "agent.sock")


def connect(path: str, timeout: float) -> socket.socket:
    """Return a connection to the agent at a path.

    Raises:
        OSError: There is none.
    """
    connection = socket.socket(_family(), socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def read_line(connection: socket.socket, buffer: bytearray) -> bytes:
    """Return the next line that comes on a connection, b"" at its end. The buffer keeps what has come after it.

    Raises:
        OSError: It does not come in time, or is too long.
    """
    searched = 0
    while (end := buffer.find(b"\n", searched)) < 0:
        searched = len(buffer)
        if searched > _MAX_LINE:
            raise OSError(f"a line of more than {_MAX_LINE} bytes")
        data = connection.recv(1 << 16)
        if not data:
            return b""
        buffer += data
    line = bytes(buffer[: end + 1])
    del buffer[: end + 1]
    return line


def _family() -> socket.AddressFamily:
    family = getattr(socket, "AF_UNIX", None)
    if not isinstance(family, socket.AddressFamily):
        raise OSError("this system has no Unix sockets")
    return family


class Control:
    """Listens at the socket, and answers each connection on a thread of its own.

    Args:
        path: Where the socket is to be.
        answer: Called with a question, and with what says whether whoever asked has gone; returns the answers.
        private: Whether the directory is ours alone, so it has to have the mode 0700, and is made where there is none.

    Attributes:
        path: As above.
    """

    def __init__(self, path: str, answer: Answer, private: bool) -> None:
        self.path = path
        self._answer = answer
        self._closing = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._socket = self._bind(private)
        self._identity = _identity(path)
        # A daemon, as all threads here: an agent that ends need not wait for a command.
        self._thread = threading.Thread(target=self._serve, name="gossipmonger-control", daemon=True)
        self._thread.start()

    def _bind(self, private: bool) -> socket.socket:
        family = _family()
        _make_directory(Path(self.path).parent, private)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._make_way()
            before = os.umask(0o177)  # so the socket is nobody else's from its first moment
            try:
                listener.bind(self.path)
            finally:
                os.umask(before)
            os.chmod(self.path, 0o600)
            listener.listen(2 * _MAX_CONNECTIONS)
        except OSError as error:
            listener.close()
            raise OSError(f"can't make the socket {shown(self.path)}: {error.strerror or words(error)}") from None
        return listener

    def _make_way(self) -> None:
        """Remove what an agent left that was killed.

        Raises:
            OSError: An agent answers there, or something else is in the way.
        """
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise OSError("it is there, and no socket")
        except FileNotFoundError:
            return
        try:
            connect(self.path, _PATIENCE).close()
        except ConnectionRefusedError:
            os.unlink(self.path)
        else:
            raise OSError("an agent answers there already; give this one a --socket and an --id of its own")

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if not self._closing.is_set():
                    report(error)
                    self._closing.wait(0.1)
                continue
            try:
                connection.settimeout(_PATIENCE)
                if self._closing.is_set() or len(self._threads) >= _MAX_CONNECTIONS:
                    connection.close()
                    continue
                thread = threading.Thread(target=self._take, args=(connection,), name="gossipmonger-answer", daemon=True)
                self._threads.add(thread)
                thread.start()
            except Exception as error:  # nothing ends this thread
                connection.close()
                report(error)

    def _take(self, connection: socket.socket) -> None:
        try:
            with connection:
                last: dict[str, Any] = {"end": True}
                answers: Iterable[Mapping[str, Any]] = ()
                try:
                    question = _read_question(connection)
                    answers = self._answer(question, partial(self._gone, connection))
                    for answer in answers:
                        _send(connection, {"answer": answer})
                except CommandError as error:
                    last = {"error": str(error), "code": error.code}
                finally:
                    getattr(answers, "close", lambda: None)()
                _send(connection, last)
        except OSError:
            pass  # whoever asked has gone
        except Exception as error:
            report(error)
        finally:
            self._threads.discard(threading.current_thread())

    def _gone(self, connection: socket.socket) -> bool:
        """Whether whoever asked has closed the connection, or the agent ends."""
        if self._closing.is_set():
            return True
        try:
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            return bool(poll.poll(0)) and not connection.recv(1, socket.MSG_PEEK)
        except (OSError, ValueError):
            return True

    def close(self) -> None:
        """Answer no more, and remove the socket."""
        self._closing.set()
        if _identity(self.path) == self._identity:  # or it is another agent's by now
            with suppress(OSError):
                os.unlink(self.path)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        deadline = monotonic() + _CLOSE_TIMEOUT
        for thread in [self._thread, *self._threads]:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - monotonic()))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_directory(directory: Path, private: bool) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(directory)
    except OSError as error:
        raise OSError(f"can't make the directory {shown(str(directory))}: {error.strerror}") from None
    if private and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077):
        raise OSError(f"{shown(str(directory))} must be a directory of yours with the mode 0700; give another --socket")


def _read_question(connection: socket.socket) -> Mapping[str, Any]:
    line = read_line(connection, bytearray())
    try:
        question = json.loads(line)
    except (ValueError, RecursionError):
        question = None
    if not isinstance(question, dict):
        raise CommandError("a question must be a JSON object in one line", USAGE)
    if question.get("gossipmonger") != VERSION:
        raise CommandError(
            f"this agent speaks version {VERSION} of the protocol, not {shown(question.get('gossipmonger'))}: "
            "let command and agent be of the same version of gossipmonger",
            UNREACHABLE,
        )
    return question


def _send(connection: socket.socket, record: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(record).encode() + b"\n")
