"""Addresses: numbers at once, names by a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gossipmonger.transport.tcp.pool import Pool
from gossipmonger.transport.udp import addresses
from gossipmonger.transport.udp.addresses import Address, Addresses

V4 = Address(socket.AF_INET, ("127.0.0.1", 5))


class Resolver:
    """Stands in for getaddrinfo: what it says of a name are numbers, or an error. It can be made to wait."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.asked: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.changed = threading.Condition()
        self.original = socket.getaddrinfo

    def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        if options["flags"] == socket.AI_NUMERICHOST or not host.endswith(".example"):
            return self.original(host, port, **options)
        with self.changed:
            self.asked.append(host)
            self.changed.notify_all()
        self.open.wait(10)
        if host not in self.names:
            raise socket.gaierror("no such name")
        return [answer for number in self.names[host] for answer in self.original(number, port, **options)]

    def wait(self, asked: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= asked, 10), self.asked


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


@pytest.fixture
def known(resolver: Resolver) -> Iterator[Addresses]:
    known = Addresses()
    yield known
    resolver.open.set()
    known.close()


def settle(known: Addresses) -> None:
    """Wait until nothing is being resolved."""
    assert known._pool.join(10)


def test_numbers_are_known_at_once_and_need_no_thread(known: Addresses, resolver: Resolver) -> None:
    threads = threading.active_count()
    for _ in range(2):
        assert known.find("127.0.0.1", 5) == V4
        found = known.find("::1", 5)
        assert found is None or (found.family, found.at[:2]) == (socket.AF_INET6, ("::1", 5))
        assert known.find("127.0.0.1", 6) == Address(socket.AF_INET, ("127.0.0.1", 6))
    assert threading.active_count() == threads
    assert resolver.asked == []


def test_a_name_is_known_once_a_thread_has_resolved_it(known: Addresses, resolver: Resolver) -> None:
    resolver.names["a.example"] = ["127.0.0.1"]
    resolver.open.clear()
    assert known.find("a.example", 5) is None
    resolver.wait(1)
    assert known.find("a.example", 5) is None  # and it is not asked for twice
    resolver.open.set()
    settle(known)
    assert known.find("a.example", 5) == V4
    assert resolver.asked == ["a.example"]


def test_a_name_that_nobody_knows_is_asked_for_again(known: Addresses, resolver: Resolver) -> None:
    for count in (1, 2):
        assert known.find("a.example", 5) is None
        settle(known)
        assert resolver.asked == ["a.example"] * count


@pytest.mark.parametrize("host", ["", ".", "x" * 64 + ".no.name", "\0", "\ud800", "a b", "😀" * 100])
def test_what_is_no_name_is_no_error(known: Addresses, host: str) -> None:
    known.find(host, 5)
    settle(known)
    known.find(host, 5)


def test_an_old_address_is_used_while_its_name_is_resolved_anew(resolver: Resolver) -> None:
    known = Addresses(lifetime=0)
    resolver.names["a.example"] = ["127.0.0.1"]
    known.find("a.example", 5)
    settle(known)
    resolver.names["a.example"] = ["127.0.0.2"]
    assert known.find("a.example", 5) == V4
    settle(known)
    resolver.open.clear()
    assert known.find("a.example", 5) == Address(socket.AF_INET, ("127.0.0.2", 5))
    del resolver.names["a.example"]
    resolver.open.set()
    settle(known)
    assert known.find("a.example", 5) is None  # what has lost its name is not there
    known.close()


def test_a_lifetime_is_kept(known: Addresses, resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(addresses, "monotonic", lambda: now[0])
    resolver.names["a.example"] = ["127.0.0.1"]
    known.find("a.example", 5)
    settle(known)
    now[0] += 29.9
    known.find("a.example", 5)
    settle(known)
    assert len(resolver.asked) == 1
    now[0] += 0.1
    known.find("a.example", 5)
    settle(known)
    assert len(resolver.asked) == 2


def test_of_several_addresses_it_is_the_first_that_there_is_a_way_to(
    known: Addresses, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Routes(socket.socket):
        def connect(self, address: Any) -> None:
            if address[0] == "127.0.0.9":
                raise OSError("no route to host")
            super().connect(address)

    monkeypatch.setattr(socket, "socket", Routes)
    resolver.names["a.example"] = ["127.0.0.9", "127.0.0.1", "127.0.0.2"]
    resolver.names["b.example"] = ["127.0.0.9", "127.0.0.9"]
    for name in resolver.names:
        known.find(name, 5)
    settle(known)
    assert known.find("a.example", 5) == V4
    assert known.find("b.example", 5) is None


def test_what_is_remembered_is_bounded(known: Addresses, resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_CAPACITY", 3)
    for port in range(1, 6):
        known.find("127.0.0.1", port)
    assert [port for _, port in known._known] == [3, 4, 5]
    resolver.open.clear()
    for port in range(1, 6):
        known.find("a.example", port)
    resolver.open.set()
    settle(known)
    assert len(resolver.asked) == 3


def test_close_ends_the_threads_and_without_one_there_is_no_address(
    known: Addresses, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Pool, "put", lambda *_: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
        assert known.find("a.example", 5) is None
    known.find("a.example", 5)  # asks again
    settle(known)
    assert resolver.asked == ["a.example"]
    known.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "gossipmonger-udp-resolver"]
    for _ in range(2):
        assert known.find("a.example", 5) is None
    assert resolver.asked == ["a.example"]
