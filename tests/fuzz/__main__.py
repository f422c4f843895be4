"""Fuzz for so many seconds: `python -m tests.fuzz [SECONDS]`.

With the package `atheris` (the extra `fuzz`), coverage leads the way: libFuzzer keeps what reaches new code, and changes that
next. A message that breaks something is written to `crash-*` in the current folder; `python -m tests.fuzz FILE` says it again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from random import Random

try:
    import atheris
except ImportError:
    sys.exit("make fuzz needs the package atheris, which is made for Python 3.11 to 3.13: pip install -e '.[fuzz]'")

with atheris.instrument_imports(include=["gossipmonger"]):
    from tests.fuzz.mutations import SEEDS, mutated
    from tests.fuzz.target import Target


def main(given: str) -> None:
    target, began = Target(), time.monotonic()

    def take(data: bytes) -> None:
        target.take(data)
        if (target.taken + target.refused) % 10_000 == 0:
            took = time.monotonic() - began
            print(f"{target.taken} messages taken, {target.refused} refused in {took:.0f} s", flush=True)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = Random(seed)
        changed = mutated(data, chance) if chance.random() < 0.9 else atheris.Mutate(data, len(data) + 1)
        return changed[:most]

    if not given.isdigit():
        take(Path(given).read_bytes())
        print("nothing is wrong with it")
        return

    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            Path(corpus, f"seed{number}").write_text(json.dumps(seed), encoding="utf-8")
        options = [f"-max_total_time={given}", "-max_len=4096", "-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, corpus], take, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "60")
