"""uWSGI calls these in each worker, after the fork and before the end."""

import uwsgi
import web
from uwsgidecorators import postfork

postfork(web.start_node)
uwsgi.atexit = web.stop_node
