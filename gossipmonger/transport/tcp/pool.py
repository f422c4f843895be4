"""A bounded pool of daemon threads.

Unlike `concurrent.futures`, whose threads the interpreter joins when it exits, these do not keep a program alive. What they do,
reading and sending gossip, may be cut off anywhere, since gossip repairs what is lost. Threads are started when there is work
that no idle thread takes, and stay until `close`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Generic, TypeVar

from gossipmonger.errors import report

__all__ = ["Pool"]

Job = TypeVar("Job")


class _End:
    """Queued in place of a job to end a thread."""


_END = _End()


class Pool(Generic[Job]):
    """Threads that each take one job after another and call `run` with it.

    Args:
        name: The name of its threads.
        size: The most threads there are.
        run: Called with a job; may return another job, which is queued behind those that wait. It should not raise; if it does,
            the exception goes to `threading.excepthook` and the thread goes on.
    """

    def __init__(self, name: str, size: int, run: Callable[[Job], Job | None]) -> None:
        self._name = name
        self._size = size
        self._run = run
        self._jobs: SimpleQueue[Job | _End] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0  # jobs that wait or run
        self._closed = False
        self._pool_lock = threading.Lock()  # guards the three above, and the order in which jobs are put into the queue
        self._all_done = threading.Condition(self._pool_lock)

    def put(self, job: Job) -> bool:
        """Queue a job; return False if the pool is closed.

        Raises:
            RuntimeError: The system cannot start a thread, and the pool has none that could take the job later.
        """
        with self._pool_lock:
            if self._closed:
                return False
            if len(self._threads) <= self._unfinished and len(self._threads) < self._size:
                self._start_thread()
            self._unfinished += 1
            self._jobs.put(job)
        return True

    def _start_thread(self) -> None:
        """Start one more thread. This requires holding `_pool_lock`."""
        assert self._pool_lock.locked()
        # A daemon: what it does may be cut off anywhere.
        thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        next_job: Job | _End | None = None
        while True:
            job = self._jobs.get() if next_job is None else next_job
            if isinstance(job, _End):
                return
            try:
                next_job = self._run(job)
            except BaseException as error:  # nothing ends a thread, not even SystemExit from a listener
                next_job = None
                report(error)
            with self._pool_lock:
                if next_job is not None and not self._closed:
                    if self._jobs.empty():
                        continue  # nothing waits, so no other thread has to be woken
                    self._unfinished += 1
                    self._jobs.put(next_job)
                next_job = None
                self._unfinished -= 1
                if not self._unfinished:
                    self._all_done.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until every job is done; return whether that is so.

        Called on one of the pool's own threads, which is busy, it returns False at once.
        """
        if threading.current_thread() in self._threads:
            return False
        with self._pool_lock:
            return self._all_done.wait_for(lambda: not self._unfinished, timeout)

    def close(self) -> list[Job]:
        """Take no more jobs, and return those not begun. Threads end after their current job: see `wait_closed`."""
        left: list[Job] = []
        with self._pool_lock:
            self._closed = True
            try:
                while True:
                    job = self._jobs.get_nowait()
                    if not isinstance(job, _End):
                        left.append(job)
            except Empty:
                pass
            for _ in self._threads:
                self._jobs.put(_END)
            self._unfinished -= len(left)
            if not self._unfinished:
                self._all_done.notify_all()
        return left

    def wait_closed(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for all threads but the calling one to end; return whether they have."""
        deadline = monotonic() + timeout
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in others)
