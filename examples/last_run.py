"""A script for cron that lets all nodes know how its last run went.

    SEEDS=10.0.0.1:9742,10.0.0.2:9742 python last_run.py

Its id is the same in each run, so what a run says takes the place of what the last one said. It stays known when the script has
ended: any node finds it by `node.get("nightly backup", "last run")`.
"""

import os
import sys
import time

from gossipmonger import Gossipmonger

SEEDS = os.environ.get("SEEDS", "127.0.0.1:9742").split(",")


def back_up():
    """Do the work."""
    return sum(len(files) for _, _, files in os.walk("."))


if __name__ == "__main__":
    began = time.time()
    files = back_up()
    node = Gossipmonger({"id": "nightly backup", "transport": {"host": "127.0.0.1", "port": 0}}, seeds=SEEDS)
    with node:
        node.update("last run", {"began": began, "took": time.time() - began, "files": files})
        if not node.flush(5):  # else cron sends a mail
            sys.exit("no node has heard of this run")
