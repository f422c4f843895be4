"""The worker: does what there is to do whenever it is woken, a piece at a time, with no lock held.

It has a thread of its own: a daemon, since a program that ends need not wait for news, but a piece that is being done then is
given some seconds. The option `executor` takes that thread's place: it is given a function to call whenever there is something
to do, one at a time for each worker.
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

#: Seconds that what is being done when the program ends is given to return.
_EXIT_TIMEOUT = 5.0

_serving: set[Worker] = set()  # those whose threads run


class Worker:
    """Calls the handlers of a dispatcher or a watch.

    Args:
        name: The thread's name.
        executor: Its `submit(function)` works; None for a thread.
        pending: Returns whether there is anything to do. It is called with a lock held.
        work: Does a piece of it; returns False to leave the rest to the next time that this is woken.

    Attributes:
        ended: Whether nothing more is begun. Read only.
    """

    def __init__(self, name: str, executor: Any, pending: Callable[[], bool], work: Callable[[], bool]) -> None:
        self._name = name
        self._executor = executor
        self._pending = pending
        self._work = work
        self.ended: bool = False
        self._bell = Bell()  # wakes our own thread
        self._finished = Latch()  # set when nothing is being done any more after the end
        self._thread: threading.Thread | None = None  # our own
        self._task: object = None  # by which the executor has been asked to work; None if it need not, or has
        self._runner: threading.Thread | None = None  # works now
        self._worker_lock = threading.Lock()  # guards the three above: they are written only while it is held

    def start(self) -> None:
        """Start the thread, if there is to be one and it does not run.

        Raises:
            RuntimeError: The system cannot start a thread.
        """
        with marked(), self._worker_lock:
            if self._executor is not None or self._thread is not None or self.ended:
                return
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            try:
                self._thread.start()
            except BaseException:
                self._thread = None
                raise
            _serving.add(self)
            atexit.unregister(_wait_at_exit)
            atexit.register(_wait_at_exit)  # before whatever was registered so far

    def wake(self) -> None:
        """Get done what there is to do. Hold no lock when you call this: an executor may do it right here.

        If the executor refuses, or no thread can be started, that is reported, and what there is waits for the next call.
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
        """Let the executor work, unless it has been asked to already, or does it."""
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
        """Work whenever there is something to do, until the end."""
        thread = threading.current_thread()
        while not self.ended and self._thread is thread:
            self._bell.wait()
            self._run()
            here().settle()
        self._bell.ring()  # for another one, should a signal handler have cut its start short
        _serving.discard(self)

    def _run(self) -> None:
        """Work until there is nothing to do."""
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
        """Whether it is the calling thread that works right now."""
        return self._runner is threading.current_thread()

    def end(self) -> None:
        """Begin nothing more. What is being done goes on. May be called from anywhere, and again."""
        self.ended = True
        self._bell.ring()

    def wait(self, timeout: float) -> bool:
        """Wait up to so many seconds, after the end, until nothing is being done; return whether that is so.

        What works right now need not be waited for if it calls this itself.
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
        """End, in the child of a fork; or, if the node has not been started, begin afresh: there are no threads in it."""
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
    serving = [worker for worker in [*_serving] if worker._thread is not None and worker._thread.is_alive()]  # none of a parent
    for worker in serving:
        worker.end()
    for worker in serving:
        worker.wait(max(0.0, deadline - monotonic()))
