"""One digest made and handled, JSON included: ours beside the original.

A node knows P peers with K keys each. It is sent a digest of them all, from its bytes to the bytes of what it answers. In it,
the sender knows everything; or all but one key of one peer; or all but the last key of every peer; or nothing, as one who has
just joined. The nodes take turns.

What the original makes it handles. Ours handles that, and what is of our kind, with heartbeats and floors: half of its entries
are news, and a reply with the other half is made. What a digest costs both sides is the making and the handling of one. It is
measured as CPU time, which what else the machine does changes least.
"""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any, NamedTuple

from benchmarks.programs import NAMES, ORIGINAL, Program, columns, cores, kinds, start, without
from benchmarks.report import Section, times

__all__ = ["CASES", "SIZES", "Digests", "measure", "run"]

#: Peers, keys of each.
SIZES = ((10, 1000), (100, 10), (100, 1000), (1000, 1000))
CASES = ("in sync", "one key", "every peer", "joiner")

#: Whether the digest is of our own kind -> what it is.
KINDS = {
    False: """It is what a Node node makes. What it costs ours to make one stands beside what it costs to handle a Node node's;
nothing in it has changed since the one before, as between Node nodes, which have no heartbeats. So ours, which looks up what it
has read before, finds all of it, or nothing where the joiner is the first that it hears of.""",
    True: """It is of each one's own kind: ours has heartbeats and floors. Half of the heartbeats have changed since the one
before and are news to the node, and of the other half it knows later ones, so that it answers with a reply, which the original
never does.""",
}


class Digests(NamedTuple):
    """What one kind of node took.

    Attributes:
        peers: That it knows.
        keys: That each has.
        case: What the digest's sender knows.
        kind: Of the node.
        own: Whether the digest was of our kind.
        make: Microseconds to make a digest, of each run.
        handle: Microseconds to handle it, of each run.
        sent: Bytes that were sent back.
    """

    peers: int
    keys: int
    case: str
    kind: str
    own: bool
    make: list[float]
    handle: list[float]
    sent: int

    @property
    def both(self) -> list[float]:
        """Microseconds for both sides, of each run."""
        return [make + handle for make, handle in zip(self.make, self.handle, strict=True)]


#: A kind of node, and whether it is sent digests of our kind.
_Case = tuple[str, bool]


def measure(quick: bool) -> list[Digests]:
    """Run all; three minutes, quick one."""
    runs, budget = (3, 20) if quick else (9, 100)
    results = []
    with ExitStack() as stack:
        programs: dict[_Case, Program] = {}
        for kind in kinds():
            for own in (False,) if kind == ORIGINAL else (False, True):
                programs[kind, own] = stack.enter_context(start(kind, "digests", cores()[0]))
        for peers, keys in SIZES:
            for (_, own), program in programs.items():
                program.ask(do="build", peers=peers, keys=keys, own=own)
            made = alternately(programs, runs, budget, {"do": "make"})
            for case in CASES:
                handled = alternately(programs, runs, budget, {"do": "handle", "name": case})
                for each in programs:
                    make, handle = ([run["us"] for run in took[each]] for took in (made, handled))
                    results.append(Digests(peers, keys, case, *each, make, handle, handled[each][-1]["sent"]))
    return results


def alternately(programs: dict[_Case, Program], runs: int, budget: float, request: dict[str, Any]) -> dict[_Case, list[Any]]:
    """Ask each in turn, for about `budget` milliseconds each time; return the answers of all turns but those to warm up."""
    counts = {}
    for (kind, own), program in programs.items():
        took = program.ask(**request, count=1)["us"] / 1000
        if took < budget:
            # The original's code is compiled while it runs, and is at its best after some thousand calls; ours soon.
            took = program.ask(**request, count=int(min(3000 if kind == ORIGINAL else 30, 5 * budget / took)))["us"] / 1000
        counts[kind, own] = max(1, min(2000, int(budget / took)))
    answers: dict[_Case, list[Any]] = {each: [] for each in programs}
    for _ in range(runs):
        for each, program in programs.items():
            answers[each].append(program.ask(**request, count=counts[each]))
    return answers


def run(quick: bool) -> list[Section]:
    """Measure, and make two tables of it."""
    results = {result[:5]: result for result in measure(quick)}
    return [
        section(results, False, "digests-of-the-original", "A digest of the original's handled"),
        section(results, True, "digests-of-ours", "A digest of our own kind handled"),
    ]


def section(results: dict[Any, Digests], own: bool, name: str, title: str) -> Section:
    """Return the table for digests of one kind."""
    rows = []
    for peers, keys in SIZES:
        for case in CASES:
            row = [f"{peers:,} x {keys:,}", case]
            base = results.get((peers, keys, case, ORIGINAL, False))
            for kind in NAMES:
                found = results.get((peers, keys, case, kind, own and kind != ORIGINAL))
                row.append("" if found is None else f"{median(found.make):,.0f} + {median(found.handle):,.0f}")
                if kind != ORIGINAL:
                    row.append("" if found is None or base is None else times(base.both, found.both))
            rows.append(row)
    return Section(
        name=name,
        title=title,
        text=f"""
What one digest costs: microseconds of CPU to make it, as bytes, and to handle it, from these bytes to those of what is sent
back, by a node that knows so many peers with so many keys each. The digest's sender knows everything ("in sync"), or all but
one key of one peer, or all but the last of every peer, or nothing, like one who has just joined. {KINDS[own]}
The nodes take turns; the ratio is how many times faster ours is for both sides together.
{without()}""",
        header=["peers x keys", "the sender lacks", *(cell for kind in NAMES for cell in columns(kind))],
        rows=rows,
        raw=[result._asdict() for result in results.values() if result.own is own or result.kind == ORIGINAL],
    )
