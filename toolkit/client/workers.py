"""Threads that nobody has to wait for.

Python joins the threads of a ThreadPoolExecutor when a program ends: after Ctrl-C, one that
waits for a hung server would keep it for a whole time-out.
"""

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import Any, TypeVar

Result = TypeVar("Result")
_IDLE_SECONDS = 1.0


class Workers:
    """Daemon threads for blocking work, ``most`` at a time; an idle one soon ends."""

    def __init__(self, name: str, most: int | None = None) -> None:
        self._name = name
        self._most = most
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._idle = Semaphore(0)
        self._lock = Lock()
        self._count = 0

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Return what ``work`` will come to."""
        future: Future[Result] = Future()
        self._jobs.put((future, work))
        if self._idle.acquire(blocking=False):
            return future
        with self._lock:
            if self._most is None or self._count < self._most:
                Thread(target=self._serve, name=self._name, daemon=True).start()
                self._count += 1
        return future

    def _serve(self) -> None:
        while True:
            try:
                future, work = self._jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                if self._may_end():
                    return
                continue
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as error:  # noqa: BLE001  for whoever waits for the result
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del future, work
            self._idle.release()

    def _may_end(self) -> bool:
        """Say whether an idle thread is to end: whoever took its sign has work for it."""
        if not self._idle.acquire(blocking=False):
            return False
        with self._lock:
            if not self._jobs.empty():
                return False
            self._count -= 1
            return True
