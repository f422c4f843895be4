"""Workers that share out what is in a folder.

    python shards.py FOLDER a 9742
    python shards.py FOLDER b 9743 127.0.0.1:9742

Each file that ends with .todo is done by the worker that owns its name, which then renames it. If a worker goes, its files go
to the others. While they disagree on who is live, two may take the same file: the one that renames it first wins.
"""

import sys
from pathlib import Path

from gossipmonger import Gossipmonger
from gossipmonger.recipes import owner


def work(path, id):
    """Do one file, and say by its name who has done it."""
    try:
        path.rename(path.with_suffix(f".{id}"))
    except FileNotFoundError:  # somebody else has
        return
    print(path.stem, flush=True)


def main(folder, id, port, *seeds):
    """Work until Ctrl-C."""
    node = Gossipmonger({"id": id, "transport": {"host": "127.0.0.1", "port": int(port)}}, seeds=seeds, gossip_interval=200)
    node.update("role", "worker")
    with node:
        node.wait(1)  # to meet the others first
        while not node.wait(0.1):
            workers = node.values("role")
            for path in sorted(Path(folder).glob("*.todo")):
                if owner(path.stem, workers) == id:
                    work(path, id)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
