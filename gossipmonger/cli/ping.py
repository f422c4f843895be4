"""The command `ping`: dials an address, says `HELLO`, and tells step by step what came of it and what to do.

It is no member and makes none: it says no name, so the other side has nothing to remember.
"""

from __future__ import annotations

import argparse
import queue
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from gossipmonger.cli.outcome import ABSENT, SUCCESS, UNREACHABLE, USAGE, CommandError
from gossipmonger.cli.output import Output, name
from gossipmonger.cli.settings import Settings, flags_of, resolve
from gossipmonger.cli.trust import client_context, keyring_of
from gossipmonger.errors import MessageError, SealError, at, shown, words
from gossipmonger.transport.address import is_loopback, read_address
from gossipmonger.wire import MARK, Greeter, Hello, Keyring, greeter

__all__ = ["diagnose", "ping"]

#: Seconds for each step, if nobody says otherwise.
_PATIENCE = 3.0

#: Bytes that the answer may have.
_MOST = 1 << 16

#: What a node may want that was not given.
_WANTS = "wants keys or TLS that were not given here"

#: How what a node says first begins, in plain or sealed.
_OURS = (b"{", MARK)

#: How other protocols begin to answer.
_OTHERS = {
    b"HTTP/": "a web server",
    b"SSH-": "an SSH server",
    b"\x15\x03": "one that wants TLS",
    b"-ERR": "Redis",
    b"220 ": "a mail server",
}


class _EndError(Exception):
    """Ends the ping, with what is wrong and the exit code."""

    def __init__(self, problem: str, code: int) -> None:
        super().__init__(problem)
        self.code = code


def ping(arguments: argparse.Namespace, output: Output, _: Any, environ: Mapping[str, str]) -> int:
    """Dial an address, print what is there, and return the exit code: 0 if it is a node that this one could speak to."""
    try:
        address = read_address("HOST:PORT", arguments.address)
    except (TypeError, ValueError) as error:
        raise CommandError(words(error), USAGE) from None
    settings = resolve(flags_of(arguments), environ, arguments.config)
    found: dict[str, Any] = {"address": at(address)}
    steps = _Steps(found, None if output.as_json else output)
    code, problem = SUCCESS, ""
    try:
        _Ping(address, settings, arguments.timeout.total_seconds(), steps.tell).run()
    except _EndError as end:
        code, problem = end.code, str(end)
    if output.as_json:
        output.record({**found, "ok": not problem, **({"problem": problem} if problem else {})})
    if problem:
        output.note(problem)
    return code


def diagnose(address: Mapping[str, Any], settings: Settings) -> str:
    """Return what keeps an agent from speaking to an address, and what to do; "" if nothing seems to."""
    try:
        _Ping(address, settings, _PATIENCE, lambda step, text, **fields: None, settings.id).run()
    except _EndError as end:
        return str(end)
    return ""


class _Steps:
    """Keeps what each step has found, and prints it at once for people."""

    def __init__(self, found: dict[str, Any], output: Output | None) -> None:
        self._found = found
        self._output = output

    def tell(self, step: str, text: str, **fields: Any) -> None:
        self._found.update(fields)
        if self._output is not None:
            self._output.line(f"{self._output.paint(step.ljust(9), 'head')}{text}")


class _Ping:
    """One ping.

    Args:
        address: A mapping with host and port.
        settings: With whom to speak.
        timeout: Seconds for each step.
        tell: Is told of each step.
        id: The id that the other node should not have.
    """

    def __init__(
        self,
        address: Mapping[str, Any],
        settings: Settings,
        timeout: float,
        tell: Callable[..., None],
        id: str | None = None,
    ) -> None:
        self._address = address
        self._settings = settings
        self._timeout = timeout
        self._tell = tell
        self._id = id
        self._life = secrets.token_hex(8)

    def run(self) -> None:
        """Take all steps.

        Raises:
            _EndError: One of them ended in a way that leaves no next one.
        """
        keyring, context = keyring_of(self._settings), client_context(self._settings)
        greets = greeter(keyring, self._settings.cluster, dialled=True)
        with self._encrypt(self._dial(self._resolve()), context) as connection:
            self._check(connection, *self._greet(connection, greets, keyring))

    def _resolve(self) -> list[Any]:
        host, port = self._address["host"], self._address["port"]
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def look() -> None:
            try:
                answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                answer.put(error)

        # A daemon: the system's resolver may hang, and cannot be interrupted.
        threading.Thread(target=look, name="gossipmonger-ping", daemon=True).start()
        try:
            found = answer.get(timeout=self._timeout)
        except queue.Empty:
            raise _EndError(
                f"the name {shown(host)} is not resolved within {self._timeout:g} s: check the resolver", UNREACHABLE
            ) from None
        if isinstance(found, Exception):
            reason = getattr(found, "strerror", None) or words(found)
            raise _EndError(f"no address of the name {shown(host)}: {reason}; check how it is spelled", UNREACHABLE)
        addresses = [at({"host": each[4][0], "port": port}) for each in found]
        if addresses != [at(self._address)]:
            self._tell("name", f"{host} is {', '.join(addresses)}", addresses=addresses)
        return [*found]

    def _dial(self, found: list[Any]) -> socket.socket:
        failures: list[tuple[str, OSError]] = []
        for family, kind, protocol, _, address in found:
            where = at({"host": address[0], "port": address[1]})
            try:
                connection = socket.socket(family, kind, protocol)
            except OSError as error:
                failures.append((where, error))
                continue
            try:
                began = monotonic()
                connection.settimeout(self._timeout)
                connection.connect(address)
                taken = (monotonic() - began) * 1000
            except OSError as error:
                connection.close()
                failures.append((where, error))
                self._tell("dialled", f"{where}: {_reason(error, self._timeout)}")
                continue
            self._tell("dialled", f"{where} accepted within {taken:.1f} ms", dialled=where, ms=round(taken, 3))
            return connection
        raise _EndError(_unreachable(failures, self._timeout), UNREACHABLE)

    def _encrypt(self, connection: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
        if context is None:
            return connection
        source = at({"host": connection.getpeername()[0], "port": connection.getpeername()[1]})
        try:
            wrapped = context.wrap_socket(connection, server_hostname=self._address["host"])
        except (OSError, ValueError) as error:
            connection.close()
            problem = _untrusted(error, source, self._address["host"], self._timeout)
            raise _EndError(problem, ABSENT) from None
        self._tell("tls", f"{wrapped.version()}, and its certificate does", tls=wrapped.version())
        return wrapped

    def _greet(self, connection: socket.socket, greets: Greeter, keyring: Keyring | None) -> tuple[Hello, str]:
        source = at({"host": connection.getpeername()[0], "port": connection.getpeername()[1]})
        heard = bytearray()
        said: Hello | None = None
        try:
            connection.sendall(greets.hello(None, self._life, self._settings.cluster))
            while not greets.begun(heard, source) and len(heard) < _MOST and (data := connection.recv(_MOST)):
                heard += data
            if greets.begun(heard, source):
                said, _ = greets.read(heard, source)
        except TimeoutError:
            pass
        except OSError as error:
            if not heard:
                problem = f"{source} ended the connection at once: it {_WANTS}, has too many connections, or is no node"
                raise _EndError(f"{problem} ({words(error)})", ABSENT) from None
        except SealError as error:
            if bytes(heard[:1]) in _OURS:
                raise _EndError(f"{source} has no such keys: {words(error)}; give both the same --keys-file", ABSENT) from None
        except MessageError as error:
            raise _EndError(words(error), ABSENT) from None
        if said is None:
            raise _EndError(_stranger(bytes(heard), source, keyring), ABSENT)
        self._tell("wire", f"gossipmonger, frames of version {said.version}", wire=said.version)
        if keyring is not None:
            self._tell("key", f"{keyring.ids[0]}, which it has too", key=keyring.ids[0])
        return said, source

    def _check(self, connection: socket.socket, said: Hello, source: str) -> None:
        """Tell what the node says of itself, and whether that suits."""
        ours = self._settings.cluster
        named = "has no name" if said.cluster is None else f"is {name(said.cluster)}"
        same = said.cluster == ours
        self._tell("cluster", f"{named}{', as here' if same else ''}", cluster=said.cluster)
        if said.sender is not None:
            told = at(said.sender.transport)
            text = f"{name(said.sender.id)}, which tells others to reach it at {told}"
            self._tell("node", text, node=said.sender.id, advertised=told)
        if said.you:
            self._tell("sees you", f"come from {name(said.you)}", seen=said.you)
        if not same:
            here = "gave no --cluster" if ours is None else f"asked as one of {shown(ours)}"
            theirs = "leave --cluster out" if said.cluster is None else f"use --cluster {name(said.cluster)}"
            raise _EndError(
                f"the node is of another cluster: its own {named}, and you {here}; {theirs}, or ask another node", ABSENT
            )
        if said.sender is not None and said.sender.id == self._id:
            raise _EndError(
                f"the node at {source} has the id {shown(self._id)} too: give each agent an --id of its own", ABSENT
            )
        if said.sender is not None and isinstance(said.sender.transport, Mapping):
            host = str(said.sender.transport.get("host", ""))
            if is_loopback(host) and not is_loopback(connection.getpeername()[0]):
                raise _EndError(
                    f"the node tells others to reach it at {at(said.sender.transport)}, which only its own host can: "
                    "give it --advertise",
                    ABSENT,
                )


def _reason(error: OSError, timeout: float) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    return error.strerror or words(error)


def _unreachable(failures: list[tuple[str, OSError]], timeout: float) -> str:
    where, error = failures[-1]
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refused: the host is up, but nothing listens at this port; start the agent, or check its --listen"
    if isinstance(error, TimeoutError):
        return f"{where} did not answer within {timeout:g} s: the host is down, or a firewall drops what comes to this port"
    return f"{where} can't be reached: {_reason(error, timeout)}; check the address and the network"


def _untrusted(error: Exception, source: str, host: str, timeout: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = f"was it signed by --tls-ca, and does it name {shown(host)}?"
        return f"the certificate of {source} does not do: {error.verify_message}; {advice}"
    if isinstance(error, TimeoutError):
        return f"{source} does not shake hands within {timeout:g} s: it has no TLS, or is no node"
    return f"{source} does not speak TLS with these certificates: {getattr(error, 'reason', None) or words(error)}"


def _stranger(heard: bytes, source: str, keyring: Keyring | None) -> str:
    if not heard and keyring is not None:
        return (
            f"{source} accepted, but did not answer a HELLO sealed with {keyring.ids[0]}: its keys are others, it has none, or "
            "its cluster is another one; compare with `gossipmonger keyring` there"
        )
    if not heard:
        return f"{source} accepted, but did not answer a HELLO: it is a Node.js node, {_WANTS}, or is no node"
    what = next((said for begin, said in _OTHERS.items() if heard.startswith(begin)), "something else")
    return f"{source} is not a gossipmonger node but {what}: it answered {shown(heard[:40])}; check the port"
