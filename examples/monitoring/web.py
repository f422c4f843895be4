"""A WSGI application in several processes. Each has a node, and a port of its own at which Prometheus asks for its metrics."""

import json
import os

from prometheus_client import CollectorRegistry, start_http_server

from gossipmonger import Gossipmonger
from gossipmonger.metrics import Collector

HOST = "127.0.0.1"  # the address at which Prometheus and the other nodes reach this machine
SEEDS = os.environ.get("SEEDS", "127.0.0.1:9742").split(",")

node = None


def start_node():
    """Start the node of this process, and serve its metrics. The server calls this in each worker, after the fork."""
    global node
    node = Gossipmonger({"id": f"web-{os.getpid()}", "transport": {"host": HOST, "port": 0}}, seeds=SEEDS)
    registry = CollectorRegistry()
    registry.register(Collector(node))
    server, _ = start_http_server(0, HOST, registry)  # any free port
    node.update("metrics", f"{HOST}:{server.server_port}")
    node.transport.listen()
    node.gossip()


def stop_node():
    """Say goodbye."""
    if node is not None:
        node.close()


def application(environ, start_response):
    """Tell Prometheus at /targets where the metrics of all live nodes are. Any worker knows that of all."""
    if environ["PATH_INFO"] == "/targets":
        body = json.dumps([{"targets": sorted(node.values("metrics").values())}])
        start_response("200 OK", [("Content-Type", "application/json")])
    else:
        body = "hello\n"
        start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
