"""The routes of the jobs: submit, look, list, cancel, try again.

A running job is shown as ``pending``, for that is all a client waiting for ``completed`` or
``failed`` has to know; ``stage`` says more. ``cancelled`` is seen only by who cancels.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID, uuid4

import orjson
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field, field_validator

from toolkit.errors import InvalidInputError
from toolkit.gateway.exchange import Refused
from toolkit.gateway.jobs.schema import (
    COMPLETED,
    FAILED,
    PENDING,
    PRIORITIES,
    RUNNING,
    STATUSES,
    Job,
    NewJob,
)
from toolkit.gateway.jobs.store import JobStore
from toolkit.gateway.published import Detail
from toolkit.gateway.replies import told

_YEAR_MILLISECONDS = 31_536_000_000

Status = Literal["pending", "completed", "failed", "cancelled"]
Stage = Literal["pending", "running", "completed", "failed", "cancelled"]


class EngineView(Protocol):
    """What the jobs' routes must know of the engine that has the current model."""

    def ready(self) -> bool:
        """Say whether predictions are taken (READY or RUNNING)."""

    def state(self) -> str:
        """Return the state's name, for the refusal."""

    def model(self) -> tuple[str, str | None] | None:
        """Return the current model's name and version (None: the newest); None without one."""

    def batching(self) -> bool:
        """Say whether batching is on."""

    def mean_seconds(self) -> float | None:
        """Return the mean time of an inference; None before the first."""

    def check(self, features: list[list[float]]) -> None:
        """Raise ``InvalidInputError`` where the features do not fit the current model."""


@dataclass(frozen=True, slots=True)
class JobsApi:
    """What the routes work on. ``enabled`` is ``ENABLE_ASYNC``."""

    store: JobStore
    engine: EngineView
    enabled: bool = True


class AsyncRequest(BaseModel):
    """A prediction to make later."""

    features: list[list[float]] = Field(examples=[[[0.1, 0.2, 0.3, 0.4]]])
    # PostgreSQL's text has no place for NUL.
    request_id: str | None = Field(None, max_length=1024, pattern=r"^[^\x00]*$")
    priority: str = Field("normal", json_schema_extra={"enum": list(PRIORITIES)})
    timeout_ms: float | None = Field(None, gt=0, le=_YEAR_MILLISECONDS, allow_inf_nan=False)

    @field_validator("features")
    @classmethod
    def _some(cls, value: list[list[float]]) -> list[list[float]]:
        if not value:
            raise ValueError("features cannot be empty")
        return value

    @field_validator("priority")
    @classmethod
    def _known(cls, value: str) -> str:
        if (folded := value.casefold()) not in PRIORITIES:
            raise ValueError(f"priority must be one of {', '.join(PRIORITIES)}")
        return folded


class JobPending(BaseModel):
    """A job that has not ended."""

    job_id: UUID
    status: Literal["pending"]
    eta_seconds: float | None
    timestamp: str
    stage: Literal["pending", "running"] = "pending"


class JobResult(BaseModel):
    """How a job ended; ``predictions`` where it was completed, else ``error``."""

    request_id: str
    success: bool
    predictions: list[Any] | None = None
    error: str | None = None
    metadata: dict[str, Any]
    timestamp: str


class JobEnded(BaseModel):
    """A job that has ended."""

    job_id: UUID
    status: Literal["completed", "failed", "cancelled"]
    result: JobResult
    timestamp: str


class JobLine(BaseModel):
    """One job in a list."""

    job_id: UUID
    status: Status
    created_at: str
    age_seconds: float
    stage: Stage
    model: str
    request_id: str
    priority: Literal["high", "normal", "low"]


class JobList(BaseModel):
    """The newest jobs; ``total_count`` is their number in this answer."""

    jobs: list[JobLine]
    total_count: int
    timestamp: str


_Responses = dict[int | str, dict[str, Any]]
_JobId = Annotated[str, Path(description="What the submission returned.")]
_UNAVAILABLE: _Responses = {
    503: {"model": Detail, "description": "The job store is not available."}
}
_MISSING: _Responses = {
    404: {"model": Detail, "description": "No such job, or no longer."},
    **_UNAVAILABLE,
}
_CONFLICT: _Responses = {
    **_MISSING,
    409: {"model": Detail, "description": "The job's status forbids it."},
}
_REFUSED: _Responses = {
    400: {"model": Detail, "description": "Switched off, no model, or features that do not fit."},
    503: {"model": Detail, "description": "Engine not ready, queue full, or no job store."},
}


def router(jobs: JobsApi) -> APIRouter:
    """Return the routes; errors leave them as ``Refused`` and ``ToolkitError``."""
    routes = APIRouter(tags=["jobs"])

    @routes.post("/predict/async", response_model=JobPending, responses=_REFUSED)
    async def submit(request: AsyncRequest) -> Response:
        """Submit a prediction; the answer comes once the job is safe on disk."""
        return _json(await _submitted(jobs, request))

    @routes.get("/jobs", response_model=JobList, responses=_UNAVAILABLE)
    async def listed(
        limit: Annotated[int, Query(ge=1, le=100)] = 20, status: str | None = None
    ) -> Response:
        """List the newest jobs first, all or those in one status."""
        found = await jobs.store.page(limit, _asked_for(status))
        return _json({"jobs": map(_line, found), "total_count": len(found)})

    @routes.get("/jobs/{job_id}", response_model=JobPending | JobEnded, responses=_MISSING)
    async def one(job_id: _JobId) -> Response:
        """Return a job's status, and its result once it has ended."""
        return _json(await _told(jobs, await _found(jobs, job_id)))

    @routes.delete("/jobs/{job_id}", response_model=JobEnded, responses=_CONFLICT)
    async def cancelled(job_id: _JobId) -> Response:
        """Cancel a job that has not ended; to cancel it twice does no harm."""
        job = await _found(jobs, job_id)
        await jobs.store.cancel(job.id)
        job = await _found(jobs, job_id)
        if job.status in {COMPLETED, FAILED}:
            raise Refused(409, f"Job has already {job.status}: {job_id}")
        return _json(await _told(jobs, job))

    @routes.post("/jobs/{job_id}/retry", response_model=JobPending, responses=_CONFLICT)
    async def again(job_id: _JobId) -> Response:
        """Run a failed or cancelled job again, under its id and with its time-out anew."""
        job = await _found(jobs, job_id)
        if not await jobs.store.retry(job.id):
            job = await _found(jobs, job_id)
            raise Refused(
                409, f"Job is {_shown(job)}, only a failed or cancelled one can be retried"
            )
        queue = await jobs.store.queue_length()
        return _json(_accepted(job.id, jobs.engine.mean_seconds(), queue))

    return routes


async def _submitted(jobs: JobsApi, request: AsyncRequest) -> dict[str, Any]:
    model = _current(jobs)
    try:
        jobs.engine.check(request.features)
    except InvalidInputError as error:
        raise Refused(400, f"Invalid feature format: {told(error)}") from error
    timeout = request.timeout_ms
    job = NewJob(
        model=model[0],
        version=model[1],
        # Not orjson, which would write NaN as null.
        features=json.dumps(request.features, separators=(",", ":")),
        request_id=request.request_id or str(uuid4()),
        priority=PRIORITIES[request.priority],
        timeout_seconds=None if timeout is None else timeout / 1000,
    )
    ahead = await jobs.store.submit(job)
    return _accepted(job.id, jobs.engine.mean_seconds(), ahead + 1)


def _current(jobs: JobsApi) -> tuple[str, str | None]:
    """Return the model that is asked; raise ``Refused`` where jobs are not taken."""
    if not jobs.enabled:
        raise Refused(400, "Asynchronous processing is disabled")
    if not jobs.engine.ready():
        state = jobs.engine.state()
        raise Refused(503, f"Engine not ready. Current state: {state}", ((b"retry-after", b"1"),))
    model = jobs.engine.model()
    if model is None:
        raise Refused(400, "No model loaded")
    if not jobs.engine.batching():
        raise Refused(400, "Dynamic batching is not enabled in the engine")
    return model


async def _found(jobs: JobsApi, job_id: str) -> Job:
    """Return the job; one whose time has just run out is failed first."""
    job = await jobs.store.get(job_id) if _is_id(job_id) else None
    if job is not None and job.status == PENDING and _late(job):
        await jobs.store.expire()
        job = await jobs.store.get(job_id)
    if job is None:
        raise Refused(404, f"Job not found: {job_id}")
    return job


async def _told(jobs: JobsApi, job: Job) -> dict[str, Any]:
    if job.status in {PENDING, RUNNING}:
        mean = jobs.engine.mean_seconds()
        queue = 0 if mean is None else await jobs.store.queue_length()
        return {**_accepted(job.id, mean, queue), "stage": job.status}
    result: Any = (
        orjson.Fragment(job.result or "null") if job.status == COMPLETED else _failure(job)
    )
    return {"job_id": job.id, "status": job.status, "result": result}


def _accepted(job_id: str, mean_seconds: float | None, queue: int) -> dict[str, Any]:
    eta = None if mean_seconds is None else mean_seconds * queue
    return {"job_id": job_id, "status": PENDING, "eta_seconds": eta, "stage": PENDING}


def _failure(job: Job) -> dict[str, Any]:
    return {
        "request_id": job.request_id,
        "success": False,
        "error": job.error,
        "metadata": {"exception": job.error_kind},
        "timestamp": _moment(job.ended_at or job.read_at),
    }


def _line(job: Job) -> dict[str, Any]:
    names = {number: name for name, number in PRIORITIES.items()}
    return {
        "job_id": job.id,
        "status": _shown(job),
        "created_at": _moment(job.created_at),
        "age_seconds": job.age_seconds,
        "stage": job.status,
        "model": job.model,
        "request_id": job.request_id,
        "priority": names[job.priority],
    }


def _shown(job: Job) -> str:
    return PENDING if job.status == RUNNING else job.status


def _asked_for(status: str | None) -> list[str] | None:
    """Return the statuses that a filter means; an unknown one means no job at all."""
    if status is None:
        return None
    if status == PENDING:
        return [PENDING, RUNNING]
    return [known for known in STATUSES if known == status]


def _late(job: Job) -> bool:
    return job.left_seconds is not None and job.left_seconds <= 0


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat()  # noqa: DTZ006  local time, as documented


def _json(content: dict[str, Any]) -> Response:
    content["timestamp"] = datetime.now().isoformat()  # noqa: DTZ005  as documented
    return Response(orjson.dumps(content, default=_sequence), media_type="application/json")


def _sequence(value: Any) -> list[Any]:
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError
