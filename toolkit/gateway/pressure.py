"""How many requests are answered at once, and what becomes of the others.

``semaphore`` lets them wait, ``queue`` lets a limited number wait for a limited time, and
``reject`` sends them away. Who is sent away is told 503, not 429: the gateway is full, whoever
filled it; 429 is for a caller who asked too often.
"""

import asyncio
from collections import OrderedDict
from typing import Literal

from toolkit.gateway.exchange import Headers, Refused

Strategy = Literal["semaphore", "queue", "reject"]

_RETRY: Headers = ((b"retry-after", b"1"),)


class Pressure:
    """Room for ``max_concurrent`` requests, used as ``async with pressure:``.

    ``queue_size`` and ``timeout_seconds`` belong to the strategy ``queue``. With ``semaphore``
    the wait ends only with the caller's own time-out. Those who wait come in in their order.
    For one event loop.
    """

    def __init__(
        self,
        max_concurrent: int,
        *,
        strategy: Strategy = "semaphore",
        queue_size: int = 100,
        timeout_seconds: float = 1.0,
    ) -> None:
        self._most = max_concurrent
        self._strategy = strategy
        self._queue_size = queue_size
        self._timeout = timeout_seconds
        self._inside = 0
        self._closed = False
        # Someone waits only while there is no room, so who finds room need not look here.
        # An ordered dictionary: leaving from the middle and from the front are both O(1).
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    @property
    def max_concurrent(self) -> int:
        """How many there is room for; 0 after ``shutdown``."""
        return self._most

    @property
    def current_load(self) -> int:
        """How many are inside."""
        return self._inside

    @property
    def queue_length(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def free(self) -> int:
        """How many more could come in at once."""
        return max(0, self._most - self._inside)

    async def __aenter__(self) -> None:
        if self._inside < self._most:
            self._inside += 1
        elif not await self._wait():
            raise self._refused()

    async def __aexit__(self, *_: object) -> None:
        self.release()

    async def acquire(self) -> bool:
        """Come in, waiting as the strategy says; False where that is refused."""
        if self._inside < self._most:
            self._inside += 1
            return True
        return await self._wait()

    def release(self) -> None:
        """Go out; exactly once for each time inside."""
        self._inside -= 1
        if self._waiting:
            self._let_in()

    def resize(self, max_concurrent: int) -> None:
        """Make room for more or fewer from now on; who is inside stays."""
        if not self._closed:
            self._most = max_concurrent
            self._let_in()

    def shutdown(self) -> None:
        """Refuse whoever waits and whoever comes; who is inside stays."""
        self._closed = True
        self._most = 0
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(False)

    async def _wait(self) -> bool:
        queued = self._strategy == "queue"
        full = queued and len(self._waiting) >= self._queue_size
        if self._closed or full or self._strategy == "reject":
            return False
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiting[waiter] = None
        timer = loop.call_later(self._timeout, self._give_up, waiter) if queued else None
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiting.pop(waiter, None)
            if not waiter.cancelled() and waiter.result():
                self.release()  # cancelled in the moment between the call and coming in
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _give_up(self, waiter: "asyncio.Future[bool]") -> None:
        if not waiter.done():
            self._waiting.pop(waiter, None)
            waiter.set_result(False)

    def _let_in(self) -> None:
        while self._waiting and self._inside < self._most:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                self._inside += 1
                waiter.set_result(True)

    def _refused(self) -> Refused:
        if self._closed:
            return Refused(503, "The gateway is shutting down", _RETRY)
        return Refused(
            503,
            f"The gateway is busy with {self._inside} requests ({len(self._waiting)} wait); "
            "try again in a second",
            _RETRY,
        )
