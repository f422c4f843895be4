"""Random histories of small clusters, and a judge who knows what every owner did and when.

    python -m tests.histories simulated [FIRST LAST]
    python -m tests.histories dense [FIRST LAST]

run the seeds from FIRST to LAST, print those that fail, and end with status 1 if any did; without FIRST and LAST they draw new
seeds and print them. A seed replays its history, as long as the code draws the same random numbers. So a fault that a seed
shows becomes a test without a seed too, in `test_found.py`.

* `simulated`: whole endpoints on the simulated network, Node.js nodes among them, at the pace of real clusters.
* `dense`: bare protocols whose messages wait in a pool and are delivered in any order. There is no time between the events, so
  it meets rare orders of events far more often.
* `judge`: what is promised, and whether it was kept.
* `nodes`: all that the dense histories and the found cases know of the protocol's calls.

There are two promises. While it happens, no key vanishes at a replica that lives on at its owner, and none comes back that was
deleted. After all is healed, every node's view of every owner is the owner's data. Three things are beyond them:

* An owner that lost its data and had its clock set back is believed less than its former life for a while.
* If two lives of an owner begin without data at the very same reading of the clock, they use the same versions. Others notice
  only if the former life has told more heartbeats than the later one when they meet.
* A message without `after`, as a Node.js node sends it, may leave a gap at a node that restarted, or forgot whom the message is
  about, while it was on its way. So in histories with such nodes a restart takes a while, and nobody is forgotten.
"""
