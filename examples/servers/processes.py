"""`multiprocessing`: each process has a node, whichever way it is started. `python processes.py fork|spawn|forkserver`."""

import multiprocessing
import os
import sys

from gossipmonger import Gossipmonger

SEEDS = os.environ.get("SEEDS", "127.0.0.1:9742").split(",")


def work(number):
    """Do something, and let the others know."""
    with Gossipmonger({"id": f"worker-{number}", "transport": {"host": "127.0.0.1", "port": 0}}, seeds=SEEDS) as node:
        node.update("role", "process")
        node.wait(1)


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    processes = [context.Process(target=work, args=(number,)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
