"""The page of benchmarks, made of the figures that the runs left: `docs/benchmarks/*.json` -> `docs/benchmarks.md`.

Each row has a file of its own, so that a row which is run again replaces its own figures and nobody else's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.report import Section, figure, machine, percentile, spread, table
from benchmarks.rows import ROWS, SLOW, VARIANTS, Line

__all__ = ["keep", "page"]

_HEAD = """# Benchmarks

<!-- Written by `make bench`: see benchmarks/page.py. -->

How fast Python processes know of each other with this library, and with what else there is: the Node.js package `gossipmonger`
0.1.10 (*original*), whose wire format ours speaks; [chitchat](https://crates.io/crates/chitchat) 0.13 (Rust), the same
algorithms; [memberlist](https://pkg.go.dev/github.com/hashicorp/memberlist) 0.7 (Go), [serf](https://www.serf.io), an agent
beside the program, and [kinship](https://pypi.org/project/kinship) 0.4 (Rust under Python), which use SWIM and carry a blob for
each node.

"""

_NOTES = """
The median of what was measured, and the range in brackets. *Target* is what ours is to reach.

**How it was measured.** {machine}. Every node is a process of its own with default options, and all nodes of a cluster share
these cores with the program that starts them and listens to them. So compare columns, not seconds: on separate machines all
are faster. Equal runs differ by 15 %, in CPU most of all. {taken}

* *Quiet*: a random node sets a key every 2 s or so. It is over when the last of the others reports it.
* *1 update a second and node*: the three figures are of the same 20 s. A receiver has an update once it has it or a later one
  of the same key. CPU and bytes include what a node takes to report each update.
* *CPU*: user and system time of the node's process, over 20 s, from 10 s after all nodes know each other. *Bytes*: what the
  loopback interface of the cluster's own network namespace counts, once each, with headers and acknowledgements.
* *Old*: the heartbeats of these nodes are 2**17 above where they began, as after a day and a half.
* *`kill -9`* and *lost host*: 40 s after all nodes know each other, one of 30 is killed, or its packets are dropped both ways
  without a word, five in turn. The clusters of all columns run at the same time.
* *Keys*: one node sets so many new keys at once, a few bytes each.
* *False deaths*: verdicts on nodes that lived, in all rows together.

memberlist, kinship and serf run with their defaults for a LAN. chitchat has no default interval and runs at 1 s, as ours.
serf's update is a user event, since its agent holds back news of tags for a second.

    make bench                                # all of it, in an hour and a half; needs 6 GB of memory and root
    make bench BENCH_ARGS="load kill"         # some rows
    make bench BENCH_ARGS=million             # what runs only when it is named
    make bench BENCH_ARGS=--quick             # a smoke run, which writes nothing here

The run builds the others with `npm`, `cargo`, `go` and `pip`, and takes serf from the system. Its rows, by name: {names},
`intake`. Their samples are in `docs/benchmarks`. How the protocol behaves on networks with loss and latency is in [the
experiments](experiments.md).
"""


def keep(folder: Path, name: str, figures: Any) -> None:
    """Write the figures of a row, or of another part of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = datetime.now(timezone.utc).date().isoformat()
    text = json.dumps({"machine": machine(), "taken": taken, "figures": figures}, indent=1)
    (folder / f"{name}.json").write_text(text + "\n")


def page(folder: Path, sections: Sequence[tuple[str, Any]]) -> str:
    """Return the page.

    Args:
        folder: Where the figures are; rows that have none stay empty.
        sections: The names of other parts, and what makes a `Section` of their figures.
    """
    kept = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    rows = {name: kept[name]["figures"] for name in ROWS if name in kept}
    parts = [(kept[name], make(kept[name]["figures"])) for name, make in sections if name in kept]
    return (
        _HEAD
        + _table(rows)
        + _absent(rows)
        + _notes({name: kept[name] for name in rows})
        + "".join(_part(*part) for part in parts)
    )


def _table(rows: Mapping[str, Any]) -> str:
    names = [variant.name for variant in VARIANTS]
    lines = []
    for name, row in ROWS.items():
        for line in row.lines:
            cells = [_cell(rows[name].get(column), line) if name in rows else "" for column in names]
            lines.append([line.label, line.target, *cells])
    lines.append(["false deaths in all of it", "0", *(_false(rows, column) for column in names)])
    return table(["", "target", *names], lines)


def _absent(rows: Mapping[str, Any]) -> str:
    reasons = {column: result["absent"] for row in rows.values() for column, result in row.items() if "absent" in result}
    return "\n" + " ".join(f"Without *{column}*: {reason}." for column, reason in reasons.items()) + "\n" if reasons else ""


def _cell(result: Mapping[str, Any] | None, line: Line) -> str:
    if result is None or "absent" in result:
        return ""
    if "missing" in result:
        return str(result["missing"])
    samples = result["samples"].get(line.samples)
    if not samples:
        return result["network"] or "never"
    return spread(samples) if line.share is None else figure(percentile(samples, line.share))


def _false(rows: Mapping[str, Any], column: str) -> str:
    counts = [row[column]["false"] for row in rows.values() if "false" in row.get(column, {})]
    return f"{sum(counts)}" if counts else ""


def _notes(kept: Mapping[str, Any]) -> str:
    machines = sorted({each["machine"] for each in kept.values()})
    dates = sorted({each["taken"] for each in kept.values()})
    taken = f"Taken on {dates[0]}." if len(dates) == 1 else f"Taken from {dates[0]} to {dates[-1]}." if dates else ""
    names = ", ".join(f"`{name}`" + (" (only when named)" if name in SLOW else "") for name in ROWS)
    return _NOTES.format(machine="; ".join(machines) or "Nothing has been measured yet", taken=taken, names=names)


def _part(kept: Mapping[str, Any], section: Section) -> str:
    return f"\n{section.markdown()}\n*{kept['machine']}.*\n"
