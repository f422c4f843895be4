"""Celery with prefork: each worker process has a node."""

import os
import socket

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

from gossipmonger import Gossipmonger

SEEDS = os.environ.get("SEEDS", "127.0.0.1:9742").split(",")

app = Celery("jobs", broker=os.environ.get("BROKER", "memory://"))
node = None


@worker_process_init.connect
def start_node(**_):
    """Start the node of this process."""
    global node
    node = Gossipmonger(
        {"id": f"{socket.gethostname()}-{os.getpid()}", "transport": {"host": "127.0.0.1", "port": 0}},
        seeds=SEEDS,
    )
    node.update("role", "jobs")
    node.transport.listen()
    node.gossip()


@worker_process_shutdown.connect
def stop_node(**_):
    """Say goodbye."""
    if node is not None:
        node.close()


@app.task
def workers():
    """Return who works on jobs."""
    return [peer.id for peer in node.peers().values() if peer.state == "live" and peer.data.get("role") == "jobs"]
