"""gunicorn, in this folder: the application is loaded once, before the fork, and each worker starts its node after it."""

import web

wsgi_app = "web:application"
workers = 2
preload_app = True


def post_worker_init(worker):
    """Start the worker's node."""
    web.start_node()


def worker_exit(server, worker):
    """End it."""
    web.stop_node()
