"""A simulated cluster for recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gossipmonger import Gossipmonger
from gossipmonger.simulation import Simulation

SECOND, HOUR = 1_000, 3_600_000


class Cluster:
    """Some nodes that know each other.

    Attributes:
        sim: The simulation.
        errors: What went wrong at any of them, and is no news of the network.
    """

    def __init__(self, seed: int, count: int = 3, **options: Any) -> None:
        self.sim = Simulation(seed, **options)
        self.errors: list[Exception] = []
        for number in range(count):
            self.add(f"n{number}")
        self.until(lambda: all(len(each.live()) == count for each in self.nodes))

    def add(self, id: str, **options: Any) -> Gossipmonger:
        return self.heard(self.sim.add(id, seeds=["n0", "n1"], **options))

    def restart(self, id: str, **options: Any) -> Gossipmonger:
        return self.heard(self.sim.restart(id, **options))

    def heard(self, node: Gossipmonger) -> Gossipmonger:
        node.on("error", self.errors.append)
        return node

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.sim.close()

    def __getitem__(self, number: int) -> Gossipmonger:
        return self.sim.node(f"n{number}")

    @property
    def nodes(self) -> list[Gossipmonger]:
        return [life.node for life in self.sim._lives.values() if life.node is not None and not life.over]

    def until(self, condition: Callable[[], object], limit: float = 60 * SECOND) -> None:
        self.sim.run_until(condition, limit)

    def run(self, seconds: float) -> None:
        self.sim.run(seconds * SECOND)

    def own(self, number: int) -> dict[str, Any]:
        view = self[number].peer(f"n{number}")
        assert view is not None
        return dict(view.data)
