"""Seven hosts, each in a network namespace of its own, joined by a router that loses, delays and blocks packets.

Each transport goes through the same faults, one after the other, in a minute or so. Throughout, no node is taken for dead that
can be heard; an update reaches everybody who can be reached; who is gone is seen to be gone, and who is back to be back.
"""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.network import Lossy, NetworkError
from tests.certificates import Certificates
from tests.far import Far, until

NODES = 7
PORT = 9742

#: Milliseconds. A death is seen after some 25 rounds, so everything takes a quarter of the time that it takes with the default.
INTERVAL = 250

#: Seconds that anything may take. The machine may have much else to do.
LIMIT = 40.0

#: Seconds for which certificates are valid: for an hour, they would have expired for a node whose clock is set forward by one.
DAY = 86_400.0

#: Seconds that a process stands still.
STOPPED = 30.0


class Hosts:
    """The hosts and their nodes, which are called by their numbers. The first two are the seeds.

    Attributes:
        nodes: Those that run.
        figures: What was measured, by the fault: seconds until each update was everywhere, or that something took.
    """

    def __init__(self, network: Lossy, transport: str, folder: Path) -> None:
        self.network = network
        self.changed = threading.Condition()
        self.nodes: dict[int, Far] = {}
        self.figures: dict[str, list[float]] = {}
        self._transport = transport
        self._certificates = Certificates(folder) if transport == "tls" else None
        self._tag = 0

    def start(self, number: int, host: str | None = None, **more: Any) -> None:
        """Start a node, at the host's address or at this one."""
        host = host or self.network.address(number)[0]
        seeds = [f"{self.network.address(seed)[0]}:{PORT}" for seed in (0, 1) if seed != number]
        config = {"id": f"n{number}", "host": host, "port": PORT, "seeds": seeds, "options": {"gossip_interval": INTERVAL}}
        if self._certificates is not None:
            config["tls"] = [str(self._certificates.ca), *map(str, self._certificates.issue(f"n{number}", [host], DAY))]
        config |= {"udp": self._transport == "udp", **more}
        self.nodes[number] = Far(self.changed, config, self.network.prefix(number))

    def until(self, reached: Callable[[], Any], seconds: float = LIMIT) -> float:
        return until(self.changed, reached, seconds, lambda: "; ".join(map(str, self.nodes.values())))

    def until_live(self, numbers: Collection[int]) -> float:
        """Wait until each of these takes each of them for live."""
        ids = {f"n{number}" for number in numbers}
        return self.until(lambda: all(ids - {f"n{n}"} <= self.nodes[n].live for n in numbers))

    def until_dead(self, dead: Iterable[int], observers: Iterable[int]) -> float:
        """Wait until each of the ones is dead to each of the others."""
        ids, observers = {f"n{number}" for number in dead}, set(observers)
        return self.until(lambda: not any(ids & self.nodes[n].live for n in observers))

    def agree(self, numbers: Collection[int], writers: Collection[int] = ()) -> float:
        """Let nodes write, and wait until all of these have it."""
        self._tag += 1
        writers = writers or numbers
        for n in writers:
            self.nodes[n].tell("update", "tag", self._tag)
        others = [(self.nodes[n], f"n{m}") for n in numbers for m in writers if m != n]
        return self.until(lambda: all(node.tags.get(id) == self._tag for node, id in others))

    def write(self, fault: str, numbers: Collection[int], seconds: float) -> None:
        """For so long, let one after the other write, each when all have what the former has written."""
        times, end = self.figures.setdefault(fault, []), time.monotonic() + seconds
        while time.monotonic() < end:
            writer = [*numbers][len(times) % len(numbers)]
            times.append(self.agree(numbers, [writer]))

    def deaths(self) -> set[tuple[int, int]]:
        """Return who has taken whom for dead since this was last asked."""
        with self.changed:
            found = {(n, int(id[1:])) for n, node in self.nodes.items() for id in node.deaths}
            for node in self.nodes.values():
                node.deaths.clear()
        return found

    def note(self, what: str, seconds: float) -> None:
        self.figures[what] = [seconds]

    def kill(self, number: int) -> None:
        self.nodes.pop(number).kill()

    def close(self) -> None:
        for number in list(self.nodes):
            self.kill(number)
        self.network.close()

    def __str__(self) -> str:
        """The figures: of each fault, how many there are, their median, and the most."""
        return "\n".join(
            f"{fault}: {len(times)}, {statistics.median(times):.2f}, {max(times):.2f}" for fault, times in self.figures.items()
        )


@pytest.fixture
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosts]:
    try:
        network = Lossy(NODES, loss=0, delay=1, jitter=0)
    except NetworkError as error:
        pytest.skip(f"seven hosts: {error}")
    with closing(Hosts(network, request.param, tmp_path)) as made:
        yield made


@pytest.mark.untraced
@pytest.mark.timeout(240)
@pytest.mark.parametrize("hosts", ["tcp", "tls", "udp"], indirect=True)
def test_seven_hosts_keep_every_promise_on_a_bad_network(hosts: Hosts) -> None:
    seeds_are_down_at_the_start(hosts)
    packets_are_lost_while_one_process_stands_still_and_another_is_killed(hosts)
    both_are_back_one_of_them_elsewhere_and_in_the_past(hosts)
    one_cannot_reach_another(hosts)
    nobody_hears_one(hosts)
    halves_are_apart_and_meet_again(hosts)
    print(hosts)


def everybody() -> range:
    return range(NODES)


def seeds_are_down_at_the_start(hosts: Hosts) -> None:
    for number in range(2, NODES):
        hosts.start(number)
    hosts.until(lambda: all(node.rounds >= 4 for node in hosts.nodes.values()))
    assert not any(node.live for node in hosts.nodes.values())
    for number in (0, 1):
        hosts.start(number)
    hosts.until(lambda: hosts.nodes[0].listening and hosts.nodes[1].listening)
    hosts.note("all know all, after the seeds are up", hosts.until_live(everybody()))
    hosts.agree(everybody())
    assert hosts.deaths() == set()


def packets_are_lost_while_one_process_stands_still_and_another_is_killed(hosts: Hosts) -> None:
    rest = range(5)
    hosts.nodes[5].signal(signal.SIGSTOP)
    began = time.monotonic()
    for loss in (0.01, 0.05):
        hosts.network.change(loss=loss)
        hosts.write(f"an update, {loss:.0%} lost", (*rest, 6), 5)
    hosts.network.change(loss=0.2)
    hosts.write("an update, 20% lost", (*rest, 6), 5)
    assert hosts.deaths() <= {(n, 5) for n in (*rest, 6)}
    hosts.kill(6)
    hosts.note("a death, 20% lost", hosts.until_dead([6], rest))
    hosts.network.change(loss=0, delay=100, jitter=50)  # so they overtake each other, too
    hosts.write("an update, 100 ms give or take 50", rest, began + STOPPED - time.monotonic())
    hosts.until_dead([5], rest)
    assert hosts.deaths() <= {(n, gone) for n in rest for gone in (5, 6)}
    hosts.network.change(delay=1, jitter=0)


def both_are_back_one_of_them_elsewhere_and_in_the_past(hosts: Hosts) -> None:
    hosts.nodes[5].signal(signal.SIGCONT)
    hosts.note("life again after 30 s", hosts.until_live(range(6)))
    moved = hosts.network.move(6)
    hosts.start(6, moved, step=-3600.0)
    hosts.nodes[2].ask("step", 3600.0)
    hosts.until(lambda: hosts.nodes[6].listening)
    hosts.note("life at another address", hosts.until_live(everybody()))
    hosts.agree(everybody())
    hosts.nodes[2].ask("step", -7200.0)
    hosts.write("an update, clocks are stepped", everybody(), 2)
    assert {node.ask("address", "n6") for node in hosts.nodes.values()} == {moved}
    assert hosts.deaths() <= {(5, 6)}  # the one may have missed the death of the other until then


def one_cannot_reach_another(hosts: Hosts) -> None:
    hosts.network.change(blocked=[(3, 4)])
    hosts.write("an update, one cannot reach one", everybody(), 25 * INTERVAL / 1000 + 2)
    assert hosts.deaths() == set()
    hosts.network.change(blocked=[])


def nobody_hears_one(hosts: Hosts) -> None:
    others = [number for number in everybody() if number != 3]
    hosts.network.change(blocked=[(3, other) for other in others])
    hosts.note("a death, nobody hears it", hosts.until_dead([3], others))
    hosts.agree(others)
    hosts.network.change(blocked=[])
    hosts.note("life again, heard again", hosts.until_live(everybody()))
    hosts.agree(everybody())
    mute = {(other, 3) for other in others}
    deaf = {(3, other) for other in others}  # what answers would bring, it does not get
    assert mute <= hosts.deaths() <= mute | deaf


def halves_are_apart_and_meet_again(hosts: Hosts) -> None:
    halves = range(3), range(3, NODES)
    across = [(a, b) for a in halves[0] for b in halves[1]]
    across += [(b, a) for a, b in across]
    hosts.network.change(blocked=across)
    took = [hosts.until_dead(theirs, mine) for mine, theirs in (halves, halves[::-1])]
    hosts.note("deaths of the other half", sum(took))
    for half in halves:
        hosts.agree(half)
    assert hosts.deaths() == set(across)
    hosts.network.change(blocked=[])
    hosts.note("one cluster again", hosts.until_live(everybody()))
    hosts.agree(everybody())
    states = [node.ask("state") for node in hosts.nodes.values()]
    assert all(state == states[0] for state in states)
    assert hosts.deaths() == set()
