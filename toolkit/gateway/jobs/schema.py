"""What is known of a job, and the two tables that keep it.

A job is ``pending``, then ``running`` under a lease of one worker, then ends exactly once:
``completed``, ``failed`` (also when its time ran out) or ``cancelled``. Times are seconds
since 1970 by the database's clock where it has one, so that gateways on several machines
agree.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
)

PENDING, RUNNING = "pending", "running"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
STATUSES = (PENDING, RUNNING, COMPLETED, FAILED, CANCELLED)

PRIORITIES = {"high": 1, "normal": 2, "low": 3}
"""What a caller may ask for; the smaller number goes first."""

METADATA = MetaData()

JOBS = Table(
    "gateway_jobs",
    METADATA,
    # The order of arrival; SQLite counts by itself only in a plain INTEGER key.
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("model", Text, nullable=False),
    Column("version", Text),
    Column("request_id", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("timeout_seconds", Double),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("deadline", Double),
    Column("not_before", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    # Counts the claims and never goes back, so that it tells one lease from every other.
    Column("lease", Integer, nullable=False),
    Column("owner", Text),
    Column("lease_until", Double),
    Column("error", Text),
    Column("error_kind", Text),
    Column("result", Text),
)

FEATURES = Table(
    # Apart, for they may be large and never change: a change of status does not write them again.
    "gateway_job_features",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column(
        "job_id",
        String(36),
        ForeignKey(JOBS.c.id, ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    Column("features", Text, nullable=False),
)


# Written out, for with a bound value no database sees that an index of these is enough.
IS_PENDING = JOBS.c.status == literal_column("'pending'")
IS_RUNNING = JOBS.c.status == literal_column("'running'")
IS_ENDED = JOBS.c.ended_at.is_not(None)


def _partial(name: str, which: ColumnElement[bool], *columns: Column[Any]) -> Index:
    """Add an index of some jobs alone: those that wait are few, whatever number has ended.

    None has all jobs by their status: SQLite, without statistics, would take that one for each
    question, and sort all that wait to find the first.
    """
    return Index(name, *columns, sqlite_where=which, postgresql_where=which)


_partial("gateway_jobs_next", IS_PENDING, JOBS.c.priority, JOBS.c.number, JOBS.c.status)
_partial("gateway_jobs_late", IS_PENDING, JOBS.c.deadline)
_partial("gateway_jobs_leases", IS_RUNNING, JOBS.c.lease_until)
Index("gateway_jobs_newest", JOBS.c.created_at, JOBS.c.number)
_partial(
    "gateway_jobs_ended",
    IS_ENDED,
    JOBS.c.status,
    JOBS.c.created_at,
    JOBS.c.number,
    JOBS.c.ended_at,
)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is asked for. ``features`` is JSON text, ``priority`` one of ``PRIORITIES``' numbers.

    ``timeout_seconds`` counts from the submission; None: no limit.
    """

    model: str
    features: str
    version: str | None = None
    request_id: str = ""
    priority: int = PRIORITIES["normal"]
    timeout_seconds: float | None = None
    id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was at ``read_at``; ``features`` only where it was claimed.

    ``result`` is JSON text, there once it is completed. ``attempts`` counts how often it was
    begun since it was submitted or retried; ``owner`` and ``lease`` say who holds it.
    """

    id: str
    model: str
    version: str | None
    request_id: str
    priority: int
    status: str
    created_at: float
    started_at: float | None
    ended_at: float | None
    deadline: float | None
    attempts: int
    lease: int
    owner: str | None
    error: str | None
    error_kind: str | None
    result: str | None
    read_at: float
    features: str = ""

    @property
    def age_seconds(self) -> float:
        """Return the time since the submission."""
        return max(0.0, self.read_at - self.created_at)

    @property
    def left_seconds(self) -> float | None:
        """Return the time left until the deadline when the job was read; None without one."""
        return None if self.deadline is None else self.deadline - self.read_at


def triton_priority(priority: int, levels: int) -> int:
    """Return Triton's level (1 goes first) for a job's priority; 0: the model has no levels.

    High is the first level, low the last, normal the one in the middle (the lower of two).
    """
    if not levels:
        return 0
    middle = 1 + levels // 2
    return {PRIORITIES["high"]: 1, PRIORITIES["normal"]: min(middle, levels)}.get(priority, levels)
