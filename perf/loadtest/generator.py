"""The two ways to load: by the clock (open loop) or by the answers (closed loop)."""

import asyncio
import itertools
import math
import time
from collections import deque
from typing import Protocol

from perf.loadtest.alarm import Alarm
from perf.loadtest.arrivals import arrival_times, requests_by
from perf.loadtest.connection import Connection
from perf.loadtest.plan import Plan
from perf.loadtest.pool import Pool
from perf.loadtest.recorder import Recorder

_clock = time.monotonic
_PACE_SECONDS = 0.02  # How often deadlines and full seconds are looked at.
_AT_ONCE = 64  # Requests that go out before answers are read again.
_PAUSE_SECONDS = 0.1  # Of a caller in a closed loop that could not connect.


class Load(Protocol):
    """A way to load."""

    def begin(self) -> None:
        """Start sending."""

    def sending(self, now: float) -> bool:
        """Whether there is more to send, or to wait for in line."""

    def missed(self, now: float) -> int:
        """Return how many requests have come due without the generator coming to them."""

    def stop(self) -> list[float]:
        """Send nothing more; return the due times of requests that wait in line."""


class OpenLoop:
    """Sends each request when it is due, whatever became of those before it."""

    def __init__(
        self, plan: Plan, worker: int, start: float, pool: Pool, recorder: Recorder
    ) -> None:
        self._plan = plan
        self._start = start
        first = start - plan.warmup_seconds
        times = arrival_times(plan.warm_stages, seed=plan.seed)
        mine = itertools.islice(times, worker, None, plan.workers)
        self._times = (first + seconds for seconds in mine)
        self._next = math.inf
        self._connections_max = plan.share(plan.connections, worker)
        self._waiting_max = max(1, plan.share(plan.waiting_max, worker))
        self._pool = pool
        self._recorder = recorder
        self._idle: list[Connection] = []
        self._waiting: deque[float] = deque()
        pool.on_free, pool.on_vacant = self._free, self._vacant
        recorder.gauge = lambda: (len(self._waiting), pool.size)

    def begin(self) -> None:
        """Wait for the first request to be due."""
        self._alarm = Alarm(self._send_due)
        self._next = next(self._times, math.inf)
        if self._next != math.inf:
            self._alarm.set(self._next)

    def sending(self, now: float) -> bool:  # noqa: ARG002 - one signature for both
        """Whether requests will come due or wait in line."""
        return self._next != math.inf or bool(self._waiting)

    def missed(self, now: float) -> int:
        """Return how many requests it is behind, without those of the warm-up."""
        if self._next >= now:
            return 0
        stages, start = self._plan.stages, self._start
        number = requests_by(stages, now - start) - requests_by(stages, self._next - start)
        return round(number / self._plan.workers)

    def stop(self) -> list[float]:
        """Stop the clock; return what waits in line."""
        self._next = math.inf
        self._alarm.close()
        left = list(self._waiting)
        self._waiting.clear()
        return left

    def _send_due(self) -> None:
        for _ in range(_AT_ONCE):
            now = _clock()
            if self._next > now:
                break
            self._arrive(self._next, now)
            self._next = next(self._times, math.inf)
        if self._next != math.inf:
            self._alarm.set(self._next)

    def _arrive(self, due: float, now: float) -> None:
        recorder = self._recorder
        recorder.came(due, now)
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._pool.send(connection, due, now)
                return
        if self._pool.size < self._connections_max:
            self._pool.open(due)
        elif len(self._waiting) < self._waiting_max:
            self._waiting.append(due)
        else:
            recorder.not_sent(due)

    def _free(self, connection: Connection, now: float) -> None:
        if self._waiting:
            self._pool.send(connection, self._waiting.popleft(), now)
        else:
            self._idle.append(connection)

    def _vacant(self, failed: bool) -> None:  # noqa: ARG002 - a closed loop wants to know
        self._idle = [one for one in self._idle if one.open]
        if self._waiting and self._pool.size < self._connections_max:
            self._pool.open(self._waiting.popleft())


class ClosedLoop:
    """Keeps a number of callers busy: each sends again once it has been answered."""

    def __init__(
        self, plan: Plan, worker: int, start: float, pool: Pool, recorder: Recorder
    ) -> None:
        self._end = start + plan.seconds
        self._callers = plan.share(plan.concurrency or 0, worker)
        self._pool = pool
        self._recorder = recorder
        pool.on_free, pool.on_vacant = self._free, self._vacant
        recorder.gauge = lambda: (0, pool.size)

    def begin(self) -> None:
        """Send the first request of each caller."""
        for _ in range(self._callers):
            self._call()

    def sending(self, now: float) -> bool:
        """Whether the callers go on calling."""
        return now < self._end

    def missed(self, now: float) -> int:  # noqa: ARG002 - one signature for both
        """Return 0: nothing is due at a time of its own."""
        return 0

    def stop(self) -> list[float]:
        """Let no caller call again."""
        self._end = 0.0
        return []

    def _call(self) -> None:
        now = _clock()
        if now < self._end:
            self._recorder.came(now)
            self._pool.open(now)

    def _free(self, connection: Connection, now: float) -> None:
        if now < self._end:
            self._recorder.came(now)
            self._pool.send(connection, now, now)

    def _vacant(self, failed: bool) -> None:
        if failed:
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._call)
        elif self._pool.size < self._callers:
            self._call()


async def generate(
    plan: Plan, worker: int, start: float, recorder: Recorder, stopped: asyncio.Event
) -> None:
    """Load the server as planned, until the last answer is in or ``stopped`` is set.

    ``start`` is the time of ``time.monotonic()`` at which the warm-up ends. What waits in
    line or is under way ``timeout_seconds`` after the end has failed.
    """
    pool = Pool(plan, recorder, worker)
    load: Load = (ClosedLoop if plan.closed else OpenLoop)(plan, worker, start, pool, recorder)
    await _until(start - plan.warmup_seconds, stopped)
    if stopped.is_set():
        return
    load.begin()
    await _until(start, stopped, pool)
    recorder.begin()
    last = start + plan.seconds + plan.timeout_seconds
    while not stopped.is_set() and (now := _clock()) < last:
        pool.sweep(now)
        recorder.turn(now)
        if now >= start + plan.seconds and not load.sending(now) and not pool.busy:
            break
        await asyncio.sleep(_PACE_SECONDS)
    _finish(load, pool, recorder, interrupted=stopped.is_set())
    recorder.hand_over()


async def _until(when: float, stopped: asyncio.Event, pool: Pool | None = None) -> None:
    while not stopped.is_set() and (now := _clock()) < when:
        if pool is not None:
            pool.sweep(now)
        await asyncio.sleep(min(_PACE_SECONDS, when - now))


def _finish(load: Load, pool: Pool, recorder: Recorder, *, interrupted: bool) -> None:
    """Count what never left and what was never answered, and hang up."""
    recorder.missed(load.missed(_clock()), interrupted=interrupted)
    for due in load.stop():
        (recorder.unfinished if interrupted else recorder.not_sent)(due)
    pool.close(_clock(), interrupted=interrupted)
