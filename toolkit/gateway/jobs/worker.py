"""Runs the jobs of a store, so that each ends once, whatever stops in between."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Self
from uuid import uuid4

import orjson

from toolkit.errors import ConnectionFailedError, ToolkitError, UnavailableError
from toolkit.gateway.exchange import Refused
from toolkit.gateway.jobs.database import JobStoreUnavailableError
from toolkit.gateway.jobs.schema import Job
from toolkit.gateway.jobs.store import TIMED_OUT, TIMED_OUT_KIND, JobStore
from toolkit.gateway.replies import told

Run = Callable[[Job], Awaitable[Mapping[str, Any]]]

_SWEEP_SECONDS = 60.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_LONGEST_DELAY = 30.0
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_log = logging.getLogger(__name__)


def owner_name() -> str:
    """Return a name that no other worker has, not even the next one of this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:12]}"


class Worker:
    """Claims as many jobs as it has room for and runs them, while it is open.

    ``run`` gets a job with its features and returns what its result holds: ``predictions``
    and, if it likes, ``metadata``. When it raises ``UnavailableError`` or
    ``ConnectionFailedError`` the job waits again, until its deadline or ``max_attempts``;
    any other error ends it. ``available`` tells whether Triton answers: asked after such an
    error, and while it says no, nothing is claimed, so that an outage costs no attempts.
    """

    def __init__(  # noqa: PLR0913  each is a choice of its own
        self,
        store: JobStore,
        run: Run,
        *,
        concurrency: int = 16,
        owner: str | None = None,
        poll_seconds: float = 1.0,
        lease_seconds: float = 15.0,
        ttl_seconds: float = 3600.0,
        max_attempts: int = 10,
        available: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.owner = owner or owner_name()
        self._store = store
        self._run = run
        self._concurrency = concurrency
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._ttl_seconds = ttl_seconds
        self._max_attempts = max_attempts
        self._available = available
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._away = False
        self._running: dict[tuple[str, int], tuple[Job, asyncio.Task[None]]] = {}
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def running(self) -> int:
        """Return how many jobs this worker holds."""
        return len(self._running)

    def start(self) -> None:
        """Begin; the store may be away."""
        self._store.on_pending.append(self.wake)
        self._store.on_cancelled.append(self._drop)
        self._loops = [
            asyncio.create_task(self._claim()),
            asyncio.create_task(self._every(min(self._poll_seconds, 1.0), self._mend)),
            asyncio.create_task(self._every(self._lease_seconds / 3, self._renew)),
            asyncio.create_task(self._every(_SWEEP_SECONDS, self._sweep)),
        ]

    def wake(self) -> None:
        """Look for jobs now and not only at the next poll."""
        self._woken.set()

    async def stop(self, grace_seconds: float = 10.0) -> None:
        """Claim no more, let what runs end within the grace, and put the rest back."""
        self._stopping.set()
        self.wake()
        if self.wake in self._store.on_pending:
            self._store.on_pending.remove(self.wake)
            self._store.on_cancelled.remove(self._drop)
        if not self._loops:
            return
        claiming, *keeping = self._loops
        await asyncio.wait((claiming,), timeout=grace_seconds)
        if tasks := [task for _, task in self._running.values()]:
            await asyncio.wait(tasks, timeout=grace_seconds)
        rest = list(self._running.values())
        ending = [claiming, *keeping, *(task for _, task in rest)]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for job, _ in rest:
            await self._give_back(job)
        self._loops = []

    async def _give_back(self, job: Job) -> None:
        try:
            await self._store.put_back(job, begun=False)
        except JobStoreUnavailableError as error:
            _log.warning("job %s waits for the end of its lease: %s", job.id, error)

    async def _claim(self) -> None:
        pause = _SHORTEST_PAUSE
        while not self._stopping.is_set():
            self._woken.clear()
            room = self._concurrency - len(self._running)
            try:
                if self._away and not await self._triton_answers():
                    await self._rest(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                self._away = False
                jobs = (
                    await self._store.claim(room, self.owner, self._lease_seconds) if room else []
                )
            except Exception as error:  # noqa: BLE001  whatever it was, the loop goes on
                _complain("cannot claim jobs", error)
                await self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _SHORTEST_PAUSE
            for job in jobs:
                self._begin(job)
            if not room or len(jobs) < room:
                await self._rest(self._poll_seconds)

    async def _rest(self, seconds: float) -> None:
        """Wait, but no longer than until woken; while Triton is away, no job wakes anyone."""
        event = self._stopping if self._away else self._woken
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)

    async def _triton_answers(self) -> bool:
        return self._available is None or await self._available()

    def _begin(self, job: Job) -> None:
        key = job.id, job.lease
        task = asyncio.create_task(self._one(job))
        self._running[key] = job, task
        task.add_done_callback(lambda done: self._over(key, done))

    def _over(self, key: tuple[str, int], done: asyncio.Task[None]) -> None:
        self._running.pop(key, None)
        self.wake()
        if not done.cancelled() and (error := done.exception()) is not None:
            # Its lease runs out, and it is begun again, but not for ever.
            _log.error("job %s could not be ended", key[0], exc_info=error)

    async def _one(self, job: Job) -> None:
        """Run one job to its end, or put it back."""
        try:
            async with asyncio.timeout(job.left_seconds) as limit:
                answer = await self._run(job)
        except Exception as error:  # noqa: BLE001  whatever the run raised is the job's end
            if job.left_seconds is not None and limit.expired():
                await self._written(lambda: self._store.fail(job, TIMED_OUT, TIMED_OUT_KIND))
            elif isinstance(error, UnavailableError | ConnectionFailedError):
                await self._again(job, error)
            else:
                text, kind = _said(job, error)
                await self._written(lambda: self._store.fail(job, text, kind))
            return
        try:
            result = _result(job, answer)
        except TypeError as error:  # also orjson's own
            text, kind = _said(job, error)
            await self._written(lambda: self._store.fail(job, text, kind))
            return
        await self._written(lambda: self._store.complete(job, result))

    async def _again(self, job: Job, error: ToolkitError) -> None:
        """Let the job wait, longer each time, so that others with a working model go first."""
        self._away = self._available is not None
        if job.attempts >= self._max_attempts:
            text, kind = _said(job, error)
            await self._written(lambda: self._store.fail(job, text, kind))
            return
        delay = min(_SHORTEST_PAUSE * 2.0 ** (job.attempts - 1), _LONGEST_DELAY)
        await self._written(lambda: self._store.put_back(job, delay))

    async def _written(self, write: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Write an end until the store takes it, or says that the job is no longer ours."""
        pause = _SHORTEST_PAUSE
        while True:
            try:
                await write()
            except JobStoreUnavailableError as error:
                _complain("cannot write the end of a job", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return

    def _drop(self, job_id: str) -> None:
        """Stop running a job that has been cancelled."""
        for (held, _), (_, task) in self._running.items():
            if held == job_id:
                task.cancel()

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except Exception as error:  # noqa: BLE001  the next round may do better
                _complain("cannot look after the jobs", error)
            await asyncio.sleep(seconds)

    async def _mend(self) -> None:
        await self._store.expire()
        await self._store.recover(self._max_attempts)

    async def _renew(self) -> None:
        held = list(self._running.values())
        kept = await self._store.renew((job for job, _ in held), self._lease_seconds)
        for job, task in held:
            if (job.id, job.lease) not in kept and not task.done():
                task.cancel()  # cancelled elsewhere, or taken back: its end is not ours to write

    async def _sweep(self) -> None:
        await self._store.sweep(self._ttl_seconds)


def _result(job: Job, answer: Mapping[str, Any]) -> str:
    """Return the result of a completed job as JSON; NaN is written as ``null``."""
    content = {
        "request_id": job.request_id,
        "success": True,
        "predictions": None,
        "metadata": {},
        "timestamp": datetime.now().isoformat(),  # noqa: DTZ005  local time, as documented
        **answer,
    }
    return orjson.dumps(content, option=_OPTIONS).decode()


def _said(job: Job, error: Exception) -> tuple[str, str]:
    """Return what a failed job says, and the kind; a fault of ours is told to the log alone."""
    if isinstance(error, ToolkitError | Refused):
        text = told(error) if isinstance(error, ToolkitError) else error.detail
        return _storable(text), type(error).__name__
    _log.error("job %s failed", job.id, exc_info=error)
    return "the gateway failed inside; its log says why", type(error).__name__


def _storable(text: str) -> str:
    """Return the text without what a database refuses: lone surrogates and NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _complain(what: str, error: Exception) -> None:
    if isinstance(error, ToolkitError):
        _log.warning("%s: %s", what, error.message)
    else:
        _log.error("%s", what, exc_info=error)
