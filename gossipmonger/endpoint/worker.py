"""The worker: when woken, it does its pending work, one piece at a time, with no lock held.

It has a daemon thread of its own, because a program that ends need not wait for news; but the piece that runs at that moment
gets some seconds to return. The option `executor` replaces the thread: while work is pending, the executor has one function to
call for each worker.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from gossipmonger.endpoint.exit import ending
from gossipmonger.errors import report
from gossipmonger.process import Bell, Latch, fresh, here, join, marked

__all__ = ["Worker"]

#: Seconds to return, for the work that runs when the program ends; all workers together.
_EXIT_TIMEOUT = 5.0

_serving: dict[threading.Thread, Worker] = {}  # the threads that run


class Worker:
    """Calls the handlers of a dispatcher or a watch.

    Args:
        name: The thread's name.
        executor: Its `submit(function)` works; None for a thread.
        pending: Returns whether there is work. It takes no lock, since it may be called with one held.
        work: Does a piece of it; returns False to leave the rest until the next `wake`.

    Attributes:
        ended: Whether no more work is begun. Read only.
    """

    def __init__(self, name: str, executor: Any, pending: Callable[[], bool], work: Callable[[], bool]) -> None:
        self._name = name
        self._executor = executor
        self._pending = pending
        self._work = work
        self.ended: bool = False
        self._bell = Bell()  # wakes our own thread
        self._finished = Latch()  # set once `ended`, when no work runs any more
        self._thread: threading.Thread | None = None  # our own
        self._task: object = None  # what the executor has accepted and not run to its end; None if there is none
        self._runner: threading.Thread | None = None  # works now
        self._worker_lock = threading.Lock()  # guards the three above: they are written only while it is held

    def start(self) -> None:
        """Start the thread, unless it runs or an executor replaces it.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        with marked(), self._worker_lock:
            if self._executor is not None or self._thread is not None or self.ended:
                return
            self._thread = thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            _serving[thread] = self
            try:
                thread.start()
            except BaseException:
                self._thread = None
                _serving.pop(thread, None)
                raise
            atexit.unregister(_wait_at_exit)
            atexit.register(_wait_at_exit)  # before whatever was registered so far

    def wake(self) -> None:
        """Have the pending work done. Hold no lock when you call this: an executor may do the work right here.

        If the executor refuses it, or no thread can be started, that is reported, and the work waits for the next call.
        """
        if self.ended or not self._pending():
            return
        try:
            if self._executor is not None:
                self._submit()
                return
            if self._thread is None:
                self.start()
            self._bell.ring()
        except Exception as error:
            if not ending():
                report(error)

    def _submit(self) -> None:
        """Submit the work to the executor, unless it has it already."""
        task = object()
        try:
            with marked(), self._worker_lock:
                if self.ended or not self._pending() or (self._task is not None and not _is_cancelled(self._task)):
                    return
                self._task = task
            accepted = self._executor.submit(self._run)
        except BaseException:
            with marked(), self._worker_lock:
                if self._task is task:
                    self._task = None
            raise
        with marked(), self._worker_lock:
            if self._task is task and accepted is not None:
                self._task = accepted  # which may tell that it has been cancelled

    def _serve(self) -> None:
        """Do the work whenever the bell rings, until the end."""
        thread = threading.current_thread()
        while not self.ended and self._thread is thread:
            self._bell.wait()
            self._run()
            here().settle()
        self._bell.ring()  # for the thread that replaces this one, if a signal handler cut its start short
        _serving.pop(thread, None)

    def _run(self) -> None:
        """Do the work until none is pending."""
        thread, goes_on = threading.current_thread(), True
        while True:
            with marked(), self._worker_lock:
                if self._runner not in (None, thread):
                    return
                if self.ended or not goes_on or not self._pending():
                    self._task = self._runner = None
                    if self.ended:
                        self._finished.set()
                    return
                self._runner = thread
            try:
                goes_on = self._work()
                here().settle()
            except BaseException as error:  # nothing ends this thread, not even SystemExit
                report(error)

    @property
    def current(self) -> bool:
        """Whether the calling thread does the work right now."""
        return self._runner is threading.current_thread()

    def end(self) -> None:
        """Begin no more work; the piece that runs goes on. May be called from anywhere, and again."""
        self.ended = True
        self._bell.ring()

    def wait(self, timeout: float) -> bool:
        """Wait, after `end`, for the running work to finish; return whether it did within so many seconds.

        When the work itself calls this, it returns True at once.
        """
        deadline = monotonic() + timeout
        with marked(), self._worker_lock:
            runner, thread = self._runner, self._thread
        if runner is threading.current_thread():
            return True
        finished = runner is None or self._finished.wait(timeout)
        if finished:
            join(thread, max(0.0, deadline - monotonic()))
        return finished

    def after_fork(self, started: bool) -> None:
        """In the child of a fork, which has none of the threads: end, or begin afresh if the node has not been started."""
        self._worker_lock = fresh(self._worker_lock)
        if started:
            self.ended = True
        else:
            self._thread = self._task = self._runner = None


def _is_cancelled(task: Any) -> bool:
    """Whether what an executor returned, maybe a `concurrent.futures.Future`, says that it will never be run."""
    cancelled = getattr(task, "cancelled", None)
    return callable(cancelled) and bool(cancelled())


def _wait_at_exit() -> None:
    deadline = monotonic() + _EXIT_TIMEOUT
    serving = [worker for thread, worker in [*_serving.items()] if thread.is_alive()]  # a parent's are not
    for worker in serving:
        worker.end()
    for worker in serving:
        worker.wait(max(0.0, deadline - monotonic()))
