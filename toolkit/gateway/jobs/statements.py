"""The questions asked most often, put into words once: to build one costs more than to ask it.

``now`` is the database's clock; what changes from call to call is bound by name.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, Update, and_, bindparam, func, or_, select, update

from toolkit.gateway.jobs.schema import IS_ENDED, IS_PENDING, IS_RUNNING, JOBS, PENDING, RUNNING

SHOWN = [
    JOBS.c[name]  # in the order of the fields of Job, the result last
    for name in (
        "id", "model", "version", "request_id", "priority", "status", "created_at", "started_at",
        "ended_at", "deadline", "attempts", "lease", "owner", "error", "error_kind", "result",
    )
]  # fmt: skip

UNOWNED = {"owner": None, "lease_until": None}


def claiming(now: ColumnElement[float], skips_locked: bool) -> Any:
    """Take ``most`` pending jobs for ``by``, for ``lease_seconds``."""
    waiting = (
        select(JOBS.c.number)
        .where(
            IS_PENDING,
            JOBS.c.not_before <= now,
            or_(JOBS.c.deadline.is_(None), JOBS.c.deadline > now),
        )
        .order_by(JOBS.c.priority, JOBS.c.number)
        .limit(bindparam("most"))
    )
    if skips_locked:
        waiting = waiting.with_for_update(skip_locked=True)
    picked = waiting.cte("picked")
    return (
        update(JOBS)
        .where(JOBS.c.number.in_(select(picked.c.number)))
        .values(
            status=RUNNING,
            owner=bindparam("by"),
            lease_until=now + bindparam("lease_seconds"),
            attempts=JOBS.c.attempts + 1,
            lease=JOBS.c.lease + 1,
            started_at=now,
        )
        .returning(*SHOWN, now.label("read_at"), JOBS.c.number)
    )


def ending(now: ColumnElement[float]) -> Update:
    """End the job ``held`` as ``end_status`` if the lease of ``held_by`` still holds."""
    return (
        update(JOBS)
        .where(
            JOBS.c.id == bindparam("held"),
            IS_RUNNING,
            JOBS.c.owner == bindparam("held_by"),
            JOBS.c.lease == bindparam("held_lease"),
        )
        .values(
            status=bindparam("end_status"),
            result=bindparam("end_result"),
            error=bindparam("end_error"),
            error_kind=bindparam("end_kind"),
            ended_at=now,
            **UNOWNED,
        )
    )


def getting(now: ColumnElement[float]) -> Select[Any]:
    """Show the job ``asked``."""
    return select(*SHOWN, now.label("read_at")).where(JOBS.c.id == bindparam("asked"))


def in_status(status: str) -> ColumnElement[bool]:
    """Say that a job is in a status, in the words of the index that has those jobs in order."""
    open_ = {PENDING: IS_PENDING, RUNNING: IS_RUNNING}
    return open_.get(status, and_(JOBS.c.status == status, IS_ENDED))


def counting(most: int) -> Select[int]:
    """Count the jobs that wait, up to ``most``."""
    waiting = select(JOBS.c.number).where(IS_PENDING).limit(most)
    return select(func.count()).select_from(waiting.subquery())
