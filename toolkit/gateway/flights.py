"""Equal requests that are under way at once are answered by one call."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")


@dataclass(slots=True, eq=False)
class _Flight(Generic[Answer]):
    task: "asyncio.Task[Answer]"
    waiting: "set[asyncio.Future[Answer]]"


class Flights(Generic[Answer]):
    """Calls under way, by what they ask; for one event loop."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[Answer]] = {}
        self.joined = 0
        """How many requests needed no call of their own."""

    def __len__(self) -> int:
        return len(self._flights)

    async def once(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """Return what ``make`` returns or raise what it raises; calls of equal ``key`` share it.

        The call is nobody's own: one who is cancelled, by a time-out too, leaves it to the
        others, and the last one to leave cancels it. It ends at the latest by a time-out of
        its own. Who waits gets the same object, so nobody may change it.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._start(key, make)
        else:
            self.joined += 1
        future: asyncio.Future[Answer] = flight.task.get_loop().create_future()
        flight.waiting.add(future)
        try:
            return await future
        except asyncio.CancelledError:
            flight.waiting.discard(future)
            if future.done() and not future.cancelled():
                future.exception()  # an error that nobody takes would be told on stderr
            if not flight.waiting and not flight.task.done():
                self._leave(key, flight)
                flight.task.cancel()
            raise

    def _start(
        self, key: Hashable, make: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> _Flight[Answer]:
        task = asyncio.get_running_loop().create_task(make())
        flight = self._flights[key] = _Flight(task, set())
        task.add_done_callback(lambda _: self._land(key, flight))
        return flight

    def _leave(self, key: Hashable, flight: _Flight[Answer]) -> None:
        # The one after a call that was given up may have the same key.
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _land(self, key: Hashable, flight: _Flight[Answer]) -> None:
        self._leave(key, flight)
        task, waiting = flight.task, flight.waiting
        error = None if task.cancelled() else task.exception()
        for future in waiting:
            if future.done():
                continue
            if task.cancelled():
                future.cancel()
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())
        flight.waiting = set()
