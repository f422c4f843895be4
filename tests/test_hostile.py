"""What ended or swelled the Node.js original, over each transport: the node keeps serving, and holds no more than it may."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from gossipmonger import Gossipmonger, MessageError, SealError, TlsError
from gossipmonger.state import MAX_VERSION
from tests.attackers import HOST, MEMBERS, WAYS, Connection, Way, client_hello, rss
from tests.certificates import Certificates
from tests.flood import flood
from tests.hostile import KINDS, measure

LIMIT = 4 << 20


class Attacked:
    """Two nodes that know each other, the first of which is attacked.

    Attributes:
        a, b: The nodes.
        errors: Those of the first.
        way: What the attacker has to do with.
    """

    def __init__(self, way: Way, certificates: Certificates, a: Gossipmonger, b: Gossipmonger) -> None:
        self.way, self.a, self.b = way, a, b
        self.errors: list[Exception] = []
        self._certificates = certificates
        a.on("error", self.errors.append)
        b.on("error", lambda error: None)

    def connect(self) -> Connection:
        return Connection(self.way, self.a.transport.port, self._certificates)

    def say(self, data: bytes) -> None:
        """Say these bytes in each way there is: alone, deflated, on a link and as a datagram."""
        for sent in (data, zlib.compress(data)):
            with suppress(ConnectionError, ssl.SSLError), self.connect() as connection:  # it may be closed before all is said
                connection.send(sent)
                connection.finish()
        self.say_frames(data + b"\r\n")
        if self.way.udp and len(data) < 65_000:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                datagrams.sendto(self.way.datagram(data), (HOST, self.a.transport.port))

    def say_frames(self, data: bytes) -> None:
        with suppress(ConnectionError, ssl.SSLError), self.connect() as connection:
            connection.greet()
            connection.send(connection.frames(data))
            connection.finish()

    def until(self, met: Any) -> None:
        assert self.a.wait_for(met, timeout=10)

    def serves(self) -> None:
        """Assert that news goes both ways."""
        value = time.monotonic()
        for one, other in ((self.a, self.b), (self.b, self.a)):
            one.update("k", value)
            assert other.wait_for(partial(_has, other, one.local_peer.id, value), timeout=10)
            assert [peer.state for peer in other.peers().values() if peer.id in ("a", "b")] == ["live", "live"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=WAYS)
def attacked(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Attacked]:
    way = WAYS[request.param]
    transports = [way.transport(id, certificates, max_message_size=LIMIT) for id in "ab"]
    with Gossipmonger({"id": "a"}, transport=transports[0], gossip_interval=100) as a:
        seeds = [f"{HOST}:{transports[0].port}"]
        with Gossipmonger({"id": "b"}, transport=transports[1], gossip_interval=100, seeds=seeds) as b:
            assert a.wait_for_peers(1, timeout=10)
            assert b.wait_for_peers(1, timeout=10)
            yield Attacked(way, certificates, a, b)


members = pytest.mark.parametrize("attacked", MEMBERS, indirect=True)


def _has(node: Gossipmonger, id: str, value: float) -> bool:
    return bool(node.get(id, "k") == value)


def _is_as_long(errors: list[Exception], length: int) -> bool:
    return len(errors) >= length


def message(**parts: Any) -> bytes:
    return json.dumps(parts).encode()


AT = {"host": HOST, "port": 9}
SENDER = {"id": "x", "transport": AT}
MALFORMED = [
    message(deltas=5),
    message(digest=[None], sender={}),
    message(digest=[], sender=None),
    b"null",
    message(deltas=[["__proto__", "k", 1, 1]], sender=SENDER),
    message(digest=[{"id": "__proto__", "maxVersionSeen": 1, "transport": AT}], sender=SENDER),
    message(digest=[], sender={"id": "__proto__", "transport": AT}),
    message(digest=[], sender={"id": "x", "transport": {"host": HOST, "port": 70_000}}),
    message(digest=[{"id": "y", "maxVersionSeen": 1, "transport": {"host": HOST, "port": 70_000}}], sender=SENDER),
    message(digest=[], sender={"id": "x" * 5_000_000, "transport": AT}),
    message(digest=[{"id": "y" * 300, "maxVersionSeen": 1, "transport": AT}], sender=SENDER),
    message(deltas=[["b", "k" * 2_000, 1, 1]], sender=SENDER),
    b"[" * 100_000,
    b'{"digest":[],"sender":{"id":"x","transport":{"host":"' + b"\xff" * 10 + b'","port":9}}}',
]


@pytest.mark.untraced
def test_no_malformed_message_ends_a_node_or_is_taken(attacked: Attacked) -> None:
    errors, way = attacked.errors, attacked.way
    for data in MALFORMED:
        expected = len(errors) + way.member + 2 * (way.member and not way.sealed)  # an error of sealing is told once a minute
        attacked.say(data)
        attacked.until(partial(_is_as_long, errors, max(1, expected)))
    kinds: set[type[Exception]] = {MessageError} if way.member else set()
    assert {type(error) for error in errors} == kinds | ({SealError} if way.sealed else kinds or {TlsError})
    assert set(attacked.a.peers()) == {"a", "b"}
    attacked.serves()


@pytest.mark.untraced
@members
def test_intervals_in_an_entry_which_ended_the_original_are_ignored(attacked: Attacked) -> None:
    a = attacked.a
    attacked.say(message(digest=[{"id": "y", "maxVersionSeen": 1, "transport": AT, "intervals": 5, "data": 7}], sender=SENDER))
    attacked.until(lambda: a.peer("y") is not None)
    assert a.get("y", "k") is None
    attacked.serves()


@pytest.mark.untraced
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not tell how much memory a process has")
def test_two_hundred_megabytes_on_a_connection_are_cut_off_at_the_limit(attacked: Attacked) -> None:
    chunk, errors = b" " * (1 << 20), attacked.errors
    for greet, first in ((False, b'{"digest":['), (True, b'{"deltas":['), (True, b"\1\x00\x3f\xff\xff")):
        sent, before, most = 0, rss(), 0
        with suppress(ConnectionError, ssl.SSLError), attacked.connect() as connection:
            if greet:
                connection.greet()
            connection.send(connection.frames(first))
            while sent < 200:
                connection.send(connection.frames(chunk))
                sent += 1
                most = max(most, rss() - before)
        assert sent < 60  # what sockets hold is sent too
        assert most < (3.5 if b"\1" in first else 2) * LIMIT  # with what the attacker holds, and the text of a whole frame
        attacked.until(lambda: bool(errors))
    assert all(isinstance(error, MessageError) for error in errors)
    attacked.serves()


@pytest.mark.untraced
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="the system does not tell how much memory a process has")
@pytest.mark.parametrize("attacked", ["tcp", "tls", "sealed"], indirect=True)
def test_what_was_cut_off_is_not_held(attacked: Attacked) -> None:
    before, held = rss(), b"x" * (LIMIT - (1 << 19))
    for greet in (True, False) * 10:
        with suppress(ConnectionError, ssl.SSLError), attacked.connect() as connection:
            if greet:
                connection.greet()
            connection.send(connection.frames(b'{"deltas":["' + held))
            connection.finish()
    assert rss() - before < 5 * LIMIT
    attacked.serves()


@pytest.mark.untraced
@members
def test_a_character_that_is_cut_between_two_chunks_arrives_whole(attacked: Attacked) -> None:
    a = attacked.a
    attacked.say(message(digest=[{"id": "x", "maxVersionSeen": 5, "transport": AT}], sender=SENDER))
    attacked.until(lambda: a.peer("x") is not None)
    data = json.dumps({"deltas": [["x", "k", "é" * 50, 5]], "sender": SENDER}, ensure_ascii=False).encode() + b"\r\n"
    with attacked.connect() as connection:
        connection.greet()
        for start in range(0, len(data), 7):
            connection.send(connection.frames(data[start : start + 7]))
        attacked.until(lambda: a.get("x", "k") == "é" * 50)
    attacked.serves()


@pytest.mark.untraced
@members
def test_a_forged_delta_blocks_no_keys(attacked: Attacked) -> None:
    for version in (10**15, int(time.time() * 1e6) + 10**9, MAX_VERSION):  # past, soon, and the last
        attacked.say(message(deltas=[["b", "k", "forged", version]], sender=SENDER))
        attacked.serves()
        assert attacked.b.get("b", "k") == attacked.a.get("b", "k") != "forged"


def _lists(count: int) -> bytes:
    return message(deltas=[["x", "k", [[]] * count, 5]], sender=SENDER)


BOMBS = [
    zlib.compress(b" " * 30_000_000, 9),
    zlib.compress(zlib.compress(b" " * 10**8)),
    zlib.compress(_lists(4_000_000), 9),  # 16 KB, a thousand to one
]


@pytest.mark.untraced
def test_deflate_bombs_are_refused_at_once(attacked: Attacked) -> None:
    before, expected = rss(), len(BOMBS) if attacked.way.member else 1
    start = time.process_time()
    for bomb in BOMBS:
        attacked.say_frames(b"\1" + len(bomb).to_bytes(4, "big") + bomb)
    attacked.until(lambda: len(attacked.errors) >= expected)
    assert time.process_time() - start < 0.2 * len(BOMBS)  # with what the attacker does
    assert rss() - before < LIMIT
    attacked.serves()


def _record(kind: int, data: bytes) -> bytes:
    return bytes((kind, 3, 3)) + len(data).to_bytes(2, "big") + data


#: Records of TLS: handshakes whose messages are empty or 16 MB long, warnings, changes of ciphers, data, and nothing.
FLOODS = [
    _record(22, bytes(1 << 14)),
    _record(22, b"\1\xff\xff\xff" + bytes((1 << 14) - 4)),
    _record(21, b"\1\x5a"),
    _record(20, b"\1"),
    _record(23, bytes(1 << 14)),
    _record(22, b""),
]


@pytest.mark.untraced
@pytest.mark.parametrize("attacked", ["tls, no certificate"], indirect=True)
def test_floods_of_tls_records_are_cut_off(attacked: Attacked) -> None:
    before, start = rss(), time.process_time()
    for first in (client_hello(), b""):
        for record in FLOODS:
            sent, data = 0, record * ((1 << 17) // len(record))
            with suppress(ConnectionError, ssl.SSLError), attacked.connect() as connection:
                connection.send(first)
                while sent < 200:
                    connection.send(data)
                    sent += 1
            assert sent < 60
    assert time.process_time() - start < 2
    assert rss() - before < LIMIT
    attacked.serves()


@pytest.mark.untraced
@pytest.mark.parametrize("attacked", ["sealed"], indirect=True)
def test_records_that_are_cut_repeated_moved_or_altered_end_their_link_and_nothing_of_them_is_taken(attacked: Attacked) -> None:
    forged = message(deltas=[["b", "k", "forged", int(time.time() * 1e6) + 10**9]], sender=SENDER) + b"\r\n"
    for change in (
        lambda one, two: one[:-1] + two,
        lambda one, two: one[:1] + b"\0\x18" + one[3:] + two,
        lambda one, two: one[:1] + b"\0\0" + one[1:],
        lambda one, two: two + one,
        lambda one, two: one[:11] + two[11:],  # the nonce of another
        lambda one, two: one[:-1] + bytes((one[-1] ^ 1,)) + two,
        lambda one, two: forged,
    ):
        with attacked.connect() as connection:
            connection.greet()
            connection.send(change(connection.frames(forged), connection.frames(forged)))
            connection.finish()
        attacked.until(lambda: bool(attacked.errors))
        assert attacked.b.get("b", "k") == attacked.a.get("b", "k") != "forged"
    assert {type(error) for error in attacked.errors} <= {SealError, MessageError}
    attacked.serves()


@pytest.mark.untraced
@pytest.mark.parametrize("way", WAYS)
def test_peers_that_are_slow_or_silent_are_dropped_at_their_deadline_and_delay_no_news(way: str) -> None:
    figures = measure(way, [*KINDS], 90, deadline=0.4, updates=8)
    assert figures.left == 0
    assert figures.during < max(2 * figures.before, 20)
    assert figures.grown < 16


def test_invented_peers_stay_within_the_limit_and_are_gone_an_hour_later() -> None:
    found = flood(2_000, max_peers=300, gossip_interval=10_000)
    assert (found.known, found.left) == (300, 0)
    assert found.minutes <= 7
    assert found.delay < 1_000
