"""The resolver: numbers at once, names on threads, and nobody waits for a name that hangs."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from gossipmonger.errors import Reporter
from gossipmonger.transport import resolver as resolver_module
from gossipmonger.transport.address import Address
from gossipmonger.transport.resolver import Resolver
from tests.transport.tcp.net import until

V4 = Address(socket.AF_INET, ("127.0.0.1", 5))


class Names:
    """Stands in for getaddrinfo: what it says of a name are numbers, or an error. Names can be made to hang."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.hanging: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        self.changed = threading.Condition()
        self.original = socket.getaddrinfo

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        if not host.endswith(".example"):
            return self.original(host, port, *args, **options)
        with self.changed:
            self.asked.append(host)
            self.changed.notify_all()
        if host in self.hanging:
            self.hanging[host].wait(10)
        if isinstance(self.names.get(host), list):
            return [answer for number in self.names[host] for answer in self.original(number, port, *args, **options)]
        raise self.names.get(host) or socket.gaierror("no such name")

    def hang(self, *hosts: str) -> None:
        for host in hosts:
            self.hanging[host] = threading.Event()

    def wait(self, asked: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= asked, 10), self.asked


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    yield names
    for event in names.hanging.values():
        event.set()


@pytest.fixture
def resolver(names: Names) -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.close()
    for event in names.hanging.values():
        event.set()
    for thread in resolver._threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in resolver._threads)


class Answers:
    """What `then` is called with."""

    def __init__(self) -> None:
        self.given: queue.Queue[Any] = queue.Queue()

    def __call__(self, found: list[Address] | Exception) -> None:
        self.given.put((found, threading.current_thread()))

    def next(self) -> Any:
        return self.given.get(timeout=10)[0]


def resolved(resolver: Resolver, host: str, port: int = 5) -> Any:
    answers = Answers()
    resolver.resolve(host, port, answers)
    return answers.next()


def test_a_number_is_answered_here_and_now_and_takes_no_thread(resolver: Resolver, names: Names) -> None:
    for host, address in (
        ("127.0.0.1", V4),
        ("::1", Address(socket.AF_INET6, ("::1", 5, 0, 0))),
        ("::ffff:127.0.0.1", Address(socket.AF_INET6, ("::ffff:127.0.0.1", 5, 0, 0))),
    ):
        answers = Answers()
        resolver.resolve(host, 5, answers)
        assert answers.given.get_nowait() == ([address], threading.current_thread())
        assert resolver.known(host, 5) == [address]
    assert (resolver._threads, names.asked) == ([], [])


def test_an_address_of_one_link_names_its_interface(resolver: Resolver, names: Names) -> None:
    with mock.patch.object(socket, "getaddrinfo", return_value=[(socket.AF_INET6, 1, 6, "", ("fe80::1", 5, 0, 3))]):
        assert resolver.known("fe80::1%eth0", 5) == [Address(socket.AF_INET6, ("fe80::1", 5, 0, 3))]
    error = resolved(resolver, "fe80::1%no.such.interface")
    assert isinstance(error, OSError)


def test_a_name_is_all_its_addresses_each_once_on_a_daemon_thread_that_stays(resolver: Resolver, names: Names) -> None:
    names.names["a.example"] = ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    threads = set()
    for _ in range(3):
        answers = Answers()
        resolver.resolve("a.example", 5, answers)
        found, thread = answers.given.get(timeout=10)
        assert found == [V4, Address(socket.AF_INET, ("127.0.0.2", 5))]
        threads.add(thread)
    assert [(thread.name, thread.daemon) for thread in threads] == [("gossipmonger-resolver", True)]
    assert names.asked == ["a.example"] * 3  # names move


def test_who_asks_for_a_name_that_is_being_resolved_gets_the_same_answer(resolver: Resolver, names: Names) -> None:
    names.names["a.example"] = ["127.0.0.1"]
    names.hang("a.example")
    answers = [Answers() for _ in range(3)]
    for port, each in enumerate(answers):
        resolver.resolve("a.example", port, each)
    names.wait(1)
    names.hanging["a.example"].set()
    assert [each.next() for each in answers] == [[Address(socket.AF_INET, ("127.0.0.1", port))] for port in range(3)]
    assert names.asked == ["a.example"]


@pytest.mark.parametrize("host", ["", ".", "x" * 64 + ".no.name", "\0", "\ud800", "a b", "😀" * 100])
def test_what_is_no_name_is_an_answer_too(resolver: Resolver, host: str) -> None:
    found = resolved(resolver, host)
    assert isinstance(found, (OSError, ValueError, list))
    assert isinstance(resolved(resolver, "nobody.example"), socket.gaierror)


def test_a_name_without_an_address_that_we_can_use_is_an_error(resolver: Resolver) -> None:
    with mock.patch.object(socket, "getaddrinfo", return_value=[(12345, 1, 6, "", ("x", 5))]):
        error = resolved(resolver, "odd.example")
    assert (type(error), str(error)) == (OSError, "'odd.example' has no address")


# What hangs


def test_a_name_that_hangs_delays_no_other(resolver: Resolver, names: Names) -> None:
    names.names["a.example"] = ["127.0.0.1"]
    hanging = [f"h{number}.example" for number in range(7)]
    names.hang(*hanging)
    slow, answers = Answers(), Answers()
    for host in hanging:
        resolver.resolve(host, 5, slow)
    resolver.resolve("a.example", 5, answers)
    assert answers.next() == [V4]
    assert slow.given.empty()
    assert len(resolver._threads) == 8


def test_names_that_hang_when_they_are_asked_for_first_starve_no_other(resolver: Resolver, names: Names) -> None:
    names.names.update({"a.example": ["127.0.0.1"], "b.example": ["127.0.0.1"]})
    hanging = [f"h{number}.example" for number in range(100)]
    names.hang(*hanging)
    slow, answers = Answers(), Answers()
    for host in (*hanging, "a.example"):
        resolver.resolve(host, 5, slow if host != "a.example" else answers)
    assert answers.next() == [V4]
    resolver.resolve("b.example", 5, answers)
    assert answers.next() == [V4]
    assert slow.given.empty()
    for host in hanging:
        names.hanging[host].set()
    for _ in hanging:
        assert isinstance(slow.next(), socket.gaierror)
    until(lambda: len(resolver._threads) == 8)  # the others have nothing to do


def test_names_that_were_resolved_before_have_threads_of_their_own(
    resolver: Resolver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "_MOST_THREADS", 10)
    names.names.update({"a.example": ["127.0.0.1"], "b.example": ["127.0.0.1"]})
    assert resolved(resolver, "a.example") == [V4]
    hanging = [f"h{number}.example" for number in range(30)]
    names.hang(*hanging)
    slow = Answers()
    for host in hanging:
        resolver.resolve(host, 5, slow)
    names.wait(1 + 10 - 4)
    for _ in range(3):
        assert resolved(resolver, "a.example") == [V4]
    assert len([host for host in names.asked if host in hanging]) == 10 - 4
    assert slow.given.empty()


def test_names_that_took_long_take_half_of_the_threads_at_most(
    resolver: Resolver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "_SLOW", -1.0)
    slow = [f"s{number}.example" for number in range(20)]
    names.names.update({host: ["127.0.0.1"] for host in (*slow, "a.example", "b.example")})
    for host in slow:
        assert resolved(resolver, host) == [V4]
    monkeypatch.setattr(resolver_module, "_SLOW", 3_600.0)
    names.hang(*slow)
    del names.asked[:]
    answers = Answers()
    for host in slow:
        resolver.resolve(host, 5, answers)
    names.wait(4)
    for host in ("a.example", "b.example"):
        assert resolved(resolver, host) == [V4]
    assert len([host for host in names.asked if host in slow]) == 4
    for host in slow:
        names.hanging[host].set()
    assert [answers.next() for _ in slow] == [[V4]] * 20
    assert len(names.asked) == 22
    assert resolver._slow == set()  # they were quick this time


def test_there_are_eight_threads_as_long_as_they_get_through(
    resolver: Resolver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "_PATIENCE", 3_600.0)
    hanging = [f"h{number}.example" for number in range(30)]
    names.hang(*hanging)
    answers = Answers()
    for host in hanging:
        resolver.resolve(host, 5, answers)
    names.wait(8)
    assert (len(resolver._threads), len(names.asked)) == (8 + 1, 8)  # one waits to see whether more are needed
    for host in hanging:
        names.hanging[host].set()
    assert all(isinstance(answers.next(), socket.gaierror) for _ in hanging)


# What is known


def test_a_name_is_known_once_it_has_been_resolved(resolver: Resolver, names: Names) -> None:
    names.names["a.example"] = ["127.0.0.1"]
    names.hang("a.example")
    assert resolver.known("a.example", 5) is None
    names.wait(1)
    assert resolver.known("a.example", 5) is None  # and it is not asked for twice
    names.hanging["a.example"].set()
    until(lambda: resolver.known("a.example", 5) == [V4])
    assert resolver.known("a.example", 6) == [Address(socket.AF_INET, ("127.0.0.1", 6))]
    assert names.asked == ["a.example"]


def test_a_name_that_nobody_knows_is_asked_for_again(resolver: Resolver, names: Names) -> None:
    for count in (1, 2):
        assert resolver.known("a.example", 5) is None
        names.wait(count)
        until(lambda: not resolver._waiting)
    assert names.asked == ["a.example"] * 2


def test_old_addresses_are_used_while_a_name_is_resolved_anew(
    resolver: Resolver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(resolver_module, "monotonic", lambda: now[0])
    names.names["a.example"] = ["127.0.0.1"]
    resolved(resolver, "a.example")
    now[0] += 30.0
    assert resolver.known("a.example", 5) == [V4]
    assert names.asked == ["a.example"]  # it is not old yet
    now[0] += 0.1
    names.names["a.example"] = ["127.0.0.2"]
    names.hang("a.example")
    assert resolver.known("a.example", 5) == [V4]
    names.wait(2)
    assert resolver.known("a.example", 5) == [V4]
    names.hanging["a.example"].set()
    until(lambda: resolver.known("a.example", 5) == [Address(socket.AF_INET, ("127.0.0.2", 5))])
    now[0] += 31.0
    del names.names["a.example"]
    resolver.known("a.example", 5)
    until(lambda: resolver.known("a.example", 5) is None)  # what has lost its name is not there


def test_so_many_names_are_remembered_the_latest(resolver: Resolver, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "_CAPACITY", 3)
    monkeypatch.setattr(resolver_module, "_SLOW", -1.0)
    for number in range(5):
        names.names[f"n{number}.example"] = ["127.0.0.1"]
        resolved(resolver, f"n{number}.example")
    assert [*resolver._known] == ["n2.example", "n3.example", "n4.example"]
    assert len(resolver._slow) == 3


# What fails


def test_what_then_raises_is_reported_and_the_thread_goes_on(
    resolver: Resolver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: queue.Queue[Any] = queue.Queue()
    monkeypatch.setattr(Reporter, "report", lambda _, error: reported.put(error))
    names.names["a.example"] = ["127.0.0.1"]
    error = SystemExit(1)
    resolver.resolve("a.example", 5, mock.Mock(side_effect=error))
    assert reported.get(timeout=10) is error
    assert resolved(resolver, "a.example") == [V4]
    assert len(resolver._threads) == 1


def test_without_any_thread_it_raises_and_is_tried_again(resolver: Resolver, names: Names) -> None:
    names.names["a.example"] = ["127.0.0.1"]
    calls: list[Callable[[], object]] = [
        lambda: resolver.resolve("a.example", 5, Answers()),
        lambda: resolver.known("a.example", 5),
    ]
    for call in calls:
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
            with pytest.raises(RuntimeError, match="no thread"):
                call()
    assert resolved(resolver, "a.example") == [V4]


def test_without_another_thread_a_name_waits_for_the_threads_that_there_are(resolver: Resolver, names: Names) -> None:
    names.names.update({"a.example": ["127.0.0.1"], "b.example": ["127.0.0.1"]})
    names.hang("a.example")
    answers = Answers()
    resolver.resolve("a.example", 5, answers)
    names.wait(1)
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
        resolver.resolve("b.example", 6, answers)
    names.hanging["a.example"].set()
    assert [answers.next(), answers.next()] == [[V4], [Address(socket.AF_INET, ("127.0.0.1", 6))]]


# Its end


def test_close_ends_the_threads_and_nobody_is_told_anything_any_more(resolver: Resolver, names: Names) -> None:
    names.names.update({"a.example": ["127.0.0.1"], "b.example": ["127.0.0.1"]})
    names.hang("a.example")
    resolved(resolver, "b.example")
    answers = Answers()
    resolver.resolve("a.example", 5, answers)
    names.wait(2)
    resolver.close()
    resolver.close()
    resolver.resolve("b.example", 5, answers)
    names.hanging["a.example"].set()
    for thread in resolver._threads:
        thread.join(10)
        assert not thread.is_alive()
    assert answers.given.empty()
    resolver.resolve("127.0.0.1", 5, answers)
    assert answers.next() == [V4]
    assert names.asked == ["b.example", "a.example"]


def test_the_helpers_require_the_lock(resolver: Resolver) -> None:
    for call in (
        resolver._grow,
        lambda: resolver._start(lambda: None),
        resolver._take,
        lambda: resolver._remember("a", [], 0, slow=False),
    ):
        with pytest.raises(AssertionError):
            call()


@pytest.mark.parametrize("raised", [MemoryError("no room"), SystemExit(1), TypeError("a replaced getaddrinfo")])
def test_whatever_the_systems_resolver_raises_is_an_answer_and_ends_no_thread(
    resolver: Resolver, names: Names, raised: BaseException
) -> None:
    names.names["bad.example"] = raised
    for _ in range(2):
        error = resolved(resolver, "bad.example")
        assert error is raised or (isinstance(error, OSError) and "SystemExit" in str(error))
    names.names["bad.example"] = ["127.0.0.1"]
    assert resolved(resolver, "bad.example") == [V4]
    assert len(resolver._threads) == 1
