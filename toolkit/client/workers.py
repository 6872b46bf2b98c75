"""Threads that nobody has to wait for.

Python joins the threads of a ThreadPoolExecutor when a program ends: after Ctrl-C, one that
waits for a hung server would keep it for a whole time-out.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, TypeVar

Result = TypeVar("Result")
_IDLE_SECONDS = 1.0


class Workers:
    """Daemon threads for blocking work, ``most`` at a time; an idle one soon ends."""

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name = name
        self._most = most
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = Condition()
        self._threads = 0
        self._waiting = 0

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Return what ``work`` will come to."""
        future: Future[Result] = Future()
        with self._changed:
            self._jobs.append((future, work))
            if self._waiting >= len(self._jobs):
                self._changed.notify()
            elif self._most is None or self._threads < self._most:
                Thread(target=self._serve, name=self._name, daemon=True).start()
                self._threads += 1
        return future

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001  for whoever waits for the result
                    future.set_exception(error)
            del job, future, work

    def _next(self) -> tuple["Future[Any]", Callable[[], Any]] | None:
        """Return a job, or None when there was none for a while."""
        with self._changed:
            while not self._jobs:
                self._waiting += 1
                called = self._changed.wait(_IDLE_SECONDS)
                self._waiting -= 1
                if not called and not self._jobs:
                    self._threads -= 1
                    return None
            return self._jobs.popleft()
