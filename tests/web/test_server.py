"""The server: each path, what it refuses, streams and their ends."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest

from gossipmonger import ClosedError, Gossipmonger
from gossipmonger.web import Page, serve, server


@pytest.fixture
def node() -> Iterator[Gossipmonger]:
    with Gossipmonger({"id": "a", "transport": {"host": "127.0.0.1", "port": 0}}) as node:
        node.update("role", "web")
        yield node


@pytest.fixture
def page(node: Gossipmonger) -> Iterator[Page]:
    with serve(node, port=0) as page:
        yield page


def port(page: Page) -> int:
    return int(page.url.rsplit(":", 1)[1].rstrip("/"))


def ask(
    page: Page, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] = {}
) -> tuple[Any, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port(page), timeout=10)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()


def told(page: Page, path: str, **headers: str) -> tuple[int, Any]:
    response, body = ask(page, path, headers=headers)
    return response.status, json.loads(body)


def rest(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


class Stream:
    """A stream of events, as its lines come."""

    def __init__(self, page: Page, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port(page), timeout=10)
        self.connection.request("GET", "/v1/events", headers={name.replace("_", "-"): value for name, value in headers.items()})
        self.response = self.connection.getresponse()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.response.close()
        self.connection.close()

    def next(self) -> tuple[str, str, Any]:
        fields: dict[str, str] = {}
        while (line := self.response.readline().decode().rstrip("\n")) or not fields:
            assert line or not self.response.isclosed()
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields["event"], fields["id"], json.loads(fields["data"])

    def until_key(self, key: str) -> Any:
        while True:
            for each in self.next()[2]["keys"]:
                if each["key"] == key:
                    return each


@pytest.mark.parametrize(
    ("path", "type", "text"),
    [
        ("/", "text/html", b"<main>"),
        ("/page.css", "text/css", b"prefers-color-scheme"),
        ("/page.js", "text/javascript", b"EventSource"),
    ],
)
def test_the_page_is_served_with_what_keeps_scripts_out(page: Page, path: str, type: str, text: bytes) -> None:
    response, body = ask(page, path)
    assert (response.status, response.headers.get_content_type()) == (200, type)
    assert text in body
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_asks_for_nothing_elsewhere() -> None:
    for _, body in server._FILES.values():
        assert b"//" not in body.replace(b"http://www.w3.org/", b"").replace(b"// ", b"")


def test_peers_are_told(page: Page) -> None:
    status, answer = told(page, "/v1/peers")
    assert (status, answer["node"], len(answer["peers"])) == (200, "a", 1)
    assert answer["peers"][0].items() >= {"id": "a", "state": "live", "keys": 1, "local": True}.items()


@pytest.mark.parametrize("key", ["role", "a/b", "ä ö", "100%", "?", "\ud800"])
def test_a_key_is_told_whatever_its_name_is(node: Gossipmonger, page: Page, key: str) -> None:
    node.update(key, ["web", key])
    quoted = "".join(f"%{byte:02x}" for byte in key.encode("utf-8", "surrogatepass"))
    assert told(page, f"/v1/keys/{quoted}") == (200, {"key": key, "values": {"a": ["web", key]}})
    assert told(page, f"/v1/keys/{quoted}?all=1")[0] == 200


def test_what_is_not_there_is_refused_as_json(page: Page) -> None:
    assert told(page, "/v1/keys/none") == (404, {"error": "no live peer has a key 'none'"})
    assert "'none'" in told(page, "/v1/keys/none?all")[1]["error"]
    assert told(page, "/../setup.cfg")[0] == told(page, "/v1/nothing")[0] == told(page, "//[")[0] == 404
    assert told(page, "/v1/keys/%ff")[0] == 404


def test_health_is_that_of_the_node(node: Gossipmonger, page: Page) -> None:
    assert told(page, "/healthz") == (200, {"status": "ok", "live": 1})
    node.close()
    assert told(page, "/healthz") == (503, {"status": "closed"})


@pytest.mark.parametrize("path", ["/", "/v1/peers", "/v1/events", "/healthz", "/nothing"])
def test_head_tells_the_same_without_a_body(page: Page, path: str) -> None:
    response, body = ask(page, path, "HEAD")
    assert (response.status, body) == (404 if path == "/nothing" else 200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(page: Page, method: str) -> None:
    response, body = ask(page, "/v1/keys/role", method, b"x" * 50_000)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert "read" in json.loads(body)["error"]


def test_what_is_not_http_is_refused(page: Page) -> None:
    response, body = ask(page, "/", "BREW")
    assert response.status == 501
    assert "BREW" in json.loads(body)["error"]
    with socket.create_connection(("127.0.0.1", port(page)), 10) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert b"Bad HTTP" in rest(connection)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "[", "[::1"]
)
def test_a_name_that_somebody_has_pointed_here_is_refused(page: Page, host: str) -> None:
    for path in ("/", "/v1/peers", "/v1/events", "/healthz"):
        assert told(page, path, Host=host)[0] == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "a.localhost", "127.0.0.1", "[::1]:8042", "10.1.2.3:8042", "me.example."]
)
def test_an_address_or_a_name_of_ours_is_not(node: Gossipmonger, host: str) -> None:
    with serve(node, port=0, hosts=["Me.example"]) as page:
        assert told(page, "/healthz", Host=host)[0] == 200


def test_a_request_says_whom_it_asks(page: Page) -> None:
    with socket.create_connection(("127.0.0.1", port(page)), 10) as connection:
        connection.sendall(b"GET /v1/peers HTTP/1.1\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 400 ")


def test_pages_of_other_sites_may_link_here_and_no_more(page: Page) -> None:
    assert ask(page, "/", headers={"Sec-Fetch-Site": "cross-site"})[0].status == 200
    assert told(page, "/v1/peers", Sec_Fetch_Site="cross-site")[0] == 403
    assert told(page, "/v1/events", Sec_Fetch_Site="same-site")[0] == 403
    assert told(page, "/v1/peers", Sec_Fetch_Site="same-origin")[0] == 200


def test_a_stream_tells_everything_first_and_then_what_changes(node: Gossipmonger, page: Page) -> None:
    with Stream(page) as stream:
        assert stream.response.headers.get_content_type() == "text/event-stream"
        name, _, first = stream.next()
        assert name == "everything"
        assert first["node"]["id"] == "a"
        assert [each["key"] for each in first["keys"]] == ["role"]
        node.update("load", 0.5)
        assert stream.until_key("load")["text"] == "0.5"


def test_a_stream_goes_on_where_it_has_ended(node: Gossipmonger, page: Page) -> None:
    with Stream(page) as stream:
        _, last, _ = stream.next()
    node.update("load", 0.5)
    with Stream(page, Last_Event_ID=last) as stream:
        name, _, news = stream.next()
        assert name == "news"
        assert "node" not in news
        assert "role" not in [each["key"] for each in news["keys"]]
        assert news["keys"] or stream.until_key("load")


@pytest.mark.parametrize("last", ["", "x", "00000000-1", "-1", "{life}-", "{life}-x", "{life}-²"])
def test_a_stream_begins_anew_where_its_end_is_not_known(page: Page, last: str) -> None:
    with Stream(page, Last_Event_ID=last.replace("{life}", page.board.life).encode("latin-1").decode("latin-1")) as stream:
        assert stream.next()[0] == "everything"


def test_a_stream_that_is_not_read_hinders_nobody(node: Gossipmonger, page: Page) -> None:
    with Stream(page) as slow, Stream(page) as quick:
        for number in range(300):
            node.update(f"k{number % 10}", "x" * 100_000 + str(number))
        node.update("last", 1)
        assert quick.until_key("last")["text"] == "1"
        assert slow.until_key("last")["text"] == "1"


def test_browsers_that_have_gone_are_forgotten(node: Gossipmonger, page: Page) -> None:
    for _ in range(3):
        with Stream(page) as stream:
            stream.next()
    gone = threading.Event()
    for number in range(200):
        if not [each for each in threading.enumerate() if each.name == "gossipmonger-web-request"]:
            break
        node.update("n", number)
        gone.wait(0.05)
    assert not [each for each in threading.enumerate() if each.name == "gossipmonger-web-request"]


def test_there_are_only_so_many_streams(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page._server, "streams", threading.BoundedSemaphore(1))
    with Stream(page) as stream:
        stream.next()
        response, body = ask(page, "/v1/events")
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert b"look on" in body
        assert told(page, "/healthz")[0] == 200


def test_there_are_only_so_many_connections(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    with Stream(page) as first, Stream(page) as second:
        first.next(), second.next()
        with ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port(page)), 10))
            assert rest(connection).startswith(b"HTTP/1.1 503 ")


def test_closing_ends_streams_at_once_and_may_be_done_again(node: Gossipmonger) -> None:
    page = serve(node, port=0)
    with Stream(page) as stream, socket.create_connection(("127.0.0.1", port(page)), 10) as idle:
        stream.next()
        page.close()
        with suppress(ConnectionResetError):  # if it had not been accepted yet
            assert idle.recv(1) == b""
        assert stream.response.read() is not None
    page.close()
    assert node.listeners("update") == []
    assert not [each for each in threading.enumerate() if each.name.startswith("gossipmonger-web")]


def test_a_node_may_be_closed_first(node: Gossipmonger, page: Page) -> None:
    with Stream(page) as stream:
        stream.next()
        node.close()
        page.board.look()
        assert stream.next()[2]["peers"]


def test_a_port_that_is_taken_or_a_node_that_is_closed_is_an_error(node: Gossipmonger, page: Page) -> None:
    with pytest.raises(OSError, match="in use"):
        serve(node, port=port(page))
    node.close()
    with pytest.raises(ClosedError):
        serve(node, port=0)


def test_it_listens_on_loopback_unless_told_otherwise(node: Gossipmonger) -> None:
    with serve(node, "", 0) as page:
        assert page.url.startswith("http://127.0.0.1:")
    with serve(node, "::1", 0) as page:
        assert page.url.startswith("http://[::1]:")


def test_what_goes_wrong_inside_is_not_told(page: Page, monkeypatch: pytest.MonkeyPatch, logged: list[Any]) -> None:
    monkeypatch.setattr(page._server, "answers", None)
    assert told(page, "/v1/peers") == (500, {"error": "see the node's log"})
    assert logged
