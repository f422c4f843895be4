"""Forks: sockets that are closed in the child, locks that are replaced there, and what a fork waits for."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

import pytest

from gossipmonger.process import Emitter, Tally, after_fork, fork, fresh, marked, own

from ..forks import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")


def test_a_socket_is_closed_in_the_child_and_stays_open_here() -> None:
    one, other = own(socket.socketpair)
    alone = own(socket.socket)
    assert in_child(lambda: [each.fileno() for each in (one, other, alone)]) == "[-1, -1, -1]"
    one.send(b"x")
    assert other.recv(1) == b"x"
    for each in (one, other, alone):
        each.close()


def test_what_making_a_socket_raises_is_raised_and_forks_go_on() -> None:
    with pytest.raises(ZeroDivisionError):
        own(lambda: 1 / 0)
    assert in_child(lambda: "well") == "well"


def test_a_fork_waits_until_a_socket_that_is_being_made_is_known() -> None:
    making, go_on = threading.Event(), threading.Event()
    made: list[socket.socket] = []

    def make() -> socket.socket:
        made.append(socket.socket())
        making.set()
        go_on.wait(10)
        return made[0]

    maker = threading.Thread(target=lambda: own(make))
    maker.start()
    assert making.wait(10)
    threading.Timer(0.05, go_on.set).start()
    assert in_child(lambda: made[0].fileno()) == "-1"
    maker.join(10)
    made[0].close()


def test_a_fork_waits_only_so_long_and_the_child_can_make_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "_PATIENCE", 0.01)
    making, go_on = threading.Event(), threading.Event()

    def make() -> tuple[()]:
        making.set()
        go_on.wait(10)
        return ()

    maker = threading.Thread(target=lambda: own(make))
    maker.start()
    assert making.wait(10)
    assert in_child(lambda: own(socket.socket).fileno() > 0) == "True"
    go_on.set()
    maker.join(10)


def test_a_fork_that_interrupts_a_call_waits_for_nothing_that_the_call_holds() -> None:
    with marked(), fork._making:
        assert in_child(lambda: fork._making.locked()) == "True"  # the child goes on in the same call
    assert in_child(lambda: own(socket.socket).fileno() > 0) == "True"


def test_things_are_told_in_the_child_as_long_as_they_live() -> None:
    class Thing:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.forked = False

        def fork_lock(self) -> Any:
            return self.lock

        def after_fork(self) -> None:
            self.forked = True
            self.lock = fresh(self.lock)

    class Broken(Thing):
        def after_fork(self) -> None:
            raise RuntimeError

    thing, broken = Thing(), Broken()
    after_fork(broken)
    after_fork(thing)
    assert in_child(lambda: (thing.forked, thing.lock.locked())) == "(True, False)"
    assert (thing.forked, thing.lock.locked()) == (False, False)


def test_a_lock_that_somebody_holds_is_another_one_in_the_child() -> None:
    tally = Tally()
    tally.add("a")
    with tally._tally_lock:
        assert in_child(tally.read) == str({"a": (1, 0.0)})


def test_an_emitter_is_usable_in_a_child_whatever_other_threads_did() -> None:
    emitter = Emitter()
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with emitter._lock:
            holding.set()
            go_on.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(10)
    assert in_child(lambda: emitter.on("x", print) is print) == "True"
    go_on.set()
    holder.join(10)


def test_on_may_interrupt_on() -> None:
    emitter = Emitter()
    with emitter._lock:
        emitter.on("x", print)
        assert emitter.listeners("x") == [print]
