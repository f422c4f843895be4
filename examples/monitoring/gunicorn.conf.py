"""gunicorn, in this folder: each worker starts its node after the fork."""

import web

wsgi_app = "web:application"
workers = 2


def post_worker_init(worker):
    """Start the worker's node."""
    web.start_node()


def worker_exit(server, worker):
    """End it."""
    web.stop_node()
