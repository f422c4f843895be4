"""gunicorn, in this folder: four workers. Each has a slot that no other running worker has, and so its own id and port."""

from itertools import count

import web

wsgi_app = "web:app"
workers = 4


def pre_fork(server, worker):
    """Take the first slot that is free."""
    taken = {each.slot for each in server.WORKERS.values()}
    worker.slot = next(slot for slot in count() if slot not in taken)


def post_worker_init(worker):
    """Start the worker's node."""
    web.start(worker.slot)


def worker_exit(server, worker):
    """End it."""
    web.stop()
