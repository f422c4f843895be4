"""The server: HTTP on threads of its own, as many connections as it can bear, and nothing for strangers.

| path | what it answers |
|---|---|
| `/`, `/page.css`, `/page.js` | the page |
| `/v1/events` | server-sent events: everything first, then what changes |
| `/v1/peers` | all peers, as JSON |
| `/v1/keys/K` | the key's value at each live peer that has it, as JSON; `?all=1` asks those too that are not live |
| `/healthz` | 200 while the node runs, 503 once it is closed |
| `/metrics` | metrics for Prometheus, if the extra is installed |

Everything can only be read. There is no password: whoever can connect reads what the node knows. What a page on another site
can make a browser do is refused. A name that such a site has pointed to this address (DNS rebinding) is not in the list of
hosts, and browsers say by `Sec-Fetch-Site` who asks.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from ipaddress import ip_address
from socketserver import TCPServer
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from gossipmonger import Gossipmonger
from gossipmonger.errors import at, report, shown
from gossipmonger.web.answers import NOT_FOUND, Answer, Answers
from gossipmonger.web.board import Board

__all__ = ["Page", "serve"]

#: Connections that may be open at once; each has a thread.
MAX_CONNECTIONS = 64

#: Those of them that may be streams of events.
MAX_STREAMS = 32

#: Seconds for a request to arrive, and for a part of an answer to be read.
_PATIENCE = 10.0

#: Seconds without news after which a stream says that it is there.
_QUIET = 15.0

#: Seconds from one message of a stream to the next, at least: what comes faster is seen at once, and costs a browser less.
_PACE = 0.25

#: Bytes of a body that are read before it is refused, so that whoever sends it reads the answer.
_MAX_BODY = 1 << 16

#: Seconds that `close` waits for threads.
_CLOSE_TIMEOUT = 2.0

_HEADERS = {
    # No script but our own file, and none of what makes text to markup.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",
}


def serve(node: Gossipmonger, host: str = "127.0.0.1", port: int = 8042, *, hosts: Iterable[str] = ()) -> Page:
    """Serve the page that shows the cluster as a node sees it.

    Args:
        node: The node. It need not gossip yet.
        host: Where to bind. Only this machine's programs reach 127.0.0.1; whoever reaches another address reads everything.
        port: The port; 0 for any free one.
        hosts: Names by which browsers may ask, besides `localhost`, `host` and all addresses: a proxy's, for instance.

    Returns:
        What is served, on threads of its own.

    Raises:
        OSError: The address cannot be bound.
        ClosedError: The node has been closed.
    """
    return Page(node, host or "127.0.0.1", port, {host, *hosts})


class Page:
    """A page that is being served, until `close`.

    Attributes:
        url: Where.
        board: What it shows.
    """

    def __init__(self, node: Gossipmonger, host: str, port: int, hosts: Iterable[str]) -> None:
        self._server = _Server(host, port, frozenset(each.lower().rstrip(".") for each in hosts))
        try:
            self.board: Board = Board(node)
        except BaseException:
            self._server.server_close()
            raise
        self._server.board = self.board
        self._server.answers = Answers(node, self.board)
        self.url: str = f"http://{at({'host': self._server.server_name, 'port': self._server.server_port})}/"
        # A daemon, as all threads here: a program that ends without closing this need not wait for browsers.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="gossipmonger-web", daemon=True)
        self._thread.start()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Serve no more, and join the threads. May be called again."""
        self._server.closing.set()
        self.board.close()
        self._server.shutdown()
        self._server.server_close()
        deadline = monotonic() + _CLOSE_TIMEOUT
        for thread in (self._thread, *self._server.end_connections()):
            thread.join(max(0.0, deadline - monotonic()))


class _Server(ThreadingHTTPServer):
    """Accepts connections, and keeps their number within bounds."""

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would share the port with somebody
    request_queue_size = MAX_CONNECTIONS

    board: Board
    answers: Answers

    def __init__(self, host: str, port: int, hosts: frozenset[str]) -> None:
        self.hosts = hosts
        self.streams = threading.BoundedSemaphore(MAX_STREAMS)
        self.closing = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._open_lock = threading.Lock()  # guards the above
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's asks the resolver for a name, which may take its time
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="gossipmonger-web-request", daemon=True
        )
        with self._open_lock:
            accepted = len(self._open) < MAX_CONNECTIONS
            if accepted:
                self._open[request] = thread
        if accepted:
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads
                with self._open_lock:
                    del self._open[request]
                raise
            return
        with suppress(OSError):
            request.setblocking(False)
            request.send(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._open_lock:
                self._open.pop(request, None)

    def end_connections(self) -> list[threading.Thread]:
        """End what is written or read; return the threads that do so."""
        with self._open_lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            return [*self._open.values()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the handler has told what is worth telling; what is left is that a browser has gone

    def knows(self, host: str) -> bool:
        """Whether a `Host` is one of ours. An address is, as no site can point an address elsewhere."""
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        with suppress(ValueError):
            return bool(ip_address(name))
        return name == "localhost" or name.endswith(".localhost") or name in self.hosts


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE

    def do_GET(self) -> None:
        try:
            self._answer()
        except OSError:  # the browser has gone, or does not read
            self.close_connection = True
        except Exception as error:
            report(error)
            with suppress(OSError):
                self._send(Answer(500, {"error": "see the node's log"}))

    do_HEAD = do_GET

    def _refuse_method(self) -> None:
        with suppress(OSError, ValueError):
            self.rfile.read(min(_MAX_BODY, int(self.headers.get("Content-Length") or 0)))
        self._send(Answer(405, {"error": "everything here can only be read: GET or HEAD"}), {"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse_method

    def _answer(self) -> None:
        host = self.headers.get("Host")
        if not host or not self._knows(host):
            text = f"this page is not known as {shown(host)}; ask by address or as localhost" if host else "there is no Host"
            self._send(Answer(403 if host else 400, {"error": text}))
            return
        path, _, query = self.path.partition("?")
        if path in _FILES:
            self._send(Answer(200, _FILES[path][1], _FILES[path][0]))
        elif self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            self._send(Answer(403, {"error": "pages of other sites may not ask"}))
        elif path == "/v1/events":
            self._stream()
        elif path == "/v1/peers":
            self._send(self.server.answers.peers())
        elif path.startswith("/v1/keys/"):
            try:
                key = unquote(path[len("/v1/keys/") :], errors="surrogatepass")
            except UnicodeDecodeError:  # no key is called that
                self._send(NOT_FOUND)
            else:
                self._send(self.server.answers.key(key, "all" in parse_qs(query)))
        elif path == "/healthz":
            self._send(self.server.answers.health())
        elif path == "/metrics":
            self._send(self.server.answers.metrics(self.headers.get("Accept", "")))
        else:
            self._send(NOT_FOUND)

    def _knows(self, host: str) -> bool:
        try:
            return self.server.knows(host)
        except ValueError:  # such as brackets without an address
            return False

    def _stream(self) -> None:
        """Send events until the browser has gone, or the page is closed."""
        if not self.server.streams.acquire(blocking=False):
            self._send(Answer(503, {"error": f"{MAX_STREAMS} browsers look on already"}), {"Retry-After": "5"})
            return
        try:
            self._send_head(200, "text/event-stream; charset=utf-8", {})
            if self.command == "HEAD":
                return
            board = self.server.board
            number = self._last_number()
            while not self.server.closing.is_set():
                news = board.news(number, _QUIET)
                if news is None:
                    self.wfile.write(b": still here\n\n")
                    continue
                whole, (number, told) = number is None, news
                name = "everything" if whole else "news"
                text = json.dumps(told, separators=(",", ":"), allow_nan=False)
                self.wfile.write(f"event: {name}\nid: {board.life}-{number}\ndata: {text}\n\n".encode())
                self.server.closing.wait(_PACE)
        finally:
            self.server.streams.release()

    def _last_number(self) -> int | None:
        """Return up to where the browser has read this board already, None if it has not."""
        life, _, number = self.headers.get("Last-Event-ID", "").partition("-")
        return int(number) if life == self.server.board.life and number.isascii() and number.isdigit() else None

    def _send(self, answer: Answer, extra: Mapping[str, str] | None = None) -> None:
        body = answer.encoded()
        self._send_head(answer.status, answer.type, {"Content-Length": str(len(body)), **(extra or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_head(self, status: int, type: str, extra: Mapping[str, str]) -> None:
        self.close_connection = True
        self.send_response(status)
        for name, value in {"Content-Type": type, **_HEADERS, **extra}.items():
            self.send_header(name, value)
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is not HTTP, as JSON like everything else."""
        self.command = getattr(self, "command", None) or ""
        self._send(Answer(int(code), {"error": message or self.responses[code][0]}))

    def version_string(self) -> str:
        return "gossipmonger"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: who looks at a page is nobody's business."""


def _read(name: str) -> bytes:
    return files("gossipmonger.web").joinpath("page", name).read_bytes()


_FILES = {
    "/": ("text/html; charset=utf-8", _read("index.html")),
    "/page.css": ("text/css; charset=utf-8", _read("page.css")),
    "/page.js": ("text/javascript; charset=utf-8", _read("page.js")),
}
