"""What a process does to whatever lives in it: it interrupts calls by signals and finalizers, and it forks.

`guard` has the one rule by which locks are taken, and defers calls that must not wait for one. `waiting` has what threads wait
on, `fork` closes the sockets of a forked child's copy, `Emitter` is pyee's emitter with a lock that stands both, and a `Tally`
counts what happens on any thread.
"""

from gossipmonger.process.emitter import Emitter
from gossipmonger.process.fork import after_fork, fresh, own, renew
from gossipmonger.process.guard import Here, here, marked
from gossipmonger.process.tally import BOUNDS, Tally, Times
from gossipmonger.process.waiting import Bell, Latch, PatientTimer, finish, join

__all__ = [
    "BOUNDS", "Bell", "Emitter", "Here", "Latch", "PatientTimer", "Tally", "Times", "after_fork", "finish", "fresh",
    "here", "join", "marked", "own", "renew",
]  # fmt: skip
