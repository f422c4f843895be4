"""A busy program that is interrupted by signals at random moments; the handlers write, read, close, and raise.

`python -m tests.signals [COUNT] [SEED]` runs so many signals, by default 10,000, and fails if the program hangs, a node that
has not left is seen as one that has, or an update that was accepted is not where it should be.
"""

from __future__ import annotations

import faulthandler
import random
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import gossipmonger
from gossipmonger import ClosedError, Gossipmonger, ReentrantError
from gossipmonger.process import here

from .forks import make, start

#: Seconds within which anything must end.
LIMIT = 100

KEYS = 20

PACKAGE = str(Path(gossipmonger.__file__).parent)


class Interruption(BaseException):
    """What some handlers raise, as the one for Ctrl-C does."""


@dataclass
class Report:
    """What came of it.

    Attributes:
        signals: How many were handled.
        deferred: Of their updates, those that could not be made at once.
        refused: Of their reads, those that could not be answered.
        raised: Handlers that raised an exception.
        closed: Nodes that a handler closed.
        lost: Updates that did not arrive.
        false: Farewells and deaths of a node that was there all the time.
    """

    signals: int = 0
    deferred: int = 0
    refused: int = 0
    raised: int = 0
    closed: int = 0
    lost: int = 0
    false: int = 0


def can_raise(interrupted: FrameType | None) -> bool:
    """Whether an exception reaches the program, which catches it around an episode.

    It has to interrupt a call of the package, and not in a callback of a weakref or, as Hypothesis has one, of the garbage
    collector. That call may be another handler's, which may have interrupted the program between two episodes, where nobody
    catches what comes out of it.
    """
    codes = [frame.f_code for frame, _ in traceback.walk_stack(interrupted)]
    files = [code.co_filename for code in codes]
    caught = any(code is Program.episode.__code__ for code in codes)
    swallowed = any(file.endswith(("_weakrefset.py", "junkdrawer.py")) for file in files)
    return caught and any(file.startswith(PACKAGE) for file in files) and not swallowed


class Program:
    """Two nodes that last, `a` and `b`, and one after the other that a handler closes.

    Args:
        seed: Where all randomness comes from, except that signals come when they come.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.report = Report()
        self.expected: dict[str, int] = {}
        self.b = start(make("b"))
        self.a = start(make("a", self.b))
        self.left = 0  # signals until the short-lived node is closed
        self.goal = 0
        self.short: Gossipmonger | None = None  # which a handler is to close
        self.made: list[Gossipmonger] = []  # all that were short-lived; an exception may keep one from being closed at once
        for event in ("peer left", "peer dead"):
            self.b.on(event, lambda peer: self.judge(peer.id))

    def judge(self, id: str) -> None:
        if id == "a" and not self.a.closed:
            self.report.false += 1

    def handle(self, _: int, interrupted: FrameType | None) -> None:
        report, draw = self.report, self.random
        report.signals += 1
        report.deferred += here().marked
        key, value = f"signal {draw.randrange(KEYS)}", report.signals
        assert self.a.update(key, value) is True
        self.expected[key] = value
        if report.signals < self.goal or self.short is not None:  # from here on, another signal may interrupt this one
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.0001, 0.003))
        try:
            self.a.get("b", "k")
            self.b.peers()
        except ReentrantError:
            report.refused += 1
        short = self.short
        if short is not None:
            self.left -= 1
            if self.left <= 0:
                self.short = None
                report.closed += 1
                short.close()
        if draw.random() < 0.1 and can_raise(interrupted):
            report.raised += 1
            raise Interruption

    def run(self, count: int) -> Report:
        """Handle so many signals."""
        self.goal = count
        faulthandler.dump_traceback_later(LIMIT + count / 50, exit=True)
        former = signal.signal(signal.SIGALRM, self.handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        try:
            while True:
                try:
                    if self.report.signals >= count:
                        break
                    self.episode()
                except (Interruption, ClosedError, OSError):  # the last if no port is free for a moment
                    pass
        finally:
            self.end(former)
        return self.report

    def episode(self) -> None:
        """Start a short-lived node, and work until a handler has closed it."""
        short = make("short", self.a, udp=self.random.random() < 0.5)
        self.made.append(short)
        try:
            start(short)
            self.left = self.random.randrange(1, 60)
            self.short = short
            while self.report.signals < self.goal:
                self.work(short)
        finally:
            self.close(short)

    def work(self, short: Gossipmonger) -> None:
        try:
            node = self.random.choice([self.a, self.b, short])
            what = self.random.random()
            if what < 0.6:
                node.update(f"k{self.random.randrange(KEYS)}", self.random.random())
            elif what < 0.7:
                node.delete(f"k{self.random.randrange(KEYS)}")
            elif what < 0.9:
                node.get("a", "k1")
            elif what < 0.95:
                node.peers()
            elif what < 0.96:
                node.gossip()
            else:
                node.remove_listener("delete", node.on("delete", lambda *_: None))
            assert not here().marked
        except Interruption:
            pass

    def close(self, short: Gossipmonger) -> None:
        while not short.wait(0):
            try:
                self.short = None
                short.close()
            except Interruption:
                pass

    def end(self, former: Any) -> None:
        while True:
            try:
                self.short = None
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, former)
                break
            except Interruption:
                pass
        with suppress(TimeoutError):
            self.b.wait_for(lambda: self.arrived(self.b), timeout=20)
        self.report.lost = 0 if self.arrived(self.a) and self.arrived(self.b) else 1
        for node in (*self.made, self.a, self.b):
            node.close()
        faulthandler.cancel_dump_traceback_later()

    def arrived(self, node: Gossipmonger) -> bool:
        peer = node.peer("a")
        return peer is not None and {key: peer.data.get(key) for key in self.expected} == self.expected


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**9)
    print(f"seed {seed}", flush=True)
    begun = time.monotonic()
    report = Program(seed).run(count)
    print(f"{report} in {time.monotonic() - begun:.0f} s")
    return int(report.lost or report.false)


if __name__ == "__main__":
    sys.exit(main())
