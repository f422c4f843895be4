"""Watches against a model, under random churn: what a watch tells must add up to what `peers` shows, at every quiet moment.

    python -m tests.watches simulated [FIRST LAST] [--count COUNT]
    python -m tests.watches sockets [--seconds SECONDS]

* `simulated`: the random histories of `tests.histories`, on the simulated network, with watches at every node. A seed that
  fails is printed, and replays its history.
* `sockets`: real nodes whose owners write as fast as they can, on threads, while one node comes and goes. Watches are fast,
  slow, filtered, or fetched by a caller.
* `follower`: the model. It also finds out whether anything is told twice or in the wrong order.
"""
