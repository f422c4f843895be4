"""A Flask application whose processes share feature flags: what one of them is told, all of them know.

    gunicorn
    curl -X PUT --json true http://127.0.0.1:8000/flags/dark
    curl http://127.0.0.1:8000/

Run these in this folder.
"""

import os

from flask import Flask, request

from gossipmonger import Gossipmonger
from gossipmonger.recipes import SharedMap

FIRST_PORT = int(os.environ.get("FIRST_PORT", "9742"))
SEEDS = [f"127.0.0.1:{FIRST_PORT + slot}" for slot in range(8)]  # four workers, and their successors during a reload

app = Flask(__name__)
flags = None


def start(slot):
    """Start the node of this process. Each running process has another slot, which gives it its id and its port."""
    global flags
    node = Gossipmonger({"id": f"web-{slot}", "transport": {"host": "127.0.0.1", "port": FIRST_PORT + slot}}, seeds=SEEDS)
    flags = SharedMap(node, "flags")
    node.transport.listen()
    node.gossip()


def stop():
    """Hand on what is new, and say goodbye."""
    if flags is not None:
        flags.node.close()


@app.get("/")
def index():
    """Say who has answered, and what it knows."""
    return {"process": os.getpid(), "flags": flags.copy(), "dark": flags.get("dark", False)}


@app.put("/flags/<name>")
def set_flag(name):
    """Set a flag, everywhere."""
    flags[name] = request.get_json()
    return "", 204


@app.delete("/flags/<name>")
def delete_flag(name):
    """Delete a flag, everywhere."""
    flags.pop(name, None)
    return "", 204
