"""Where jobs are kept: every change of one is a transaction, and each job ends once.

Any number of gateways may share a store. Whoever claims a job holds it under a lease; an end
is written only while that lease has not been taken back, which ``owner`` and ``lease``
together tell.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.engine import Connection, Row

from toolkit.errors import UnavailableError
from toolkit.gateway.jobs import statements
from toolkit.gateway.jobs.database import database
from toolkit.gateway.jobs.grouping import Grouped
from toolkit.gateway.jobs.schema import (
    CANCELLED,
    COMPLETED,
    FAILED,
    FEATURES,
    IS_ENDED,
    IS_PENDING,
    IS_RUNNING,
    JOBS,
    PENDING,
    RUNNING,
    STATUSES,
    Job,
    NewJob,
)
from toolkit.gateway.jobs.statements import SHOWN, UNOWNED, in_status

TIMED_OUT = "timed out: no result within timeout_ms"
TIMED_OUT_KIND = "DeadlineExceededError"
_WORN_OUT = "given up: the job was begun {} times and never ended"

_log = logging.getLogger(__name__)


class JobQueueFullError(UnavailableError):
    """As many jobs wait as the store was told to hold; this one was not taken."""


class JobStore:
    """The jobs of one database. ``max_pending`` bounds how many may wait.

    ``on_pending`` and ``on_cancelled`` (given the id) hold what is called when a job of this
    process waits to be run, or was cancelled. Every method raises
    ``JobStoreUnavailableError`` while the database is away, full or locked, and works again
    once it is back.
    """

    def __init__(self, url: str, *, max_pending: int = 100_000) -> None:
        self.max_pending = max_pending
        self.on_pending: list[Callable[[], None]] = []
        self.on_cancelled: list[Callable[[str], None]] = []
        self._database = database(url)
        now = self._database.now()
        self._claiming = statements.claiming(now, self._database.skips_locked)
        self._getting = statements.getting(now)
        self._ending = statements.ending(now)
        self._counting = statements.counting(max_pending)
        self._arriving = select(self._counting.scalar_subquery(), now)
        self._submits = Grouped(self._submit)
        self._ends = Grouped(self._end)

    @classmethod
    async def open(cls, url: str, *, max_pending: int = 100_000) -> Self:
        """Return the store with its tables made."""
        store = cls(url, max_pending=max_pending)
        await store.queue_length()
        return store

    async def close(self) -> None:
        """Finish what is being written and close the connections."""
        await self._submits.settled()
        await self._ends.settled()
        await self._database.close()

    async def submit(self, job: NewJob) -> int:
        """Keep a job and return how many were waiting before it; it is on disk then.

        Raises ``JobQueueFullError`` when ``max_pending`` already wait.
        """
        return await self._submits.add(job)

    async def claim(self, most: int, owner: str, lease_seconds: float) -> list[Job]:
        """Take up to ``most`` pending jobs, the highest priority first, then the oldest.

        What one gateway is just claiming, another one skips.
        """
        asked = {"most": most, "by": owner, "lease_seconds": lease_seconds}

        def take(connection: Connection) -> list[Job]:
            rows = connection.execute(self._claiming, asked).all()
            rows = sorted(rows, key=lambda row: (row.priority, row.number))
            features = _features(connection, [row.id for row in rows])
            return [_job(row, features[row.id]) for row in rows]

        return await self._database.write(take)

    async def renew(self, jobs: Iterable[Job], lease_seconds: float) -> set[tuple[str, int]]:
        """Prolong leases; return the ids and numbers of those that still hold."""
        held = [(job.id, job.lease, job.owner) for job in jobs]
        if not held:
            return set()
        renewing = (
            update(JOBS)
            .where(
                IS_RUNNING,
                tuple_(JOBS.c.id, JOBS.c.lease, JOBS.c.owner).in_(held),
            )
            .values(lease_until=self._database.now() + lease_seconds)
            .returning(JOBS.c.id, JOBS.c.lease)
        )

        def renew(connection: Connection) -> set[tuple[str, int]]:
            return {(row.id, row.lease) for row in connection.execute(renewing)}

        return await self._database.write(renew)

    async def complete(self, job: Job, result: str) -> bool:
        """End a claimed job with its result (JSON text); False: the lease was lost, no end."""
        return await self._ends.add(_end(job, COMPLETED, result=result))

    async def fail(self, job: Job, error: str, kind: str) -> bool:
        """End a claimed job with an error and its kind; False: the lease was lost, no end."""
        return await self._ends.add(_end(job, FAILED, error=error, kind=kind))

    async def put_back(self, job: Job, delay_seconds: float = 0.0, *, begun: bool = True) -> bool:
        """Let a claimed job wait again, in its place, after a delay; False: the lease was lost.

        ``begun`` False: the attempt does not count.
        """
        values = {
            "status": PENDING,
            "not_before": self._database.now() + delay_seconds,
            "attempts": JOBS.c.attempts - int(not begun),
            **UNOWNED,
        }
        return bool(await self._updated(_held(job), values))

    async def cancel(self, job_id: str) -> bool:
        """End a job that has not ended; its result, should one come, is dropped."""
        open_ = and_(JOBS.c.id == job_id, JOBS.c.status.in_((PENDING, RUNNING)))
        values = {
            "status": CANCELLED,
            "ended_at": self._database.now(),
            "error": "cancelled",
            "error_kind": "Cancelled",
            **UNOWNED,
        }
        done = bool(await self._updated(open_, values))
        if done:
            for call in self.on_cancelled:
                call(job_id)
        return done

    async def retry(self, job_id: str) -> bool:
        """Let a failed or cancelled job wait again as if just submitted, in its old place."""
        ended = and_(JOBS.c.id == job_id, JOBS.c.status.in_((FAILED, CANCELLED)))
        now = self._database.now()
        values = {
            "status": PENDING,
            "created_at": now,
            "deadline": now + JOBS.c.timeout_seconds,
            "not_before": 0.0,
            "attempts": 0,
            "started_at": None,
            "ended_at": None,
            "error": None,
            "error_kind": None,
            **UNOWNED,
        }
        done = bool(await self._updated(ended, values))
        if done:
            self._tell_pending()
        return done

    async def get(self, job_id: str) -> Job | None:
        """Return a job without its features; None where there is none (any more)."""
        row = await self._database.read(
            lambda connection: connection.execute(self._getting, {"asked": job_id}).one_or_none()
        )
        return None if row is None else _job(row)

    async def page(self, limit: int, statuses: Sequence[str] | None = None) -> list[Job]:
        """Return the newest jobs, without features and results; ``statuses`` None: in any."""
        shown = [*SHOWN[:-1], null().label("result")]
        newest = JOBS.c.created_at.desc(), JOBS.c.number.desc()
        asked = select(*shown, self._database.now().label("read_at"), JOBS.c.number)
        asked = asked.order_by(*newest)
        parts = (
            [asked] if statuses is None else [asked.where(in_status(status)) for status in statuses]
        )

        def read(connection: Connection) -> list[Any]:
            return [row for part in parts for row in connection.execute(part.limit(limit))]

        rows = await self._database.read(read)
        if len(parts) > 1:
            rows.sort(key=lambda row: (row.created_at, row.number), reverse=True)
        return [_job(row) for row in rows[:limit]]

    async def expire(self) -> int:
        """Fail the jobs whose time ran out before they were begun; return how many."""
        now = self._database.now()
        late = and_(IS_PENDING, JOBS.c.deadline <= now)
        return await self._mended(late, _failed(now, TIMED_OUT, TIMED_OUT_KIND))

    async def recover(self, max_attempts: int) -> int:
        """Let the jobs wait again whose worker is gone (its lease ran out); return how many.

        One that was begun ``max_attempts`` times fails: it may be what ends the workers.
        """
        now = self._database.now()
        lost = and_(IS_RUNNING, JOBS.c.lease_until < now)
        worn = and_(lost, JOBS.c.attempts >= max_attempts)
        failed = _failed(now, _WORN_OUT.format(max_attempts), "WorkerLost")
        await self._mended(worn, failed)
        found = await self._mended(lost, {"status": PENDING, **UNOWNED})
        if found:
            _log.warning("%d jobs of a lost worker wait again", found)
            self._tell_pending()
        return found

    async def sweep(self, ttl_seconds: float) -> int:
        """Remove the jobs older than this, whatever their status but running; return how many."""
        old = and_(JOBS.c.created_at < self._database.now() - ttl_seconds, JOBS.c.status != RUNNING)
        removing = delete(JOBS).where(old).returning(JOBS.c.status)
        statuses = await self._database.write(
            lambda connection: connection.execute(removing).scalars().all()
        )
        if waiting := sum(status == PENDING for status in statuses):
            _log.warning("%d jobs were never run: they waited longer than the TTL", waiting)
        return len(statuses)

    async def counts(self) -> dict[str, int]:
        """Return the number of jobs in each status."""
        ended = select(JOBS.c.status, func.count()).where(IS_ENDED).group_by(JOBS.c.status)
        running = select(literal(RUNNING), func.count()).where(IS_RUNNING)
        pending = select(literal(PENDING), self._counting.scalar_subquery())
        asked = union_all(ended, running, pending)
        rows = await self._database.read(lambda connection: connection.execute(asked).all())
        found = {row[0]: row[1] for row in rows}
        return {status: found.get(status, 0) for status in STATUSES}

    async def queue_length(self) -> int:
        """Return how many jobs wait; it stops counting at ``max_pending``."""
        return await self._database.read(
            lambda connection: connection.execute(self._counting).scalar_one()
        )

    async def _submit(self, jobs: Sequence[NewJob]) -> list[int | Exception]:
        def submit(connection: Connection) -> tuple[int, Sequence[NewJob]]:
            waiting, now = connection.execute(self._arriving).one()
            taken = jobs[: max(0, self.max_pending - waiting)]
            if taken:
                connection.execute(insert(JOBS), [_row(job, now) for job in taken])
                features = [{"job_id": job.id, "features": job.features} for job in taken]
                connection.execute(insert(FEATURES), features)
            return waiting, taken

        waiting, taken = await self._database.write(submit)
        if taken:
            self._tell_pending()
        refused = [_full(self.max_pending) for _ in jobs[len(taken) :]]
        return [*range(waiting, waiting + len(taken)), *refused]

    async def _end(self, ends: Sequence[dict[str, Any]]) -> list[bool | Exception]:
        return await self._database.write(
            lambda connection: [
                bool(connection.execute(self._ending, end).rowcount) for end in ends
            ]
        )

    async def _updated(self, which: ColumnElement[bool], values: dict[str, Any]) -> int:
        change = update(JOBS).where(which).values(values)
        return await self._database.write(lambda connection: connection.execute(change).rowcount)

    async def _mended(self, which: ColumnElement[bool], values: dict[str, Any]) -> int:
        """Change jobs, but take no writer's turn where a look tells that there are none."""
        look = select(JOBS.c.number).where(which).limit(1)
        found = await self._database.read(lambda connection: connection.execute(look).first())
        return 0 if found is None else await self._updated(which, values)

    def _tell_pending(self) -> None:
        for call in self.on_pending:
            call()


def _job(row: Row[*tuple[Any, ...]], features: str = "") -> Job:
    """Return the job of a row that holds ``SHOWN`` and ``read_at`` first."""
    values: Any = (*row[: len(SHOWN) + 1], features)
    return Job(*values)


def _row(job: NewJob, now: float) -> dict[str, Any]:
    timeout = job.timeout_seconds
    return {
        "id": job.id,
        "model": job.model,
        "version": job.version,
        "request_id": job.request_id or job.id,
        "priority": job.priority,
        "status": PENDING,
        "timeout_seconds": timeout,
        "created_at": now,
        "deadline": None if timeout is None else now + timeout,
        "not_before": 0.0,
        "attempts": 0,
        "lease": 0,
    }


def _end(
    job: Job,
    status: str,
    *,
    result: str | None = None,
    error: str | None = None,
    kind: str | None = None,
) -> dict[str, Any]:
    """Return what ``statements.ending`` has to know."""
    return {
        "held": job.id,
        "held_by": job.owner,
        "held_lease": job.lease,
        "end_status": status,
        "end_result": result,
        "end_error": error,
        "end_kind": kind,
    }


def _held(job: Job) -> ColumnElement[bool]:
    """Say that the lease under which the job was claimed is still its lease."""
    return and_(
        JOBS.c.id == job.id,
        IS_RUNNING,
        JOBS.c.owner == job.owner,
        JOBS.c.lease == job.lease,
    )


def _failed(now: ColumnElement[float], error: str, kind: str) -> dict[str, Any]:
    return {"status": FAILED, "ended_at": now, "error": error, "error_kind": kind, **UNOWNED}


def _full(most: int) -> JobQueueFullError:
    return JobQueueFullError(f"Request queue is full: {most} jobs wait", hint="try again later")


def _features(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    if not ids:
        return {}
    asked = select(FEATURES.c.job_id, FEATURES.c.features).where(FEATURES.c.job_id.in_(ids))
    return {row.job_id: row.features for row in connection.execute(asked)}
