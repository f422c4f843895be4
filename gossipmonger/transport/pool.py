"""A bounded pool of daemon threads.

Unlike `concurrent.futures`, whose threads the interpreter waits for at its end, these must not keep a program alive: what
they do, reading and sending gossip, may be cut off anywhere, since gossip repairs what is lost. They are started when there
is work that no idle thread takes, and stay until `close`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from gossipmonger.errors import report

__all__ = ["Pool"]

Job = TypeVar("Job")


class Pool(Generic[Job]):
    """Threads that each take one job after the other and call `run` with it.

    Args:
        name: What the threads are called.
        size: How many there are at most.
        run: Takes a job. It had better not raise; if it does, the exception goes to `threading.excepthook` and the thread
            goes on.
    """

    def __init__(self, name: str, size: int, run: Callable[[Job], None]) -> None:
        self._name = name
        self._size = size
        self._run = run
        self._jobs: deque[Job] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._busy = 0
        self._closed = False
        self._pool_lock = threading.Lock()  # guards all of the above
        self._work_to_do = threading.Condition(self._pool_lock)
        self._all_done = threading.Condition(self._pool_lock)

    def put(self, job: Job) -> bool:
        """Hand in a job; return whether it was taken, which after `close` it is not.

        Raises:
            RuntimeError: The system has no thread for it, and the pool none that could take it later.
        """
        with self._pool_lock:
            if self._closed:
                return False
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._work_to_do.notify()
            elif len(self._threads) < self._size:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    if not self._threads:
                        self._jobs.pop()
                        raise
                else:
                    self._threads.append(thread)
        return True

    def _work(self) -> None:
        while True:
            with self._pool_lock:
                self._idle += 1
                while not self._jobs and not self._closed:
                    self._work_to_do.wait()
                self._idle -= 1
                if self._closed:
                    return
                job = self._jobs.popleft()
                self._busy += 1
            try:
                self._run(job)
            except BaseException as error:  # nothing ends a thread, not even SystemExit out of a listener
                report(error)
            finally:
                with self._pool_lock:
                    self._busy -= 1
                    if not self._busy and not self._jobs:
                        self._all_done.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` milliseconds until nothing is left to do; return whether that is so.

        From one of its own threads, which is busy, it returns at once.
        """
        if threading.current_thread() in self._threads:
            return False
        with self._pool_lock:
            return self._all_done.wait_for(lambda: not self._busy and not self._jobs, timeout / 1000)

    def close(self) -> list[Job]:
        """Take no more jobs; return those not begun. The threads end with what they are at: see `wait_closed`."""
        with self._pool_lock:
            self._closed = True
            left = list(self._jobs)
            self._jobs.clear()
            self._work_to_do.notify_all()
            if not self._busy:
                self._all_done.notify_all()
            return left

    def wait_closed(self, timeout: float) -> bool:
        """Wait at most `timeout` milliseconds for the threads to end, but for the calling one; whether they have."""
        deadline = monotonic() + timeout / 1000
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in others)
