"""What programs build on a node again and again, built once: on public names only, so each is also an example.

| recipe | what it is for |
|---|---|
| `owner` | which node does what, so that each key has one owner and few move when nodes come and go |
| `SharedMap` | a map that all nodes read and write, and that outlives its writers |
| `Registry` | services with health: where is one that works? |
| `elect` | a hint for which node leads; not a lock |
| `Events` | what happens at one node, told at all others, once and in order |
| `Questions` | ask all live nodes, and gather their answers |
"""

from gossipmonger.recipes.elect import elect
from gossipmonger.recipes.events import Event, Events
from gossipmonger.recipes.owner import owner
from gossipmonger.recipes.questions import Answers, Asked, Questions
from gossipmonger.recipes.registry import Instance, Registration, Registry
from gossipmonger.recipes.shared_map import SharedMap

__all__ = [
    "Answers",
    "Asked",
    "Event",
    "Events",
    "Instance",
    "Questions",
    "Registration",
    "Registry",
    "SharedMap",
    "elect",
    "owner",
]
