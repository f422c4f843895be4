"""What a round costs and what a message costs, step by step, and how both grow with peers and keys. Ours alone."""

from __future__ import annotations

from typing import Any

from benchmarks.programs import FAST, NAMES, PLAIN, Program, cores, kinds, start
from benchmarks.report import Section

__all__ = ["measure", "run"]

PEERS = (10, 100, 1000)

#: What is measured: name, the program's command, its arguments.
MESSAGES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *((f"compact digest, {peers} peers", "compact", {"peers": peers}) for peers in PEERS),
    *((f"digest, {peers} peers, in sync", "digest", {"peers": peers, "keys": 10, "name": "in sync"}) for peers in PEERS),
    *((f"digest, {peers} peers, a joiner's", "digest", {"peers": peers, "keys": 10, "name": "joiner"}) for peers in PEERS),
    *((f"digest, 10 peers x {keys} keys, a joiner's", "digest", {"peers": 10, "keys": keys, "name": "joiner"})
      for keys in (10, 1000, 10_000)),
    *((f"{deltas} deltas", "deltas", {"deltas": deltas}) for deltas in (1, 5, 500)),
)  # fmt: skip

ROUNDS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((f"{peers} peers, in a compact digest", {"peers": peers, "rest": True}) for peers in PEERS),
    *((f"{peers} peers, in entries", {"peers": peers, "rest": False}) for peers in PEERS),
)


def measure(quick: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Return kind -> what -> step -> microseconds of CPU; a minute, quick a few seconds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in (PLAIN, FAST):
        if kind not in kinds():
            continue
        with start(kind, "steps", cores()[0]) as program:
            steps = found[kind] = {}
            for name, command, arguments in MESSAGES:
                steps[name] = ask(program, quick, command, **arguments)
            for name, arguments in ROUNDS:
                steps[name] = ask(program, quick, "round", **arguments)
            for peers in PEERS:
                steps[f"{peers} entries"] = ask(program, quick, "tcp", entries=peers)
        print(f"{NAMES[kind]}: done", flush=True)
    return found


def ask(program: Program, quick: bool, command: str, **arguments: Any) -> dict[str, float]:
    """Ask for one measurement, which takes the longer the more there is of anything."""
    size = max(each for each in arguments.values() if isinstance(each, int))
    if command == "digest":
        size = arguments["peers"]
    count = max(3, min(200, (2_000 if quick else 20_000) // size))
    steps: dict[str, float] = program.ask(do=command, count=count, turns=3 if quick else 7, **arguments)
    return steps


def run(quick: bool) -> list[Section]:
    """Measure, and make tables of it."""
    found = measure(quick)
    return [
        Section(
            name="steps-of-a-message",
            title="What a message costs",
            text="""
Microseconds of CPU for one message from another node of ours: to decode and check it; to compare it with what is known, and
choose what to answer, or to apply it; to encode the answer. Half of the heartbeats in a compact or whole digest are news, and
the answer has the other half. Every peer has 10 keys where nothing else is said. A joiner's digest asks for everything; five
deltas are answered.
""",
            header=["", *(f"{step}, {NAMES[kind]}" for kind in found for step in ("decode", "work", "encode"))],
            rows=[
                [name, *(f"{steps[name][step]:,.0f}" for steps in found.values() for step in ("decode", "work", "encode"))]
                for name, _, _ in MESSAGES
            ],
            raw=found,
        ),
        Section(
            name="steps-of-a-round",
            title="What a round costs",
            text="""
Microseconds of CPU for one round at fan-out 1, half of the peers having been heard of since the one before: to choose partners,
make the digest and judge who is dead; to encode it.
""",
            header=["", *(f"{step}, {NAMES[kind]}" for kind in found for step in ("work", "encode"))],
            rows=[
                [name, *(f"{steps[name][step]:,.0f}" for steps in found.values() for step in ("work", "encode"))]
                for name, _ in ROUNDS
            ],
            raw=found,
        ),
        Section(
            name="steps-of-tcp",
            title="What TCP costs",
            text="""
Microseconds of CPU that it costs both sides together to bring a digest of so many entries over TCP on loopback, with the
connection and the hand-over from thread to thread, and without encoding and decoding.
""",
            header=["", *(NAMES[kind] for kind in found)],
            rows=[
                [f"{peers:,} entries", *(f"{steps[f'{peers} entries']['tcp']:,.0f}" for steps in found.values())]
                for peers in PEERS
            ],
            raw=found,
        ),
    ]
