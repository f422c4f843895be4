"""A cluster on a virtual clock and a virtual network, for testing programs that gossip: real endpoints, no threads, no waiting.

    sim = Simulation(seed=7, loss=0.01)
    nodes = [sim.add(f"n{i}", seeds=["n0"]) for i in range(100)]
    sim.run_until(lambda: all(len(node.peers()) == 100 for node in nodes), limit=60_000)

Time passes only inside `run` and `run_until`, from one event to the next: a timer that runs out, a message that arrives.
Everything happens on the caller's thread, handlers included. All randomness comes from the seed, so the same calls replay the
same run, byte for byte.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from gossipmonger.endpoint import Gossipmonger, Options
from gossipmonger.endpoint.events import is_async
from gossipmonger.errors import shown
from gossipmonger.process import Latch
from gossipmonger.state.arguments import check_number
from gossipmonger.transport.simulated import LONGEST, Network, SimulatedTransport

__all__ = ["Simulation"]

#: Milliseconds since the epoch at which every simulation begins, in November 2023.
_EPOCH = 1_700_000_000_000.0

#: Options of nodes that the simulation provides, or that mean nothing in it.
_PROVIDED = ("clock", "executor", "listen", "timer", "transport")

#: The least step of `run_until`, in milliseconds. A much smaller one would be lost in the rounding of the clock.
_LEAST_STEP = 0.001


class _Life:
    """One life of one node: from `add` or `restart` to `crash` or `vanish`."""

    def __init__(self, simulation: Simulation, id: str, number: int, ahead: float) -> None:
        self.simulation = simulation
        self.id = id
        self.ahead = ahead
        self.random = Random(f"{simulation.seed} {id} {number}")
        self.over = False
        self.paused_until = 0.0
        self.node: Gossipmonger | None = None

    def begin(self) -> None:
        if self.node is not None and not self.node.closed:
            self.node.gossip()

    def clock(self) -> float:
        return self.simulation.now + self.ahead

    def timer(self, seconds: float, function: Callable[[], None]) -> _Timer:
        return _Timer(self, seconds * 1000, function)

    def pass_time(self, event: Latch, seconds: float) -> None:
        """Let time pass while the node waits, as if it did so on a thread of its own."""
        if not (self.over or self.simulation.closing):
            self.simulation._run_to(self.simulation.now + seconds * 1000, event.is_set)

    def submit(self, function: Callable[[], None]) -> None:
        """Run handlers here and now, as the endpoint's executor."""
        function()


class _Timer:
    """Stands in for a `threading.Timer`."""

    def __init__(self, life: _Life, milliseconds: float, function: Callable[[], None]) -> None:
        self._life = life
        self._milliseconds = milliseconds
        self._function = function
        self._cancelled = False

    def start(self) -> None:
        self._life.simulation._later(self._milliseconds, self._life, self._run)

    def cancel(self) -> None:
        self._cancelled = True

    def _run(self) -> None:
        if not self._cancelled:
            self._function()


class Simulation:
    """Nodes, a network and a clock.

    * Nodes: `add`, `node`, `crash`, `vanish`, `restart`, `pause`
    * Network: `partition`, `heal`; `network` has `latency`, `loss` and `duplication`, which may be changed at any time
    * Time: `now`, `run`, `run_until`, `at`
    * Costs: `messages`, `bytes`

    Times are in milliseconds, finite, and at most ten years. A bad argument raises TypeError or ValueError, and an id that no
    node has ever had raises KeyError.

    Args:
        seed: Where all randomness comes from, an integer.
        latency: Milliseconds from one node to another, or a pair of the least and the most.
        loss: Share of messages that are lost.
        duplication: Share of messages that arrive twice.

    Attributes:
        seed: As above.
        now: Milliseconds since the epoch, virtual.
        network: What carries the messages.
        random: A generator for the caller's own use; nothing else uses it.
        closing: Whether `close` was called.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency: float | tuple[float, float] = 5,
        loss: float = 0,
        duplication: float = 0,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an integer, got {shown(seed)}")
        self.seed = seed
        self.now: float = _EPOCH
        self.closing: bool = False
        self.random: Random = Random(f"{seed} caller")
        self._phases = Random(f"{seed} phases")
        self.network: Network = Network(
            self._later_at, Random(f"{seed} network"), latency=latency, loss=loss, duplication=duplication
        )
        self._due: list[tuple[float, int, _Life | None, Callable[[], None]]] = []
        self._order = itertools.count()
        self._lives: dict[str, _Life] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._births = itertools.count()

    def __enter__(self) -> Simulation:
        """Return the simulation; time does not pass yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all nodes."""
        self.close()

    @property
    def messages(self) -> int:
        """How many messages have been sent so far."""
        return self.network.messages

    @property
    def bytes(self) -> int:
        """How many bytes they had."""
        return self.network.bytes

    # Nodes

    def add(self, id: str, *, seeds: Iterable[str] = (), ahead: float = 0, gossip: bool = True, **options: Any) -> Gossipmonger:
        """Add a node that listens, and begins to gossip at a random moment within its first interval.

        Args:
            id: Its id, and its host's name.
            seeds: Ids of its seeds.
            ahead: Milliseconds that its clock is ahead of `now`.
            gossip: Whether it begins by itself.
            **options: The endpoint's, except for clock, timer, executor and transport, which the simulation provides, and
                listen.

        Raises:
            ValueError: There is a node with this id already.
        """
        if isinstance(id, str) and id in self._lives:
            raise ValueError(f"id must be new, got {id!r}, which another node has")
        return self._start(id, ahead, gossip, {"seeds": seeds, **options})

    def _start(self, id: str, ahead: float, gossip: bool, options: dict[str, Any]) -> Gossipmonger:
        check_number("ahead", ahead, float, -LONGEST, LONGEST, "ms")
        for name in options:
            if name.lower() in _PROVIDED:
                raise TypeError(f"{name} must be left out: the simulation has its own")
        kept = {**options, "seeds": _ids("seeds", options["seeds"])}
        seeds = [{"id": seed, "transport": {"host": seed, "port": 9742}} for seed in kept["seeds"]]
        life = _Life(self, id, next(self._births), ahead)
        options = {"random": life.random, **kept, "seeds": seeds}
        above = Options.parse(None, options).compress_above
        life.node = node = Gossipmonger(
            {"id": id},
            transport=SimulatedTransport(self.network, id, above, life.pass_time),
            clock=life.clock,
            timer=life.timer,
            executor=life,
            **options,
        )
        if id in self._lives:
            self.crash(id)
        self._options[id], self._lives[id] = kept, life
        node.transport.listen()
        if gossip:
            self._later(self._phases.random() * node.options.gossip_interval, life, life.begin)
        return node

    def node(self, id: str) -> Gossipmonger:
        """Return the node with this id, in its latest life.

        Raises:
            KeyError: There has never been one.
        """
        node = self._life(id).node
        assert node is not None
        return node

    def _life(self, id: str) -> _Life:
        if not isinstance(id, str):
            raise TypeError(f"id must be a string, got {shown(id)}")
        if id not in self._lives:
            raise KeyError(f"id must be that of a node of this simulation, got {id!r}")
        return self._lives[id]

    def crash(self, id: str) -> None:
        """End a node without a farewell, as when its process is killed. Does nothing to one that has ended already.

        Its host goes on without it: links to it end, and its address refuses dials. Messages on their way to it are lost.
        """
        if not self._life(id).over:
            self.network.end_links(id)
            self._end(id)

    def vanish(self, id: str) -> None:
        """End a node together with its host, as when power fails: nobody is told anything, and dials get no answer."""
        self._end(id, silent=True)

    def _end(self, id: str, silent: bool = False) -> None:
        self._life(id).over = True
        self.network.detach(id, self.node(id).transport, silent=silent)

    def restart(self, id: str, *, ahead: float = 0, **options: Any) -> Gossipmonger:
        """Begin a new life of a node, with the options of its `add`. A node that still runs crashes first.

        Args:
            id: Its id.
            ahead: Milliseconds that its clock is now ahead of `now`.
            **options: These take precedence over those of `add`. The `storage` of the former life brings its state back;
                without one, the new life begins with nothing.
        """
        self._life(id)
        given = {"storage", *(name.lower() for name in options)}
        former = {name: value for name, value in self._options[id].items() if name.lower() not in given}
        return self._start(id, ahead, True, {**former, **options})

    def pause(self, id: str, milliseconds: float) -> None:
        """Let a node run nothing for so long, like a stopped process; messages to it arrive when it continues."""
        life = self._life(id)
        check_number("milliseconds", milliseconds, float, 0, LONGEST, "ms")
        life.paused_until = max(life.paused_until, self.now + milliseconds)

    # Network

    def partition(self, ids: Iterable[str]) -> None:
        """Cut these nodes off from all others, both ways."""
        cut = _ids("ids", ids)
        for id in cut:
            self._life(id)
        self.network.partition(cut)

    def heal(self) -> None:
        """Undo all partitions."""
        self.network.heal()

    # Time

    def at(self, milliseconds: float, function: Callable[[], None]) -> None:
        """Call `function` so many milliseconds from now."""
        check_number("milliseconds", milliseconds, float, 0, LONGEST, "ms")
        _check_function("function", function)
        self._push(self.now + milliseconds, None, function)

    def run(self, milliseconds: float) -> None:
        """Let so much time pass."""
        check_number("milliseconds", milliseconds, float, 0, LONGEST, "ms")
        self._run_to(self.now + milliseconds)

    def run_until(self, condition: Callable[[], object], limit: float, every: float = 10) -> float:
        """Let time pass until `condition()` is true; return how many milliseconds that took.

        Args:
            condition: Called first, and then whenever `every` milliseconds have passed.
            limit: Milliseconds.
            every: Milliseconds.

        Raises:
            TimeoutError: The condition is still false after `limit` milliseconds.
        """
        _check_function("condition", condition)
        check_number("limit", limit, float, 0, LONGEST, "ms")
        check_number("every", every, float, _LEAST_STEP, LONGEST, "ms")
        start = self.now
        while not condition():
            if self.now - start >= limit:
                raise TimeoutError(f"not within {limit:g} virtual ms, with seed {self.seed}")
            self._run_to(min(self.now + every, start + limit))
        return self.now - start

    def close(self) -> None:
        """Close all nodes that have not crashed or vanished. No time passes while they hand on what is new."""
        self.closing = True
        for life in self._lives.values():
            if life.node is not None and not life.over:
                life.node.close()

    def _run_to(self, end: float, until: Callable[[], bool] = lambda: False) -> None:
        while self._due and self._due[0][0] <= end:
            if until():
                return
            time, _, life, function = heapq.heappop(self._due)
            self.now = max(self.now, time)
            if life is not None and life.over:
                continue
            if life is not None and life.paused_until > self.now:
                self._push(life.paused_until, life, function)
            else:
                function()
        if not until():
            self.now = max(self.now, end)  # which a handler that waited may have passed

    def _push(self, time: float, life: _Life | None, function: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time, next(self._order), life, function))

    def _later(self, milliseconds: float, life: _Life | None, function: Callable[[], None]) -> None:
        self._push(self.now + milliseconds, life, function)

    def _later_at(self, milliseconds: float, host: str, function: Callable[[], None]) -> None:
        self._later(milliseconds, self._lives.get(host), function)


def _ids(name: str, ids: Iterable[str]) -> list[str]:
    """Return ids that a caller gave; raises a TypeError if they are something else."""
    found: list[Any] = list(ids) if isinstance(ids, Iterable) and not isinstance(ids, (str, bytes)) else [None]
    if not all(isinstance(id, str) for id in found):
        raise TypeError(f"{name} must be a list of ids, got {shown(ids)}")
    return found


def _check_function(name: str, function: object) -> None:
    if not callable(function):
        raise TypeError(f"{name} must be callable, got {shown(function)}")
    if is_async(function):
        raise TypeError(f"{name} must be an ordinary function, got the async function {shown(function)}")
