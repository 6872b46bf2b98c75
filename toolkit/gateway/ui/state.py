"""All that the page shows, as one JSON object."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from toolkit import __version__
from toolkit.client.transport import IndexedModel, TensorMetadata
from toolkit.errors import RequestError
from toolkit.gateway.jobs.schema import PRIORITIES, Job
from toolkit.gateway.models import Known
from toolkit.gateway.ui.kept import Kept
from toolkit.gateway.ui.live import Live, Sees

READY = "READY"
JOBS = 20
"""How many of the newest jobs are shown."""

_MODELS_SECONDS = 2.0
_JOBS_SECONDS = 1.0
_DETAILS_SECONDS = 10.0
_LONGEST = 500
_ERROR_FIELDS = ("time", "request_id", "method", "path", "model", "status", "error")

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Jobs:
    """The number of jobs in each status, and the newest ones."""

    counts: Mapping[str, int]
    newest: Iterable[Job]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the page's figures come from.

    ``listed`` gives every model that Triton knows of, whatever its state, ``known`` what a
    served one takes and gives; ``errors`` the last requests that were refused or failed, as
    their log lines, the newest last. ``jobs`` None: there are none here.
    """

    live: Live
    listed: Callable[[], Awaitable[Iterable[IndexedModel]]]
    known: Callable[[str], Awaitable[Known]]
    errors: Callable[[], Iterable[Mapping[str, Any]]]
    jobs: Callable[[], Awaitable[Jobs]] | None = None


class View:
    """What the page shows; slow or missing parts do not hold up the others."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._details: dict[str, tuple[float, list[str], Line]] = {}
        self._models = Kept(self._listed, every_seconds=_MODELS_SECONDS)
        jobs = sources.jobs
        self._jobs = None if jobs is None else Kept(jobs, every_seconds=_JOBS_SECONDS)

    async def collect(self, sees: Sees, *, all_: bool = True, model: str = "") -> Line:
        """Return the state as who may see only some models is told it.

        ``all_`` says that ``sees`` has no exceptions. The series are those of one ``model``
        if it is named.
        """
        live = self.sources.live
        lines = await self._models.look()
        recent = live.summaries()
        quiet = {"requests": 0, "errors": 0, "p50_ms": None}
        return {
            "version": __version__,
            "triton": {"ready": self._models.problem is None, "problem": self._models.problem},
            "models": lines
            and [
                {**line, "recent": recent.get(line["name"], quiet)}
                for line in lines
                if sees(line["name"])
            ],
            "live": live.series(lambda name: sees(name) and (not model or name == model)),
            "errors": [
                {field: error.get(field, "") for field in _ERROR_FIELDS}
                for error in reversed(list(self.sources.errors()))
                if sees(error.get("model", ""))
            ],
            "jobs": None if self._jobs is None else await _told(self._jobs, sees, all_=all_),
        }

    async def _listed(self) -> list[Line]:
        versions: dict[str, list[IndexedModel]] = {}
        for one in await self.sources.listed():
            versions.setdefault(one.name, []).append(one)
        for gone in self._details.keys() - versions.keys():
            del self._details[gone]
        return [await self._line(name, versions[name]) for name in sorted(versions)]

    async def _line(self, name: str, found: list[IndexedModel]) -> Line:
        ready = [one.version for one in found if one.state == READY]
        last = found[-1]
        line = {
            "name": name,
            "state": READY if ready else last.state or "NOT LOADED",
            "versions": ready,
            "reason": "; ".join(
                f"version {one.version}: {_one_line(one.reason)}"
                if ready
                else _one_line(one.reason)
                for one in found
                if one.state != READY and one.reason
            )[:_LONGEST],
        }
        return {**line, **(await self._described(name, ready) if ready else {})}

    async def _described(self, name: str, versions: list[str]) -> Line:
        """Return what a served model takes and gives, asked for anew only now and then."""
        kept = self._details.get(name)
        if kept and kept[1] == versions and monotonic() - kept[0] < _DETAILS_SECONDS:
            return kept[2]
        try:
            known = await self.sources.known(name)
        except RequestError:
            return {}  # it is on its way out, or Triton is: the next look will tell
        described = describe(known)
        self._details[name] = (monotonic(), versions, described)
        return described


def describe(known: Known) -> Line:
    """Return what a model says of itself."""
    signature = known.signature
    metadata = signature.metadata
    return {
        "version": known.version,
        "backend": signature.config.get("backend") or metadata.platform,
        "max_batch_size": signature.max_batch_size,
        "inputs": [_tensor(spec) for spec in metadata.inputs],
        "outputs": [_tensor(spec) for spec in metadata.outputs],
        "features": list(signature.feature_names),
        "classes": list(signature.class_names),
    }


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _tensor(spec: TensorMetadata) -> Line:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


async def _told(jobs: Kept[Jobs], sees: Sees, *, all_: bool) -> Line:
    found = await jobs.look()
    return {
        "problem": jobs.problem,
        # How many jobs other models have is not for everyone.
        "counts": dict(found.counts) if found and all_ else None,
        "newest": found and [_job(job) for job in found.newest if sees(job.model)],
    }


def _job(job: Job) -> Line:
    names = {number: name for name, number in PRIORITIES.items()}
    began, ended = job.started_at, job.ended_at
    return {
        "id": job.id,
        "request_id": job.request_id,
        "model": job.model,
        "status": job.status,
        "priority": names.get(job.priority, str(job.priority)),
        "created_at": job.created_at,
        "age_seconds": job.age_seconds,
        "took_seconds": None if began is None or ended is None else max(0.0, ended - began),
        "attempts": job.attempts,
        "error": (job.error or "")[:_LONGEST],
    }
