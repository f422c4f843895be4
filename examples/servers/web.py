"""A WSGI application in several processes, each of which has a node. A server calls `start_node` after the fork."""

import os
import socket

from gossipmonger import Gossipmonger

SEEDS = os.environ.get("SEEDS", "127.0.0.1:9742").split(",")

node = None


def start_node():
    """Start the node of this process."""
    global node
    node = Gossipmonger(
        {"id": f"{socket.gethostname()}-{os.getpid()}", "transport": {"host": "127.0.0.1", "port": 0}},
        seeds=SEEDS,
    )
    node.update("role", "web")  # before it gossips, so nobody ever sees the node without it
    node.transport.listen()
    node.gossip()


def stop_node():
    """Say goodbye, so that nobody has to wait for this process."""
    if node is not None:
        node.close()


def application(environ, start_response):
    """List the web processes that are alive."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    roles = node.peers().values()
    return [f"{peer.id} {peer.state}\n".encode() for peer in roles if peer.data.get("role") == "web"]
