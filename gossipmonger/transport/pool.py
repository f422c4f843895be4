"""A bounded pool of daemon threads.

Unlike `concurrent.futures`, whose threads the interpreter waits for at its end, these must not keep a program alive: what
they do, reading and sending gossip, may be cut off anywhere, since gossip repairs what is lost. They are started when there
is work that no idle thread takes, and stay until `close`.
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
    """What a thread finds in place of a job when it is to end."""


_END = _End()


class Pool(Generic[Job]):
    """Threads that each take one job after the other and call `run` with it.

    Args:
        name: What the threads are called.
        size: How many there are at most.
        run: Takes a job; may return one, which has its turn after those that wait. It had better not raise; if it does, the
            exception goes to `threading.excepthook` and the thread goes on.
    """

    def __init__(self, name: str, size: int, run: Callable[[Job], Job | None]) -> None:
        self._name = name
        self._size = size
        self._run = run
        self._jobs: SimpleQueue[Job | _End] = SimpleQueue()  # hands over in C, where a condition would make a lock each time
        self._threads: list[threading.Thread] = []
        self._unfinished = 0  # jobs that wait or are being done
        self._closed = False
        self._pool_lock = threading.Lock()  # guards the three above, and what is put in
        self._all_done = threading.Condition(self._pool_lock)

    def put(self, job: Job) -> bool:
        """Hand in a job; return whether it was taken, which after `close` it is not.

        Raises:
            RuntimeError: The system has no thread for it, and the pool none that could take it later.
        """
        with self._pool_lock:
            if self._closed:
                return False
            if len(self._threads) <= self._unfinished and len(self._threads) < self._size:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    if not self._threads:
                        raise
                else:
                    self._threads.append(thread)
            self._unfinished += 1
            self._jobs.put(job)
        return True

    def _work(self) -> None:
        next_job: Job | _End | None = None
        while True:
            job = self._jobs.get() if next_job is None else next_job
            if isinstance(job, _End):
                return
            try:
                next_job = self._run(job)
            except BaseException as error:  # nothing ends a thread, not even SystemExit out of a listener
                next_job = None
                report(error)
            with self._pool_lock:
                if next_job is not None and not self._closed:
                    if self._jobs.empty():
                        continue  # without waking another thread
                    self._unfinished += 1
                    self._jobs.put(next_job)
                next_job = None
                self._unfinished -= 1
                if not self._unfinished:
                    self._all_done.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` milliseconds until nothing is left to do; return whether that is so.

        From one of its own threads, which is busy, it returns at once.
        """
        if threading.current_thread() in self._threads:
            return False
        with self._pool_lock:
            return self._all_done.wait_for(lambda: not self._unfinished, timeout / 1000)

    def close(self) -> list[Job]:
        """Take no more jobs; return those not begun. The threads end with what they are at: see `wait_closed`."""
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
        """Wait at most `timeout` milliseconds for the threads to end, but for the calling one; whether they have."""
        deadline = monotonic() + timeout / 1000
        others = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in others:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in others)
